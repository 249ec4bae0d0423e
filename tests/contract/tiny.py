"""Every family at its smallest, with data to learn from: a new family adds a line to `TINY`."""

from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from zoo import datamodules, models

N = 16
"""Data in a batch."""


class Tiny(NamedTuple):
    """A model of a family, every part of which learns.

    Args:
        family: Name of the class.
        arguments: Its constructor's, as JSON has them.
        data: A DataModule that fits it, as config.json has it; None for vectors, which no
            DataModule has.
        fixed: How the names of buffers end that are not learned.
    """

    family: str
    arguments: dict[str, Any]
    data: dict[str, Any] | None
    fixed: tuple[str, ...] = ()

    def model(self):
        torch.manual_seed(0)
        model = getattr(models, self.family)(**self.arguments)
        model.data = self.data
        return model

    def module(self):
        """Its DataModule, set up."""
        module = getattr(datamodules, self.data["class_path"])(**self.data["init_args"])
        module.prepare_data()
        module.setup("fit")
        return module

    def loader(self):
        """Batches to learn from, in order."""
        if self.data is not None:
            return self.module().loader("train", shuffle=False, rank=0, world_size=1)
        rows = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)).cumsum(1)
        return DataLoader([{"x": row} for row in rows], batch_size=N)

    def batch(self):
        return next(iter(self.loader()))


def _of(class_path, **init_args):
    return {"class_path": class_path, "init_args": {"n": 64, "batch_size": N, **init_args}}


_IMAGE = {"x_shape": [1, 8, 8]}
_LABELS = ["0", "1", "2"]
_NET = {**_IMAGE, "latent_dim": 3, "hidden": [6]}
_HMM = {"states": 3, "symbols": 9, "length": 5}
_VECTOR = {"x_shape": [5]}
_BINARY = _of("FakeImages", **_IMAGE, classes=3)
_GREY = _of("FakeImages", **_IMAGE, classes=3, binarization="none")
_FACES = _of("FakeFaces", size=16, attributes=["Smiling", "Bald"])
_WORDS = _of("FakeTaggedText", states=3, words=9, length=5)

TINY = {
    "AE": Tiny("AE", _NET, _BINARY),
    "AE with a prior": Tiny("AE", {**_NET, "noise": 0.2, "components": 2}, _BINARY),
    "BetaTCVAE": Tiny("BetaTCVAE", _NET, _BINARY),
    "Classifier": Tiny(
        "Classifier", {**_IMAGE, "labels": _LABELS, "channels": [4], "features": 6}, _GREY
    ),
    "ConditionalVAE": Tiny("ConditionalVAE", {**_NET, "labels": _LABELS}, _BINARY),
    "DBVAE": Tiny(
        "DBVAE",
        {
            "x_shape": [3, 16, 16],
            "attributes": ["Smiling", "Bald"],
            "latent_dim": 3,
            "hidden": [4, 6],
        },
        _FACES,
    ),
    "FactorAnalysis": Tiny("FactorAnalysis", {**_IMAGE, "latent_dim": 3}, _GREY),
    "FactorAnalysis of vectors": Tiny("FactorAnalysis", {**_VECTOR, "latent_dim": 2}, None),
    "FactorVAE": Tiny("FactorVAE", {**_NET, "discriminator": [5]}, _BINARY),
    "FlowVAE": Tiny(
        "FlowVAE",
        {**_NET, "steps": 2, "flow_hidden": [5], "context": 4},
        _BINARY,
        ("order", "mask"),
    ),
    "GMM": Tiny("GMM", {**_IMAGE, "components": 3, "floor": 0.01, "pca": 4}, _GREY),
    "GMM of vectors": Tiny("GMM", {**_VECTOR, "components": 3}, None),
    "HMM": Tiny("HMM", {**_HMM, "emission_prior": 1.1}, _WORDS, ("total",)),
    "HMM by gradient": Tiny("HMM", {**_HMM, "learning": "gradient"}, _WORDS, ("total",)),
    "HMM by variational Bayes": Tiny("HMM", {**_HMM, "learning": "vb"}, _WORDS),
    "HierarchicalVAE": Tiny(
        "HierarchicalVAE", {**_IMAGE, "latent_dims": [2, 2], "width": 6, "hidden": [6]}, _BINARY
    ),
    "IWAE": Tiny("IWAE", {**_NET, "k": 3}, _BINARY),
    "LDA": Tiny("LDA", {"terms": 20, "topics": 3}, _of("FakeBagOfWords", words=20, length=9)),
    "PPCA": Tiny("PPCA", {**_IMAGE, "latent_dim": 3}, _GREY),
    "PPCA of vectors": Tiny("PPCA", {**_VECTOR, "latent_dim": 2, "method": "em"}, None),
    "VAE": Tiny("VAE", {**_NET, "likelihood": "gaussian"}, _GREY),
    "VAEGAN": Tiny(
        "VAEGAN",
        {**_IMAGE, "latent_dim": 3, "hidden": [4, 4], "discriminator": [4, 4], "layer": 1},
        _GREY,
        ("_u",),
    ),
    "VQVAE": Tiny(
        "VQVAE",
        {
            **_IMAGE,
            "codes": 5,
            "code_dim": 3,
            "hidden": [4, 4],
            "residual_blocks": 1,
            "prior_width": 8,
            "prior_depth": 1,
            "prior_heads": 2,
        },
        _BINARY,
    ),
    "VampPriorVAE": Tiny("VampPriorVAE", {**_NET, "pseudo_inputs": 4}, _BINARY),
    "WAE": Tiny("WAE", _NET, _BINARY),
}
