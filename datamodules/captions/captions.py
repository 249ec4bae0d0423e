"""Pictures with captions, for models of both."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from zoo.datamodules.base import DRAWS, DataModule, Split, check_at_least, check_one_of
from zoo.datamodules.captions import coco, emoji, flickr8k
from zoo.datamodules.captions.pairs import Pairs, at_size, check_memory
from zoo.datamodules.captions.scenes import SIDE, factor_sizes, scenes
from zoo.datamodules.captions.tokenizer import SMALLEST, Tokenizer, token_mask, trained
from zoo.datamodules.files.places import Example, Inventory, data_dir
from zoo.datamodules.loader import Batches, scaled, seeded

Source = Literal["scenes", "emoji", "flickr8k", "coco"]
EvalCaptions = Literal["first", "all"]


@dataclass
class Table:
    """The C tokenised captions of a split, grouped by picture, in the source's order.

    Args:
        ids: Token ids, int16 or int32 (C, L).
        lengths: Number of tokens of each caption, int64 (C,).
        text: The captions.
    """

    ids: Tensor
    lengths: Tensor
    text: list[str]


class Paired:
    """Gathers the pictures and the captions of a batch.

    The rows `picture` and `row`, both (B,), are the positions of pictures and of one caption of
    each. The batch has `image`, `caption`, `mask`, `lengths`, `text`, `picture` and `index`.

    Args:
        image: Pixels of all pictures, uint8 (P, 3, H, W), on the device of the batches.
        table: All captions, on the CPU.
    """

    def __init__(self, image: Tensor, table: Table) -> None:
        self.image = image
        self.table = table

    def __call__(self, rows: dict[str, Tensor]) -> dict[str, Any]:
        """Return the batch of these rows."""
        # The positions are on the CPU: they give the longest length and the texts without waiting
        # for an accelerator.
        row = rows["row"]
        lengths = self.table.lengths.index_select(0, row)
        mask = token_mask(lengths)  # (B, L)
        small = {
            "caption": self.table.ids.index_select(0, row)[:, : mask.shape[1]].long(),
            "mask": mask,
            "lengths": lengths,
            "picture": rows["picture"],
            "index": rows["index"],
        }
        device = self.image.device
        small = {key: value.to(device, non_blocking=True) for key, value in small.items()}
        image = self.image.index_select(0, small["picture"])
        return {
            **scaled({"image": image}),
            **small,
            "text": [self.table.text[i] for i in row.tolist()],
        }


class Captions(DataModule):
    """Colour pictures and captions, from one of several sources.

    - `scenes`: one shape each, see `datamodules.scenes`; drawn, so that no files are needed;
    - `emoji`: see `datamodules.emoji`;
    - `flickr8k`: see `datamodules.flickr8k`;
    - `coco`: see `datamodules.coco`.

    Batches of all sources have the same keys, so that a few scenes can stand in for the others.

    Batches hold `image` float32 (B, 3, size, size) in [0, 1]; `caption` int64 (B, L), token ids
    from a begin to an end token, padded to the longest in the batch; `mask` bool (B, L), true at
    tokens; `lengths` int64 (B,); `text`, the B captions; `picture` int64 (B,), the positions of the
    pictures in the split; and `index` int64 (B,), the positions of the pairs.

    A picture has one or more captions. Training draws one of them for each epoch, by the seed and
    the epoch alone: an epoch has every picture once. Evaluation takes the first caption, so that
    each picture counts once in a mean. Retrieval needs all captions, because its recall is defined
    over all: then each caption makes a pair, and pairs of the same picture have the same `picture`.

    Splits are by picture (emoji: by family), never by caption. The tokenizer is trained once, on
    the training captions, and kept in `prepared` beside the data, under a name that depends on
    them. Captions are tokenised in `setup()`, and batches only slice them.

    Args:
        source: "scenes", "emoji", "flickr8k" or "coco".
        size: Height and width of the pictures in pixels; pictures of other sizes are resized once.
        batch_size: Pairs per batch and process.
        seed: Seed of scenes, of splits that the source does not define, and of all draws.
        root: Folder that holds a folder named like the source, and `prepared`; `$ZOO_DATA` or the
            user's cache when None.
        vocab_size: Largest number of tokens of the tokenizer, at least 260; `tokenizer.vocab_size`
            is lower if the training captions yield fewer.
        max_length: Largest number of tokens of a caption, begin and end included. A longer caption
            loses the last tokens before the end token (its `text` stays whole), and a warning
            counts such captions.
        tokenizer_file: Path of a `tokenizer.json` to use instead of training one, such as that of
            a model to fine-tune or to measure; `vocab_size` then has no effect.
        eval_captions: Captions of a picture in validation and test: "first" or "all".
        skin_tones: emoji: whether to keep pictures that differ from others by skin tone only.
        n: scenes: number of training scenes; validation and test have an eighth as many each.
        level: scenes: number of factors in their captions, from 1 to 5: the first of shape, size,
            colour, position and background; the others are the same in all scenes.
    """

    tokenizer: Tokenizer
    """Tokenizer that `setup()` trains or reads; `tokenizer.save(path)` writes its file."""

    def __init__(
        self,
        source: Source = "scenes",
        size: int = 64,
        batch_size: int = 128,
        seed: int = 0,
        root: str | None = None,
        vocab_size: int = 2048,
        max_length: int = 64,
        tokenizer_file: str | None = None,
        eval_captions: EvalCaptions = "first",
        skin_tones: bool = False,
        n: int = 8000,
        level: int = 5,
    ) -> None:
        super().__init__(batch_size, seed)
        check_one_of(get_args(Source), source=source)
        check_one_of(get_args(EvalCaptions), eval_captions=eval_captions)
        check_at_least(1, size=size, n=n)
        factor_sizes(level)  # raises for an unknown level
        check_at_least(2, max_length=max_length)
        check_at_least(SMALLEST, vocab_size=vocab_size)
        self.source = source
        self.size = size
        self.root = root
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.tokenizer_file = tokenizer_file
        self.eval_captions = eval_captions
        self.skin_tones = skin_tones
        self.n = n
        self.level = level
        self.tables: dict[Split, Table] = {}
        self.names: dict[Split, list[str]] = {}

    @classmethod
    def inventory(cls, root: str | None = None) -> dict[str, Inventory]:
        """Return the inventory of each source.

        Args:
            root: As in the constructor.
        """
        folder = folder_of(root)
        return {
            "scenes": Inventory(folder=None),
            "emoji": emoji.inventory(folder / "emoji"),
            "flickr8k": flickr8k.inventory(folder / "flickr8k"),
            "coco": coco.inventory(folder / "coco"),
        }

    @property
    def x_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of a picture."""
        return (3, self.size, self.size)

    def load(self) -> dict[Split, dict[str, Tensor]]:
        """Return all splits of P pictures, and keep the `tokenizer`, `tables` and `names`.

        Each split has `image` uint8 (P, 3, size, size), and `first` and `count` int64 (P,): the
        position of the picture's first caption in the split's table, and its number of captions.

        Raises:
            DataError: If files are missing or malformed, or do not fit in memory.
        """
        pairs = self._read()
        text = {split: list(chain.from_iterable(part.captions)) for split, part in pairs.items()}
        if self.tokenizer_file is None:
            folder = folder_of(self.root) / "prepared"
            self.tokenizer = trained(text["train"], self.vocab_size, folder)
        else:
            self.tokenizer = Tokenizer.load(Path(self.tokenizer_file).expanduser())
        self.tables = tokenised(self.tokenizer, text, self.max_length)
        self.names = {split: part.names for split, part in pairs.items()}
        splits: dict[Split, dict[str, Tensor]] = {}
        for split, part in pairs.items():
            count = torch.tensor([len(captions) for captions in part.captions])
            first = count.cumsum(0) - count
            splits[split] = {"image": part.image, "first": first, "count": count}
        return splits

    def assets(self) -> dict[str, str]:
        """Return `tokenizer.json`, which gives the meaning of token ids."""
        return {"tokenizer.json": self.tokenizer.text}

    def examples(self, n: int) -> list[Example]:
        """Return the first n training pictures with their first captions.

        Raises:
            RuntimeError: If `setup()` was not called.
        """
        check_at_least(1, n=n)
        self._check_setup()
        rows, text = self.splits["train"], self.tables["train"].text
        return [
            Example(image, text[i])
            for image, i in zip(rows["image"][:n], rows["first"][:n].tolist(), strict=True)
        ]

    def loader(self, split: Split, *, shuffle: bool, rank: int, world_size: int) -> Batches:
        """Return the loader of one process's share of a split."""
        image, first, count = (self.splits[split][key] for key in ("image", "first", "count"))
        picture = torch.arange(len(image))
        rows = {"picture": picture, "row": first}
        if split != "train" and self.eval_captions == "all":
            rows = {
                "picture": picture.repeat_interleave(count),
                "row": torch.arange(int(count.sum())),
            }
        return Batches(
            rows,
            self.batch_size,
            finish=Paired(image.to(self._device(image.nbytes)), self.tables[split]),
            shuffle=shuffle,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            draw=Turns(first, count, self.seed) if shuffle else None,
        )

    def _read(self) -> dict[Split, Pairs]:
        folder = folder_of(self.root) / self.source
        match self.source:
            case "emoji":
                return emoji.read_emoji(folder, self.size, self.skin_tones)
            case "flickr8k":
                return flickr8k.read_flickr8k(folder, self.size, self.seed)
            case "coco":
                return coco.read_coco(folder, self.size, self.seed)
            case "scenes":
                return read_scenes(self.n, self.level, self.size, self.seed)


