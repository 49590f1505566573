"""Every branch strategy beyond what each must do, and its formula once more, number by number."""

import math
from itertools import permutations, product

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.errors import VersionsError
from fedloom.values import generator, sha256, tensor_bytes
from fedloom.versions.merging.averaging import BranchTrimmedMean, Fisher, Mean, Median, RegMean, Slerp, WeightedMean
from fedloom.versions.merging.branch import Extras
from fedloom.versions.merging.catalog import BRANCH_STRATEGIES
from fedloom.versions.merging.changing import Dare, TaskArithmetic, Ties
from fedloom.versions.merging.coordinates import STACKED
from fedloom.versions.merging.selecting import BranchKrum, Ours, Theirs
from tests.suites.merge_strategy import BranchStrategySuite, is_rounded

PATH = Extras("model/w")


def each(function, base, heads):
    """Apply a function to every coordinate's number in the base and list of numbers in the heads."""
    flat = [function(float(b), [float(h.flat[n]) for h in heads]) for n, b in enumerate(base.flat)]
    return np.array(flat).reshape(base.shape)


def weighted(values, weights):
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / math.fsum(weights)


class TestOurs(BranchStrategySuite):
    ordered = True

    def make(self):
        return Ours()

    def reference(self, base, heads, weights, extras):
        return heads[0]


class TestTheirs(BranchStrategySuite):
    heads = 2
    ordered = True

    def make(self):
        return Theirs()

    def reference(self, base, heads, weights, extras):
        return heads[1]


class TestMean(BranchStrategySuite):
    def make(self):
        return Mean()

    def reference(self, base, heads, weights, extras):
        return each(lambda _, values: math.fsum(values) / len(values), base, heads)


class TestWeightedMean(BranchStrategySuite):
    def make(self):
        return WeightedMean()

    def reference(self, base, heads, weights, extras):
        return each(lambda _, values: weighted(values, weights), base, heads)


class TestMedian(BranchStrategySuite):
    def make(self):
        return Median()

    def reference(self, base, heads, weights, extras):
        return np.median(heads, axis=0)


class TestTrimmedMean(BranchStrategySuite):
    def make(self):
        return BranchTrimmedMean(beta=0.25)

    def reference(self, base, heads, weights, extras):
        return each(lambda _, values: math.fsum(sorted(values)[1:-1]) / (len(values) - 2), base, heads)


class TestSlerp(BranchStrategySuite):
    heads = 2
    exact = False  # a point on an arc is not on the chord
    slack = 1e-9  # sines are rounded, so that they are the same with every C library

    def make(self):
        return Slerp()

    def reference(self, base, heads, weights, extras):
        one, other = (head.ravel() for head in heads)
        norms = math.hypot(*one) * math.hypot(*other)
        cosine = math.fsum(one * other) / norms if norms else 1.0
        if abs(cosine) > 0.9995:
            return (one * weights[0] + other * weights[1]).reshape(base.shape)
        # The component across, turned by a part of the angle: Gram and Schmidt instead of the two sines.
        angle, unit = math.acos(cosine), one / math.hypot(*one)
        across = other / math.hypot(*other) - cosine * unit
        turned = math.cos(weights[1] * angle) * unit + math.sin(weights[1] * angle) * across / math.hypot(*across)
        # Shoemake's formula on vectors of different lengths: lengths are mixed as the directions are.
        lengths = np.linalg.lstsq(np.stack([unit, other / math.hypot(*other)], axis=1), turned, rcond=None)[0]
        return (lengths[0] * one + lengths[1] * other).reshape(base.shape)


class TestFisher(BranchStrategySuite):
    def make(self):
        return Fisher()

    def reference(self, base, heads, weights, extras):
        certain = np.stack([w * f for w, f in zip(weights, extras.fisher, strict=True)])
        return (certain * np.stack(heads)).sum(axis=0) / certain.sum(axis=0)


class TestRegMean(BranchStrategySuite):
    exact = False  # each number depends on its column

    def make(self):
        return RegMean(axis=0)

    def scale(self, base, heads):
        return np.abs([base, *heads]).max(initial=0.0)

    def reference(self, base, heads, weights, extras):
        if base.ndim != 2:
            return each(lambda _, values: weighted(values, weights), base, heads)
        grams = [0.9 * gram + 0.1 * np.diag(np.diag(gram)) for gram in extras.gram]
        return np.linalg.solve(sum(grams), sum(gram @ head for gram, head in zip(grams, heads, strict=True)))


