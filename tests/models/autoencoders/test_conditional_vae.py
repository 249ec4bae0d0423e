"""The conditional VAE against closed forms, quadrature and the VAE; and what is given a label."""

import json
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributions import MultivariateNormal, Normal

import zoo
from zoo.checkpoints.card import write_card
from zoo.checkpoints.metrics import write_metrics
from zoo.cli.main import main
from zoo.datamodules import FakeImages
from zoo.evaluation import gap as gaps
from zoo.evaluation.comparison import compare
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.samples import means
from zoo.evaluation.suites import SUITES, Suite, run
from zoo.evaluation.tables import table
from zoo.inference import (
    ais,
    annealed_importance_sampling,
    importance_weighted_bound,
    inference_gap,
    refine,
)
from zoo.models import VAE, ConditionalVAE
from zoo.pretrained.gallery import draw
from zoo.pretrained.loading import check_golden
from zoo.verification.verify import verify

LABELS = ("disc", "one", "two")


def small(**arguments):
    known = {"x_shape": (1, 4, 4), "labels": LABELS, "latent_dim": 3, "hidden": (16,)}
    model = ConditionalVAE(**{**known, **arguments}).eval()
    with torch.no_grad():
        model.pictures.normal_()
    return model


def images(n, shape=(1, 4, 4)):
    return (torch.rand(n, *shape) < 0.5).float()


# --- oracles -------------------------------------------------------------------------------------


@pytest.fixture
def linear():
    """x = W z + V e_y + b + noise with orthogonal W and the exact posterior, x, y, log p(x | y)."""
    model = small(likelihood="gaussian", hidden=()).double()
    scale = 0.3
    columns = torch.linalg.qr(torch.randn(16, 3, dtype=torch.float64))[0] * torch.tensor(
        [2.0, 1.0, 0.5]
    )
    shift, offset = torch.randn(16, 3).double(), torch.randn(16).double()
    precision = 1 + columns.square().sum(0) / scale**2  # of p(z | x, y), diagonal
    encoder, decoder = model.encoder[1][0], model.decoder[0][0]
    with torch.no_grad():
        model.log_scale.fill_(scale).log_()
        decoder.weight.copy_(torch.cat([columns, shift], 1))
        decoder.bias.copy_(offset)
        model.pictures.copy_(-shift.T.reshape(3, 1, 4, 4))
        gain = columns.T / scale**2 / precision[:, None]  # E[z | x, y] = gain (x - V e_y - b)
        encoder.weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
        encoder.bias.copy_(torch.cat([-gain @ offset, -0.5 * precision.log()]))
    x, y = torch.rand(10, 1, 4, 4, dtype=torch.float64), torch.arange(10) % 3
    covariance = columns @ columns.T + scale**2 * torch.eye(16, dtype=torch.float64)
    marginal = MultivariateNormal(offset + shift.T[y], covariance)
    return model, x, y, marginal.log_prob(x.flatten(1))


def test_a_linear_gaussian_model_has_its_closed_form(linear):
    model, x, y, log_p = linear
    # with the exact posterior every importance weight equals p(x | y), whatever z was drawn
    bound = importance_weighted_bound(model.given(y), x, 7, chunk=20).value
    torch.testing.assert_close(bound, log_p, rtol=0, atol=1e-9)
    for label in range(3):
        bound = importance_weighted_bound(model.given(label), x[y == label], 3).value
        torch.testing.assert_close(bound, log_p[y == label], rtol=0, atol=1e-9)


def test_annealing_and_refinement_are_given_the_labels(linear, monkeypatch):
    model, x, y, log_p = linear
    monkeypatch.setattr(ais, "CHUNK", 25)  # chains come in groups of 2
    found = annealed_importance_sampling(model.given(y), x, 5, 5)
    torch.testing.assert_close(found.value, log_p, rtol=0, atol=1e-9)
    q = refine(model.given(y), x, steps=30)
    exact = model.given(y).posterior(x)  # it starts at the optimum, and stays there
    torch.testing.assert_close(q.mean, exact.mean, rtol=0, atol=0.02)


