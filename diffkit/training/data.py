"""What goes in and what comes out: checks of the data, and the accuracy reached."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.errors import DatasetError
from diffkit.nn.losses import LOGISTIC, SOFTMAX_CROSS_ENTROPY
from diffkit.nn.masks import without_dropout
from diffkit.nn.network import Network


def accuracy(network: Network, parameters: Any, X: Any, labels: Any) -> float:
    """Return the share of samples whose class the network puts first, nothing dropped.

    Of several outputs the largest counts. A single output says yes from 1/2 on if it is a
    probability, from 0 on if it is a logit.

    Args:
        network: a classifier.
        parameters: of the network.
        X: features, one sample to a row.
        labels: class numbers, (samples,), or one-hot rows.

    Raises:
        DatasetError: there are not as many labels as samples.
        InvalidInput: parameters or features do not fit the network.
    """
    outputs = without_dropout(network).predict(parameters, X)
    labels = np.asarray(labels)
    if labels.ndim not in (1, 2) or len(labels) != len(outputs):
        raise DatasetError(f"there are {len(outputs)} samples and labels of shape {labels.shape}")
    if labels.ndim == 2:
        labels = labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0]
    if outputs.shape[1] > 1:
        return float(np.mean(outputs.argmax(axis=1) == labels))
    limit = 0.0 if network.criterion == LOGISTIC else 0.5
    return float(np.mean((outputs[:, 0] >= limit) == (labels > 0.5)))


def require_usable(X: Any, y: Any) -> None:
    """Check features and targets before they spoil the parameters.

    Raises:
        DatasetError: there are no samples, their number differs from that of the targets, or
            an entry is not finite.
    """
    for name, values in (("features", X), ("targets", y)):
        if not isinstance(values, np.ndarray):
            raise DatasetError(
                f"the {name} must be an array, not a {type(values).__name__}; use np.asarray"
            )
        if values.dtype.kind not in "fiub":
            raise DatasetError(
                f"the {name} must be numbers, and are {values.dtype}; for names of classes, "
                "np.unique(names, return_inverse=True) gives class numbers"
            )
        if not values.ndim or not len(values):
            raise DatasetError(f"there are no {name}: the array has shape {values.shape}")
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            place = ", ".join(str(i) for i in bad[0])
            raise DatasetError(
                f"{len(bad)} of the {name} are not finite, the one at [{place}] for one; leave "
                "such samples out or fill them in"
            )
    if len(X) != len(y):
        raise DatasetError(f"there are {len(X)} samples and {len(y)} targets")


def require_classes(network: Network, y: Any) -> None:
    """Check that a classifier has something to tell apart.

    Raises:
        DatasetError: all samples are of one class.
    """
    if network.criterion == SOFTMAX_CROSS_ENTROPY and len(y) > 1:
        labels = y if y.ndim == 1 else y.argmax(axis=1)
    elif network.criterion == LOGISTIC and y.shape[1:] == (1,) and len(y) > 1:
        labels = y[:, 0]
    else:
        return
    if np.all(labels == labels[0]):
        raise DatasetError(f"all {len(y)} samples are of one class; there is nothing to tell apart")
