"""What every merge strategy must do, of a round and of branches; each strategy's test subclasses its suite."""

import weakref
from dataclasses import replace
from functools import cache
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedloom.errors import VersionsError
from fedloom.values import DTYPES, Contribution, Tensors, generator, is_floating, layout, sha256, tensor_bytes
from fedloom.versions.merging.branch import BranchStrategy, Extras
from fedloom.versions.merging.strategy import MergeStrategy

BASE: Tensors = {
    "weight": np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4),
    "bias": np.linspace(0.0, 1.0, 5),
    "temperature": np.array(0.5, dtype=np.float32),
    "half": np.ones((2, 2), dtype=np.float16),
    "brain": np.linspace(-2.0, 2.0, 6, dtype=np.float32).astype(ml_dtypes.bfloat16),
    "quarter": np.linspace(-2.0, 2.0, 6, dtype=np.float32).astype(ml_dtypes.float8_e4m3fn),
    "steps": np.array([10, 20], dtype=np.int64),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 3), dtype=np.float32),
}
for _array in BASE.values():
    _array.flags.writeable = False

SITES = 9

# Hypothesis warns when several classes run one property; to do so is what a suite is for.
INHERITED = settings(suppress_health_check=[HealthCheck.differing_executors])
FEW = settings(INHERITED, max_examples=25)


def trained(name: str, base: Tensors = BASE) -> Tensors:
    """Move the base's floats a little at random; read-only, so that changing it in place raises."""
    random = generator("merge suite", name)
    tensors = {}
    for key, array in base.items():
        step = random.normal(0.0, 0.3, array.shape) if is_floating(array) else np.zeros(array.shape)
        tensors[key] = np.asarray(array + step).astype(array.dtype)
        tensors[key].flags.writeable = False
    return tensors


def contributions(count: int = SITES) -> list[Contribution]:
    """Come from sites of different sizes."""
    return [Contribution(f"site-{n}", trained(f"site-{n}"), 10.0 + 7 * n) for n in range(count)]


def digest(tensors: Tensors) -> str:
    """Name tensors by their layout and their bytes."""
    return sha256(repr(layout(tensors)).encode(), *(tensor_bytes(tensors[name]) for name in sorted(tensors)))


def assert_close(got: Tensors, wanted: Tensors) -> None:
    """Compare up to the rounding of each dtype."""
    assert layout(got) == layout(wanted)
    for name, array in wanted.items():
        tolerance = 4 * float(ml_dtypes.finfo(array.dtype).eps) if is_floating(array) else 0.0
        numbers, expected = (np.asarray(one, np.float64) for one in (got[name], array))
        np.testing.assert_allclose(numbers, expected, rtol=tolerance, atol=tolerance, err_msg=name)


