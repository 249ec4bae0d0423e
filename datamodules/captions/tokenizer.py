"""Captions as numbers: byte-level byte-pair encoding.

Sennrich, Haddow & Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016,
https://arxiv.org/abs/1508.07909, over bytes as in Radford et al., "Language Models are Unsupervised
Multitask Learners", 2019. Training begins with the 256 bytes as tokens and merges the most frequent
pair of neighbours within a word into a new one, again and again, until the vocabulary is full.

With bytes, every text has tokens, whatever is in the training captions, and decoding restores the
normalised text exactly. Normalisation puts a text in lower case (letter by letter), composes it
(Unicode NFC), replaces each run of white space by one space, and trims it. Captions are short
sentences by many authors, where "A dog ." and "a dog ." mean the same; a small model needs only one
token for both. For the same reason the first word has a space before it like all others.
"""

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from zoo.datamodules.base import check_at_least
from zoo.datamodules.files.places import DataError

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
"""Padding, begin, end, and a token without text, which a model can use for a hidden word or
caption: no text is unknown in bytes."""
PAD, BOS, EOS, UNK = range(4)
SMALLEST = len(SPECIAL) + 256
"""Size of the vocabulary before the first merge."""
LIMIT = 16_000_000
"""Size in bytes of the largest file that is read."""
CHUNK = 8192

# Required settings in a file; the rest of it is the vocabulary and the merges.
FORM: dict[str, Any] = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Lowercase"},
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Strip", "strip_left": True, "strip_right": True},
        ],
    },
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
    "post_processor": {"type": "TemplateProcessing"},
    "decoder": {"type": "ByteLevel"},
    "model": {
        "type": "BPE",
        "dropout": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "byte_fallback": False,
        "ignore_merges": False,
    },
}