def test_evaluate_gives_each_datum_its_label(linear):
    model, x, y, log_p = linear
    batches = [{"image": x[:4], "label": y[:4]}, {"image": x[4:], "label": y[4:]}]
    found = {m.name: m for m in zoo.evaluate(model, batches, samples=3)}
    assert found["nll"].value == pytest.approx(-log_p.mean().item(), abs=1e-4)
    assert "log p(x | label)" in found["nll"].kind
    assert "log p(x | label)" in found["elbo"].kind
    fixed = {m.name: m for m in zoo.evaluate(model.given(0), batches, samples=3)}
    assert fixed["nll"].value > found["nll"].value + 1  # the user's label, whose is wrong
    with pytest.raises(ValueError, match="there is no label in the data, only image"):
        zoo.evaluate(model, [{"image": x}])


def test_with_one_label_it_is_the_vae():
    vae = VAE(x_shape=(1, 4, 4), latent_dim=3, hidden=(16,)).double()
    model = small(labels=("all",)).double()
    state = vae.state_dict()
    with torch.no_grad():
        # the picture of the only label moves the encoder's bias, its input the decoder's
        first, last = model.encoder[1][0], model.decoder[0][0]
        model.load_state_dict(
            {
                **model.state_dict(),
                **{k: v for k, v in state.items() if k != "decoder.0.0.weight"},
            }
        )
        first.bias -= first.weight @ model.pictures.flatten()
        last.weight.copy_(torch.cat([state["decoder.0.0.weight"], torch.ones(16, 1)], 1))
        last.bias -= 1
    x = images(20).double()
    batch = {"image": x, "label": torch.zeros(20, dtype=torch.int64)}
    torch.manual_seed(1)
    expected = vae.loss(batch)
    torch.manual_seed(1)
    for name, value in model.loss(batch).items():
        assert value.item() == pytest.approx(expected[name].item(), abs=1e-9), name
    torch.testing.assert_close(model.given("all").reconstruct(x), vae.reconstruct(x))


@pytest.fixture(scope="module")
def enumerated():
    """Two labels, images of 2x2 binary pixels, and p(x | y) of all 16 by quadrature, (16, 2)."""
    torch.manual_seed(4)
    model = small(x_shape=(1, 2, 2), labels=("a", "b"), latent_dim=1, hidden=(6,)).double()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
    every = torch.tensor([*product((0.0, 1.0), repeat=4)]).double().reshape(16, 1, 2, 2)
    z = torch.linspace(-10, 10, 2001, dtype=torch.float64)[:, None]
    density = Normal(0.0, 1.0).log_prob(z[:, 0]).exp() * 20 / 2000
    p = []
    with torch.no_grad():
        for one_hot in torch.eye(2).double():
            q = model.decoder(torch.cat([z, one_hot.expand(len(z), 2)], 1)).sigmoid()  # (Z, ...)
            log_p = torch.where(every[:, None] > 0, q, 1 - q).log().sum((2, 3, 4))  # (16, Z)
            p.append((log_p.exp() * density).sum(1))
    return model, every, torch.stack(p, 1)


def test_two_labels_have_the_probabilities_of_an_enumeration(enumerated):
    model, every, p = enumerated
    torch.testing.assert_close(p.sum(0), torch.ones(2).double())
    assert (p[:, 0] - p[:, 1]).abs().max() > 0.02
    for y in range(2):
        bound = importance_weighted_bound(model.given(y), every, 20_000, chunk=200_000)
        assert ((bound.value - p[:, y].log()).abs() < 5 * bound.standard_error).all()


def test_samples_have_the_frequencies_of_an_enumeration(enumerated):
    model, _, p = enumerated
    n = 40_000
    power = 2.0 ** torch.arange(3, -1, -1)
    expected = [(model.given("a"), p[:, 0]), (model.given("b"), p[:, 1]), (model, p.mean(1))]
    for drawn, wanted in expected:
        which = (drawn.sample(n).flatten(1).float() @ power).long()
        share = torch.bincount(which, minlength=16) / n
        assert ((share - wanted).abs() < 5 * (wanted * (1 - wanted) / n).sqrt()).all()


# --- given ---------------------------------------------------------------------------------------


def test_labels_given_one_by_one_or_together_are_the_same():
    model, x, y = small(), images(6), torch.tensor([2, 0, 1, 1, 0, 2])
    z = torch.randn(4, 6, 3)
    together = model.given(y)
    encoded, decoded = together.encode(x), together.decode(z.flatten(0, 1)).unflatten(0, (4, 6))
    for i, label in enumerate(y.tolist()):
        for one in (model.given(label), model.given(LABELS[label])):
            torch.testing.assert_close(one.encode(x[i : i + 1])[0], encoded[i])
            torch.testing.assert_close(one.decode(z[:, i]), decoded[:, i])
    assert not torch.allclose(model.given("disc").decode(z[0]), model.given("two").decode(z[0]))
    assert not torch.allclose(model.given("disc").encode(x), model.given("two").encode(x))
    assert model.y is None
    assert model.given(1).conditioned({"image": x, "label": y}).y.tolist() == [1]
    assert model.given(1).given(2).y.tolist() == [2]