class MergeStrategySuite:
    """Subclasses say how to make the strategy, and whether one contribution comes out as it went in."""

    identity = True

    def make(self) -> MergeStrategy:
        raise NotImplementedError

    def merged(self, given_: list[Contribution], state: Tensors | None = None) -> Tensors:
        return self.make().merge(BASE, iter(given_), state or {}).tensors

    @INHERITED
    @given(order=st.permutations(range(SITES)))
    def test_order_of_sites_is_irrelevant(self, order):
        """Contributions in any order merge to the same model, up to the rounding of sums."""
        came = contributions()
        assert_close(self.merged([came[n] for n in order]), self.merged(came))

    @INHERITED
    @given(factor=st.floats(1e-6, 1e6))
    def test_weights_are_scale_free(self, factor):
        """Only the ratio of the weights matters."""
        scaled = [replace(one, weight=one.weight * factor) for one in contributions()]
        assert_close(self.merged(scaled), self.merged(contributions()))

    def test_one_contribution_is_identity(self):
        """The least number of equal contributions, for most one, comes out as it is, unless declared."""
        tensors = trained("alone")
        equal = [Contribution(f"site-{n}", tensors, 3.0 + n) for n in range(self.make().minimum)]
        if self.identity:
            assert_close(self.merged(equal), tensors)
        else:
            assert not np.allclose(self.merged(equal)["bias"], tensors["bias"], rtol=1e-3)

    def test_same_digest_each_time(self):
        """The same contributions in the same order give the same bytes, in the state too, over two rounds."""

        def two_rounds() -> list[str]:
            first = self.make().merge(BASE, iter(contributions()), {})
            second = self.make().merge(first.tensors, iter(contributions()), first.state)
            return [digest(part) for result in (first, second) for part in (result.tensors, result.state)]

        assert two_rounds() == two_rounds()

    def test_result_has_the_layout_of_the_base(self):
        """Names, shapes and dtypes are the base's, in both rounds; the state can be stored as tensors."""
        first = self.make().merge(BASE, iter(contributions()), {})
        second = self.make().merge(first.tensors, iter(contributions()), first.state)
        assert layout(first.tensors) == layout(second.tensors) == layout(BASE)
        assert layout(first.state) == layout(second.state)
        assert all(isinstance(array, np.ndarray) for array in (*first.tensors.values(), *first.state.values()))

    def test_inputs_are_not_changed(self):
        """Base, contributions and state keep their bytes; what comes out shares no memory with them."""
        came = contributions()
        state = self.make().merge(BASE, iter(came), {}).state
        inputs = [BASE, state, *(one.tensors for one in came)]
        before = [digest(tensors) for tensors in inputs]
        result = self.make().merge(BASE, iter(came), state)
        assert [digest(tensors) for tensors in inputs] == before
        old = [array for tensors in inputs for array in tensors.values()]
        new = [*result.tensors.values(), *result.state.values()]
        assert not any(np.shares_memory(one, other) for one in old for other in new)

    def test_fewer_than_the_minimum_raises(self):
        """One contribution too few, or none at all, is an error that says how many are needed."""
        minimum = self.make().minimum
        assert minimum >= 1
        for count in {0, minimum - 1}:
            with pytest.raises(ValueError, match=f"at least {minimum} .* got {count}"):
                self.merged(contributions(count))
        self.merged(contributions(minimum))

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ({"bias": None}, "bias"),
            ({"extra": np.zeros(1)}, "extra"),
            ({"weight": np.zeros((4, 3), dtype=np.float32)}, "weight"),
            ({"weight": np.zeros((3, 4))}, "weight"),
        ],
        ids=["missing", "additional", "shape", "dtype"],
    )
    def test_another_layout_raises(self, change, name):
        """A contribution that does not fit the base is an error that names the site and the tensor."""
        came = contributions()
        changed = {key: array for key, array in {**came[3].tensors, **change}.items() if array is not None}
        came[3] = replace(came[3], tensors=changed)
        with pytest.raises(ValueError, match=f"'site-3'.*'{name}'"):
            self.merged(came)

    @pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
    def test_a_weight_that_is_none_raises(self, weight):
        """A weight must be positive and finite; the error names the site."""
        came = contributions()
        came[3] = replace(came[3], weight=weight)
        with pytest.raises(ValueError, match=r"'site-3'.*positive and finite"):
            self.merged(came)

    def test_byte_order_and_memory_order_do_not_matter(self):
        """A big-endian, column-first contribution is the same contribution."""
        came = contributions()
        swapped = {
            name: np.asarray(array, dtype=array.dtype.newbyteorder(">"), order="F")
            for name, array in came[0].tensors.items()
        }
        other = [replace(came[0], tensors=swapped), *came[1:]]
        assert digest(self.merged(other)) == digest(self.merged(came))

    def test_declares_streaming_truly(self):
        """One that streams lets go of each contribution before the next is made; one that holds, holds."""
        alive: list[weakref.ref] = []
        held = []

        def arriving():
            for n in range(SITES):
                tensors = trained(f"site-{n}")
                held.append(sum(ref() is not None for ref in alive))
                alive.append(weakref.ref(tensors["weight"]))
                yield Contribution(f"site-{n}", tensors, 1.0)
                del tensors

        self.make().merge(BASE, arriving(), {})
        if self.make().streams:
            assert held == [0] * SITES
        else:
            assert all(later > earlier for earlier, later in pairwise(held))

    def test_declares_linearity_truly(self):
        """For a linear strategy the mean with the total weight does as well; for others not."""
        came = contributions()
        total = sum(one.weight for one in came)
        exact = {name: array for name, array in BASE.items() if array.dtype == np.float64}
        mean = {name: sum(one.weight / total * one.tensors[name] for one in came) for name in exact}
        fewer = [replace(one, tensors={name: one.tensors[name] for name in exact}) for one in came]
        one_by_one = self.make().merge(exact, iter(fewer), {}).tensors
        means = [Contribution(f"sum-{n}", mean, total) for n in range(self.make().minimum)]
        summed = self.make().merge(exact, iter(means), {}).tensors
        same = all(np.allclose(one_by_one[name], summed[name], rtol=1e-12, atol=1e-12) for name in exact)
        assert same == self.make().linear


