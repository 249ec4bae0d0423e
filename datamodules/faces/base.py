"""Base class of DataModules of faces: binary attributes and identities."""

from abc import ABC
from collections.abc import Mapping, Sequence

from torch import Tensor

from zoo.datamodules.base import DataModule, check_at_least, place
from zoo.datamodules.files.places import Example


class FaceDataModule(DataModule, ABC):
    """Faces in batches `{"image", "attributes", "identity", "image_id", "index"}`.

    `attributes` is int64 (B, A), 1 where a face has the attribute and 0 elsewhere; its columns are
    `attribute_names`. `identity` is an int64 number for each person, `image_id` one for each
    picture. With `unlabelled`, `labelled` (B,) is False where the attributes are unknown and set
    to 0.

    Args:
        size: Height and width of the pictures in pixels.
        batch_size: Pictures per batch and process.
        seed: Seed of the order of training pictures and of all pixels that are drawn.
        attributes: Names of the attributes to deliver, in this order; all when None.
        unlabelled: Whether training includes pictures without attributes.
        known: Names of all attributes.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        attributes: list[str] | None,
        unlabelled: bool,
        known: Sequence[str],
    ) -> None:
        super().__init__(batch_size, seed)
        names = list(known if attributes is None else attributes)
        self.columns = [place("attribute", name, known) for name in names]
        names = [known[column] for column in self.columns]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"attributes is {names}, but must be different names, at least one.")
        self.size = size
        self.attribute_names = tuple(names)
        self.unlabelled = unlabelled

    @property
    def x_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of an image."""
        return 3, self.size, self.size

    def attribute(self, batch: Mapping[str, Tensor], name: str) -> Tensor:
        """Return one attribute of a batch by its name, int64 (B,).

        Raises:
            ValueError: if batches lack the attribute; the message has the nearest one.
        """
        return batch["attributes"][:, place("attribute", name, self.attribute_names)]

    def examples(self, n: int) -> list[Example]:
        """Return the first n training pictures, each with the names of the attributes it has."""
        check_at_least(1, n=n)
        self._check_setup()
        train = self.splits["train"]
        return [
            Example(image.clone(), self._described(row))
            for image, row in zip(train["image"][:n], train["attributes"][:n], strict=True)
        ]

    def _described(self, row: Tensor) -> str:
        present = [name for name, on in zip(self.attribute_names, row, strict=True) if on]
        return ", ".join(present) or "none of the attributes"
