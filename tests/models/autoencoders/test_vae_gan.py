"""The VAE/GAN: one sum's gradients are those of algorithm 1, taken network by network."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

import zoo
from zoo.models import VAEGAN


def small(**arguments):
    return VAEGAN(
        **{
            "x_shape": (3, 8, 8),
            "latent_dim": 3,
            "hidden": (4, 8),
            "discriminator": (4, 8),
            "layer": 1,
            "gamma": 0.3,
            **arguments,
        }
    )


def algorithm_1(model, x):
    """The three losses of the paper, and the gradients of the networks that descend them."""
    q = Normal(*_moments(model.encoder(x)))
    z = q.rsample()
    z_p = torch.randn(z.shape, dtype=z.dtype)
    reconstruction, drawn = model.decoder(z), model.decoder(z_p)
    features, logit = model.discriminator(x)
    seen, logit_of_code = model.discriminator(reconstruction)
    logit_of_draw = model.discriminator(drawn)[1]
    prior = kl_divergence(q, Normal(0.0, 1.0)).sum(1).mean()
    likelihood = Normal(seen, model.log_scale.exp())
    distortion = -likelihood.log_prob(features.detach()).sum((1, 2, 3)).mean()
    game = (
        logit.sigmoid().log()
        + (1 - logit_of_code.sigmoid()).log()
        + (1 - logit_of_draw.sigmoid()).log()
    ).mean()
    fooling = -(logit_of_code.sigmoid().log() + logit_of_draw.sigmoid().log()).mean()
    losses = {
        "encoder": prior + distortion,
        "log_scale": distortion,
        "decoder": model.gamma * distortion + fooling,
        "discriminator": -game,
    }
    gradients = {}
    for name, loss in losses.items():
        named = {k: p for k, p in model.named_parameters() if k.startswith(name)}
        found = torch.autograd.grad(loss, [*named.values()], retain_graph=True)
        gradients |= dict(zip(named, found, strict=True))
    terms = {"rate": prior, "distortion": distortion, "fooling": fooling}
    return terms | {"discriminator_loss": -game}, gradients


def _moments(parameters):
    mean, log_scale = parameters.chunk(2, -1)
    return mean, log_scale.exp()


def test_gradients_of_the_sum_are_those_of_algorithm_1():
    model = small().double().eval()  # the singular vectors stay where they are
    with torch.no_grad():
        model.log_scale.fill_(-1.0)
    x = torch.rand(5, 3, 8, 8).double()
    torch.manual_seed(1)
    terms, gradients = algorithm_1(model, x)
    torch.manual_seed(1)
    found = model.loss({"image": x})
    found["loss"].backward()
    for name, value in terms.items():
        torch.testing.assert_close(found[name], value)
    assert gradients.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-9, atol=1e-12)


def test_no_layer_of_the_discriminator_stretches_more_than_others():
    model = small()
    x = torch.rand(4, 3, 8, 8)
    for _ in range(200):  # one step of power iteration each
        model.discriminator(x)
    for layer in (model.discriminator.features[0], *model.discriminator.head):
        if hasattr(layer, "weight"):
            values = torch.linalg.svdvals(layer.weight.detach().flatten(1))
            assert values[0].item() == pytest.approx(1, abs=1e-3)


def test_what_it_lacks_and_refuses():
    model = small()
    assert not {"likelihood", "log_prob"} & {*model.verbs()}
    with pytest.raises(NotImplementedError, match="gives pixels no density"):
        model.likelihood(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="the discriminator has 2 stages"):
        small(layer=3)


def test_a_checkpoint_comes_back(tmp_path):
    model = small().eval()
    model.save_pretrained(tmp_path / "gan")
    back = zoo.from_pretrained(str(tmp_path / "gan"))
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(back.reconstruct(x), model.reconstruct(x))
    assert torch.equal(back.discriminator(x)[1], model.discriminator(x)[1])
