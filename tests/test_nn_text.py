"""Word vectors: what is counted, and that related words come to lie near each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffkit.errors import DatasetError, InvalidInput
from diffkit.nn import skip_gram
from diffkit.nn.text import Corpus, load_text, twelve_days
from diffkit.training import SGD, Adam, Plan, train

ORDINALS = {
    *("first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"),
}
SMALL = Corpus(("a", "b", "c"), np.array([0, 1, 2, 0]))


def test_the_text_that_is_shipped() -> None:
    corpus = twelve_days()
    assert len(corpus.text) == 12 * 12 + (12 * 6 + 11) + 3 * (11 * 12) // 2
    assert len(corpus.words) == len(set(corpus.words)) == 11 + 12 + 6 + 3 * 11
    assert set(corpus.words) > {*ORDINALS, "partridge", "a-laying"}
    counts = np.bincount(corpus.text)
    assert np.all(np.diff(counts) <= 0)
    assert counts[corpus.number("christmas")] == 12
    assert counts[corpus.number("doves")] == 11


def test_pairs_of_neighbours_by_hand() -> None:
    centres, near = SMALL.pairs(window=1)
    assert sorted(zip(centres.tolist(), near.tolist(), strict=True)) == [
        *((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)),
    ]
    assert len(SMALL.pairs(window=2)[0]) == 10


def test_negative_samples_follow_the_frequencies() -> None:
    centres, near = twelve_days().pairs()
    rows, targets = twelve_days().with_negatives(centres, near, count=4)
    assert rows.shape == (len(centres), 6)
    np.testing.assert_array_equal(rows[:, 0], centres)
    np.testing.assert_array_equal(targets.sum(axis=0), [len(centres), 0, 0, 0, 0])
    counts = np.bincount(twelve_days().text) ** 0.75
    found = np.bincount(rows[:, 2:].ravel(), minlength=62) / rows[:, 2:].size
    np.testing.assert_allclose(found, counts / counts.sum(), atol=0.01)


def test_skip_gram_puts_words_of_the_same_use_together() -> None:
    """With every ordinal the same words around it; nothing tells that they are ordinals."""
    corpus = twelve_days()
    net = skip_gram(len(corpus.words), 8)
    found = train(net, net.initial(1), *corpus.pairs(), Plan(Adam(0.05), epochs=60))
    assert found.history.loss[-1] < 0.6 * found.history.loss[0]
    vectors = found.parameters["layer1"]["W"]
    near_third = {word for word, _ in corpus.nearest(vectors, "third", 8)}
    assert len(near_third & ORDINALS) >= 7
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    own = [corpus.number(word) for word in sorted(ORDINALS)]
    others = [k for k in range(len(unit)) if k not in own]
    within, across = unit[own] @ unit[own].T, unit[own] @ unit[others].T
    assert within.mean() > 0.7 > 0.3 > across.mean()


def test_negative_sampling_by_the_closed_form_learns_too() -> None:
    corpus = twelve_days()
    net = skip_gram(len(corpus.words), 8, negative=True)
    data = corpus.with_negatives(*corpus.pairs(), count=4)
    plan = Plan(Adam(0.05), epochs=15, batch=256)
    found = train(net, net.initial(1), *data, plan, backend="analytic")
    assert found.history.loss[-1] < 0.6 * found.history.loss[0]
    near_third = {w for w, _ in corpus.nearest(found.parameters["layer1"]["W_in"], "third", 8)}
    assert len(near_third & ORDINALS) >= 7


def test_the_tape_and_the_closed_form_follow_the_same_words() -> None:
    net, data = skip_gram(3, 2), SMALL.pairs()
    plan = Plan(SGD(0.5), epochs=3, batch=4)
    one, other = (
        train(net, net.initial(1), *data, plan, backend=backend).parameters["layer1"]["W"]
        for backend in ("tape", "analytic")
    )
    np.testing.assert_allclose(one, other, rtol=1e-13)


def test_unusable_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("word, word. 42!")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name, message in (("one", "1 different"), ("binary", "read"), ("absent", "read")):
        with pytest.raises(DatasetError, match=message):
            load_text(tmp_path / f"{name}.txt")
    for use in (
        lambda: SMALL.number("z"),
        lambda: SMALL.pairs(0),
        lambda: SMALL.with_negatives(*SMALL.pairs(), count=0),
    ):
        with pytest.raises(InvalidInput):
            use()
