"""Logarithms of probabilities may be minus infinity, where a module says that they are such."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.checkpoints.files import sha256
from zoo.errors import ZooError
from zoo.models import GMM, HMM, VAE
from zoo.pretrained.loading import check_golden


def one_sequence(seed=0, **arguments):
    torch.manual_seed(seed)
    x = torch.randint(0, 4, (1, 50))
    data = {"tokens": x, "tags": x % 3} if "supervised" in arguments else x
    return HMM(4, symbols=5, **arguments).fit(data, tol=-1)


def structural():
    """No way from the second state to the first, and a start in the first."""
    model = HMM(2, emission="mixture", dim=1).double()
    model.initial.start(torch.tensor([1.0, 0.0]).double())
    model.transition.start(torch.tensor([[0.5, 0.5], [0.0, 1.0]]).double())
    model.emission.weights.start(torch.tensor([[1.0, 0.0], [0.5, 0.5]]).double())
    return model


def mixture():
    model = GMM((2,), 3, "diag")
    model.set_components(torch.tensor([0.5, 0.0, 0.5]), torch.randn(3, 2), torch.ones(3, 2))
    return model


MODELS = {
    **{f"one sequence, seed {seed}": lambda seed=seed: one_sequence(seed) for seed in range(3)},
    "counted": lambda: one_sequence(supervised=True),
    "structural": lambda: structural().float(),
    "mixture": mixture,
}


@pytest.mark.parametrize("name", MODELS)
def test_zeros_are_saved(name, tmp_path):
    model = MODELS[name]()
    tables = [value for key, value in model.state_dict().items() if key.endswith("logits")]
    assert any(table.isneginf().any() for table in tables)
    model.save_pretrained(tmp_path / "model")
    loaded = zoo.from_pretrained(str(tmp_path / "model"))
    check_golden(loaded, tmp_path / "model")
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_zeros_are_saved_in_half_precision(tmp_path):
    model = mixture()
    model.save_pretrained(tmp_path / "model", half=True)
    loaded = zoo.from_pretrained(str(tmp_path / "model"))
    assert torch.equal(loaded.logits.isneginf(), model.logits.isneginf())


INFINITE = -torch.inf
SPOILT = {
    "NaN": ("transition.logits", (0, 0), torch.nan),
    "+inf": ("transition.logits", (0, 0), torch.inf),
    "no distribution": ("transition.logits", 0, INFINITE),
    "another tensor": ("emission.offset", (0, 0), INFINITE),
    "no table": ("emission.log_scale", (0, 0), INFINITE),
}


@pytest.mark.parametrize("what", SPOILT)
def test_only_single_zeros_of_tables_are(what, tmp_path):
    name, where, value = SPOILT[what]
    model = structural()
    check_refused(model.float(), name, where, value, tmp_path)


def test_a_weight_is_no_table(tmp_path):
    model = VAE(x_shape=(1, 4, 4), latent_dim=2, hidden=(5,))
    name = next(name for name, _ in model.named_parameters())
    check_refused(model, name, 0, INFINITE, tmp_path)


def check_refused(model, name, where, value, tmp_path):
    """Neither saved nor loaded with this number in this place."""
    model.save_pretrained(tmp_path / "model")
    file, config = tmp_path / "model" / "model.safetensors", tmp_path / "model" / "config.json"
    before, weights = sha256(file), load_file(file)
    weights[name][where] = value
    save_file(weights, file, metadata={"format": "pt"})
    config.write_text(config.read_text().replace(before, sha256(file)))
    with pytest.raises(ZooError, match=f"holds numbers in {name} that are not finite"):
        zoo.from_pretrained(str(tmp_path / "model"))
    with torch.no_grad():
        model.state_dict()[name][where] = value
    with pytest.raises(ZooError, match=f"the model has numbers in {name} that are not finite"):
        model.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize("seed", range(3))
def test_em_goes_on_from_zeros_as_variational_bayes(seed, tmp_path):
    one_sequence(seed).save_pretrained(tmp_path / "hmm")
    bayes = zoo.from_pretrained(str(tmp_path / "hmm"), learning="vb")
    assert bayes.log_prior().isfinite()
    assert bayes.expectation(bayes.as_batch([[4, 0, 1]]))["log_likelihood"].isfinite()
