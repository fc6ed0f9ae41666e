"""Layers that look numbers up: word vectors, and word2vec with negative samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.nn.layers import Layer, Parameters, Shapes, require_positive


@dataclass(frozen=True)
class Embedding(Layer):
    """A vector for each of `vocabulary` words: the rows of W, of shape (vocabulary, width)."""

    vocabulary: int
    width: int

    def __post_init__(self) -> None:
        require_positive(self, self.vocabulary, self.width)

    @property
    def shapes(self) -> Shapes:
        return {"W": (self.vocabulary, self.width)}

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return the vectors of the words numbered in `x`, of shape (*x.shape, width).

        Raises:
            InvalidInput: `x` does not consist of word numbers.
        """
        self.checked(parameters)
        require_words(x, self.vocabulary)
        return parameters["W"][x]


@dataclass(frozen=True)
class WordPairs(Layer):
    """Skip-gram scores: z_k = ⟨in-vector of the centre, out-vector of candidate k⟩.

    A row of `x` holds the number of the centre word, then those of the candidates: the word
    that was seen near it, and negative samples. With the targets (1, 0, ..., 0) the logistic
    loss is skip-gram with negative sampling, divided by the number of candidates.
    Source: Mikolov et al., NeurIPS 2013, equation 4.
    """

    vocabulary: int
    width: int

    def __post_init__(self) -> None:
        require_positive(self, self.vocabulary, self.width)

    @property
    def shapes(self) -> Shapes:
        return {"W_in": (self.vocabulary, self.width), "W_out": (self.vocabulary, self.width)}

    def forward(self, parameters: Parameters, x: Any) -> Any:
        """Return the scores, of shape (batch, candidates).

        Raises:
            InvalidInput: `x` does not consist of word numbers, or a row of it has no candidate.
        """
        self.checked(parameters)
        require_words(x, self.vocabulary)
        if np.ndim(x) != 2 or np.shape(x)[1] < 2:
            raise InvalidInput(
                f"{self} takes rows of a centre and its candidates, not shape {np.shape(x)}"
            )
        centres, candidates = parameters["W_in"][x[:, 0]], parameters["W_out"][x[:, 1:]]
        return np.sum(candidates * centres[:, None, :], axis=-1)


def require_words(x: Any, vocabulary: int) -> None:
    """Check that `x` holds numbers of words.

    Raises:
        InvalidInput: they are not integers in 0 ... vocabulary - 1.
    """
    dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
    if dtype.kind not in "iu":
        raise InvalidInput(f"numbers of words must be integers, and these are {dtype}")
    if np.any(np.less(x, 0)) or np.any(np.greater_equal(x, vocabulary)):
        raise InvalidInput(f"numbers of words must lie in 0 ... {vocabulary - 1}")