class TestTaskArithmetic(BranchStrategySuite):
    idempotent = False

    def make(self):
        return TaskArithmetic(scaling=0.4)

    def reference(self, base, heads, weights, extras):
        factors = [0.4 * len(heads) * weight for weight in weights]
        return each(lambda b, vs: b + math.fsum(f * (v - b) for f, v in zip(factors, vs, strict=True)), base, heads)


class TestTies(BranchStrategySuite):
    idempotent = False
    density = 0.5
    scaling = 0.7

    def make(self):
        return Ties(self.density, self.scaling)

    def reference(self, base, heads, weights, extras):
        kept = max(1, round(self.density * base.size))
        trimmed = []
        for head in heads:
            change = head - base
            least = sorted(np.abs(change).ravel(), reverse=True)[kept - 1] if base.size else 0.0
            trimmed.append(np.where(np.abs(change) >= least, change, 0.0))

        def elect(_, changes):
            parts = [c * w for c, w in zip(changes, weights, strict=True)]
            total = math.fsum(parts)
            if abs(total) <= 2.0**-40 * math.fsum(map(abs, parts)):
                return 0.0
            agreeing = [(c, w) for c, w in zip(changes, weights, strict=True) if c * total > 0]
            return weighted(*zip(*agreeing, strict=True)) if agreeing else 0.0

        return base + self.scaling * each(elect, base, trimmed)


class TestTiesOfAll(TestTies):
    """With density 1 nothing is trimmed."""

    idempotent = True
    density = 1.0
    scaling = 1.0


class TestDare(BranchStrategySuite):
    idempotent = False

    def make(self):
        return Dare(drop=0.5, seed=3)

    def agree(self, got, base, heads, weights, extras):
        """Each number is the base's and, of each head, either nothing or twice its weighted change."""
        changes = np.array([w * (head - base) for head, w in zip(heads, weights, strict=True)])
        kept = np.array(list(product((0.0, 2.0), repeat=len(heads))))
        possible = base + np.tensordot(kept, changes, axes=1)
        slack = self.slack * self.scale(base, heads)
        assert np.any([is_rounded(got, one, slack) for one in possible], axis=0).all()


class TestDareOfAll(BranchStrategySuite):
    """When nothing is dropped, it is the mean by weight."""

    def make(self):
        return Dare(drop=0.0)

    def reference(self, base, heads, weights, extras):
        return each(lambda _, values: weighted(values, weights), base, heads)


class TestKrum(BranchStrategySuite):
    malicious = 1

    def make(self):
        return BranchKrum(self.malicious)

    def agree(self, got, base, heads, weights, extras):
        """It is a head, bit for bit, whose score no other undercuts."""
        distances = [[math.fsum(((a - b) ** 2).ravel()) for b in heads] for a in heads]
        nearest = len(heads) - self.malicious - 2
        scores = [sum(sorted(row[:n] + row[n + 1 :])[:nearest]) for n, row in enumerate(distances)]
        wide = got.astype(np.float64).tobytes()
        assert min(s for s, h in zip(scores, heads, strict=True) if h.tobytes() == wide) <= min(scores) * (1 + 1e-9)


class TestKrumOfThree(TestKrum):
    """The least case: two that are each other's nearest always score the same; their bytes decide."""

    heads = 3
    malicious = 0


def merged(strategy, base, *heads, weights=None, extras=PATH):
    """Merge short float64 lists."""
    start = None if base is None else np.array(base, dtype=np.float64)
    arrays = [np.array(head, dtype=np.float64) for head in heads]
    return strategy.merge(start, arrays, weights or [1.0] * len(heads), extras).tolist()


def test_ties_follows_the_steps_of_the_paper():
    """Half of four changes is kept; where signs differ the heavier side wins and the other has no part in the mean."""
    heads = [[4.0, -3.0, 1.0, 0.5], [2.0, 6.0, 0.5, -1.0]]
    assert merged(Ties(density=0.5), [0.0] * 4, *heads) == [3.0, 6.0, 0.0, 0.0]
    assert merged(Ties(density=0.5), [0.0] * 4, *heads, weights=[3.0, 1.0]) == [3.5, -3.0, 0.0, 0.0]
    assert merged(Ties(density=0.5, scaling=0.5), [1.0] * 4, *[[h + 1 for h in head] for head in heads]) == [
        2.5,
        4.0,
        1.0,
        1.0,
    ]


def test_ties_elects_nothing_where_changes_cancel():
    """Opposite changes of one size leave the base."""
    assert merged(Ties(density=1.0), [5.0, 5.0], [6.0, 7.0], [4.0, 7.0]) == [5.0, 7.0]


