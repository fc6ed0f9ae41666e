"""Text for skip-gram: words by number, pairs of neighbours, negative samples.

The text that is shipped is "The Twelve Days of Christmas" (first printed in "Mirth without
Mischief", London, about 1780; in the public domain): few words, seen often.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diffkit.errors import DatasetError, InvalidInput

Numbers = npt.NDArray[np.int64]
_WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as numbers.

    Attributes:
        words: the vocabulary, the most frequent first.
        text: the number of each word of the text, in order.
    """

    words: tuple[str, ...]
    text: Numbers

    def number(self, word: str) -> int:
        """Return the number of a word.

        Raises:
            InvalidInput: it does not occur.
        """
        if word not in self.words:
            raise InvalidInput(f"{word!r} does not occur in the text")
        return self.words.index(word)

    def pairs(self, window: int = 2) -> tuple[Numbers, Numbers]:
        """Return centre words and words at most `window` places from them, as two arrays.

        Raises:
            InvalidInput: the window is not positive.
        """
        if window < 1:
            raise InvalidInput(f"window={window} must be positive")
        centres, near = [], []
        for distance in range(1, window + 1):
            centres += [self.text[:-distance], self.text[distance:]]
            near += [self.text[distance:], self.text[:-distance]]
        return np.concatenate(centres), np.concatenate(near)

    def with_negatives(
        self, centres: Numbers, near: Numbers, count: int = 5, seed: int = 0
    ) -> tuple[Numbers, npt.NDArray[np.float64]]:
        """Return rows (centre, neighbour, `count` random words) and targets (1, 0, ..., 0).

        Random words are drawn in proportion to their frequency to the power 3/4.
        Source: Mikolov et al., NeurIPS 2013, section 2.2.

        Args:
            centres, near: as from `pairs`.
            count: random words for each pair.
            seed: of the choice.

        Raises:
            InvalidInput: the count is not positive.
        """
        if count < 1:
            raise InvalidInput(f"count={count} must be positive")
        weights = np.bincount(self.text, minlength=len(self.words)) ** 0.75
        generator = np.random.default_rng(seed)
        drawn = generator.choice(len(weights), (len(centres), count), p=weights / weights.sum())
        targets = np.zeros((len(centres), 1 + count))
        targets[:, 0] = 1
        return np.concatenate([centres[:, None], near[:, None], drawn], axis=1), targets

    def nearest(self, vectors: Any, word: str, count: int = 5) -> list[tuple[str, float]]:
        """Return the words with the most similar vectors, and the cosines, best first.

        Args:
            vectors: one row per word of the vocabulary.
        """
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        own = self.number(word)
        cosines = unit @ unit[own]
        order = [int(k) for k in np.argsort(-cosines) if k != own]
        return [(self.words[k], float(cosines[k])) for k in order[:count]]


def twelve_days() -> Corpus:
    """Return the text that is shipped."""
    file = resources.files("diffkit.nn") / "data" / "twelve_days.txt"
    with resources.as_file(file) as path:
        return load_text(path)


def load_text(path: str | Path) -> Corpus:
    """Return a plain text, in lower case and without punctuation, as numbers.

    Raises:
        DatasetError: the file cannot be read, or has fewer than two different words.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    found = _WORD.findall(text.lower())
    words = tuple(word for word, _ in Counter(found).most_common())
    if len(words) < 2:
        raise DatasetError(f"{path} has {len(words)} different words; two are the least")
    number = {word: k for k, word in enumerate(words)}
    return Corpus(words, np.array([number[word] for word in found]))
