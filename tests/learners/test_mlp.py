import numpy as np
import pytest

from fedloom.learners.learner import Training
from fedloom.learners.mlp import Mlp
from fedloom.values import generator
from tests.suites.learner import FEATURES, LearnerSuite, separable


class TestBinary(LearnerSuite):
    def make(self):
        return Mlp(hidden=(8,))


class TestMulticlass(LearnerSuite):
    outputs = 3

    def make(self):
        return Mlp(hidden=(8, 4), activation="tanh", task="multiclass", l2=0.001)


class TestRegression(LearnerSuite):
    def make(self):
        return Mlp(hidden=(8,), task="regression")


class TestManyLayers(LearnerSuite):
    """Eleven layers: layer10 must not be taken for the one after layer1."""

    training = Training(epochs=20, batch_size=16, learning_rate=0.05)

    def make(self):
        return Mlp(hidden=(6,) * 10)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 3), ("regression", 1)])
def test_gradients_are_those_of_the_loss(activation, task, outputs):
    """One step of rate 1 over all rows moves each number by the slope of the loss."""
    learner = Mlp((5, 4), activation, task)
    examples = separable(learner, outputs)
    start = learner.initial_parameters(FEATURES, outputs, generator("gradient"))
    moved = learner.fit(start, examples, Training(1, None, 1.0), generator(0))
    half = 0.5 if task == "regression" else 1.0
    for name, array in start.items():
        exact = {**start, name: array.astype(np.float64)}
        for place in np.ndindex(array.shape):
            losses = []
            for step in (1e-5, -1e-5):
                changed = exact[name].copy()
                changed[place] += step
                losses.append(half * learner.loss({**exact, name: changed}, examples))
            slope = (losses[0] - losses[1]) / 2e-5
            assert array[place] - moved[name][place] == pytest.approx(slope, abs=2e-5, rel=1e-3), name


def test_penalty_shrinks_weights_not_biases():
    """With l2 the step is longer by l2 * weights, and the same for biases."""
    examples = separable(Mlp(), 1)
    start = Mlp().initial_parameters(FEATURES, 1, generator("l2"))
    once = Training(1, None, 0.5)
    plain, shrunk = (Mlp(l2=l2).fit(start, examples, once, generator(0)) for l2 in (0.0, 0.1))
    assert plain["layer0.weights"] - shrunk["layer0.weights"] == pytest.approx(0.05 * start["layer0.weights"], abs=1e-6)
    assert np.array_equal(plain["layer0.bias"], shrunk["layer0.bias"])


def test_start_keeps_the_variance():
    """Initial weights have He's variance before a relu, Glorot's elsewhere."""
    start = Mlp((400,)).initial_parameters(200, 300, generator("variance"))
    assert start["layer0.weights"].var() == pytest.approx(2 / 200, rel=0.05)
    assert start["layer1.weights"].var() == pytest.approx(2 / 700, rel=0.05)


@pytest.mark.parametrize(("options", "words"), [({"hidden": (4, 0)}, "hidden"), ({"l2": -1.0}, "l2")])
def test_wrong_options_are_refused(options, words):
    """A wrong option is refused when the learner is made."""
    with pytest.raises(ValueError, match=words):
        Mlp(**options)