@pytest.mark.parametrize("size", [0.1, 0.3, 0.7, 1.1, 3.3])
@pytest.mark.parametrize("weights", [[0.1, 0.2, 0.3], [1.1, 2.2, 3.3], [0.3, 0.6, 0.9]])
def test_a_rounding_error_is_no_vote(size, weights):
    """Changes that cancel but for the last bit have cancelled, in any order of the heads."""
    heads = list(zip([size, size, -size], weights, strict=True))
    for order in permutations(heads):
        changes, votes = zip(*order, strict=True)
        assert merged(Ties(density=1.0), [0.0], *([c] for c in changes), weights=list(votes)) == [0.0]


def test_zeros_of_both_signs_merge_to_one_in_any_order():
    """0.0 and -0.0 differ in their bytes, so which comes first must not show."""
    heads = [np.array([0.0]), np.array([-0.0])]
    for strategy in (Mean(), WeightedMean(), Median()):
        assert len({strategy.merge(None, order, [1.0, 1.0], PATH).tobytes() for order in permutations(heads)}) == 1


def test_ties_keeps_at_least_one_change_and_all_of_the_least_size():
    """However small the density, the greatest change stays; of equal ones all do, so no order of numbers counts."""
    assert merged(Ties(density=0.01), [0.0] * 3, [1.0, 9.0, 2.0]) == [0.0, 9.0, 0.0]
    assert merged(Ties(density=0.01), [0.0] * 3, [9.0, 1.0, -9.0]) == [9.0, 0.0, -9.0]


def test_task_arithmetic_adds_changes_up():
    """Two changes of 1 and 2 make 3; weights count relative to their mean."""
    assert merged(TaskArithmetic(), [1.0], [2.0], [3.0]) == [4.0]
    assert merged(TaskArithmetic(scaling=0.5), [1.0], [2.0], [3.0]) == [2.5]
    assert merged(TaskArithmetic(), [1.0], [2.0], [3.0], weights=[3.0, 1.0]) == [1.0 + 1.5 + 1.0]


def test_slerp_goes_along_the_arc():
    """Half-way between two directions lies on the circle; a third of the weight is a third of the angle."""
    assert merged(Slerp(), None, [1.0, 0.0], [0.0, 1.0]) == pytest.approx([math.sqrt(0.5)] * 2, rel=1e-9)
    third = merged(Slerp(), None, [1.0, 0.0], [0.0, 1.0], weights=[2.0, 1.0])
    assert third == pytest.approx([math.cos(math.pi / 6), math.sin(math.pi / 6)], rel=1e-9)


@pytest.mark.parametrize("other", [[2.0, 2.0], [-1.0, -1.0], [0.0, 0.0]], ids=["parallel", "opposite", "zero"])
def test_slerp_without_an_arc_is_the_mean(other):
    """Where there is no arc, or none that is the one, it is the mean by weight."""
    one = [1.0, 1.0]
    weights = [3.0, 1.0]
    assert merged(Slerp(), None, one, other, weights=weights) == merged(
        WeightedMean(), None, one, other, weights=weights
    )


def test_fisher_trusts_the_certain_head():
    """Certainty counts number by number; where nobody is certain of anything, the weights do."""
    fisher = [np.array([1.0, 0.0, 0.0]), np.array([3.0, 1.0, 0.0])]
    got = merged(Fisher(), None, [0.0, 0.0, 0.0], [4.0, 4.0, 4.0], extras=Extras("model/w", fisher), weights=[3.0, 1.0])
    assert got == [2.0, 4.0, 1.0]


@pytest.mark.parametrize("wrong", [[-1.0], [math.nan], [math.inf], [1.0, 1.0]])
def test_fisher_refuses_entries_that_make_no_sense(wrong):
    """Negative ones, NaN, or of another shape."""
    with pytest.raises(VersionsError, match=r"'model/w': Fisher entries must be finite, not negative"):
        merged(Fisher(), None, [1.0], [2.0], extras=Extras("model/w", [np.array(wrong), np.array([1.0])]))


def rows(seed, count, inputs):
    return generator("rows", seed).normal(size=(count, inputs))


@pytest.mark.parametrize("axis", [0, 1])
def test_regmean_is_least_squares_over_all_rows(axis):
    """Without shrinking off the diagonal (almost), it is the regression on every head's outputs, whichever axis."""
    inputs = [rows("a", 30, 4), rows("b", 50, 4)]
    heads = [rows("u", 4, 3), rows("v", 4, 3)]
    outputs = np.concatenate([x @ w for x, w in zip(inputs, heads, strict=True)])
    expected = np.linalg.lstsq(np.concatenate(inputs), outputs, rcond=None)[0]
    shaped = [head if axis == 0 else np.ascontiguousarray(head.T) for head in heads]
    extras = Extras("model/w", gram=[x.T @ x for x in inputs])
    got = RegMean(shrink=1 - 1e-12).merge(None, shaped, [1.0, 1.0], extras)
    np.testing.assert_allclose(got if axis == 0 else got.T, expected, rtol=1e-8)


