"""Metrics: pooled figures are those of the concatenated rows, and what leaves a site has a known shape."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from fedloom.telemetry.metrics import HIGHER_IS_BETTER, add, metrics, statistics, statistics_layout, unweighted, worst
from fedloom.values import layout, tensor_bytes

CLASSES = 3
sites = st.lists(st.integers(0, 30), min_size=1, max_size=4)
seeds = st.integers(0, 2**32 - 1)
spreads = st.sampled_from([0.1, 1.0, 3.0, 8.0])


def rows_of(task: str, rows: int, seed: int, spread: float = 2.0):
    """Draw predictions and labels that have something to do with each other; some predictions are equal."""
    random = np.random.default_rng([seed, rows])
    if task == "regression":
        labels = np.round(random.normal(3.0, spread, rows), 1)
        return labels + random.normal(0.0, 1.0, rows), labels
    labels = random.integers(0, 2 if task == "binary" else CLASSES, rows)
    if task == "binary":
        scores = np.round(random.normal(0.0, spread, rows) + labels, 2)
        return 1 / (1 + np.exp(-scores)), labels
    scores = np.round(random.normal(0.0, spread, (rows, CLASSES)) + np.eye(CLASSES)[labels], 2)
    odds = np.exp(scores)
    return odds / odds.sum(axis=1, keepdims=True), labels


def pooled(task: str, parts):
    """Let each site turn its rows into statistics, and add them up."""
    total = {}
    for predictions, labels in parts:
        total = add(total, statistics(task, predictions, labels))
    return total


def drawn(task: str, sizes, seed: int, spread: float):
    """Split rows over sites; give the sites, all predictions and all labels."""
    parts = [rows_of(task, rows, seed + number, spread) for number, rows in enumerate(sizes)]
    return parts, np.concatenate([p for p, _ in parts]), np.concatenate([y for _, y in parts])


def close(value, wanted) -> bool:
    return value == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(sites, seeds, spreads)
def test_pooled_binary_figures_are_scikit_learns(sizes, seed, spread):
    """Sums of sites give accuracy, log loss and Brier score of all rows to 1e-9, and AUC within its stated error."""
    parts, p, y = drawn("binary", sizes, seed, spread)
    found = metrics("binary", pooled("binary", parts))
    assert found["rows"] == len(y)
    if len(y) == 0:
        assert found == {"rows": 0.0}
        return
    assert close(found["accuracy"], reference.accuracy_score(y, p >= 0.5))
    assert close(found["loss"], reference.log_loss(y, p, labels=[0, 1]))
    assert close(found["brier"], np.mean((p - y) ** 2))
    assert close(found["ece"], expected_calibration_error(p, y))
    if len(set(y)) == 2:
        assert close(found["brier"], reference.brier_score_loss(y, p))
        assert abs(found["auc"] - reference.roc_auc_score(y, p)) <= found["auc_error"] + 1e-12
        assert 0 <= found["auc_error"] <= 0.5
    else:
        assert found["auc"] is None
        assert found["auc_error"] is None


@given(sites, seeds, spreads)
def test_pooled_multiclass_figures_are_scikit_learns(sizes, seed, spread):
    """The same for several classes; AUC is one class against the rest, averaged over the classes that have both."""
    parts, p, y = drawn("multiclass", sizes, seed, spread)
    found = metrics("multiclass", pooled("multiclass", parts))
    if len(y) == 0:
        assert found == {"rows": 0.0}
        return
    guess = p.argmax(axis=1)
    assert close(found["accuracy"], reference.accuracy_score(y, guess))
    assert close(found["loss"], reference.log_loss(y, p, labels=range(CLASSES)))
    assert close(found["brier"], np.mean(((p - np.eye(CLASSES)[y]) ** 2).sum(axis=1)))
    assert close(found["ece"], expected_calibration_error(p.max(axis=1), guess == y))
    both = [c for c in range(CLASSES) if 0 < (y == c).sum() < len(y)]
    if not both:
        assert found["auc"] is None
        return
    area = np.mean([reference.roc_auc_score(y == c, p[:, c]) for c in both])
    assert abs(found["auc"] - area) <= found["auc_error"] + 1e-12
    if len(both) == CLASSES:
        assert close(area, reference.roc_auc_score(y, p, multi_class="ovr", average="macro"))


@given(sites, seeds, spreads)
def test_pooled_regression_figures_are_scikit_learns(sizes, seed, spread):
    """Sums of sites give mean absolute error, root mean squared error and R2 of all rows."""
    parts, values, labels = drawn("regression", sizes, seed, spread)
    found = metrics("regression", pooled("regression", parts))
    if len(labels) == 0:
        assert found == {"rows": 0.0}
        return
    assert close(found["mae"], reference.mean_absolute_error(labels, values))
    assert close(found["rmse"], reference.root_mean_squared_error(labels, values))
    assert close(found["loss"], found["rmse"] ** 2)
    if len(set(labels)) > 1:
        assert close(found["r2"], reference.r2_score(labels, values))
    else:
        assert found["r2"] is None


def expected_calibration_error(confidence, hit) -> float:
    """Compute it as it is defined (Naeini et al. 2015): row by row, bin by bin."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for sure, true in zip(confidence, hit, strict=True):
        bins.setdefault(min(int(sure * 10), 9), []).append((sure, float(true)))
    gaps = [
        len(rows) * abs(np.mean([sure for sure, _ in rows]) - np.mean([true for _, true in rows]))
        for rows in bins.values()
    ]
    return sum(gaps) / len(hit)