EXTREMES = {
    "F32": [3.0, -0.0, 0.0, 1e-40, 3e38],
    "F64": [3.0, -0.0, 0.0, 5e-324, 1e308],
    "BF16": [3.0, -0.0, 0.0, 1e-39, 3e38],
    "F16": [3.0, -0.0, 0.0, 6e-8, 65504.0],
    "F8_E4M3": [3.0, -0.0, 0.0, 0.002, 448.0],
    "F8_E5M2": [3.0, -0.0, 0.0, 2e-5, 57344.0],
    "I64": [2**63 - 1, -(2**63), 2**53 + 1, 0],
    "U64": [2**64 - 1, 0, 2**53 + 1],
}
"""Numbers that a detour through float64 or a sum could change."""


def of_dtype(name: str, base: Tensors = BASE) -> Tensors:
    """Like `trained`, but whole numbers and flags change too, as they do in branches."""
    random = generator("branch suite", name)
    tensors = dict(trained(name, base))
    for key, array in base.items():
        if not is_floating(array):
            tensors[key] = np.asarray(random.integers(0, 2 if array.dtype == bool else 90, array.shape), array.dtype)
            tensors[key].flags.writeable = False
    return tensors


@cache
def representable(tag: str) -> np.ndarray:
    """All finite numbers of a type of at most 16 bits, as float64, in order."""
    dtype = DTYPES[tag]
    with np.errstate(invalid="ignore"):  # some of the bits are signalling NaN
        every = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}").view(dtype).astype(np.float64)
    return np.unique(every[np.isfinite(every)])


def is_rounded(got: np.ndarray, reference: np.ndarray, slack: np.ndarray) -> np.ndarray:
    """Say where a result is a float64 reference, rounded: no number of its dtype is nearer, but for the slack."""
    if not is_floating(got):
        low, high = (0, 1) if got.dtype.kind == "b" else (np.iinfo(got.dtype).min, np.iinfo(got.dtype).max)
        reference = np.clip(reference, low, high)
        least = np.abs(np.rint(reference) - reference)
    elif got.dtype.itemsize <= 2:
        numbers = representable(layout({"": got})[0].dtype)
        above = np.clip(np.searchsorted(numbers, reference), 1, len(numbers) - 1)
        least = np.minimum(np.abs(numbers[above] - reference), np.abs(numbers[above - 1] - reference))
    else:
        least = np.abs(reference.astype(got.dtype).astype(np.float64) - reference)
    return np.abs(got.astype(np.float64) - reference) <= least + slack


