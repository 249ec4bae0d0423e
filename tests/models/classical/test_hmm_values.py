"""Sequences of vectors that are far from zero, constant, or of very different scales."""

import numpy as np
import pytest
import torch
from hmm_cases import close, randomized, small
from safetensors.torch import load_file, save_file

import zoo
from zoo.checkpoints.files import sha256
from zoo.models import HMM

KINDS = ("gaussian", "mixture")


def switching(seed, scale=1.0):
    """A path of two states that last 20 steps, and a value that is 4 higher in one, (T,) each."""
    rng = np.random.default_rng(seed)
    path = np.repeat(rng.permutation([0, 1] * 6), 20)
    return path, scale * (rng.normal(size=len(path)) + 4 * path)


def beside(values, constant):
    """A sequence (T, 2) with a feature that does not change."""
    return np.stack([values, np.full(len(values), constant)], 1)


def accuracy(path, found):
    right = (found[0].numpy() == path).mean()
    return max(right, 1 - right)


@pytest.mark.parametrize("emission", KINDS)
@pytest.mark.parametrize("constant", [0.0, -0.1, 1.7e9])
@pytest.mark.parametrize("moved", [0.001, 1.0, 1e4])
def test_a_constant_feature_that_moves_tells_no_states_apart(emission, constant, moved):
    """Hmmlearn's paths are right for 0.001, and at chance from 1 on."""
    _, values = switching(0)
    path, others = switching(1)
    torch.manual_seed(0)
    model = HMM(2, emission=emission, dim=2).fit([beside(values, constant)], max_epochs=20, tol=-1)
    assert accuracy(path, model.encode([beside(others, constant + moved)])) > 0.98


@pytest.mark.parametrize("emission", KINDS)
def test_rounding_in_float32_is_no_variation(emission):
    _, values = switching(0)
    path, others = switching(1)
    x = torch.from_numpy(beside(values, 0.1)).float()
    x[::7, 1] = torch.nextafter(x[::7, 1], torch.ones(()))
    torch.manual_seed(0)
    model = HMM(2, emission=emission, dim=2).fit([x], max_epochs=20, tol=-1)
    assert accuracy(path, model.encode([beside(others, 0.101)])) > 0.98


@pytest.mark.parametrize("emission", KINDS)
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_no_scale_drowns_another(emission, scale):
    path, values = switching(0, scale)
    x = np.stack([np.random.default_rng(2).normal(size=len(values)), values], 1)
    torch.manual_seed(0)
    found = HMM(2, emission=emission, dim=2).fit([x], max_epochs=20, tol=-1)
    assert accuracy(path, found.encode([x])) > 0.98
    least = (found.emission.floor * torch.from_numpy(x).var(0, correction=0)).sqrt()
    assert (found.emission.scale > least).all()


def test_data_that_are_all_the_same_have_states():
    model = HMM(2, emission="gaussian", dim=1).fit([np.full((9, 1), 5.0)], max_epochs=20, tol=-1)
    assert np.isfinite(model.history).all()
    assert model.log_prob([np.full((3, 1), 5.001)]).isfinite().all()


def test_gradients_do_not_lead_below_the_floor():
    model = small("gaussian", learning="gradient")
    model.emission.start(torch.from_numpy(beside(switching(0)[1], 3.0)))
    with torch.no_grad():
        model.emission.log_scale.fill_(-60)
    assert (model.emission.scale.amin((0, 1)) > 1e-3 * model.emission.spread * 0.999).all()


@pytest.mark.parametrize("emission", KINDS)
@pytest.mark.parametrize("origin", [1e6, 1e8, 1.7e9, -1e12])
def test_where_zero_is_makes_no_difference(emission, origin):
    """In float32 the digits of 1e8 end at 8: the Rand index was 0.07, and 0 of time stamps."""
    path, values = switching(0)
    values = np.round(values * 2**10) / 2**10  # so that adding the origin rounds nothing much
    found = []
    for x in (values[:, None], values[:, None] + origin):
        torch.manual_seed(0)
        model = HMM(2, emission=emission, dim=1).fit([x], max_epochs=20, tol=-1)
        assert accuracy(path, model.encode([x])) > 0.98
        mean, log_prob = model.emission.mean, model.log_prob([x])
        found.append((model.history, mean, log_prob, model.predict([x]).mean))
        z = model.encode([x])
        log_p = (
            model.transition.log_p()[z[0, :-1], z[0, 1:]].sum() + model.initial.log_p()[0, z[0, 0]]
        )
        joint = log_p + model.likelihood(z).log_prob(torch.from_numpy(x))
        close(joint - model.log_prob([x]), model.posterior([x]).log_prob(z), atol=1e-4)
    (history, mean, log_prob, following), moved = found
    assert moved[0][-1] == pytest.approx(history[-1], abs=2e-3)
    close(moved[1] - origin, mean, atol=1e-3)
    close(moved[2], log_prob, atol=2e-3)
    close(moved[3] - origin, following, atol=1e-3)


def test_what_is_drawn_and_decoded_has_the_model_s_type():
    for model in (randomized(small("mixture")), randomized(small("mixture")).float()):
        x = model.sample(2)
        assert x.dtype == model.decode(model.encode(x)).dtype == model.transition.logits.dtype


def test_a_checkpoint_of_old_holds_the_means_themselves(tmp_path):
    model = randomized(small("mixture")).float()
    model.emission.origin.fill_(50.0)
    model.save_pretrained(tmp_path / "hmm")
    file, config = tmp_path / "hmm" / "model.safetensors", tmp_path / "hmm" / "config.json"
    before, weights = sha256(file), load_file(file)
    weights["emission.mean"] = weights.pop("emission.offset") + weights["emission.origin"]
    save_file(weights, file, metadata={"format": "pt"})
    config.write_text(config.read_text().replace(before, sha256(file)))
    old = zoo.from_pretrained(str(tmp_path / "hmm"))
    x = model.sample(3)
    close(old.log_prob(x), model.log_prob(x), atol=1e-4)
