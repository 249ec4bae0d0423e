"""The one abstract class: a LightningModule with the verbs of a latent-variable model.

A family implements the verbs that its mathematics gives it. The others raise NotImplementedError
with a sentence that says why, taken from the family's `lacks`, and what to use instead.
"""

from abc import ABC
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Self

import torch
from torch import Tensor
from torch.distributions import Distribution

from zoo.batches import Batch, check_dict
from zoo.checkpoints import models
from zoo.checkpoints.arguments import given_to
from zoo.checkpoints.catalog import config_of, locate
from zoo.checkpoints.config import Config
from zoo.checkpoints.files import read_assets
from zoo.checks import check_batch, check_images
from zoo.datamodules.loader import Batches
from zoo.errors import ZooError
from zoo.steps import Steps
from zoo.verbs import VERBS, float_type, floats, images, prepare_verbs

Modality = Literal["image", "vector", "sequence", "document"]
"""What kind of thing one x is."""

_GOLDEN = ("encode", "reconstruct", "log_prob", "classify")


class LatentVariableModel(Steps, ABC):
    """A model p(x) = ∫ p(x | z) p(z) dz, or one that is used like it.

    Subclasses are final. Their constructors take plain JSON values, call `super().__init__()` and
    `self.save_hyperparameters()`, then set `x_shape` and `latent_shape`. One that asks for no
    tensor's values can be rehearsed on torch's meta device, which bounds what a checkpoint takes.

    Verbs take tensors, arrays and lists of numbers. In eval mode they give tensors without
    gradients, unless x or z requires them; in training mode, and within `loss`, with them.
    """

    about: ClassVar[str]
    """What the family is, for cards: a noun phrase with authors, year and address of the paper."""

    tags: ClassVar[tuple[str, ...]] = ("latent-variable-model",)
    """Words that the Hub finds such models by."""

    condition: ClassVar[str] = ""
    """What `given` fixes, of a model of p(x | y): the key of y in a batch, such as "label"."""

    limits: ClassVar[str] = ""
    """What a user of any model of the family should not expect; sentences for cards."""

    shows: ClassVar[Mapping[str, str]] = {}
    """Captions of the files that `exhibits` fills, some of `checkpoint.EXHIBITS`; for cards."""

    lacks: Mapping[str, str] = {}
    """Why this family, or this model of it, lacks a verb, and what to use instead; by verb."""

    modality: Modality
    """What one x is: of images alone can pictures be drawn."""

    x_shape: tuple[int, ...]
    """Shape of one datum, such as (C, H, W)."""

    latent_shape: tuple[int, ...]
    """Shape of one code."""

    conditions: tuple[str, ...] = ()
    """Names of all y that `given` can fix, where they can be counted; none once one is fixed."""

    y: Any = None
    """What `given` has fixed."""

    code_symbols: int | None = None
    """How many indices there are, of a code that is made of several; None of others."""

    discrete: ClassVar[bool] = False
    """Whether a code is made of whole numbers."""

    keeps_floats: ClassVar[bool] = False
    """Whether verbs compute with x and z in the type of floats that they are given in."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        prepare_verbs(cls)

    def save_hyperparameters(self, *args: Any, **kwargs: Any) -> None:
        # Lightning's own adds the arguments of a module that builds this one in its constructor.
        super().save_hyperparameters(given_to(self))

    def inputs(self, batch: Batch) -> Any:
        """What the verbs take as x, out of a batch: images under "image", vectors under "x"."""
        check_batch(batch, self._key)
        return self.as_input(batch[self._key])

    def conditioned(self, batch: Batch) -> Self:
        """The model whose verbs take these `inputs`: itself, or `given` the batch's conditions."""
        if not self.condition or self.y is not None:
            return self
        if self.condition not in batch:
            raise ValueError(
                f"{type(self).__name__} models {self.density}, but there is no {self.condition} in "
                f"the data, only {', '.join(batch)}; fix one with given(y)."
            )
        return self.given(batch[self.condition])

    def scores(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """What can be scored of a batch that is labelled, such as the accuracy of tags.

        Returns:
            By name, how many items of each datum are right and how many there are, (B,) each.
        """
        return {}

    def predictions(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """How well a part of each datum is predicted from the rest, such as half of a document.

        Returns:
            By name, the log-probability of the part, in nats, and how many items it has, (B,) each.
        """
        return {}

    def sample(self, n: int) -> Tensor:
        """Draw n data from p(x), shape (n, *x_shape); `torch.manual_seed` governs the draw."""
        self._lacks("sample")

    def prior(self) -> Distribution:
        """p(z): batch shape (), event shape `latent_shape`."""
        self._lacks("prior")

    def posterior(self, x: Any) -> Distribution:
        """p(z | x) or its approximation q(z | x): batch shape (B,), event shape `latent_shape`."""
        self._lacks("posterior")

    def likelihood(self, z: Any) -> Distribution:
        """p(x | z) for z of shape (B, *latent_shape): batch shape (B,), event shape `x_shape`."""
        self._lacks("likelihood")

    def encode(self, x: Any) -> Tensor:
        """The deterministic code of x: (B, *x_shape) to (B, *latent_shape)."""
        self._lacks("encode")

    def decode(self, z: Any) -> Tensor:
        """The mean of p(x | z): (B, *latent_shape) to (B, *x_shape)."""
        self._lacks("decode")

    def log_prob(self, x: Any) -> Tensor:
        """Log p(x) in nats, where it can be had exactly: (B, *x_shape) to (B,)."""
        self._lacks("log_prob")

    def classify(self, x: Any) -> Tensor:
        """p(y | x) of each of K labels y: (B, *x_shape) to (B, K)."""
        self._lacks("classify")

    def given(self, y: Any) -> Self:
        """This model with its condition y fixed, of one datum or of each of B, on shared weights.

        Its verbs take the data in the order of y, or several rounds of them: C B codes at once.
        """
        self._lacks("given")

    def reconstruct(self, x: Any) -> Tensor:
        """`decode(encode(x))`: (B, *x_shape) to (B, *x_shape)."""
        return self.decode(self.encode(x))

    def forward(self, x: Any) -> Tensor:
        """`reconstruct(x)`; of a classifier, which cannot, `classify(x)`."""
        has = self.verbs()
        if "reconstruct" in has:
            return self.reconstruct(x)
        if "classify" in has:
            return self.classify(x)
        raise NotImplementedError(
            f"{type(self).__name__} has no forward: it neither reconstructs nor classifies; "
            f"it has {', '.join(has)}."
        )

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """What the model makes of a batch: `code`, `reconstruction`, `probabilities` of labels."""
        x, model, has = self.inputs(batch), self.conditioned(batch), self.verbs()
        found = {"code": model.encode(x)} if "encode" in has else {}
        if "reconstruct" in has:
            found["reconstruction"] = model.decode(found["code"])
        if "classify" in has:
            found["probabilities"] = model.classify(x)
        if not found:
            raise NotImplementedError(
                f"{type(self).__name__} predicts nothing: it has no encode and no classify."
            )
        return found

    def as_input(self, x: Any) -> Any:
        """X as the verbs take it: floats of the model's type, from a tensor, an array or a list."""
        read = images if self.modality == "image" else floats
        return read(self._key, x, float_type(self), self.device)

    def texts(self, n: int) -> list[str]:
        """At least one line and at most n that show what the model generates; no image does so."""
        return [" ".join(f"{value:g}" for value in x.flatten().tolist()) for x in self.sample(n)]

    def exhibits(self, batch: Batch) -> dict[str, Tensor | list[str]]:
        """What else there is to see of the model: its parameters, what it does with test data.

        Args:
            batch: A batch of the test set.

        Returns:
            By name of a file, as `shows` has them: images (N, C, H, W) in [0, 1], or lines of text.
        """
        return {}

    def verbs(self) -> tuple[str, ...]:
        """Names of the verbs that this model has: implemented, and not in `lacks`."""
        family = type(self)
        has = [
            v
            for v in VERBS
            if getattr(family, v) is not getattr(LatentVariableModel, v) and v not in self.lacks
        ]
        return (*has, *(("reconstruct",) if {"encode", "decode"} <= {*has} else ()))

    def _lacks(self, verb: str) -> NoReturn:
        family = type(self).__name__
        reason = self.lacks.get(
            verb, f'`zoo.list_models(verb="{verb}")` names the models that have it.'
        )
        raise NotImplementedError(f"{family} has no {verb}: {reason}")

    @property
    def density(self) -> str:
        """What a likelihood is of: p(x), or p(x | y) with what y is."""
        return f"p(x | {self.condition})" if self.condition else "p(x)"

    @property
    def free_parameters(self) -> int:
        """How many numbers were learned, of which none follows from the others."""
        return sum(p.numel() for p in self.parameters())

    @property
    def datum(self) -> str:
        """What one x is called: the noun of "nats/image"."""
        return "datum" if self.modality == "vector" else self.modality

    @property
    def task(self) -> str:
        """The Hub's name for what the model is used for."""
        images = self.modality == "image"
        return "unconditional-image-generation" if images else "feature-extraction"

    @property
    def _key(self) -> str:
        return "image" if self.modality == "image" else "x"

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        check_dict(batch)
        # Images of the zoo's own loaders were bytes, so that the first batch speaks for all.
        own = isinstance(self.trainer.train_dataloader, Batches)
        if "image" in batch and (batch_idx == 0 or not own):
            check_images(batch["image"], self.x_shape)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        **overrides: Any,
    ) -> Self:
        """Load a checkpoint of this family: `zoo.from_pretrained`, which takes the same arguments.

        Raises:
            ZooError: if there is none, it is damaged, or it is of another family.
        """
        folder = locate(
            name,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        config = config_of(folder)
        if config.family != cls.__name__:
            raise ZooError(
                f"{name!r} is a {config.family}, not a {cls.__name__}; "
                "use zoo.from_pretrained, which picks the class."
            )
        return cls.from_folder(folder, config, name, overrides)

    @classmethod
    def from_folder(
        cls, folder: Path, config: Config, name: str, overrides: Mapping[str, Any]
    ) -> Self:
        """Load a checkpoint of this family from where it lies, in eval mode.

        Args:
            folder: The checkpoint.
            config: What its config.json says.
            name: What the user called it.
            overrides: Constructor arguments that replace the stored ones.

        Raises:
            ZooError: if it is damaged, or an argument does not fit.
        """
        model = models.load(cls, folder, config, overrides)
        model.data = config.data
        model.assets = read_assets(folder, config.sha256)
        model.base_model = config.base_model
        # Of a folder only its name: the path is this machine's, and a card may be published.
        here = Path(name).expanduser() == folder or name.casefold() == folder.name.casefold()
        model.loaded_from = folder.resolve().name if here else name
        return model.eval()

    def save_pretrained(
        self, folder: str | Path, license: str = "apache-2.0", half: bool = False
    ) -> None:
        """Write this model as a checkpoint folder: configuration, weights, golden outputs.

        Args:
            folder: Where to; made if it is not there. What was measured or drawn of other weights
                that were in it is removed, and so is a card that states such numbers.
            license: Licence of the weights, an SPDX identifier in lower case.
            half: Round float32 weights to float16, which takes half the space; they are float32
                again when they are loaded. This model keeps its own.

        Raises:
            ZooError: if the folder cannot be written to, or a weight is too large for float16.
        """
        config = Config(
            family=type(self).__name__,
            init_args=dict(self.hparams),
            data=self.data,
            summary=self.summary(),
            license=license,
            base_model=self.base_model,
        )
        golden = type(self).golden_outputs
        models.save(self, Path(folder).expanduser(), config, golden, self.assets, half)

    def summary(self) -> dict[str, Any]:
        """Facts for listings and cards, as config.json has them."""
        return {
            "latent_shape": list(self.latent_shape),
            "parameters": self.free_parameters,
            "verbs": list(self.verbs()),
            "about": self.about,
            "tags": list(self.tags),
            "task": self.task,
            "datum": self.datum,
            "limits": self.limits,
            **({"exhibits": dict(self.shows)} if self.shows else {}),
            **({"conditions": list(self.conditions)} if self.conditions else {}),
        }

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        token: str | None = None,
        license: str = "apache-2.0",
    ) -> str:
        """Upload this model to the Hugging Face Hub in one commit, with a card unless it has one.

        Args:
            repo_id: `organisation/name`; made if it is not there.
            private: Visibility of a repository that is made.
            revision: Branch to commit to; by default `main`.
            commit_message: Title of the commit.
            create_pr: Open a pull request instead.
            token: Token of the Hub; by default the one that is logged in.
            license: Licence of the weights, an SPDX identifier in lower case.

        Returns:
            The address of the commit.

        Raises:
            HubError: if the Hub does not take it.
        """
        return models.push(
            partial(self.save_pretrained, license=license),
            repo_id,
            private=private,
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
            token=token,
        )

    @torch.no_grad()
    def golden_outputs(self, x: Tensor | None = None) -> dict[str, Tensor]:
        """A few inputs and what this model gives for them, to be compared after a download.

        Args:
            x: Inputs of shape (B, *x_shape); by default four samples of the model's own, or of
                uniform noise where it draws none.
        """
        training = self.training
        self.eval()
        has = self.verbs()
        if x is None:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                shape = (4, *self.x_shape)
                x = self.sample(4) if "sample" in has else torch.rand(shape, device=self.device)
        model = self.given(torch.arange(len(x)) % len(self.conditions)) if self.conditions else self
        outputs = {v: getattr(model, v)(x) for v in _GOLDEN if v in has}
        self.train(training)
        return {"x": x, **outputs}
