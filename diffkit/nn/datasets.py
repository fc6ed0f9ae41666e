"""Labelled data: Fisher's iris, which is shipped, and CSV files of the same form."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from importlib import import_module, resources
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from diffkit.errors import DatasetError

SCIKIT_LEARN: Final = ("breast_cancer", "digits", "iris", "wine")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with their classes.

    Attributes:
        X: features, (samples, features), float64.
        y: class numbers, (samples,), counting the classes in `class_names` from 0.
        feature_names: one per column of `X`.
        class_names: in alphabetical order.
    """

    X: npt.NDArray[np.float64]
    y: npt.NDArray[np.int64]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]

    @property
    def one_hot(self) -> npt.NDArray[np.float64]:
        """The classes as rows with a single 1, (samples, classes)."""
        return np.asarray(np.eye(len(self.class_names))[self.y])

    def standardised(self) -> Dataset:
        """The same data with each feature shifted to mean 0 and scaled to deviation 1."""
        return replace(self, X=standardise(self.X))


def split(
    data: Dataset, held_out: float = 0.3, seed: int = 0, *, scaled: bool = True
) -> tuple[Dataset, Dataset]:
    """Return the data in two parts at random, each class in the same proportion in both.

    Args:
        data: what is to be split.
        held_out: the share of the second part.
        seed: of the choice.
        scaled: standardise both by mean and deviation of the first, as nothing else may be
            known of the second. Pixels, which have one scale already, are best left as they are.

    Raises:
        DatasetError: `held_out` is not in (0, 1), a part would lack a class, or a column of
            the first is constant.
    """
    if not 0 < held_out < 1:
        raise DatasetError(f"held_out={held_out!r} must lie between 0 and 1")
    generator = np.random.default_rng(seed)
    parts: tuple[list[int], list[int]] = ([], [])
    for k, name in enumerate(data.class_names):
        rows = generator.permutation(np.flatnonzero(data.y == k))
        count = round(held_out * len(rows))
        if not 0 < count < len(rows):
            raise DatasetError(f"{len(rows)} samples of class {name!r} are too few to be split")
        parts[1].extend(rows[:count])
        parts[0].extend(rows[count:])
    first, second = (replace(data, X=data.X[rows], y=data.y[rows]) for rows in parts)
    if not scaled:
        return first, second
    mean, deviation = np.mean(first.X, axis=0), np.std(first.X, axis=0)
    return first.standardised(), replace(second, X=(second.X - mean) / deviation)


def standardise(X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `X` with each column shifted to mean 0 and scaled to standard deviation 1.

    Raises:
        DatasetError: a column is constant, or there are no rows.
    """
    if not len(X):
        raise DatasetError("there are no samples to standardise")
    constant = np.flatnonzero(np.ptp(X, axis=0) == 0)
    if constant.size:
        raise DatasetError(
            f"column {constant[0]} is constant and cannot be scaled; leave it out, or split with "
            "scaled=False"
        )
    return np.asarray((X - np.mean(X, axis=0)) / np.std(X, axis=0))


def iris() -> Dataset:
    """Return Fisher's iris data: 150 flowers of 3 species by 4 lengths in centimetres.

    Source: R. A. Fisher, "The use of multiple measurements in taxonomic problems", Annals of
    Eugenics 7 (1936), Table I. Samples 35 and 38 (counted from 1) are as in that table, as
    they are in scikit-learn since 0.20; the UCI repository's copy differs in three entries.
    """
    file = resources.files("diffkit.nn") / "data" / "iris.csv"
    with resources.as_file(file) as path:
        return load_csv(path)


def load_csv(path: str | Path) -> Dataset:
    """Return the data in a CSV file: a line of names, numeric features, the class last.

    Raises:
        DatasetError: the file is missing, empty or malformed, an entry is not a finite
            number, or there are fewer than two classes.
    """
    header, rows = _read(Path(path))
    features, labels = [], []
    for line, row in rows:
        if len(row) != len(header):
            raise DatasetError(
                f"{path}, line {line}: {len(row)} columns where the first line names {len(header)}"
            )
        features.append(
            [
                _number(entry, f"{path}, line {line}, {name}")
                for entry, name in zip(row[:-1], header[:-1], strict=True)
            ]
        )
        labels.append(_label(row[-1], f"{path}, line {line}, {header[-1]}"))
    class_names = tuple(sorted(set(labels)))
    if len(class_names) < 2:
        raise DatasetError(f"{path}: all samples are of one class, {class_names[0]!r}")
    y = np.array([class_names.index(label) for label in labels])
    return Dataset(np.array(features), y, tuple(header[:-1]), class_names)


def load_npz(path: str | Path) -> Dataset:
    """Return the data in an NPZ file with the arrays X, (samples, features), and y, (samples,).

    Raises:
        DatasetError: the file is missing or malformed, an entry of X is not finite, the
            lengths differ, or there are fewer than two classes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            X, y = np.asarray(file["X"], float), np.asarray(file["y"])
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as arrays X and y: {error}") from error
    if X.ndim != 2 or y.shape != X.shape[:1] or not len(X):
        raise DatasetError(
            f"{path}: X has shape {X.shape} and y {y.shape}; expected (samples, features) and "
            "(samples,)"
        )
    if not np.all(np.isfinite(X)):
        raise DatasetError(f"{path}: X has entries that are not finite")
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise DatasetError(f"{path}: all samples are of one class, {classes[0]}")
    names = tuple(str(name) for name in classes)
    return Dataset(X, labels, tuple(f"x{i}" for i in range(X.shape[1])), names)


def digits() -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits, 64 pixels from 0 to 1 each.

    Raises:
        DatasetError: scikit-learn is not installed.
    """
    found = scikit_learn("digits")
    return replace(found, X=found.X / 16)


def scikit_learn(name: str) -> Dataset:
    """Return a set that comes with scikit-learn: breast_cancer, digits, iris or wine.

    Raises:
        DatasetError: scikit-learn is not installed, or has no such set of labelled samples.
    """
    if name not in SCIKIT_LEARN:
        raise DatasetError(
            f"unknown set {name!r}; of scikit-learn's there are {', '.join(SCIKIT_LEARN)}"
        )
    try:
        datasets = import_module("sklearn.datasets")
    except ImportError as error:
        raise DatasetError(f"{name} comes with scikit-learn: pip install scikit-learn") from error
    found = getattr(datasets, f"load_{name}")()
    classes = tuple(str(label) for label in found.target_names)
    features = tuple(str(feature) for feature in found.feature_names)
    return Dataset(np.asarray(found.data, float), np.asarray(found.target), features, classes)


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names in the first line, and the other lines with their numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, [entry.strip() for entry in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if len(lines) < 2:
        raise DatasetError(f"{path} is empty: expected a line of names and at least one sample")
    header = lines[0][1]
    if len(header) < 2:
        raise DatasetError(f"{path} has one column; expected features and, last, the class")
    if any(_is_number(name) for name in header):
        raise DatasetError(f"{path}: the first line must hold the names of the columns")
    return header, lines[1:]


def _is_number(entry: str) -> bool:
    try:
        float(entry)
    except ValueError:
        return False
    return True


def _number(entry: str, where: str) -> float:
    if not _is_number(entry) or not np.isfinite(float(entry)):
        raise DatasetError(f"{where}: {entry!r} is not a finite number")
    return float(entry)


def _label(entry: str, where: str) -> str:
    if not entry:
        raise DatasetError(f"{where}: the class is missing")
    return entry