class Tokenizer:
    """Text to token ids between a begin and an end token, and back.

    Args:
        vocab: The id of each token: 0 to 3 for `SPECIAL`, then the bytes and the merged tokens.
        merges: Pairs of tokens to merge, in order.
    """

    def __init__(self, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
        self._bpe = empty(models.BPE(vocab=vocab, merges=merges))
        self._bpe.add_special_tokens(list(SPECIAL))

    @classmethod
    def train(cls, texts: Sequence[str], vocab_size: int) -> "Tokenizer":
        """Learn the merges from texts; the same texts in the same order give the same merges.

        Args:
            texts: Training captions.
            vocab_size: Number of tokens, at least `SMALLEST`; fewer are made when the texts have no
                more pairs to merge.

        Raises:
            ValueError: If `vocab_size` is too small, or a text has a lone surrogate.
        """
        check_at_least(SMALLEST, vocab_size=vocab_size)
        check_text(texts)
        bpe = empty(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer, length=len(texts))
        return cls.parse(bpe.to_str())

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a file that `save` wrote; only its vocabulary and merges are used.

        Raises:
            DataError: If the file is not there, too large, damaged, or of another kind.
        """
        try:
            if (size := path.stat().st_size) > LIMIT:
                raise ValueError(f"it has {size} bytes, more than {LIMIT}")
            return cls.parse(path.read_bytes().decode())
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({error.strerror}): give the path of a tokenizer.json."
            ) from error
        except (ValueError, RecursionError) as error:
            reason = str(error).rstrip(".")
            raise DataError(
                f"{path} is no tokenizer as this package writes it ({reason}): put a good copy "
                "there."
            ) from error

    @classmethod
    def parse(cls, text: str) -> "Tokenizer":
        """Return the tokenizer that the text of a file describes.

        Raises:
            ValueError: If the text describes none, or one of another kind.
        """
        content = json.loads(text)
        check_form(content, FORM, "")
        vocab, merges = content["model"].get("vocab"), content["model"].get("merges")
        check_vocab(vocab)
        check_merges(merges, vocab)
        return cls(vocab, [(left, right) for left, right in merges])

    def save(self, path: Path) -> None:
        """Write a `tokenizer.json` atomically; Hugging Face's libraries can read it, too.

        It is plain JSON text, the same for the same tokenizer.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            part.write_text(self.text, encoding="utf-8")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    @property
    def text(self) -> str:
        """Content of a `tokenizer.json`."""
        return self._bpe.to_str() + "\n"

    def __reduce__(self) -> tuple[Any, ...]:
        # the library's own pickles forget that special tokens in a text are text
        return Tokenizer.parse, (self._bpe.to_str(),)

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self._bpe.get_vocab_size()

    def normalise(self, text: str) -> str:
        """Return the text in the form that `decode` returns."""
        return str(self._bpe.normalizer.normalize_str(text))

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> tuple[Tensor, Tensor]:
        """Return token ids and their mask.

        Names of special tokens in a text are ordinary text.

        Args:
            texts: B texts.
            max_length: Largest number of tokens of a row, at least 2. A longer text loses the last
                tokens before the end token, even within a word or letter, and a warning counts such
                texts.

        Returns:
            The ids, int64 (B, L): each row begins with `BOS`, ends with `EOS` and is padded with
            `PAD` to L, the longest row's length; and the mask, bool (B, L), true at tokens.

        Raises:
            ValueError: If a text has a lone surrogate, or `max_length` is below 2.
        """
        check_text(texts)
        if max_length is not None:
            check_at_least(2, max_length=max_length)
        most = sys.maxsize if max_length is None else max_length
        lengths: list[int] = []
        flat: list[Tensor] = []
        long: list[str] = []
        for start in range(0, len(texts), CHUNK):  # bounds the memory that lists of numbers take
            some = list(texts[start : start + CHUNK])
            rows = [row.ids for row in self._bpe.encode_batch_fast(some)]
            long += [text for text, row in zip(some, rows, strict=True) if len(row) > most]
            rows = [row if len(row) <= most else [*row[: most - 1], EOS] for row in rows]
            lengths += map(len, rows)
            flat.append(torch.tensor(list(chain.from_iterable(rows)), dtype=torch.int32))
        if long:
            warnings.warn(
                f"{len(long):,} of {len(texts):,} captions have more than {most} tokens and were "
                f"cut to as many, the first being {long[0][:60]!r}; a larger max_length keeps "
                "them.",
                stacklevel=2,
            )
        mask = token_mask(torch.tensor(lengths, dtype=torch.int64))
        ids = torch.full(mask.shape, PAD)
        if flat:
            ids[mask] = torch.cat(flat).long()
        return ids, mask

    def decode(self, ids: Tensor) -> list[str]:
        """Return the text of each row of token ids (B, L), up to its first end token.

        Special tokens are left out. Bytes that are not UTF-8, which a model may sample, become the
        replacement character.

        Raises:
            ValueError: If `ids` has not two dimensions, or holds a number that is no token.
        """
        if ids.ndim != 2:
            raise ValueError(f"ids have shape {tuple(ids.shape)}, but must be (B, L).")
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocab_size:
            raise ValueError(
                f"ids go from {int(ids.min())} to {int(ids.max())}, but tokens from 0 to "
                f"{self.vocab_size - 1}."
            )
        rows = [row[: row.index(EOS)] if EOS in row else row for row in ids.tolist()]
        return [text.removeprefix(" ") for text in self._bpe.decode_batch(rows)]


def trained(texts: Sequence[str], vocab_size: int, folder: Path) -> Tokenizer:
    """Return the tokenizer of these texts, trained once and kept in a folder.

    The name of its file has a fingerprint of the texts and all settings. If the folder is not
    writable, the tokenizer is trained each time.
    """
    path = folder / f"tokenizer-{fingerprint(texts, vocab_size)}.json"
    # a missing or damaged file is made again, with the same content
    with suppress(DataError):
        return Tokenizer.load(path)
    tokenizer = Tokenizer.train(texts, vocab_size)
    with suppress(OSError):
        tokenizer.save(path)
    return tokenizer


def fingerprint(texts: Sequence[str], vocab_size: int) -> str:
    """Return a fingerprint of the texts, their order and the settings: 16 hexadecimal digits."""
    check_text(texts)
    settings = json.dumps([FORM, SPECIAL, vocab_size])
    digest = hashlib.sha256(settings.encode())
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


def token_mask(lengths: Tensor) -> Tensor:
    """Return bool (B, L), true for the first `lengths` (B,) of each row; L is the largest."""
    longest = int(lengths.max()) if len(lengths) else 0
    return torch.arange(longest) < lengths[:, None]


def empty(model: models.BPE) -> tokenizers.Tokenizer:
    """Return the library's tokenizer around a model, as `FORM` describes it."""
    bpe = tokenizers.Tokenizer(model)
    bpe.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.NFC(),
            normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A {SPECIAL[EOS]}",
        special_tokens=[(SPECIAL[BOS], BOS), (SPECIAL[EOS], EOS)],
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.encode_special_tokens = True  # in a text they are text
    return bpe


def check_text(texts: Sequence[str]) -> None:
    """Raise a ValueError that names the first text that cannot be written as UTF-8."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{text[:60]!r} has a lone surrogate, which is no text.") from None


def check_form(content: Any, form: Any, where: str) -> None:
    """Raise a ValueError unless `content` agrees with `form`."""
    if isinstance(form, dict):
        if not isinstance(content, dict):
            raise ValueError(f"{where or 'its content'} is no object")
        for key, value in form.items():
            check_form(content.get(key), value, f"{where}.{key}" if where else key)
    elif isinstance(form, list):
        if not isinstance(content, list) or len(content) != len(form):
            raise ValueError(f"{where} is no list of {len(form)}")
        for i, (one, other) in enumerate(zip(content, form, strict=True)):
            check_form(one, other, f"{where}[{i}]")
    elif content != form or isinstance(content, bool) != isinstance(form, bool):
        raise ValueError(f"{where} is {str(content)[:60]!r}, not {form!r}")


def check_vocab(vocab: Any) -> None:
    """Raise a ValueError unless ids are 0, 1, ... and tokens special or made of bytes."""
    if not isinstance(vocab, dict) or any(type(i) is not int for i in vocab.values()):
        raise ValueError("model.vocab is no table of numbers")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise ValueError("the ids in model.vocab are not 0, 1, 2, ...")
    if any(vocab.get(token) != i for i, token in enumerate(SPECIAL)):
        raise ValueError(f"the first tokens in model.vocab are not {', '.join(SPECIAL)}")
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    if not letters <= vocab.keys():
        raise ValueError("model.vocab lacks some of the 256 bytes")
    if bad := [t for t in vocab if not t or (not set(t) <= letters and t not in SPECIAL)]:
        raise ValueError(f"the token {bad[0][:60]!r} in model.vocab is not made of bytes")


def check_merges(merges: Any, vocab: Mapping[str, int]) -> None:
    """Raise a ValueError unless merges are pairs of tokens that make a token."""
    if not isinstance(merges, list):
        raise ValueError("model.merges is no list")
    for i, pair in enumerate(merges):
        good = isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair)
        if not good or not {*pair, "".join(pair)} <= vocab.keys():
            raise ValueError(f"model.merges[{i}] is no pair of tokens that make a token")
