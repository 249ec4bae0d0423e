"""A tiny model of each family, trained and exported once."""

from typing import NamedTuple

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import TINY, Tiny

import zoo
from zoo.pretrained.export import export


class Case(NamedTuple):
    """What a contract is about.

    Args:
        tiny: What the model is made of.
        before: Its weights before training.
        exported: The model that `export` gave.
        folder: Where it was exported to.
    """

    tiny: Tiny
    before: dict[str, torch.Tensor]
    exported: LightningModule
    folder: str


@pytest.fixture(scope="session", params=TINY)
def case(request, tmp_path_factory):
    tiny, folder = TINY[request.param], tmp_path_factory.mktemp("contract")
    model = tiny.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=2,
        callbacks=[ModelCheckpoint(folder, "trained")],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loaders = (tiny.loader(), tiny.loader()) if tiny.data is None else (tiny.module(),)
    trainer.fit(model, *loaders)
    exported = export(folder / "trained.ckpt", folder / "exported")
    return Case(tiny, before, exported, str(folder / "exported"))


@pytest.fixture
def model(case):
    return zoo.from_pretrained(case.folder)


@pytest.fixture
def batch(case):
    return case.tiny.batch()
