"""A copy in half precision does what the model does, to its precision, and can be saved."""

from pathlib import Path

import pytest
import torch

import zoo
from zoo.models import VAEGAN
from zoo.pretrained.loading import check_golden

ONE_OF_A_FAMILY = (
    "ae-mnist",
    "cvae-mnist",
    "dae-mnist",
    "dbvae-celeba",
    "fa-mnist",
    "flowvae-mnist",
    "gmm-mnist",
    "hmm-icecream",
    "hvae-mnist",
    "iwae-mnist",
    "lda-ap",
    "lenet-mnist",
    "ppca-mnist",
    "tc-vae-sprites",
    "vampvae-mnist",
    "vqvae-mnist",
    "wae-celeba",
)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ONE_OF_A_FAMILY)
def test_a_half_copy_samples_reconstructs_and_is_saved(name, dtype, tmp_path):
    model = zoo.from_pretrained(name)
    whole = model.golden_outputs()
    x, tolerance = whole.pop("x"), 0.06 if dtype is torch.bfloat16 else 0.006
    model.to(dtype)
    half = model.golden_outputs(x)
    for verb, wanted in whole.items():
        if wanted.is_floating_point() and not name.startswith("vqvae"):  # another code is nearest
            assert half[verb].dtype == wanted.dtype
            torch.testing.assert_close(half[verb], wanted, atol=tolerance, rtol=tolerance)
    if "sample" in model.verbs():
        drawn = model.sample(2)
        assert drawn.dtype == x.dtype
        assert drawn.isfinite().all()
    if "reconstruct" in model.verbs() and len(model.x_shape) == 3 and not model.conditions:
        assert model.reconstruct(x.to(dtype)).isfinite().all()  # of a half batch, too
    model.save_pretrained(tmp_path / "half")
    loaded = zoo.from_pretrained(str(tmp_path / "half"))
    check_golden(loaded, Path(tmp_path / "half"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.to(loaded.state_dict()[name].dtype))


def test_a_gan_too():
    torch.manual_seed(0)
    model = VAEGAN(x_shape=(1, 16, 16), latent_dim=4, hidden=(8, 16)).eval()
    x = torch.rand(2, 1, 16, 16)
    wanted = model.reconstruct(x)
    model.bfloat16()
    torch.testing.assert_close(model.reconstruct(x), wanted, atol=0.06, rtol=0.06)
    assert model.sample(2).dtype == torch.float32
