"""The VQ-VAE: brute force for codes, enumeration for the prior, k-means for the codebook."""

import itertools
import math

import pytest
import torch

import zoo
from zoo.models import VQVAE
from zoo.nn.causal import CausalBlock, CausalTransformer
from zoo.nn.codebook import Codebook


def small(**arguments):
    return VQVAE(
        **{
            "x_shape": (1, 8, 8),
            "codes": 5,
            "code_dim": 3,
            "hidden": (8, 8),
            "residual_blocks": 1,
            "prior_width": 8,
            "prior_depth": 2,
            "prior_heads": 2,
            **arguments,
        }
    )


def images(n):
    return (torch.rand(n, 1, 8, 8) < 0.5).float()


def test_nearest_codes_are_those_of_brute_force():
    torch.manual_seed(0)
    book, z = Codebook(7, 4), torch.randn(6, 5, 4)
    found = book.nearest(z)
    for place in itertools.product(range(6), range(5)):
        distances = [(z[place] - e).square().sum().item() for e in book.codes]
        assert found[place].item() == min(range(7), key=distances.__getitem__)


def test_the_gradient_passes_straight_through():
    torch.manual_seed(0)
    book = Codebook(7, 4).eval()
    z = torch.randn(6, 4, requires_grad=True)
    weight = torch.randn(6, 4)
    code, index = book(z)
    assert torch.allclose(code, book.codes[index])
    (code * weight).sum().backward()
    assert torch.equal(z.grad, weight)


def test_running_averages_are_the_papers():
    torch.manual_seed(0)
    book = Codebook(2, 1, decay=0.9).train()
    book.codes.copy_(torch.tensor([[-1.0], [1.0]]))
    book.count.copy_(torch.tensor([4.0, 4.0]))
    book.total.copy_(torch.tensor([[-4.0], [4.0]]))
    book(torch.tensor([[-2.0], [-1.0], [3.0]]))
    assert book.count.tolist() == pytest.approx([0.9 * 4 + 0.1 * 2, 0.9 * 4 + 0.1 * 1])
    expected = [(0.9 * -4 + 0.1 * -3) / 3.8, (0.9 * 4 + 0.1 * 3) / 3.7]
    assert book.codes.flatten().tolist() == pytest.approx(expected)


def test_codes_find_the_clusters_and_none_stays_dead():
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    book = Codebook(4, 2, decay=0.8).train()
    book.codes += 100  # no code is near any vector
    for _ in range(200):
        book(centres[torch.randint(4, (64,))] + 0.1 * torch.randn(64, 2))
    distances = torch.cdist(centres, book.codes)
    assert distances.min(1).values.max() < 0.5


def test_evaluation_does_not_move_the_codebook():
    model = small().eval()
    before = {k: v.clone() for k, v in model.codebook.state_dict().items()}
    model.loss({"image": images(4)})
    assert all(torch.equal(v, before[k]) for k, v in model.codebook.state_dict().items())


def test_the_prior_sums_to_one_and_its_draws_follow_it():
    torch.manual_seed(0)
    model = VQVAE(
        x_shape=(1, 4, 4), codes=3, code_dim=2, hidden=(4,), prior_width=8, prior_heads=2
    ).eval()
    grids = torch.tensor([*itertools.product(range(3), repeat=4)]).reshape(-1, 2, 2)
    log_p = model.prior().log_prob(grids).detach()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)
    n = 20_000
    drawn = model.prior().sample((n,)).flatten(1) @ torch.tensor([27, 9, 3, 1])
    share = torch.bincount(drawn, minlength=81) / n
    error = (log_p.exp() * (1 - log_p.exp()) / n).sqrt()
    assert ((share - log_p.exp()).abs() < 5 * error).all()


def test_the_transformer_sees_the_past_alone():
    torch.manual_seed(0)
    network = CausalTransformer(categories=5, length=6, width=8, depth=2, heads=2).double()
    s = torch.randint(5, (1, 6))
    logits = network(s)
    for t in range(6):
        changed = s.clone()
        changed[0, t] = (s[0, t] + 1) % 5
        same = (network(changed) - logits).abs().amax(-1)[0] == 0
        assert same.tolist() == [place <= t for place in range(6)]
    assert torch.allclose(network(s[:, :3]), logits[:, :4])


def test_what_is_kept_of_the_past_is_what_the_whole_of_it_gives():
    torch.manual_seed(0)
    network = CausalTransformer(categories=5, length=6, width=8, depth=2, heads=2).double()
    torch.manual_seed(1)
    drawn = network.sample(1_000)
    torch.manual_seed(1)
    s = torch.empty(1_000, 0, dtype=torch.int64)
    for _ in range(6):
        p = network(s)[:, -1].softmax(-1)
        s = torch.cat([s, torch.multinomial(p, 1)], 1)
    assert torch.equal(drawn, s)


def test_attention_is_torchs():
    torch.manual_seed(0)
    block, h = CausalBlock(width=8, heads=2).double(), torch.randn(3, 5, 8).double()
    q, k, v = block.qkv(block.norm(h)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    seen = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    middle = h + block.out(seen.transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(h), middle + block.mlp(middle))


def test_the_bound_is_distortion_and_rate_of_one_grid():
    torch.manual_seed(0)
    model, x = small().eval(), images(6)
    terms = model.loss({"image": x})
    s = model.encode(x)
    log_p = model.likelihood(s).log_prob(x) + model.prior().log_prob(s)
    assert terms["elbo"].item() == pytest.approx(log_p.mean().item(), rel=1e-5)
    bits = -model.prior().log_prob(s).mean().item() / math.log(2) / 64
    assert terms["bits_per_dim"].item() == pytest.approx(bits, rel=1e-5)
    bound = zoo.log_likelihood(model, x, samples=3)
    torch.testing.assert_close(bound.value.float(), log_p, rtol=1e-5, atol=1e-4)


def test_the_prior_does_not_shape_the_code():
    torch.manual_seed(0)
    model, x = small(commitment=0.0), images(6)
    terms = model.loss({"image": x})
    terms["rate"].backward()
    assert all(p.grad is None for p in (*model.encoder.parameters(), *model.decoder.parameters()))
    assert all(p.grad is not None for p in model.transformer.parameters())


def test_codes_are_shown_alone_those_used_most_first():
    torch.manual_seed(0)
    model, x = small().eval(), images(20)
    used = torch.bincount(model.encode(x).flatten(), minlength=5)
    shown = model.exhibits({"image": x})["parameters.png"]
    assert shown.shape == (5, 1, 4, 4)
    most = model.decode(used.argmax().expand(1, *model.latent_shape))
    torch.testing.assert_close(shown[:1], most[..., 2:6, 2:6])


def test_codes_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="numbers from 5 to 5, but this model knows 0 to 4"):
        small().decode(torch.full((1, 2, 2), 5))
    with pytest.raises(ValueError, match="cannot be divided so"):
        small(hidden=(8, 8, 8, 8))
