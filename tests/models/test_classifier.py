"""Classifiers against hand-made logits; what they score, learn, and refuse; their checkpoints."""

import math

import pytest
import torch
import yaml

import zoo
from zoo import recipes
from zoo.datamodules import FakeFaces, FakeImages
from zoo.datamodules.faces.source import ATTRIBUTES
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.suites import run
from zoo.models import Classifier
from zoo.pretrained.export import export
from zoo.verification.verify import verify


def small(**arguments):
    known = {"x_shape": (1, 8, 8), "channels": (4,), "kernel": 3, "features": 6}
    return Classifier(**{**known, **arguments}).eval()


def faces(**arguments):
    return small(x_shape=(3, 8, 8), labels=("Bald", "Smiling", "Young"), target="attributes")


def fixed(model, logits):
    """The model, made to give these logits whatever it sees."""
    model.logits = lambda x: logits
    return model


# --- densities and scores by hand ----------------------------------------------------------------


def test_loss_of_classes_is_minus_log_p():
    logits = torch.randn(5, 10)
    y = torch.tensor([0, 3, 9, 9, 1])
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    model = fixed(small(), logits)
    terms = model.loss({"image": torch.rand(5, 1, 8, 8), "label": y})
    assert terms["loss"].item() == pytest.approx(-p[range(5), y].log().mean().item(), rel=1e-5)
    torch.testing.assert_close(model.classify(torch.rand(5, 1, 8, 8)), p)
    right = (logits.argmax(1) == y).float()
    assert terms["accuracy"] == right.mean()
    found = model.scores({"image": torch.rand(5, 1, 8, 8), "label": y})
    assert found.keys() == {"accuracy"}
    assert found["accuracy"][0].tolist() == right.tolist()
    assert found["accuracy"][1].tolist() == [1] * 5


def test_loss_of_attributes_is_a_sum_of_minus_log_p():
    logits = torch.tensor([[2.0, -1, 3], [-2, -1, 0.5]])
    y = torch.tensor([[1, 1, 0], [0, 1, 1]])
    p = 1 / (1 + (-logits).exp())
    there = torch.where(y == 1, p, 1 - p)
    nats = -sum(map(math.log, there.flatten())) / 2
    model = fixed(faces(), logits)
    batch = {"image": torch.rand(2, 3, 8, 8), "attributes": y}
    assert model.loss(batch)["loss"].item() == pytest.approx(nats, rel=1e-5)
    torch.testing.assert_close(model.classify(batch["image"]), p)
    found = {name: [part.tolist() for part in pair] for name, pair in model.scores(batch).items()}
    assert found == {
        "accuracy": [[1, 2], [3, 3]],
        "recall": [[1, 1], [2, 2]],
        "specificity": [[0, 1], [1, 1]],
    }


def test_features_are_what_the_logits_are_made_of():
    model = small()
    x = torch.rand(4, 1, 8, 8)
    features = model.encode(x)
    assert features.shape == (4, 6)
    assert features.min() >= 0
    linear = model.head[1]
    torch.testing.assert_close(
        model.classify(x), (features @ linear.weight.T + linear.bias).softmax(-1)
    )
    model.train()
    torch.testing.assert_close(model.encode(x), features)  # dropout comes behind them


# --- learning, checkpoints -----------------------------------------------------------------------


def learned(model, data, steps):
    data.setup()
    batch = next(iter(data.train_dataloader()))
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    return model.eval().loss(batch)


def test_learns_what_stars_and_faces_there_are():
    stars = FakeImages(x_shape=(1, 16, 16), n=64, batch_size=64, classes=4, binarization="none")
    model = small(x_shape=(1, 16, 16), labels=("0", "1", "2", "3"), channels=(8, 8), features=32)
    assert learned(model, stars, 80)["accuracy"] > 0.9
    people = FakeFaces(size=16, n=64, batch_size=64, attributes=["Bald", "Pale_Skin"])
    model = Classifier(
        (3, 16, 16), ("Bald", "Pale_Skin"), "attributes", channels=(8, 8), kernel=3, features=32
    )
    assert learned(model, people, 60)["accuracy"] > 0.9


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_a_checkpoint_is_trained_exported_measured_and_verified(tmp_path):
    from zoo.checkpoints.card import write_card
    from zoo.checkpoints.metrics import write_metrics
    from zoo.training import fit

    recipe = {
        "seed_everything": 0,
        "model": {
            "class_path": "Classifier",
            "init_args": {"x_shape": [1, 8, 8], "channels": [4], "kernel": 3, "features": 6},
        },
        "data": {"class_path": "FakeImages", "init_args": {"x_shape": [1, 8, 8], "n": 64}},
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    trained = fit.run("fit", str(path), ["--trainer.enable_model_summary=false"])
    ckpt = tmp_path / "last.ckpt"
    trained.trainer.save_checkpoint(ckpt)
    folder = tmp_path / "lenet-tiny"
    model = export(ckpt, folder)
    assert not (folder / "samples.png").exists()
    metrics = run(model, ["likelihood"], Protocol())
    accuracy = metrics[0]
    assert (accuracy.name, accuracy.count) == ("accuracy", 16)
    right = accuracy.value
    assert accuracy.standard_error == pytest.approx((right * (1 - right) / 16) ** 0.5, abs=1e-4)
    write_metrics(folder, metrics)
    write_card(folder)
    checks = verify(str(folder))
    assert all(check.passed for check in checks), checks
    assert "accuracy" in {check.what for check in checks}
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names = {}
    exec(code.replace("path/to/lenet-tiny", str(folder)), names)
    assert names["z"].shape == (16, 6)
    assert names["p"].shape == (16, 10)


def test_has_the_verbs_of_a_classifier():
    model = small()
    assert Classifier().verbs() == ("encode", "classify")
    for verb, argument in (("sample", 3), ("decode", torch.zeros(1, 6))):
        with pytest.raises(NotImplementedError, match=r"no p\(x\)"):
            getattr(model, verb)(argument)
    with pytest.raises(NotImplementedError, match="no log-likelihood"):
        zoo.log_likelihood(model, torch.rand(2, 1, 8, 8))


def test_recipes_name_the_labels_of_their_data():
    recipe = yaml.safe_load(recipes.path("attributes-celeba").read_text())
    assert recipe["model"]["init_args"]["labels"] == list(ATTRIBUTES)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": 4}, "kernel is 4, but must be odd"),
        ({"channels": (4, 4, 4, 4)}, "halves the image 4 times"),
        ({"labels": ("a", "a")}, "must be different names"),
        ({"labels": ()}, "at least 1"),
        ({"dropout": 1.0}, "must be below 1"),
        ({"target": "class"}, "target cannot be 'class'"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 attributes, but this model names 3"):
        faces().loss(
            {"image": torch.rand(1, 3, 8, 8), "attributes": torch.ones(1, 2, dtype=torch.int64)}
        )
    with pytest.raises(ValueError, match="the batch has image, but no label"):
        small().loss({"image": torch.rand(1, 1, 8, 8)})
    with pytest.raises(ValueError, match="image has values in"):
        small().encode(torch.full((1, 1, 8, 8), 2.0))
    assert small().scores({"image": torch.rand(1, 1, 8, 8)}) == {}