def test_given_shares_the_weights():
    model = small()
    fixed = model.given("one")
    with torch.no_grad():
        model.decoder[0][-1].bias.fill_(50.0)
    assert fixed.sample(3).min() == 1
    assert {id(p) for p in fixed.parameters()} == {id(p) for p in model.parameters()}


def test_every_parameter_learns():
    for arguments in ({}, {"network": "conv", "hidden": (4, 8), "likelihood": "gaussian"}):
        model = small(**arguments).train()
        terms = model.loss({"image": images(6), "label": torch.arange(6) % 3})
        terms["loss"].backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad.abs().max() > 0, name


def test_warmup_is_that_of_the_training_model():
    model = small(kl_warmup_steps=10).train()
    terms = model.loss({"image": images(6), "label": torch.arange(6) % 3})
    assert (terms["loss"] - terms["distortion"]).item() == pytest.approx(
        terms["rate"].item() / 10, rel=1e-4
    )


def test_what_is_no_label_is_refused():
    model, x = small(), images(4)
    for y, message in (
        ("twoo", "there is no label 'twoo'; did you mean two"),
        (3, "y has numbers from 3 to 3, but this model knows 0 to 2"),
        (torch.tensor([0, -1]), "numbers from -1 to 0"),
        (torch.tensor([0.0]), "whole numbers"),
        (torch.zeros(2, 3, dtype=torch.int64), "y has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            model.given(y)
    with pytest.raises(ValueError, match="there are 4 images but 3 labels were given"):
        model.given(torch.arange(3)).encode(x)
    with pytest.raises(ValueError, match=r"model\.given\(y\), where y is one of disc, one, two"):
        model.encode(x)
    with pytest.raises(ValueError, match=r"model\.given\(y\)"):
        zoo.log_likelihood(model, x)
    with pytest.raises(NotImplementedError, match="VAE has no given"):
        VAE().given(3)
    with pytest.raises(ValueError, match="must be different names"):
        small(labels=("a", "a"))


# --- what measures and shows ---------------------------------------------------------------------


DATA = {
    "class_path": "FakeImages",
    "init_args": {"x_shape": [1, 8, 8], "n": 480, "classes": 3},
}


@pytest.fixture
def stars():
    model = small(x_shape=(1, 8, 8))
    model.data = DATA
    return model


def pixels(path):
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("L"))).float() / 255


def test_every_job_measures_it(stars, monkeypatch):
    monkeypatch.setattr(gaps, "inference_gap", partial(inference_gap, distributions=20))
    found = {m.name: m for m in run(stars, ["likelihood", "probes"], Protocol(5, 60))}
    assert {"nll", "elbo", "active_units", "linear_probe"} <= {*found}
    gap = {m.name: m for m in run(stars, ["gap"], Protocol(5, 2))}
    module = FakeImages(**DATA["init_args"])
    module.setup()
    batch = next(iter(module.test_dataloader()))
    fixed = stars.given(batch["label"][:2])
    log_p = zoo.log_likelihood(fixed, batch["image"][:2], 20_000)
    value = gap["nll_annealed"].value
    error = gap["nll_annealed"].monte_carlo_error + log_p.standard_error.mean().item()
    assert value == pytest.approx(-log_p.value.mean().item(), abs=5 * error)


def test_means_draw_every_label(stars):
    with torch.no_grad():  # the label alone says how bright the image is
        stars.decoder[0][0].weight.zero_()
        stars.decoder[0][0].weight[0, 3:] = torch.tensor([0.0, 1.0, 2.0])
        stars.decoder[0][0].bias.zero_()
        stars.decoder[0][-1].weight.fill_(1.0)
    torch.manual_seed(0)
    brightness = means(stars, 600)[:, 0, 0, 0]
    assert [int((brightness == v).sum()) for v in brightness.unique()] == pytest.approx(
        [200] * 3, abs=60
    )


