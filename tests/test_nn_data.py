"""Data: Fisher's table, files of one's own, and files that are no use."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diffkit.errors import DatasetError
from diffkit.nn import (
    Dataset,
    digits,
    iris,
    load_csv,
    scikit_learn,
    split,
    standardise,
)


def test_iris_is_fishers_table() -> None:
    data = iris()
    assert data.X.shape == (150, 4)
    assert data.X.dtype == np.float64
    assert data.class_names == ("setosa", "versicolor", "virginica")
    assert data.feature_names == ("sepal length", "sepal width", "petal length", "petal width")
    np.testing.assert_array_equal(np.bincount(data.y), [50, 50, 50])
    np.testing.assert_array_equal(data.X[0], [5.1, 3.5, 1.4, 0.2])
    np.testing.assert_array_equal(data.X[149], [5.9, 3.0, 5.1, 1.8])


def test_iris_has_the_two_samples_that_the_uci_copy_has_wrong() -> None:
    np.testing.assert_array_equal(iris().X[34], [4.9, 3.1, 1.5, 0.2])
    np.testing.assert_array_equal(iris().X[37], [4.9, 3.6, 1.4, 0.1])


def test_iris_has_the_means_that_fisher_prints() -> None:
    """Table II of the paper, in centimetres."""
    data = iris()
    means = [data.X[data.y == k].mean(axis=0) for k in range(3)]
    np.testing.assert_allclose(means[0], [5.006, 3.428, 1.462, 0.246], atol=1e-12)
    np.testing.assert_allclose(means[1], [5.936, 2.770, 4.260, 1.326], atol=1e-12)
    np.testing.assert_allclose(means[2], [6.588, 2.974, 5.552, 2.026], atol=1e-12)


def test_standardised_features_have_mean_0_and_deviation_1() -> None:
    data = iris().standardised()
    np.testing.assert_allclose(data.X.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(data.X.std(axis=0), 1)
    np.testing.assert_array_equal(data.one_hot.argmax(axis=1), data.y)
    np.testing.assert_array_equal(data.one_hot.sum(axis=1), 1)


def test_what_cannot_be_standardised_is_refused() -> None:
    with pytest.raises(DatasetError, match="column 1 is constant"):
        standardise(np.array([[1.0, 2.0], [3.0, 2.0]]))
    with pytest.raises(DatasetError, match="no samples"):
        standardise(np.zeros((0, 2)))


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "pets.csv"
    file.write_text("\ufeffweight, height,kind\n4, 25,cat\n\n30,60 , dog\n", encoding="utf-8")
    data = load_csv(file)
    np.testing.assert_array_equal(data.X, [[4, 25], [30, 60]])
    np.testing.assert_array_equal(data.y, [0, 1])
    assert data.feature_names == ("weight", "height")
    assert data.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "is empty"),
        ("a\n1\n2\n", "one column"),
        ("1,2,cat\n3,4,dog\n", "names of the columns"),
        ("a,b\n1,cat\nnan,dog\n", "line 3, a: 'nan' is not a finite number"),
        ("a,b\n1,cat\n-inf,dog\n", "line 3, a: '-inf'"),
        ("a,b\n1,cat\nx,dog\n", "line 3, a: 'x'"),
        ("a,b\n1,cat\n,dog\n", "line 3, a: ''"),
        ("a,b\n1,cat\n1,\n", "line 3, b: the class is missing"),
        ("a,b\n1,cat\n1,2,dog\n", "line 3: 3 columns where the first line names 2"),
        ("a,b\n1,cat\n2,cat\n", "one class, 'cat'"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_csv(file)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"a,b\n\xff\xfe,c\n")
    for name in ("absent.csv", "binary.csv"):
        with pytest.raises(DatasetError, match="cannot be read"):
            load_csv(tmp_path / name)


def test_digits_come_from_scikit_learn_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = np.arange(17.0)[:, None] * np.ones(64), np.arange(17) % 10
    stand_in: Any = ModuleType("sklearn.datasets")
    stand_in.load_digits = lambda: SimpleNamespace(
        data=pixels,
        target=labels,
        target_names=np.arange(10),
        feature_names=[f"pixel_{i // 8}_{i % 8}" for i in range(64)],
    )
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", stand_in)
    data = digits()
    assert (data.X.min(), data.X.max()) == (0, 1)
    assert len(data.class_names) == 10
    assert len(data.feature_names) == 64
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DatasetError, match="pip install scikit-learn"):
        digits()


def test_pixels_are_split_as_they_are() -> None:
    pixels = np.zeros((12, 3))
    pixels[:, 1] = np.arange(12.0)
    data = Dataset(pixels, np.arange(12) % 2, ("a", "b", "c"), ("even", "odd"))
    with pytest.raises(DatasetError, match=r"column 0 is constant.*scaled=False"):
        split(data)
    first, second = split(data, 0.5, scaled=False)
    assert sorted([*first.X[:, 1], *second.X[:, 1]]) == list(range(12))


def test_sets_that_scikit_learn_does_not_have_are_refused() -> None:
    with pytest.raises(DatasetError, match="breast_cancer, digits, iris, wine"):
        scikit_learn("mnist")
