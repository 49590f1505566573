"""What every merge strategy must do; each strategy's test subclasses this."""

import weakref
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedloom.values import Contribution, Tensors, generator, layout, sha256, tensor_bytes
from fedloom.versions.merging.strategy import MergeStrategy

BASE: Tensors = {
    "weight": np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4),
    "bias": np.linspace(0.0, 1.0, 5),
    "temperature": np.array(0.5, dtype=np.float32),
    "half": np.ones((2, 2), dtype=np.float16),
    "steps": np.array([10, 20], dtype=np.int64),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 3), dtype=np.float32),
}
for _array in BASE.values():
    _array.flags.writeable = False

SITES = 9

# Hypothesis warns when several classes run one property; to do so is what a suite is for.
INHERITED = settings(suppress_health_check=[HealthCheck.differing_executors])


def trained(name: str, base: Tensors = BASE) -> Tensors:
    """Move the base's floats a little at random; read-only, so that changing it in place raises."""
    random = generator("merge suite", name)
    tensors = {}
    for key, array in base.items():
        step = random.normal(0.0, 0.3, array.shape) if array.dtype.kind == "f" else np.zeros(array.shape)
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
        tolerance = 4 * np.finfo(array.dtype).eps if array.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(got[name], array, rtol=tolerance, atol=tolerance, err_msg=name)


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