class Turns:
    """Draws one caption of each picture for an epoch, each with the same probability.

    Args:
        first: Position of each picture's first caption, (P,).
        count: Number of captions of each picture, (P,).
        seed: Seed of all draws.
    """

    def __init__(self, first: Tensor, count: Tensor, seed: int) -> None:
        self.first = first
        self.count = count
        self.seed = seed

    def __call__(self, epoch: int) -> dict[str, Tensor]:
        """Return `row`, the position of the drawn caption of each picture, (P,)."""
        generator = seeded(self.seed, DRAWS + epoch)
        # with 62 bits, the remainder is as good as uniform
        drawn = torch.randint(2**62, self.count.shape, generator=generator)
        return {"row": self.first + drawn % self.count}


def read_scenes(n: int, level: int, size: int, seed: int) -> dict[Split, Pairs]:
    """Draw the scenes of all splits, each split from its own seed.

    All splits share the same kinds of scenes, at most 240; scenes of one kind differ in details.
    """
    splits: dict[Split, Pairs] = {}
    for k, split in enumerate(get_args(Split)):
        n_split = n if split == "train" else max(1, n // 8)
        check_memory(3 * max(SIDE, size) ** 2 * n_split, f"{n_split:,} scenes")
        image, captions, _ = scenes(n_split, level, 3 * seed + k)
        names = [f"scene {i}" for i in range(n_split)]
        splits[split] = Pairs(at_size(image, size), captions, names)
    return splits


def tokenised(
    tokenizer: Tokenizer, text: dict[Split, list[str]], max_length: int
) -> dict[Split, Table]:
    """Tokenise the captions of all splits at once, so that one warning counts all long captions."""
    ids, mask = tokenizer.encode(list(chain.from_iterable(text.values())), max_length)
    ids = ids.to(torch.int16 if tokenizer.vocab_size <= 2**15 else torch.int32)
    sizes = [len(captions) for captions in text.values()]
    parts = zip(text, torch.split(ids, sizes), torch.split(mask.sum(1), sizes), strict=True)
    return {split: Table(rows, lengths, text[split]) for split, rows, lengths in parts}


def folder_of(root: str | None) -> Path:
    """Return the folder of all data sets."""
    return data_dir() if root is None else Path(root).expanduser()
