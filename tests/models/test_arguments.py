"""What a family takes itself and what it passes to its base are one list of arguments."""

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule

from zoo import datamodules, models
from zoo.checkpoints.arguments import arguments

NEEDED = {"HMM": {"symbols": 5}, "LDA": {"terms": 5}}
CLASSES = [getattr(models, name) for name in models.FAMILIES]
CLASSES += [getattr(datamodules, name) for name in datamodules.__all__]


@pytest.mark.parametrize("cls", CLASSES)
def test_arguments_and_defaults_are_those_of_the_command_line(cls):
    parser = ArgumentParser()
    known = arguments(cls)
    assert sorted(parser.add_class_arguments(cls)) == sorted(known)
    shown = vars(parser.get_defaults())
    optional = {name: p.default for name, p in known.items() if p.default is not p.empty}
    assert {name: shown[name] for name in optional} == optional


@pytest.mark.parametrize("family", models.FAMILIES)
def test_hparams_have_every_argument(family):
    cls, needed = getattr(models, family), NEEDED.get(family, {})
    assert cls(**needed).hparams == {name: p.default for name, p in arguments(cls).items()} | needed


@pytest.mark.parametrize(
    ("family", "keyword", "near"),
    [("VAE", "latnet_dim", "latent_dim"), ("FlowVAE", "step", "steps"), ("AE", "hiden", "hidden")],
)
def test_a_misspelt_keyword_is_refused(family, keyword, near):
    with pytest.raises(TypeError, match=f"{family} has no argument '{keyword}'; .*{near}"):
        getattr(models, family)(**{keyword: 3})
    assert keyword not in arguments(getattr(models, family))


def test_a_function_has_arguments_too():
    def load(name, *, revision=None, **overrides):
        pass

    assert [*arguments(load)] == ["name", "revision"]


def test_help_has_what_the_base_says():
    parser = ArgumentParser()
    parser.add_class_arguments(models.VAE)
    text = " ".join(parser.format_help().split())
    assert "Weight of the rate in the loss" in text
    assert "Widths of the hidden layers (`mlp`)" in text
    assert "default: (400,)" in text
    assert "unknown" not in text


class Composed(LightningModule):
    """A user's module, whose arguments have names of the model's and others."""

    def __init__(self, beta=3.0, extra=1):
        super().__init__()
        self.vae = models.VAE(hidden=(8,))


class Extended(models.VAE):
    """A user's family."""

    def __init__(self, mine=1, **networks):
        super().__init__(**networks)


def test_hparams_are_those_of_the_model_alone(tmp_path):
    """Lightning's own add those of every module under whose construction the model was built."""
    vae = Composed().vae
    assert vae.hparams == models.VAE(hidden=(8,)).hparams
    assert vae.hparams["beta"] == vae.beta == 1.0
    vae.save_pretrained(tmp_path)
    assert models.VAE.from_pretrained(str(tmp_path)).hparams["hidden"] == [8]
    assert Extended(hidden=(8,)).hparams == {**vae.hparams, "mine": 1}
