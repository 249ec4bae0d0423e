"""Parts that a user has changed are saved so that they load, or refused in a sentence."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import zoo
from zoo.errors import ZooError
from zoo.models import VAE
from zoo.pretrained.loading import check_golden


def small():
    torch.manual_seed(0)
    return VAE(x_shape=(1, 12, 12), latent_dim=4, hidden=(32,))


def compile_encoder(model):
    model.encoder = torch.compile(model.encoder, backend="eager")


def compile_a_layer(model):
    model.decoder[0] = torch.compile(model.decoder[0], backend="eager")


def parametrise(model):
    layer = parametrizations.weight_norm(model.encoder[1][0])
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(2)


def parametrise_and_compile(model):
    parametrise(model)
    compile_encoder(model)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # by torch's own tracing
@pytest.mark.parametrize(
    "change", [compile_encoder, compile_a_layer, parametrise, parametrise_and_compile]
)
def test_what_can_be_undone_is_saved_plainly(change, tmp_path):
    model = small().eval()
    names = {*model.state_dict()}
    change(model)
    x = torch.rand(3, 1, 12, 12)
    wanted = model.reconstruct(x)
    state = torch.get_rng_state()
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), state)
    loaded = zoo.from_pretrained(str(tmp_path / "model"))
    assert {*loaded.state_dict()} == names
    torch.testing.assert_close(loaded.reconstruct(x), wanted)
    check_golden(loaded, Path(tmp_path / "model"))
    assert not torch.equal(model.encode(x), small().encode(x)) or "compile" in change.__name__


def old_weight_norm(model):
    nn.utils.weight_norm(model.encoder[1][0])


def pruned(model):
    prune.l1_unstructured(model.encoder[1][0], "weight", 0.3)


def one_more(model):
    model.extra = nn.Linear(2, 2)


def wider(model):
    model.encoder[1] = nn.Sequential(nn.Linear(144, 33), nn.ReLU(), nn.Linear(33, 8))


def parallel(model):
    model.encoder = nn.DataParallel(model.encoder)


@pytest.mark.parametrize("change", [old_weight_norm, pruned, one_more, wider, parallel])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_cannot_is_refused_when_it_is_saved(change, tmp_path):
    model = small()
    change(model)
    with pytest.raises(ZooError, match="has other parts than VAE with its arguments"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