def test_regmean_asks_which_axis_of_a_square_and_refuses_what_does_not_fit():
    """It does not guess; a Gram matrix of another size, or a singular one, is said."""
    square, gram = np.eye(3), [np.eye(3)] * 2
    with pytest.raises(VersionsError, match="inputs of the square 'model/w': say axis=0 or axis=1"):
        RegMean().merge(None, [square, square], [1.0, 1.0], Extras("model/w", gram=gram))
    assert np.array_equal(RegMean(axis=1).merge(None, [square] * 2, [1.0, 1.0], Extras("model/w", gram=gram)), square)
    for strategy, shape in ((RegMean(), (4, 5)), (RegMean(axis=1), (3, 5))):
        with pytest.raises(VersionsError, match="Gram matrices must be square, as large as one axis"):
            strategy.merge(None, [np.ones(shape)] * 2, [1.0, 1.0], Extras("model/w", gram=gram))
    for bad in (np.zeros((3, 3)), np.full((3, 3), np.nan)):
        with pytest.raises(VersionsError, match="singular or hold no number"):
            RegMean(axis=0).merge(None, [square] * 2, [1.0, 1.0], Extras("model/w", gram=[bad] * 2))


def test_a_bias_needs_no_gram_matrix():
    """What is no matrix has no regression: it is averaged by weight."""
    assert merged(RegMean(), None, [1.0], [3.0], weights=[3.0, 1.0]) == [1.5]


def test_dare_drops_the_share_it_is_told_and_is_right_on_average():
    """Over many numbers the share and the mean change come out; what is kept is scaled up."""
    size = 200_000
    got = Dare(drop=0.9).merge(np.zeros(size), [np.ones(size)], [1.0], PATH)
    assert np.unique(got).tolist() == pytest.approx([0.0, 10.0])
    assert got.mean() == pytest.approx(1.0, abs=5 * 3.0 / math.sqrt(size))


def test_dare_draws_anew_for_each_seed_path_and_head():
    """Equal words, equal draw; another seed, tensor or head, another."""
    base, head, other = np.zeros(64), np.ones(64), np.full(64, 2.0)
    merge = lambda seed, path, h: (Dare(seed=seed).merge(base, [h], [1.0], Extras(path)) > 0).tobytes()  # noqa: E731
    assert merge(1, "a", head) == merge(1, "a", head)
    assert len({merge(1, "a", head), merge(2, "a", head), merge(1, "b", head), merge(1, "a", other)}) == 4


def test_krum_breaks_ties_by_bytes():
    """Of two heads that score the same, the same one is chosen in any order."""
    heads = [[9.0], [1.0], [2.0]]
    assert len({merged(BranchKrum(), [0.0], *order)[0] for order in permutations(heads)}) == 1


@pytest.mark.parametrize("strategy", [WeightedMean(), TaskArithmetic(), Ties(), Dare(), Median()])
def test_parts_join_without_a_seam(strategy):
    """A tensor that is merged in several parts comes out as one: a slice of it comes out the same, but for draws."""
    size = STACKED // 3 + 5
    base = np.zeros(size, np.float32)
    heads = [np.arange(size, dtype=np.float32) * factor for factor in (1.0, 2.0, 4.0)]
    got = strategy.merge(base, heads, [1.0, 2.0, 3.0], PATH)
    if isinstance(strategy, Dare):
        draws = [generator("dare", 0, "model/w", sha256(tensor_bytes(head))).bit_generator for head in heads]
        kept = [draw.random_raw(size) >= 2**63 for draw in draws]
        expected = sum(k * h * np.float64(w) / 3.0 for k, h, w in zip(kept, heads, (1, 2, 3), strict=True))
    elif isinstance(strategy, Ties):
        least = [np.sort(head)[-round(0.2 * size)] for head in heads]
        kept = [head >= low for head, low in zip(heads, least, strict=True)]
        total = sum(k * w for k, w in zip(kept, (1, 2, 3), strict=True))
        expected = sum(k * h * w for k, h, w in zip(kept, heads, (1.0, 2.0, 3.0), strict=True)) / np.maximum(total, 1)
    else:
        expected = {"weighted_mean/1": 17 / 6, "task_arithmetic/1": 17 / 2, "median/1": 2.0}[strategy.id] * heads[0]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_result_beyond_the_dtype_is_said():
    """Half precision cannot hold the sum of two large changes: an error, not an infinity that is committed."""
    head = np.array([60000.0], np.float16)
    with pytest.raises(VersionsError, match=r"task_arithmetic/1 of 'model/w' is beyond the range"):
        TaskArithmetic().merge(np.array([1.0], np.float16), [head, head], [1.0, 1.0], PATH)
    mask = np.array([-np.inf, 1.0], np.float16)
    assert TaskArithmetic().merge(mask, [mask, mask], [1.0, 1.0], PATH)[0] == -np.inf


