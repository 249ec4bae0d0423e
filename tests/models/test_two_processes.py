"""What families learn beside one loss's gradient, on two processes: codebooks, discriminators."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.distributions import Normal

from zoo.datamodules import FakeImages
from zoo.models import VAEGAN, VQVAE, FactorVAE
from zoo.models.autoencoders import factor_vae
from zoo.training.seeding import SeedEpoch

SHAPE = (1, 8, 8)


class Ends(Callback):
    """Keeps what each process ends with where the parent can read it."""

    def __init__(self, folder):
        self.folder = folder

    def on_fit_end(self, trainer, pl_module):
        torch.save(pl_module.state_dict(), self.folder / f"{trainer.global_rank}-{id(self)}")

    def read(self, rank):
        return torch.load(self.folder / f"{rank}-{id(self)}")


def trained(model, folder, devices, max_steps=-1, **data):
    """The weights with which each of the processes ends, and the model."""
    ends = Ends(folder)
    Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices == 2 else "auto",
        precision="64-true",
        max_epochs=2,
        max_steps=max_steps,
        callbacks=[ends, SeedEpoch(0)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(
        model,
        FakeImages(**{"x_shape": SHAPE, "n": 96, "batch_size": 16 // devices, **data}),
    )
    return [ends.read(rank) for rank in range(devices)], model


def vqvae(decay=0.5):
    torch.manual_seed(0)
    return VQVAE(
        x_shape=SHAPE,
        codes=6,
        code_dim=3,
        hidden=(8, 8),
        residual_blocks=1,
        prior_width=8,
        prior_depth=1,
        prior_heads=2,
        lr=1e-2,
        decay=decay,
    )


def factored():
    torch.manual_seed(0)
    return FactorVAE(x_shape=SHAPE, latent_dim=3, hidden=(16,), discriminator=(8, 8), lr=1e-2)


def adversarial():
    torch.manual_seed(0)
    return VAEGAN(
        x_shape=SHAPE, latent_dim=3, hidden=(4, 8), discriminator=(4, 8), layer=1, lr=1e-2
    )


def started():
    """A model with codes that lie where vectors are, and are not used up in a few steps."""
    model = vqvae(decay=0.99)
    with torch.no_grad():
        z = model._vectors(torch.rand(12, *SHAPE)).flatten(0, -2)
        model.codebook.codes.copy_(z[:: len(z) // 6][:6])
        model.codebook.count.fill_(10.0)
        model.codebook.total.copy_(10.0 * model.codebook.codes)
    return model


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def moved(model, before):
    return all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("made", [vqvae, factored, adversarial])
@pytest.mark.parametrize("n", [96, 101])  # of 101, one process has one image more than the other
def test_processes_end_alike(made, n, tmp_path):
    (first, second), model = trained(made(), tmp_path, 2, n=n)
    assert moved(model, made().state_dict())
    assert equal(first, second)


def test_codes_that_start_again_do_so_alike(tmp_path):
    model = started()
    model.codebook.codes[2:4] = torch.tensor([[1e3], [-1e3]])  # where no vector is
    model.codebook.count[2:4] = 1e-9
    # one step: before the next, DDP would give all processes the codebook of the first
    (first, second), _ = trained(model, tmp_path, 2, max_steps=1)
    assert equal(first, second)
    assert first["codebook.codes"].abs().max() < 100


def without_noise(monkeypatch, devices):
    """Draws in the middle, and shuffles that move the same images on one process and on two."""

    def middle(self, shape=()):
        return (self.loc + 0.3 * self.scale).expand(self._extended_shape(shape))

    monkeypatch.setattr(Normal, "rsample", middle)
    monkeypatch.setattr(Normal, "sample", middle)

    def rolled(z):  # of every other image two places are one in a process that has half of them
        places = [j * 2 // devices for j in range(z.shape[1])]
        return torch.stack([z[:, j].roll(places[j]) for j in range(z.shape[1])], 1)

    monkeypatch.setattr(factor_vae, "_shuffled", rolled)


@pytest.mark.parametrize("made", [started, factored, adversarial])
def test_two_processes_equal_one(made, tmp_path, monkeypatch):
    states = []
    for devices in (1, 2):
        without_noise(monkeypatch, devices)
        (state, *_), model = trained(made(), tmp_path, devices, binarization="none")
        states.append(state)
        assert moved(model, made().state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=1e-7, atol=1e-9)
