"""Training: it learns, the same from every backend, and says why where it cannot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffkit.errors import DatasetError, DiffkitWarning, InvalidInput
from diffkit.nn import (
    HINGE,
    LOGISTIC,
    MEAN_SQUARED_ERROR,
    SIGMOID,
    SOFTMAX_CROSS_ENTROPY,
    TANH,
    Dataset,
    Dense,
    Network,
    autoencoder,
    constant,
    fully_connected,
    he,
    iris,
    least_squares,
    lecun,
    linear_regression,
    load_npz,
    logic,
    logistic_regression,
    normal,
    ones,
    split,
    xavier,
    zeros,
)
from diffkit.structure import flatten
from diffkit.training import (
    SGD,
    Adam,
    History,
    Plan,
    accuracy,
    cosine,
    final_losses,
    steps_down,
    train,
)

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
EXCLUSIVE_OR = np.array([[0.0], [1.0], [1.0], [0.0]])
XOR = fully_connected((2, 2, 1), LOGISTIC, TANH)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 3)), RNG.normal(size=(30, 1))
LINE = linear_regression(3)


def vector(parameters: Any) -> Any:
    layout, leaves = flatten(parameters)
    return layout.ravel(leaves)


# ------------------------------------------------------------------ it learns


def test_exclusive_or_is_learned() -> None:
    plan = Plan(SGD(0.5, momentum=0.9), epochs=300)
    found = train(XOR, XOR.initial(seed=1), CORNERS, EXCLUSIVE_OR, plan)
    assert found.history.loss[-1] < 0.02
    assert accuracy(XOR, found.parameters, CORNERS, EXCLUSIVE_OR) == 1


def test_iris_is_told_apart_by_flowers_never_seen() -> None:
    """On average over ten splits; of 45 flowers held out, one is 2.2 %."""
    net = fully_connected((4, 16, 3), SOFTMAX_CROSS_ENTROPY, TANH)
    found = []
    for seed in range(10):
        first, second = split(iris(), 0.3, seed)
        plan = Plan(SGD(0.1, momentum=0.9), 30, batch=15, schedule=cosine(30), seed=seed)
        trained = train(net, net.initial(seed), first.X, first.y, plan)
        found.append(accuracy(net, trained.parameters, second.X, second.y))
    assert np.mean(found) >= 0.95


def test_held_out_data_are_watched_and_not_learned_from() -> None:
    plan, start = Plan(epochs=5, batch=10), LINE.initial()
    found = train(LINE, start, X[10:], Y[10:], plan, held_out=(X[:10], Y[:10]))
    blind = train(LINE, start, X[10:], Y[10:], plan)
    np.testing.assert_array_equal(vector(found.parameters), vector(blind.parameters))
    assert len(found.history.held_out) == found.history.epochs == 5
    assert found.history.held_out[-1] == LINE.loss(found.parameters, X[:10], Y[:10])


def test_gradient_descent_ends_at_the_closed_form() -> None:
    best = least_squares(X, Y)
    plan = Plan(SGD(0.3), epochs=400, tolerance=1e-12)
    found = train(LINE, LINE.initial(), X, Y, plan)
    assert found.history.ended == "tolerance"
    np.testing.assert_allclose(vector(found.parameters), vector(best), atol=1e-11)


def test_adam_gets_there_too() -> None:
    found = train(LINE, LINE.initial(), X, Y, Plan(Adam(0.1), epochs=300, schedule=cosine(300)))
    np.testing.assert_allclose(vector(found.parameters), vector(least_squares(X, Y)), atol=1e-6)


def test_the_first_step_of_each_optimiser_by_hand() -> None:
    def bowl(w: Any, X: Any, y: Any) -> Any:
        return np.sum((w * X - y) ** 2)

    data = (np.array([1.0, 2.0]), np.array([0.0, 0.0]))  # w² (1 + 4), slope 10 w
    one_step = Plan(SGD(0.01), epochs=1)
    assert train(bowl, 3.0, *data, one_step).parameters == 3 - 0.01 * 30
    two = Plan(SGD(0.01, momentum=0.5), epochs=2)
    assert train(bowl, 3.0, *data, two).parameters == pytest.approx(2.7 - 0.27 - 0.15, rel=1e-15)
    adam = train(bowl, 3.0, *data, Plan(Adam(0.01), epochs=1))
    assert adam.parameters == pytest.approx(2.99, rel=1e-9)
    assert adam.history.gradient_norm == (30.0,)
    assert adam.history.loss == (45.0,)


def test_an_autoencoder_beats_the_mean() -> None:
    data = iris().standardised().X
    net = autoencoder((4, 2))
    found = train(net, net.initial(seed=0), data, data, Plan(Adam(0.02), epochs=150))
    of_the_mean = float(np.mean(data**2))  # the mean is 0
    assert net.loss(found.parameters, data, data) < 0.1 * of_the_mean


def test_a_denoising_autoencoder_takes_noise_away() -> None:
    """From flowers never seen, with noise nearly as large as their spread."""
    first, second = split(iris(), 0.5, 1)
    generator = np.random.default_rng(2)
    clean = np.concatenate([first.X] * 8)
    noisy = clean + generator.normal(0, 0.8, clean.shape)
    net = autoencoder((4, 2), tied=True)
    found = train(net, net.initial(seed=0), noisy, clean, Plan(Adam(0.02), epochs=150))
    disturbed = second.X + generator.normal(0, 0.8, second.X.shape)
    left = net.loss(found.parameters, disturbed, second.X)
    assert left < 0.5 * float(np.mean((disturbed - second.X) ** 2))


def test_a_support_vector_machine_tells_setosa() -> None:
    data = iris().standardised()
    signs = np.where(data.y == 0, 1.0, -1.0)[:, None]
    net = Network((Dense(4, 1),), HINGE)
    found = train(net, net.initial(), data.X, signs, Plan(SGD(0.2), epochs=60))
    assert np.all(np.sign(net.predict(found.parameters, data.X)) == signs)


# ------------------------------------------------------------------ the same from every backend


@pytest.mark.parametrize("backend", ["analytic", "symbolic", "finite"])
def test_every_backend_leads_along_the_same_way(backend: str) -> None:
    plan = Plan(SGD(0.3, momentum=0.5), epochs=4, batch=3, seed=7)
    start = XOR.initial(seed=3)
    want = train(XOR, start, CORNERS, EXCLUSIVE_OR, plan)
    got = train(XOR, start, CORNERS, EXCLUSIVE_OR, plan, backend=backend)
    limit = 1e-9 if backend == "finite" else 1e-14
    np.testing.assert_allclose(vector(got.parameters), vector(want.parameters), rtol=0, atol=limit)
    np.testing.assert_allclose(got.history.loss, want.history.loss, rtol=10 * limit)


def test_a_seed_fixes_the_trajectory() -> None:
    def run(seed: int) -> Any:
        return vector(
            train(LINE, LINE.initial(), X, Y, Plan(epochs=3, batch=7, seed=seed)).parameters
        )

    np.testing.assert_array_equal(run(1), run(1))
    assert np.any(run(1) != run(2))


def test_parameters_keep_their_dtype_and_are_not_changed_in_place() -> None:
    start = XOR.initial(seed=1, dtype=np.float32)
    before = vector(start).copy()
    data = CORNERS.astype(np.float32), EXCLUSIVE_OR.astype(np.float32)
    for optimiser in (SGD(0.1, 0.5), Adam()):
        found = train(XOR, start, *data, Plan(optimiser, epochs=3))
        assert vector(found.parameters).dtype == np.float32
    np.testing.assert_array_equal(vector(start), before)


# ------------------------------------------------------------------ starts


def test_equal_weights_stay_equal_for_ever() -> None:
    """The hidden units of a symmetric start get the same gradient, so two are as good as one."""
    for start in (ones, constant(0.3)):
        parameters = XOR.initial(initialiser=start)
        found = train(XOR, parameters, CORNERS, EXCLUSIVE_OR, Plan(SGD(0.5, 0.9), epochs=100))
        W = found.parameters["layer1"]["W"]
        np.testing.assert_allclose(W[:, 0], W[:, 1], rtol=1e-12)
        assert found.history.loss[-1] > 0.3


def test_zero_weights_learn_nothing() -> None:
    with pytest.warns(DiffkitWarning, match="exactly 0 at the start"):
        found = train(XOR, XOR.initial(initialiser=zeros), CORNERS, EXCLUSIVE_OR)
    assert found.history.ended == "stationary"


def test_threshold_units_learn_nothing_and_training_says_so() -> None:
    net = logic.conjunction().network
    with pytest.warns(DiffkitWarning) as warned:
        found = train(net, net.initial(seed=1), CORNERS, EXCLUSIVE_OR)
    assert any("thresholds" in str(w.message) for w in warned)
    assert any("exactly 0 at the start" in str(w.message) for w in warned)
    np.testing.assert_array_equal(vector(found.parameters), vector(net.initial(seed=1)))


@pytest.mark.parametrize(
    ("initialiser", "deviation"),
    [
        (xavier, math.sqrt(2 / 500)),
        (he, math.sqrt(2 / 200)),
        (lecun, math.sqrt(1 / 200)),
        (normal(0.5), 0.5),
    ],
    ids=["glorot", "he", "lecun", "normal"],
)
def test_random_starts_have_the_deviation_of_their_rule(initialiser: Any, deviation: float) -> None:
    start = Network((Dense(200, 300),), MEAN_SQUARED_ERROR).initial(1, initialiser=initialiser)
    W = start["layer1"]["W"]
    assert W.std() == pytest.approx(deviation, rel=0.02)
    assert abs(W.mean()) < 0.02 * deviation
    assert np.all(start["layer1"]["b"] == 0)
    with pytest.raises(InvalidInput):
        normal(0)


def test_final_losses_of_larger_networks_lie_closer_together() -> None:
    """Ten starts each: the worst of the larger network is better than most of the smaller."""
    x = np.linspace(-1, 1, 24)[:, None]
    found = final_losses(
        lambda width: fully_connected((1, width, 1), MEAN_SQUARED_ERROR, TANH),
        (2, 16),
        x,
        np.sin(4 * x),
        Plan(Adam(0.05), epochs=150),
    )
    small, large = found[2], found[16]
    assert list(small) == sorted(small)
    assert large[-1] - large[0] < small[-1] - small[0]
    assert np.median(large) < np.median(small)
    with pytest.raises(InvalidInput):
        final_losses(lambda width: LINE, (1,), X, Y, Plan(), seeds=0)


# ------------------------------------------------------------------ when it ends


def test_training_stops_early_and_returns_the_best() -> None:
    far = Plan(SGD(1.0, momentum=0.9), epochs=200, patience=5)
    held_out = X[:10], Y[:10]
    found = train(LINE, LINE.initial(seed=1), X[10:], Y[10:], far, held_out=held_out)
    history = found.history
    assert history.ended == "patience"
    assert history.epochs < 200
    best = min(history.held_out)
    assert LINE.loss(found.parameters, *held_out) == pytest.approx(best, rel=1e-15)
    assert history.held_out.index(best) == history.epochs - 6


def test_patience_without_held_out_data_watches_the_loss() -> None:
    found = train(LINE, LINE.initial(), X, Y, Plan(SGD(0.3), epochs=2000, patience=3))
    assert found.history.ended == "patience"


def test_divergence_is_told_and_finite_parameters_are_returned() -> None:
    with (
        pytest.warns(DiffkitWarning, match="diverged in epoch .* smaller learning rate"),
        np.errstate(all="ignore"),
    ):
        found = train(LINE, LINE.initial(), 1e3 * X, Y, Plan(SGD(10.0), epochs=100))
    assert found.history.ended == "diverged"
    assert np.all(np.isfinite(vector(found.parameters)))


def test_schedules() -> None:
    assert [steps_down(2, 0.5)(t) for t in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert [cosine(4)(t) for t in (0, 2, 4, 9)] == pytest.approx([1, 0.5, 0, 0])
    frozen = Plan(SGD(0.1), epochs=3, schedule=lambda epoch: 0.0)
    start = LINE.initial()
    np.testing.assert_array_equal(
        vector(train(LINE, start, X, Y, frozen).parameters), vector(start)
    )


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = train(LINE, LINE.initial(), X, Y, Plan(epochs=3, progress=True))
    assert found.history.epochs == 3
    capsys.readouterr()


def test_accuracy_of_logits_probabilities_and_classes() -> None:
    logit, probability = logistic_regression(1), logistic_regression(1, MEAN_SQUARED_ERROR)
    p = {"layer1": {"W": np.array([[1.0]]), "b": np.zeros(1)}}
    x, labels = np.array([[-2.0], [-0.1], [0.2], [3.0]]), np.array([0, 1, 1, 1])
    assert accuracy(logit, p, x, labels) == accuracy(probability, p, x, labels) == 0.75
    assert accuracy(logit, p, x, labels[:, None].astype(float)) == 0.75
    three = fully_connected((1, 3), SOFTMAX_CROSS_ENTROPY, SIGMOID)
    q = {"layer1": {"W": np.zeros((1, 3)), "b": np.array([0.0, 1.0, 0.0])}}
    assert accuracy(three, q, x, np.eye(3)[labels]) == 0.75


@pytest.mark.parametrize("labels", [[0, 1], np.zeros((4, 1, 1))], ids=["too few", "of 3 axes"])
def test_labels_that_do_not_fit_are_refused(labels: Any) -> None:
    net = logistic_regression(3)
    with pytest.raises(DatasetError, match="4 samples and labels of shape"):
        accuracy(net, net.initial(), X[:4], labels)


# ------------------------------------------------------------------ what is returned, printed


def test_a_training_prints_as_a_table_of_some_epochs() -> None:
    found = train(LINE, LINE.initial(), X, Y, Plan(SGD(0.1), epochs=50), held_out=(X[:5], Y[:5]))
    assert repr(found).startswith("<Trained 4 parameters, <History of 50 epochs, loss ")
    heading, ended, _, columns, _, *rows = str(found).splitlines()
    assert columns.split() == ["epoch", "loss", "gradient", "norm", "held", "out"]
    assert heading == "4 parameters: layer1.W (3, 1), layer1.b (1,)"
    assert ended == "ended by: epochs"
    assert [int(row.split()[0]) for row in (rows[0], rows[-1])] == [1, 50]
    assert len(rows) == 12
    assert all(len(row.split()) == 4 for row in rows)
    assert "<table>" in found.history._repr_html_()


def test_a_short_training_prints_every_epoch() -> None:
    history = train(LINE, LINE.initial(), X, Y, Plan(SGD(0.1), epochs=3)).history
    assert [line.split()[0] for line in str(history).splitlines()[-3:]] == ["1", "2", "3"]
    assert repr(History()) == "<History of 0 epochs, ended by epochs>"


# ------------------------------------------------------------------ data that cannot be used


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (X[:0], Y[:0], "no features"),
        (X, Y[:7], "30 samples and 7 targets"),
        (np.where(X[3, 1] == X, np.nan, X), Y, r"1 of the features are not finite.*\[3, 1\]"),
        (X, np.where(Y[5, 0] == Y, np.inf, Y), r"targets are not finite.*\[5, 0\]"),
        (X.astype(str), Y, "features must be numbers.*np.unique"),
        (X.tolist(), Y, "must be an array, not a list"),
        (X, np.float64(1.0), "must be an array, not a float64"),
    ],
)
def test_unusable_data_are_refused(features: Any, targets: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        train(LINE, LINE.initial(), features, targets)
    with pytest.raises(DatasetError):
        train(LINE, LINE.initial(), X, Y, held_out=(features, targets))


def test_wrong_columns_are_refused() -> None:
    with pytest.raises(InvalidInput, match="whose last axis has length 3"):
        train(LINE, LINE.initial(), X[:, :2], Y)


@pytest.mark.parametrize(
    ("net", "targets"),
    [
        (fully_connected((3, 2), SOFTMAX_CROSS_ENTROPY, TANH), np.ones(30, int)),
        (fully_connected((3, 2), SOFTMAX_CROSS_ENTROPY, TANH), np.tile([0.0, 1.0], (30, 1))),
        (logistic_regression(3), np.ones((30, 1))),
    ],
)
def test_a_single_class_cannot_be_learned(net: Network, targets: Any) -> None:
    with pytest.raises(DatasetError, match="one class"):
        train(net, net.initial(), X, targets)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Plan(epochs=0),
        lambda: Plan(batch=0),
        lambda: Plan(batch=True),
        lambda: Plan(patience=-1),
        lambda: Plan(tolerance=-1.0),
        lambda: SGD(0.0),
        lambda: SGD(0.1, momentum=1.0),
        lambda: Adam(math.inf),
        lambda: Adam(beta2=1.0),
        lambda: Adam(epsilon=0.0),
        lambda: steps_down(0, 0.5),
        lambda: cosine(0),
    ],
)
def test_plans_that_make_no_sense_are_refused(build: Any) -> None:
    with pytest.raises(InvalidInput):
        build()


def test_a_split_keeps_the_proportions_and_hides_the_second_part() -> None:
    first, second = split(iris(), 0.2, seed=3)
    assert np.bincount(first.y).tolist() == [40, 40, 40]
    assert np.bincount(second.y).tolist() == [10, 10, 10]
    np.testing.assert_allclose(first.X.mean(axis=0), 0, atol=1e-14)
    assert np.all(second.X.mean(axis=0) != 0)
    for fraction in (0.0, 1.0, 0.001):
        with pytest.raises(DatasetError):
            split(iris(), fraction)


def test_data_from_an_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, X=np.eye(3), y=np.array(["b", "a", "b"]))
    data = load_npz(path)
    assert data.class_names == ("a", "b")
    np.testing.assert_array_equal(data.y, [1, 0, 1])
    assert isinstance(data, Dataset)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.eye(3)}, "cannot be read"),
        ({"X": np.eye(3), "y": np.zeros(2)}, "expected"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, "expected"),
        ({"X": np.full((2, 2), np.nan), "y": np.arange(2)}, "not finite"),
        ({"X": np.eye(3), "y": np.zeros(3)}, "one class"),
    ],
)
def test_unusable_npz_files_are_refused(tmp_path: Path, arrays: Any, message: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(DatasetError, match=message):
        load_npz(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        load_npz(tmp_path / "absent.npz")