def test_the_calibration_error_by_hand():
    """Two bins: 4 rows at 0.85 with 3 hits are 0.1 off, 1 row at 0.25 with no hit is 0.25 off."""
    found = metrics("binary", statistics("binary", np.array([0.85] * 4 + [0.25]), np.array([1, 1, 1, 0, 0])))
    assert found["ece"] == pytest.approx((4 * 0.1 + 0.25) / 5)


def test_auc_is_honest_on_large_data():
    """On 20,000 rows the grid is fine: the stated error is below 0.01, and the true AUC lies within it."""
    p, y = rows_of("binary", 20_000, 3, 1.0)
    found = metrics("binary", statistics("binary", p, y))
    assert found["auc_error"] < 0.01
    assert abs(found["auc"] - reference.roc_auc_score(y, p)) <= found["auc_error"]


@given(st.integers(2, 200), seeds)
def test_auc_error_covers_scores_that_share_cells(rows, seed):
    """Scores a hair apart fall into one cell; the stated error then covers any order they may have."""
    random = np.random.default_rng(seed)
    p = 0.5 + random.normal(0, 1e-3, rows)
    p[: rows // 4] = 1 - 10.0 ** -random.uniform(4, 11, rows // 4)
    y = np.arange(rows) % 2
    found = metrics("binary", statistics("binary", p, y))
    assert abs(found["auc"] - reference.roc_auc_score(y, p)) <= found["auc_error"] + 1e-12


@given(hnp.arrays(np.float64, st.integers(2, 40), elements=st.floats(0, 1)), st.data())
def test_auc_within_its_error_for_any_probabilities(p, data):
    """Also for subnormal, equal, 0 and 1: the true AUC is never further away than stated."""
    y = data.draw(hnp.arrays(np.int64, len(p), elements=st.integers(0, 1)))
    found = metrics("binary", statistics("binary", p, y))
    if len(set(y)) == 2:
        assert abs(found["auc"] - reference.roc_auc_score(y, p)) <= found["auc_error"] + 1e-12


# adding


@given(st.sampled_from(["binary", "multiclass", "regression"]), sites, seeds, st.randoms())
def test_order_of_sites_is_irrelevant(task, sizes, seed, random):
    """Counts add up to the same bytes in any order, sums of floats up to rounding."""
    parts, _, _ = drawn(task, sizes, seed, 1.0)
    total = pooled(task, parts)
    random.shuffle(parts)
    other = pooled(task, parts)
    assert layout(other) == layout(total)
    for name, array in total.items():
        if array.dtype.kind in "iu":
            assert other[name].tobytes() == array.tobytes()
        else:
            np.testing.assert_allclose(other[name], array, rtol=1e-12)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_site_without_rows_changes_nothing(task):
    """Zero rows are the zero of adding: the sum keeps its bytes."""
    some, none = statistics(task, *rows_of(task, 20, 1)), statistics(task, *rows_of(task, 0, 1))
    assert all(not np.any(array) for array in none.values())
    for total in (add(some, none), add(none, some), add({}, some)):
        assert {name: bytes(tensor_bytes(array)) for name, array in total.items()} == {
            name: bytes(tensor_bytes(array)) for name, array in some.items()
        }


def test_adding_changes_neither_summand():
    """What a site sent is read only: it may be a view of its message."""
    one, two = (statistics("binary", *rows_of("binary", 20, seed)) for seed in (1, 2))
    for array in [*one.values(), *two.values()]:
        array.flags.writeable = False
    total = add(one, two)
    assert int(total["rows"]) == 40
    assert all(isinstance(array, np.ndarray) for array in total.values())


# what leaves a site


@given(
    st.sampled_from(["binary", "multiclass", "regression"]),
    st.integers(0, 40),
    seeds,
    st.sampled_from([np.float64, np.float32]),
    st.sampled_from([np.int64, np.int8, np.float64, np.bool_]),
)
def test_the_plan_knows_what_leaves_a_site(task, rows, seed, predicted, labelled):
    """Names, dtypes and shapes depend on the task alone, not on rows, figures or dtypes: byte counts are exact."""
    p, y = rows_of(task, rows, seed)
    if labelled is np.bool_ and task != "binary":
        labelled = np.float64
    found = statistics(task, p.astype(predicted), y.astype(labelled))
    planned = statistics_layout(task, CLASSES if task == "multiclass" else 1)
    assert layout(found) == planned
    assert layout(add(found, found)) == planned
    assert sum(spec.nbytes for spec in planned) == sum(len(tensor_bytes(array)) for array in found.values())


def test_sizes_that_leave_a_site():
    """A binary reply is 2 x 256 counts, 30 sums and 4 figures; k classes send k times the counts."""
    sizes = {"binary": (1, 2320), "multiclass": (5, 10512), "regression": (1, 40)}
    for task, (outputs, nbytes) in sizes.items():
        assert sum(spec.nbytes for spec in statistics_layout(task, outputs)) == nbytes


# edges


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_certain_and_wrong_is_finite(task, dtype):
    """Probabilities of exactly 0 and 1 give finite figures, whichever label they meet, in float32 too."""
    p = np.array([0.0, 1.0, 0.0, 1.0], dtype)
    y = np.array([0, 1, 1, 0])
    stats = statistics(task, p if task == "binary" else np.stack([1 - p, p], axis=1), y)
    found = metrics(task, stats)
    assert all(np.isfinite(array).all() for array in stats.values())
    assert all(value is not None and math.isfinite(value) for value in found.values())
    assert found["accuracy"] == 0.5
    assert found["loss"] == pytest.approx(reference.log_loss(y, p.astype(np.float64)))
    assert found["auc"] == 0.5


def test_one_half_counts_as_class_one():
    """The threshold belongs to the upper side, in the guess and on the grid."""
    found = metrics("binary", statistics("binary", np.array([0.5, np.nextafter(0.5, 0)]), np.array([1, 0])))
    assert (found["accuracy"], found["auc"], found["auc_error"]) == (1.0, 1.0, 0.0)


def test_the_auc_of_one_class_is_undefined():
    """There is no pair to rank: None, not 0, 0.5 or NaN."""
    for label in (0, 1):
        found = metrics("binary", statistics("binary", np.array([0.2, 0.7]), np.array([label, label])))
        assert found["auc"] is None
        assert found["auc_error"] is None
        assert found["accuracy"] == 0.5


def test_one_site_of_each_class_has_a_pooled_auc():
    """Where no site can compute an AUC, all together can."""
    total = pooled("binary", [(np.array([0.2, 0.4]), np.array([0, 0])), (np.array([0.3, 0.9]), np.array([1, 1]))])
    assert metrics("binary", total)["auc"] == 0.75


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_no_rows_have_no_figures(task):
    """Zero rows, and no site at all, give their number and nothing else."""
    assert metrics(task, statistics(task, *rows_of(task, 0, 1))) == {"rows": 0.0}
    assert metrics(task, {}) == {"rows": 0.0}


@pytest.mark.parametrize("label", [0.0, 0.1, -7.3, 1e9 + 0.1])
def test_r2_of_equal_labels_is_undefined(label):
    """Labels that do not vary leave nothing to explain, however large they are and however their sums round."""
    labels = np.full(1000, label)
    found = metrics("regression", statistics("regression", labels + 1, labels))
    assert found["r2"] is None
    assert found["rmse"] == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_r2_does_not_depend_on_the_unit(scale, offset):
    """Grams or tonnes: R2 is the same and agrees with scikit-learn."""
    values, labels = rows_of("regression", 500, 1)
    values, labels = (values + offset) * scale, (labels + offset) * scale
    found = metrics("regression", statistics("regression", values, labels))
    assert found["r2"] == pytest.approx(reference.r2_score(labels, values), abs=1e-7)


def test_a_model_that_diverged_has_no_figures():
    """Predictions whose squares overflow give None, which a commit can hold and a gate refuses; not infinity."""
    found = metrics("regression", statistics("regression", np.array([1e200, 0.0]), np.array([0.0, 1.0])))
    assert found == {"rows": 2.0, "loss": None, "mae": pytest.approx(5e199), "rmse": None, "r2": None}
    labels = metrics("regression", statistics("regression", np.array([1e200, 0.0]), np.array([1e200, -1e200])))
    assert labels["r2"] is None


# over sites

PER_SITE = {
    "a": {"rows": 10.0, "accuracy": 0.9, "auc": None, "loss": 0.2, "auc_error": None},
    "b": {"rows": 90.0, "accuracy": 0.5, "auc": 0.8, "loss": 0.4, "auc_error": 0.01},
    "c": {"rows": 50.0, "accuracy": 0.7, "auc": 0.6, "loss": 0.1, "auc_error": 0.01},
    "empty": {"rows": 0.0},
}


def test_unweighted_figures_count_every_site_once():
    """Each site that has a figure counts the same, however many rows it has; undefined ones do not pull it down."""
    assert unweighted(PER_SITE) == {
        "accuracy": pytest.approx(0.7),
        "auc": pytest.approx(0.7),
        "loss": pytest.approx(0.7 / 3),
    }


def test_unweighted_of_nothing():
    """A figure that is undefined everywhere stays undefined; no sites, no figures."""
    assert unweighted({"a": {"rows": 2.0, "auc": None}, "b": {"rows": 0.0}}) == {"auc": None}
    assert unweighted({}) == {}


def test_the_worst_site_is_named():
    """The lowest accuracy, the highest loss; sites without the figure cannot be the worst, ties go by name."""
    assert worst(PER_SITE, "accuracy") == ("b", 0.5)
    assert worst(PER_SITE, "loss") == ("b", 0.4)
    assert worst(PER_SITE, "auc") == ("c", 0.6)
    assert worst({"z": {"auc": 0.5}, "y": {"auc": 0.5}}, "auc") == ("y", 0.5)
    assert worst({"a": {"auc": None}}, "auc") is None
    assert worst({}, "auc") is None


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_figure_has_a_better_side(task):
    """Whatever a task reports, a gate can ask for."""
    found = set(metrics(task, statistics(task, *rows_of(task, 50, 1))))
    assert found - {"rows", "auc_error"} <= set(HIGHER_IS_BETTER)


@settings(max_examples=20)
@given(st.sampled_from(["binary", "multiclass", "regression"]), seeds)
def test_better_models_have_better_figures(task, seed):
    """Each figure that ranks models prefers the labels themselves to noise."""
    random = np.random.default_rng(seed)
    _, y = rows_of(task, 200, seed)
    if task == "regression":
        good, bad = y + random.normal(0, 0.01, 200), random.normal(0, 1, 200)
    else:
        k = 2 if task == "binary" else CLASSES
        good, bad = np.eye(k)[y] * 0.9 + 0.1 / k, random.dirichlet(np.ones(k), 200)
        good, bad = (good[:, 1], bad[:, 1]) if task == "binary" else (good, bad)
    better, poorer = (metrics(task, statistics(task, values, y)) for values in (good, bad))
    for name in set(better) - {"rows", "auc_error", "ece"}:
        a, b = better[name], poorer[name]
        assert a is not None
        assert b is not None
        assert (a > b) == HIGHER_IS_BETTER[name], name
