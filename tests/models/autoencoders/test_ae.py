"""The autoencoder: its loss written out, what it refuses, and the prior that is fitted to codes."""

import math

import pytest
import torch
from lightning.pytorch import Trainer
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from zoo.datamodules import FakeImages
from zoo.models import AE
from zoo.models.autoencoders.code_prior import CodePrior


def small(**arguments):
    return AE(**{"x_shape": (1, 4, 4), "latent_dim": 3, "hidden": (16,), **arguments})


def images(n):
    return (torch.rand(n, 1, 4, 4) < 0.5).float()


def test_loss_is_the_distortion_and_the_penalty_written_out():
    torch.manual_seed(0)
    model, x = small(sparsity=0.25).double(), images(6).double()
    terms = model.loss({"image": x})
    z = model.encoder(x)
    p = model.decoder(z).sigmoid()
    distortion = -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3)).mean()
    size = z.abs().sum(1).mean()
    assert terms["distortion"].item() == pytest.approx(distortion.item(), abs=1e-9)
    assert terms["loss"].item() == pytest.approx((distortion + 0.25 * size).item(), abs=1e-9)


def test_noise_hides_its_share_of_the_pixels_in_training_alone():
    torch.manual_seed(0)
    model, x = small(noise=0.3), torch.ones(4000, 1, 4, 4)
    seen = []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model.train().loss({"image": x})
    model.eval().loss({"image": x})
    share = 1 - seen[0].mean().item()
    assert share == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 64000) ** 0.5)
    assert torch.equal(seen[1], x)


@pytest.mark.parametrize("verb", ["sample", "prior"])
def test_without_a_prior_sampling_is_refused_with_the_reason(verb):
    model = small()
    assert verb not in model.verbs()
    with pytest.raises(NotImplementedError, match=f"AE has no {verb}: nothing says where its code"):
        model.sample(1) if verb == "sample" else model.prior()
    assert verb in small(components=2).verbs()


def mixture():
    """Two Gaussians in the plane, apart."""
    means = torch.tensor([[-3.0, 1.0], [4.0, 0.0]]).double()
    roots = torch.tensor([[[1.0, 0.0], [0.8, 0.5]], [[0.3, 0.0], [0.0, 2.0]]]).double()
    weights = Categorical(torch.tensor([0.25, 0.75]).double())
    return MixtureSameFamily(weights, MultivariateNormal(means, scale_tril=roots))


def test_the_prior_finds_the_mixture_that_codes_come_from():
    torch.manual_seed(0)
    codes = mixture().sample((20_000,))
    prior = CodePrior(2, 2).double()
    prior.fit(codes)
    test = mixture().sample((20_000,))
    # KL(truth || fit) is about half the number of parameters over the number of codes: 3e-4.
    gap = (mixture().log_prob(test) - prior().log_prob(test)).mean().item()
    assert abs(gap) < 2e-3
    assert prior.logits.exp().sort().values.tolist() == pytest.approx([0.25, 0.75], abs=0.02)


def test_one_gaussian_is_the_moments_of_the_codes():
    torch.manual_seed(0)
    codes = mixture().sample((500,))
    prior = CodePrior(2, 1).double()
    prior.fit(codes)
    torch.testing.assert_close(prior().mean, codes.mean(0), rtol=1e-9, atol=1e-12)
    covariance = prior.roots[0] @ prior.roots[0].mT
    floor = 1e-4 * codes.var(0, correction=0).mean()
    expected = torch.cov(codes.mT, correction=0) + floor * torch.eye(2).double()
    torch.testing.assert_close(covariance, expected, rtol=1e-9, atol=1e-12)


def test_gaussians_about_codes_are_as_wide_as_the_others_like_best():
    torch.manual_seed(0)
    codes = mixture().sample((3000,))
    prior = CodePrior(2, 100, "vamp").double()
    prior.fit(codes)
    centres = prior.means
    assert (torch.cdist(centres, codes).min(1).values < 1e-6).all()
    assert len(centres.unique(dim=0)) == 100
    others = codes[torch.cdist(codes, centres).min(1).values > 1e-6]
    covariance = torch.cov(codes.mT, correction=0)

    def likelihood(h):
        about = MultivariateNormal(centres, h * h * covariance)
        return about.log_prob(others[:, None]).logsumexp(1).mean().item()

    tried = torch.linspace(0.05, 1, 200).tolist()
    best = max(tried, key=likelihood)
    found = (prior.roots[0] @ prior.roots[0].mT).det().div(covariance.det()).pow(0.25).item()
    assert found == pytest.approx(best, abs=0.01)  # twice the grid's step
    assert prior().log_prob(others).mean().item() == pytest.approx(
        likelihood(found) - math.log(100), abs=1e-3
    )


def test_codes_that_are_constant_or_few_are_no_trap():
    prior = CodePrior(3, 2)
    prior.fit(torch.ones(10, 3))
    assert all(p.isfinite().all() for p in prior.parameters())
    with pytest.raises(ValueError, match=r"2 components needs more codes than that, but .* 2"):
        prior.fit(torch.ones(2, 3))


def trained(folder, **arguments):
    """A model with a prior of its codes, trained in two epochs, and the codes (64, 3)."""
    torch.manual_seed(0)
    model = small(x_shape=(1, 8, 8), **arguments)
    data = FakeImages(x_shape=(1, 8, 8), n=64, batch_size=32, binarization="none")
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, data)
    data.setup("fit")
    with torch.no_grad():
        codes = torch.cat([model.eval().encode(b["image"]) for b in data.train_dataloader()])
    return model, codes


def test_the_prior_is_fitted_while_training(tmp_path):
    model, codes = trained(tmp_path, components=1)
    expected = CodePrior(3, 1)
    expected.fit(codes)
    assert model.prior().log_prob(codes).mean().item() == pytest.approx(
        expected().log_prob(codes).mean().item(), abs=1e-4
    )


@pytest.mark.parametrize("kind", ["gmm", "vamp"])
def test_the_prior_travels_with_the_checkpoint(tmp_path, kind):
    model, codes = trained(tmp_path, components=5, code_prior=kind)
    if kind == "vamp":
        assert torch.cdist(model.code_prior.means, codes).min(1).values.max() < 1e-4
    model.save_pretrained(tmp_path / "ae")
    again = AE.from_pretrained(str(tmp_path / "ae"))
    torch.manual_seed(1)
    drawn = model.sample(5)
    torch.manual_seed(1)
    assert torch.equal(again.sample(5), drawn)


@pytest.mark.parametrize("noise", [-0.1, 1.0, float("nan")])
def test_noise_that_is_no_share_is_refused(noise):
    with pytest.raises(ValueError, match="must be a share of pixels"):
        small(noise=noise)
