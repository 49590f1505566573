"""FedAvg and FedProx, beyond what every strategy must do."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.values import Contribution
from fedloom.versions.merging.fedavg import BLOCK, FedAvg, FedProx
from tests.suites.merge_strategy import BASE, MergeStrategySuite, contributions, digest


class TestFedAvg(MergeStrategySuite):
    def make(self):
        return FedAvg()


class TestFedProx(MergeStrategySuite):
    def make(self):
        return FedProx(proximal_mu=0.1)


def mean_of(*pairs, dtype):
    """Average (value, weight) pairs of one-tensor models."""
    given_ = [
        Contribution(str(n), {"x": np.array(value, dtype=dtype)}, weight) for n, (value, weight) in enumerate(pairs)
    ]
    return FedAvg().merge({"x": np.array(pairs[0][0], dtype=dtype)}, iter(given_), {}).tensors["x"]


def test_the_mean_is_weighted():
    """Three examples at 0 and one at 4 average to 1."""
    assert mean_of(([0.0, 8.0], 3.0), ([4.0, 4.0], 1.0), dtype="f4").tolist() == [1.0, 7.0]


def test_sums_are_float64():
    """One survives beside a hundred million, which a float32 sum would lose."""
    pairs = [(1e8, 1.0), (1.0, 1.0), (-1e8, 1.0)]
    assert mean_of(*pairs, dtype="f4") == np.float32(1 / 3)


@pytest.mark.parametrize(
    ("dtype", "values", "mean"),
    [
        ("i8", (1, 2), 2),
        ("i8", (2, 3), 2),
        ("u1", (0, 255), 128),
        ("?", (True, False), False),
        ("i4", (-1, -2), -2),
    ],
)
def test_integers_round_half_to_even(dtype, values, mean):
    """Integers and booleans average to the nearest one, halves to the even one."""
    assert mean_of(*((value, 1.0) for value in values), dtype=dtype) == mean


@given(
    array=hnp.arrays(
        st.sampled_from([np.float16, np.float32]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    weight=st.floats(1e-3, 1e9),
)
def test_one_narrow_contribution_comes_out_bit_for_bit(array, weight):
    """Half and single precision lose nothing on the way through float64."""
    merged = FedAvg().merge({"x": array}, iter([Contribution("alone", {"x": array}, weight)]), {}).tensors["x"]
    assert np.array_equal(merged, array)
    assert merged.dtype == array.dtype


@given(weights=st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=6))
def test_the_mean_lies_between_the_contributions(weights):
    """No coordinate leaves the range its contributions span, but for rounding."""
    came = [
        Contribution(one.site, one.tensors, weight)
        for one, weight in zip(contributions(len(weights)), weights, strict=True)
    ]
    merged = FedAvg().merge(BASE, iter(came), {}).tensors
    for name in ("weight", "bias"):
        stack = np.stack([one.tensors[name] for one in came])
        assert (merged[name] >= stack.min(axis=0) - 1e-6).all()
        assert (merged[name] <= stack.max(axis=0) + 1e-6).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_join_without_a_seam(dtype):
    """A tensor of several blocks and a rest is averaged as one; so is a view that is not contiguous."""
    size = 2 * BLOCK + 17
    first, second = np.arange(size, dtype=dtype), np.arange(2 * size, dtype=dtype)[::2]
    came = [Contribution("a", {"x": first}, 1.0), Contribution("b", {"x": second}, 1.0)]
    merged = FedAvg().merge({"x": first}, iter(came), {}).tensors["x"]
    assert np.array_equal(merged, first * 1.5)


def test_folding_needs_twice_the_model_and_a_few_blocks():
    """However many contribute, the float64 sums are all that grows; converting adds one model at most."""
    model = {f"layer-{n}": np.ones(1_000_000, dtype=np.float32) for n in range(4)}
    size = sum(array.nbytes for array in model.values())
    blocks = 4 * BLOCK * 8
    peaks = []

    def arriving():
        for n in range(5):
            yield Contribution(f"site-{n}", model, 1.0)
        peaks.append(tracemalloc.get_traced_memory()[1])

    tracemalloc.start()
    try:
        FedAvg().merge(model, arriving(), {})
        peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    folding, whole = peaks
    assert folding < 2 * size + blocks
    assert whole < 2 * size + size // 4 + blocks  # sums are freed layer by layer


def test_fedprox_differs_only_at_the_sites():
    """The hub averages as FedAvg does, and says with which mu sites train."""
    assert (FedProx(proximal_mu=0.3).proximal_mu, FedAvg().proximal_mu) == (0.3, 0.0)
    avg, prox = (s.merge(BASE, iter(contributions()), {}) for s in (FedAvg(), FedProx(0.3)))
    assert digest(avg.tensors) == digest(prox.tensors)


@pytest.mark.parametrize("mu", [-0.1, float("nan"), float("inf")])
def test_fedprox_refuses_a_mu_that_makes_no_sense(mu):
    """A negative or infinite pull is a mistake, said when the strategy is made."""
    with pytest.raises(ValueError, match="proximal_mu must be"):
        FedProx(proximal_mu=mu)
