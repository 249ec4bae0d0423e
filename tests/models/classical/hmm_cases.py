"""Small HMMs, sequences for them, and all paths."""

import itertools

import pytest
import torch
from lightning.pytorch import Trainer
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from zoo.datamodules import FakeTaggedText
from zoo.models import HMM
from zoo.training.seeding import SeedEpoch

DIARY = [int(n) - 1 for n in "233232322313311121113121112332322"]
EMISSIONS = {
    "categorical": {"symbols": 4},
    "gaussian": {"emission": "gaussian", "dim": 2},
    "mixture": {"emission": "mixture", "dim": 2, "components": 3},
}
every_emission = pytest.mark.parametrize("emission", EMISSIONS)


def close(a, b, atol=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def randomized(model):
    """The model with parameters drawn at random, in float64."""
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    model.started.fill_(True)
    return model.eval()


def small(emission="categorical", states=3, **arguments):
    return HMM(states, **EMISSIONS[emission], **{"length": 4, **arguments})


def sequences(emission, lengths):
    """Sequences of these lengths, as a list."""
    if emission == "categorical":
        return [torch.randint(4, (length,)) for length in lengths]
    return [2 * torch.randn(length, 2, dtype=torch.float64) for length in lengths]


def density(model, emission, x):
    """log p(x_t | k) written out, (T, K)."""
    if emission == "categorical":
        return model.emission.table.logits.log_softmax(1)[:, x].T
    e = model.emission
    parts = Independent(Normal(e.mean, e.log_scale.exp()), 1)
    mixture = MixtureSameFamily(Categorical(logits=e.weights.logits), parts)
    return mixture.log_prob(x[:, None])


def enumerate_paths(model, emission, x):
    """All paths (K^T, T), and their log p(x, z)."""
    steps, states = len(x), len(model.transition.logits)
    paths = torch.tensor([*itertools.product(range(states), repeat=steps)])
    pi, A = model.initial.logits.log_softmax(1)[0], model.transition.logits.log_softmax(1)
    log_p = pi[paths[:, 0]] + A[paths[:, :-1], paths[:, 1:]].sum(1)
    return paths, log_p + density(model, emission, x)[torch.arange(steps), paths].sum(1)


def model_key(emission):
    return "tokens" if emission == "categorical" else "values"


def whole(data, split="train"):
    """A split as one batch."""
    batch = next(
        iter(type(data.val_dataloader())(data.splits[split], 100_000, finish=data.finish(split)))
    )
    return {key: batch[key] for key in ("tokens", "lengths", "tags") if key in batch}


def rises(history, tolerance=1e-11):
    return all(b > a - tolerance for a, b in itertools.pairwise(history))


def trainer(folder, **arguments):
    return Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "max_epochs": 4,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "callbacks": [SeedEpoch(0)],
            **arguments,
        }
    )


def words(**arguments):
    return FakeTaggedText(**{"n": 64, "batch_size": 64, "states": 3, "words": 20, **arguments})
