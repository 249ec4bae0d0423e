"""The flow's density against the Jacobian, its inverse, and the plain VAE."""

import pytest
import torch

import zoo
from zoo.models import VAE, FlowVAE


def small(**arguments):
    return FlowVAE(
        **{
            "x_shape": (1, 4, 4),
            "latent_dim": 3,
            "hidden": (16,),
            "steps": 2,
            "flow_hidden": (8,),
            "context": 4,
            **arguments,
        }
    )


def images(n):
    return (torch.rand(n, 1, 4, 4) < 0.5).float()


def stirred(**arguments):
    """A flow that is not nearly the identity."""
    torch.manual_seed(0)
    model = small(**arguments).double()
    with torch.no_grad():
        for p in model.flow.parameters():
            p.mul_(2)
    return model


def test_log_det_is_that_of_the_jacobian():
    model = stirred()
    q = model.posterior(images(5).double())
    z = torch.randn(5, 3, dtype=torch.float64)
    _, log_det = q.push(z)
    jacobians = torch.autograd.functional.jacobian(lambda z: q.push(z)[0].sum(0), z)  # (D, B, D)
    expected = torch.linalg.slogdet(jacobians.transpose(0, 1)).logabsdet
    torch.testing.assert_close(log_det, expected, atol=1e-10, rtol=0)
    assert log_det.abs().max() > 0.1


def test_every_dimension_depends_on_the_ones_before_in_alternating_order():
    model = stirred(steps=1)
    q = model.posterior(images(1).double())
    one = torch.autograd.functional.jacobian(
        lambda z: q.push(z)[0][0], torch.randn(1, 3, dtype=torch.float64)
    )[:, 0]
    assert one.triu(1).abs().max() == 0
    both = stirred(steps=2).posterior(images(1).double())
    two = torch.autograd.functional.jacobian(
        lambda z: both.push(z)[0][0], torch.randn(1, 3, dtype=torch.float64)
    )[:, 0]
    assert (two != 0).all()


def test_density_of_a_draw_is_that_of_the_same_point_by_the_inverse():
    q = stirred().posterior(images(5).double())
    z = q.rsample((7,))
    drawn = q.log_prob(z)
    torch.testing.assert_close(q.log_prob(z.clone()), drawn, atol=1e-9, rtol=0)
    assert drawn.shape == (7, 5)


def test_the_density_integrates_to_one():
    model = stirred(latent_dim=1, steps=2)
    q = model.posterior(images(1).double())
    line = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    mass = torch.trapezoid(q.log_prob(line[:, None, None]).exp().squeeze(-1), line)
    assert mass.item() == pytest.approx(1, abs=1e-6)


def test_without_change_by_the_flow_it_is_the_vae():
    torch.manual_seed(0)
    model = small(context=0).double()
    with torch.no_grad():
        for p in model.flow.parameters():
            p.zero_()
    vae = VAE(x_shape=(1, 4, 4), latent_dim=3, hidden=(16,)).double()
    vae.load_state_dict({k: v for k, v in model.state_dict().items() if "flow" not in k})
    x = images(10).double()
    torch.manual_seed(1)
    ours = model.loss({"image": x})
    torch.manual_seed(1)
    theirs = vae.loss({"image": x})
    torch.testing.assert_close(ours["distortion"], theirs["distortion"])
    torch.testing.assert_close(model.encode(x), vae.encode(x))


def test_a_bound_of_many_samples_is_above_that_of_one():
    torch.manual_seed(0)
    model, x = stirred().eval(), images(30).double()
    one = zoo.log_likelihood(model, x, samples=1).value.mean()
    many = zoo.log_likelihood(model, x, samples=200).value.mean()
    assert many > one


def test_every_part_of_the_flow_is_trained():
    torch.manual_seed(0)
    model = small()
    model.loss({"image": images(8)})["loss"].backward()
    assert all(p.grad.abs().sum() > 0 for p in model.flow.parameters())


def test_it_is_measured_without_a_mean_of_the_posterior():
    model, x = stirred(), images(20).double()
    found = {m.name: m.value for m in zoo.evaluate(model, [{"image": x}], samples=10)}
    assert found["nll"] < -found["elbo"]
    assert found["active_units"] == (model.encode(x).var(0) > 0.01).sum().item()