def test_whole_numbers_stay_in_their_range():
    """A sum of changes stops at the ends of the type, where a cast would wrap around."""
    heads = [np.array([0, 250], np.uint8)] * 3
    assert TaskArithmetic().merge(np.array([100, 200], np.uint8), heads, [1.0] * 3, PATH).tolist() == [0, 255]
    far = [np.array([2**63 - 1], np.int64), np.array([2**63 - 2], np.int64)]
    assert WeightedMean().merge(None, far, [1.0, 1.0], PATH).tolist() == [2**63 - 1024]


@given(share=st.floats(0.0, 1.0))
@settings(max_examples=30)
def test_two_heads_of_any_weights_stay_between(share):
    """A mean by weight never leaves the range of its heads."""
    (got,) = merged(WeightedMean(), None, [1.0], [3.0], weights=[1.0 - share + 1e-6, share + 1e-6])
    assert 1.0 <= got <= 3.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TaskArithmetic(scaling=0.0), "scaling must be a positive, finite number"),
        (lambda: Ties(scaling=math.inf), "scaling must be a positive, finite number"),
        (lambda: Ties(density=0.0), "density must be above 0 and at most 1"),
        (lambda: Ties(density=1.1), "density must be above 0 and at most 1"),
        (lambda: Dare(drop=1.0), "drop must be at least 0 and below 1"),
        (lambda: Dare(seed=-1), "seed must be at least 0 and below"),
        (lambda: Dare(seed=2**53), "seed must be at least 0 and below"),
        (lambda: RegMean(shrink=1.0), "shrink must be at least 0 and below 1"),
        (lambda: RegMean(axis=2), "axis must be 0 or 1"),
        (lambda: BranchTrimmedMean(beta=0.5), "beta must be at least 0 and below 0.5"),
        (lambda: BranchKrum(num_malicious=-1), "num_malicious must be at least 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    """Options are checked when the strategy is made, by name."""
    with pytest.raises(ValueError, match=message):
        make()


def steady_numbers(word, dtype, shape=(7, 5)):
    """Numbers that no version of any library changes: from the digits of SHA-256."""
    count = math.prod(shape)
    digits = [int(sha256(f"{word} {n}".encode())[:8], 16) for n in range(count)]
    return (np.array(digits).reshape(shape) / 2.0**31 - 1.0).astype(dtype)


GOLDEN = {
    "ours": "98d9dbcb90a8e241",
    "theirs": "883685ac1c8ce29d",
    "mean": "2778ea15bd1d25b4",
    "weighted_mean": "565d2343c886017e",
    "task_arithmetic": "a33ef8bf3b3a713a",
    "ties": "e67c3d802d354a91",
    "dare": "027a5b90c4fb9498",
    "slerp": "3bfc4ef4564b0a3f",
    "fisher": "538c937f75a88170",
    "regmean": "cbf49c4b0fa54aee",
    "trimmed_mean": "f83a85033e9b3d85",
    "median": "794401e2cada57a4",
    "krum": "de73a54760ef245d",
}


@pytest.mark.parametrize("name", BRANCH_STRATEGIES)
def test_a_strategy_of_one_version_gives_the_same_bytes_for_good(name):
    """Recipes name a strategy by its id: what it made once, it must make on every machine and in every release."""
    strategy = BRANCH_STRATEGIES[name]()
    count = strategy.most or 4
    made = []
    for dtype in (np.float64, np.float32, ml_dtypes.bfloat16):
        heads = [steady_numbers(f"head {n}", dtype) for n in range(count)]
        rows = [steady_numbers(f"rows {n}", np.float64) for n in range(count)]
        extras = Extras("model/w", [row**2 for row in rows], [_gram(row) for row in rows])
        weights = [1.0 + n for n in range(count)]
        made.append(tensor_bytes(strategy.merge(steady_numbers("base", dtype), heads, weights, extras)))
    assert sha256(strategy.id.encode(), *made)[:16] == GOLDEN[name]


def _gram(row):
    """Multiply without a matrix product, whose last bits differ by machine."""
    return sum(line[:, None] * line for line in row)
