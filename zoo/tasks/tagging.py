"""The states of words, such as their parts of speech."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from zoo.batches import Batch
from zoo.datamodules.text.tagged_text import word_ids


class Tagger(Protocol):
    """A model of words whose codes are paths of states, such as an HMM of TaggedText."""

    @property
    def vocabulary(self) -> list[str]:
        """The words and classes of unknown words; empty for a model of other symbols."""

    @property
    def state_names(self) -> list[str]:
        """The tags, or numbers."""

    def as_batch(self, data: Any) -> Batch:
        """Sequences of different lengths as a padded batch."""

    def encode(self, x: Any) -> Tensor:
        """The most probable path, (B, T)."""


def tag(model: Tagger, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """Name the state of each word on the most probable path.

    Args:
        model: An HMM that was trained on words.
        sentences: Lists of words; a word outside the vocabulary counts as its class of unknown
            words.

    Returns:
        Tags, or the numbers of states if the model was trained without tags.

    Raises:
        ValueError: if the model was not trained on words, or a sentence has none.
    """
    if not model.vocabulary:
        raise ValueError("this model has no vocabulary; train it on TaggedText.")
    tokens = [word_ids(words, model.vocabulary) for words in sentences]
    paths = model.encode(model.as_batch({"tokens": tokens})).tolist()
    names = model.state_names
    return [
        [names[k] for k in path[: len(words)]] for path, words in zip(paths, sentences, strict=True)
    ]