class BranchStrategySuite:
    """Subclasses say how to make the strategy, and give its formula once more, number by number, as `reference`."""

    heads = 5
    ordered = False
    """True where the order of the heads is what it goes by."""
    idempotent = True
    """True where equal heads come out as they are, whatever the base."""
    exact = True
    """False where what nobody changed comes out only up to rounding."""

    slack = 1e-12
    """How far, relatively, it may be from its formula in float64."""

    def make(self) -> BranchStrategy:
        raise NotImplementedError

    def reference(self, base, heads, weights, extras):
        """Merge float64 arrays, in the plainest way."""
        raise NotImplementedError

    def agree(self, got, base, heads, weights, extras):
        """Hold a result to the formula; heads and base are float64, the weights sum to 1."""
        expected = np.asarray(self.reference(base, heads, weights, extras))
        assert is_rounded(got, expected, self.slack * self.scale(base, heads)).all(), (got, expected)

    def scale(self, base, heads):
        """The size of the numbers whose rounding in float64 is forgiven."""
        return np.abs([base, *heads]).max(axis=0)

    def weights(self, count):
        return [(10.0 + 7 * n) ** 0.5 for n in range(count)]  # no mean of whole numbers lies half-way

    def extras(self, name, count, shape):
        random = generator("extras", name)
        fisher = [random.random(shape) + 0.01 for _ in range(count)]
        rows = [random.normal(size=(9, shape[0] if len(shape) == 2 else 1)) for _ in range(count)]
        return Extras(f"model/{name}", fisher, [row.T @ row for row in rows])

    def merged(self, order=None, factor=1.0, base=BASE, models=None):
        """Merge whole models, tensor by tensor."""
        count = self.heads
        models = models or [of_dtype(f"head-{n}") for n in range(count)]
        order = list(order or range(count))
        weights = [self.weights(count)[n] * factor for n in order]
        made = {}
        for name, array in base.items():
            extras = self.extras(name, count, array.shape)
            extras = replace(extras, fisher=[extras.fisher[n] for n in order], gram=[extras.gram[n] for n in order])
            made[name] = self.make().merge(array, [models[n][name] for n in order], weights, extras)
        return made

    def test_agrees_with_its_formula(self):
        """Every dtype comes out as near to the formula in float64 as its numbers lie."""
        models = [of_dtype(f"head-{n}") for n in range(self.heads)]
        weights = [weight / sum(self.weights(self.heads)) for weight in self.weights(self.heads)]
        got = self.merged()
        for name, array in BASE.items():
            wide = [model[name].astype(np.float64) for model in models]
            extras = self.extras(name, self.heads, array.shape)
            self.agree(got[name], array.astype(np.float64), wide, weights, extras)

    @FEW
    @given(data=st.data())
    def test_narrow_floats_agree_with_its_formula(self, data):
        """bf16, fp8 and half precision are rounded once, from float64, whatever the numbers."""
        tag = data.draw(st.sampled_from(["BF16", "F8_E4M3", "F8_E5M2", "F16"]))
        numbers = representable(tag)
        numbers = numbers[np.abs(numbers) <= np.abs(numbers).max() / 64]  # so that no sum leaves the range
        some = st.lists(st.sampled_from(numbers.tolist()), min_size=4, max_size=4)
        base, *heads = (np.array(data.draw(some)).astype(DTYPES[tag]) for _ in range(self.heads + 1))
        weights = data.draw(st.lists(st.floats(0.01, 100.0), min_size=self.heads, max_size=self.heads))
        extras = self.extras("narrow", self.heads, base.shape)
        got = self.make().merge(base, heads, weights, extras)
        shares = [weight / sum(weights) for weight in weights]
        wide = [head.astype(np.float64) for head in heads]
        self.agree(got, base.astype(np.float64), wide, shares, extras)

    @FEW
    @given(data=st.data())
    def test_order_of_heads_is_irrelevant(self, data):
        """Heads in any order merge to the same, up to the rounding of sums, unless order is what it goes by."""
        order = data.draw(st.permutations(range(self.heads)))
        if not self.ordered:
            assert_close(self.merged(order), self.merged())
        elif order != sorted(order):
            assert digest(self.merged(order)) != digest(self.merged()) or order[self.make().takes] == self.make().takes

    @FEW
    @given(factor=st.floats(1e-6, 1e6))
    def test_weights_are_scale_free(self, factor):
        """Only the ratio of the weights matters."""
        assert_close(self.merged(factor=factor), self.merged())

    def test_equal_heads_come_out_as_they_are(self):
        """Heads that changed alike give what they agree on, unless the strategy adds changes up."""
        model = of_dtype("alone")
        got = self.merged(models=[model] * self.heads)
        if self.idempotent:
            assert_close(got, model)
        else:
            assert not np.allclose(got["bias"], model["bias"], rtol=1e-3)

    @pytest.mark.parametrize("tag", EXTREMES)
    def test_what_nobody_changed_stays(self, tag):
        """Where heads and base are alike the result is that, bit for bit, beside a number that differs."""
        base = np.array([*EXTREMES[tag], 1], dtype=DTYPES[tag])
        heads = [base.copy() for _ in range(self.heads)]
        for n, head in enumerate(heads):
            head[-1] = n % 2
        extras = self.extras("extremes", self.heads, base.shape)
        got = self.make().merge(base, heads, self.weights(self.heads), extras)
        if self.exact:
            assert bytes(tensor_bytes(got[:-1])) == bytes(tensor_bytes(base[:-1]))
        assert np.isfinite(got).all()

    def test_same_digest_each_time(self):
        """The same heads in the same order give the same bytes."""
        assert digest(self.merged()) == digest(self.merged())

    def test_result_has_the_layout_of_the_base(self):
        """Names, shapes and dtypes are the base's."""
        got = self.merged()
        assert layout(got) == layout(BASE)
        assert all(array.flags.c_contiguous and isinstance(array, np.ndarray) for array in got.values())

    def test_inputs_are_not_changed(self):
        """Base, heads and extras keep their bytes; what comes out shares no memory with them."""
        models = [of_dtype(f"head-{n}") for n in range(self.heads)]
        before = [digest(tensors) for tensors in (BASE, *models)]
        got = self.merged(models=models)
        assert [digest(tensors) for tensors in (BASE, *models)] == before
        old = [array for tensors in (BASE, *models) for array in tensors.values()]
        assert not any(np.shares_memory(one, other) for one in old for other in got.values())

    def test_byte_order_and_memory_order_do_not_matter(self):
        """A big-endian, column-first head is the same head."""
        models = [of_dtype(f"head-{n}") for n in range(self.heads)]
        swapped = {
            name: np.asarray(array, dtype=array.dtype.newbyteorder(">"), order="F") for name, array in models[0].items()
        }
        assert digest(self.merged(models=[swapped, *models[1:]])) == digest(self.merged(models=models))

    def test_declares_its_need_of_a_base_truly(self):
        """Without a base it merges, or says that it cannot, as it declares."""
        strategy, model = self.make(), [of_dtype(f"head-{n}")["weight"] for n in range(self.heads)]
        extras = self.extras("weight", self.heads, (3, 4))
        if strategy.needs_base:
            with pytest.raises(VersionsError, match="common base has no such tensor"):
                strategy.merge(None, model, self.weights(self.heads), extras)
        else:
            assert strategy.merge(None, model, self.weights(self.heads), extras).shape == (3, 4)

    def test_declares_its_need_of_data_truly(self):
        """What it needs beside the tensors, it demands, naming the head that lacks it; what it does not, it ignores."""
        strategy, model = self.make(), [of_dtype(f"head-{n}")["weight"] for n in range(self.heads)]
        full = self.extras("weight", self.heads, (3, 4))
        for name in ("fisher", "gram"):
            for lacking in (replace(full, **{name: ()}), replace(full, **{name: [None, *getattr(full, name)[1:]]})):
                if name in strategy.needs:
                    with pytest.raises(VersionsError, match=f"needs missing data: .*'model/weight'.*{name} of head 1"):
                        strategy.merge(BASE["weight"], model, self.weights(self.heads), lacking)
                else:
                    assert strategy.merge(BASE["weight"], model, self.weights(self.heads), lacking).shape == (3, 4)

    def test_too_few_and_too_many_heads_raise(self):
        """The error says how many heads it is for."""
        strategy = self.make()
        for count in {0, strategy.least - 1}:
            with pytest.raises(VersionsError, match=f"needs {strategy.least} heads or more, got {count}"):
                strategy.merge(BASE["bias"], [BASE["bias"]] * count, [1.0] * count)
        if strategy.most is not None:
            with pytest.raises(VersionsError, match=f"is for {strategy.most} heads, got {strategy.most + 1}"):
                strategy.merge(BASE["bias"], [BASE["bias"]] * (strategy.most + 1), [1.0] * (strategy.most + 1))

    @pytest.mark.parametrize("other", [np.zeros((4, 3), np.float32), np.zeros((3, 4))], ids=["shape", "dtype"])
    def test_versions_that_are_not_alike_raise(self, other):
        """Heads and base must have one dtype and shape; the error names the tensor and both."""
        heads = [BASE["weight"]] * self.heads
        for base, sides in ((BASE["weight"], [*heads[1:], other]), (other, heads)):
            with pytest.raises(VersionsError, match=r"'model/w'.*F.*\[.*and F.*\[.*must be alike"):
                self.make().merge(base, sides, self.weights(self.heads), Extras("model/w"))

    @pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
    def test_a_weight_that_is_none_raises(self, weight):
        """A weight must be positive and finite, and there must be one a head."""
        heads = [BASE["bias"]] * self.heads
        for weights in ([*self.weights(self.heads)[1:], weight], self.weights(self.heads)[1:]):
            with pytest.raises(VersionsError, match="positive, finite weight for each"):
                self.make().merge(BASE["bias"], heads, weights)