def test_a_checkpoint_says_how_it_is_used(stars, tmp_path, capsys):
    folder = tmp_path / "cvae-stars"
    stars.save_pretrained(folder)
    model = zoo.from_pretrained(str(folder))
    check_golden(model, folder)
    assert json.loads((folder / "config.json").read_text())["summary"]["conditions"] == [*LABELS]
    write_metrics(folder, run(model, ["likelihood"], Protocol(3, 20)))
    module = FakeImages(**DATA["init_args"])
    module.setup()
    batch = next(iter(module.test_dataloader()))
    draw(model, folder, [batch])
    names = {path.name for path in folder.glob("*.png")}
    pictures = ("samples", "means", "reconstructions", "traversals", "examples")
    assert names == {f"{name}.png" for name in pictures}
    write_card(folder)
    assert all(check.passed for check in verify(str(folder)))
    text = (folder / "README.md").read_text()
    assert "a row for each y of disc, one, two" in text
    code = text.split("```python\n")[1].split("```")[0]
    names = {}
    exec(code.replace("path/to/cvae-stars", str(folder)), names)
    assert names["z"].shape == (16, 3)
    assert names["log_p"].value.shape == (16,)


def test_transfer_shows_each_image_as_every_label(stars):
    x, y = images(5, (1, 8, 8)), torch.tensor([0, 2, 1, 1, 0])
    (page,) = stars.exhibits({"image": x, "label": y})["examples.png"]
    tile = page[:, 2:].unflatten(1, (5, 10))[:, :, :8]
    tile = tile[..., 2:].unflatten(3, (4, 10))[..., :8]  # (1, 5, 8, 4, 8)
    shown = tile[0].permute(0, 2, 1, 3)  # (5, 4, 8, 8)
    torch.testing.assert_close(shown[:, 0], x[:, 0])
    for i in range(5):
        z = stars.given(int(y[i])).encode(x[i : i + 1])
        for k in range(3):
            torch.testing.assert_close(shown[i, 1 + k], stars.given(k).decode(z)[0, 0])


def test_the_command_line_gives_a_label(stars, tmp_path, capsys):
    stars.save_pretrained(tmp_path / "cvae-stars")
    name = str(tmp_path / "cvae-stars")
    with torch.no_grad():
        assert main(["sample", name, "-n", "12", "--mean", "-o", "all.png"]) == 0
        assert main(["sample", name, "-n", "4", "--mean", "--given", "two", "-o", "two.png"]) == 0
    torch.manual_seed(0)
    expected = stars.given(torch.arange(3).repeat_interleave(4)).decode(stars.prior().sample((12,)))
    shown = pixels("all.png")
    scale = shown.shape[1] // 42  # four in a row: 4 (8 + 2) + 2
    rows = shown[::scale, ::scale]
    assert rows.shape == (32, 42)
    torch.testing.assert_close(rows[22:30, 2:10], expected[8, 0].detach(), atol=1 / 255, rtol=0)
    torch.manual_seed(0)
    expected = stars.given(2).decode(stars.prior().sample((4,)))
    shown = pixels("two.png")
    scale = shown.shape[1] // 22
    torch.testing.assert_close(
        shown[::scale, ::scale][2:10, 2:10], expected[0, 0].detach(), atol=1 / 255, rtol=0
    )
    assert main(["reconstruct", name, "-n", "3"]) == 0
    assert main(["traverse", name, "-n", "2"]) == 0
    assert main(["interpolate", name, "-n", "2", "--given", "one"]) == 0
    assert main(["interpolate", name, "-n", "2"]) == 1
    assert main(["sample", name, "--given", "tow"]) == 1
    err = capsys.readouterr().err
    assert "where y is one of disc, one, two" in err
    assert "there is no label 'tow'; did you mean" in err


def test_comparison_keeps_its_likelihood_apart(stars, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "zoo.evaluation.comparison.throughput", lambda act, n, device: float(len(act(n)))
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stars.save_pretrained(tmp_path / "cvae-stars")
    vae = VAE(x_shape=(1, 8, 8), latent_dim=2, hidden=(4,))
    vae.data = DATA
    vae.save_pretrained(tmp_path / "vae-stars")
    monkeypatch.setitem(SUITES, "quick", Suite(("likelihood",), Protocol(2, 10)))
    columns = table(compare([str(tmp_path / "cvae-stars"), str(tmp_path / "vae-stars")]))
    given = columns["NLL of FakeImages binary pixels given their label (nats/image)"]
    plain = columns["NLL of FakeImages binary pixels (nats/image)"]
    assert given[0] is not None
    assert given[1] is None
    assert plain[0] is None
    assert plain[1] is not None
