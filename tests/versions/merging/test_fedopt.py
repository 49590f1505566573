"""FedAdam, FedYogi and FedAdagrad, beyond what every strategy must do."""

import numpy as np
import pytest

from fedloom.values import Contribution, is_floating
from fedloom.versions.merging.fedopt import FedAdagrad, FedAdam, FedYogi
from tests.suites.merge_strategy import BASE, MergeStrategySuite, contributions

FLOATING = sorted(name for name, array in BASE.items() if is_floating(array))


class TestFedAdam(MergeStrategySuite):
    identity = False

    def make(self):
        return FedAdam()


class TestFedAdamWithoutMomentum(MergeStrategySuite):
    identity = False

    def make(self):
        return FedAdam(beta_1=0.0)


class TestFedYogi(MergeStrategySuite):
    identity = False

    def make(self):
        return FedYogi()


class TestFedAdagrad(MergeStrategySuite):
    identity = False

    def make(self):
        return FedAdagrad()


def steps(strategy, updates):
    """Merge a one-number model repeatedly, each time one contribution `update` away from it."""
    base, state, path = {"x": np.array(1.0)}, {}, []
    for update in updates:
        came = Contribution("only", {"x": base["x"] + update}, 1.0)
        result = strategy.merge(base, iter([came]), state)
        base, state = result.tensors, result.state
        path.append(float(base["x"]))
    return path, state


def test_adagrad_by_hand():
    """The second moment v is the sum of squares, the step eta * Delta / (sqrt(v) + tau)."""
    path, state = steps(FedAdagrad(eta=0.5, tau=1.0), [3.0, 4.0])
    assert path == pytest.approx([1 + 0.5 * 3 / 4, 1 + 0.5 * 3 / 4 + 0.5 * 4 / 6])
    assert float(state["v/x"]) == 25.0


def test_adam_by_hand():
    """Both moments fade in, and the rate is corrected with the exponent Flower uses: 2 in the first round."""
    path, _ = steps(FedAdam(eta=0.5, beta_1=0.5, beta_2=0.75, tau=1.0), [4.0])
    rate = 0.5 * np.sqrt(1 - 0.75**2) / (1 - 0.5**2)
    assert path == pytest.approx([1 + rate * 2 / (2 + 1)])


def test_yogi_by_hand():
    """The second moment moves towards the square by a quarter of the square, whichever side it is on."""
    _, state = steps(FedYogi(beta_2=0.75), [4.0, 1.0])
    assert float(state["v/x"]) == pytest.approx(4.0 - 0.25 * 1.0)


@pytest.mark.parametrize(
    ("strategy", "kinds"),
    [(FedAdam(), "mv"), (FedYogi(), "mv"), (FedAdagrad(), "v"), (FedAdam(beta_1=0.0), "v")],
)
def test_the_state_is_flat_float64_tensors(strategy, kinds):
    """Moments of the floating tensors, in float64 and their shapes, and the number of merges so far."""
    state = strategy.merge(BASE, iter(contributions()), {}).state
    assert set(state) == {"step", *(f"{kind}/{name}" for kind in kinds for name in FLOATING)}
    assert (int(state["step"]), state["step"].dtype, state["step"].shape) == (1, np.int64, ())
    for kind in kinds:
        for name in FLOATING:
            assert state[f"{kind}/{name}"].dtype == np.float64
            assert state[f"{kind}/{name}"].shape == BASE[name].shape


def test_counters_take_the_weighted_mean():
    """An integer has no gradient: it is averaged and rounded, not stepped towards."""
    base = {"x": np.zeros(1), "seen": np.array(0)}
    came = [Contribution("a", {"x": np.ones(1), "seen": np.array(100)}, 1.0)]
    assert FedAdam().merge(base, iter(came), {}).tensors["seen"] == 100


@pytest.mark.parametrize("strategy", [FedAdam(), FedYogi(), FedAdagrad()])
def test_no_update_no_step(strategy):
    """When every site returns the base, the first merge is the base."""
    came = [Contribution(f"s{n}", BASE, 1.0 + n) for n in range(3)]
    merged = strategy.merge(BASE, iter(came), {}).tensors
    assert all(np.array_equal(merged[name], BASE[name]) for name in BASE)


@pytest.mark.parametrize("break_", [lambda s: s.pop("v/bias"), lambda s: s.update({"v/bias": np.zeros(99)})])
def test_the_state_of_another_model_raises(break_):
    """A moment that is missing or of another shape is an error that names it, never broadcast."""
    state = dict(FedAdam().merge(BASE, iter(contributions()), {}).state)
    break_(state)
    with pytest.raises(ValueError, match="'v/bias'"):
        FedAdam().merge(BASE, iter(contributions()), state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedAdam(eta=0.0), "eta must be a positive"),
        (lambda: FedAdam(tau=float("nan")), "tau must be a positive"),
        (lambda: FedAdam(beta_1=1.0), "beta_1 must be at least 0 and below 1"),
        (lambda: FedYogi(beta_2=-0.1), "beta_2 must be at least 0 and below 1"),
        (lambda: FedAdagrad(eta=float("inf")), "eta must be a positive"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    """Options are checked when the strategy is made, by name."""
    with pytest.raises(ValueError, match=message):
        make()
