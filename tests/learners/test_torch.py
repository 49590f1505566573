import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  only where torch is

from fedloom.errors import LearnerError  # noqa: E402
from fedloom.learners.learner import Examples, Training  # noqa: E402
from fedloom.learners.torch import Torch  # noqa: E402
from fedloom.values import generator  # noqa: E402
from tests.suites.learner import LearnerSuite, equal, separable  # noqa: E402

NORMALISED = f"{__name__}:Normalised"


class Normalised(nn.Module):
    """Batch normalisation and dropout: buffers of floats and integers, and torch's own random numbers."""

    def __init__(self, features, outputs, hidden=8, dropout=0.1):
        super().__init__()
        self.stack = nn.Sequential(
            nn.Linear(features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),
        )

    def forward(self, rows):
        return self.stack(rows)


class InOneFile(Torch):
    """A user's module and learner in one file."""

    def network(self, features):
        return nn.Linear(features, self.outputs)


class TestBinary(LearnerSuite):
    untrained = tuple(f"stack.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked"))

    def make(self):
        return Torch(NORMALISED, {"hidden": 4})


class TestMulticlass(LearnerSuite):
    outputs = 3

    def make(self):
        return Torch("torch.nn:Linear", task="multiclass", outputs=3, momentum=0.5)


class TestRegression(LearnerSuite):
    def make(self):
        return Torch("torch.nn:Linear", task="regression", weight_decay=0.001)


class TestInOneFile(LearnerSuite):
    def make(self):
        return InOneFile()


def test_buffers_are_exchanged():
    """Running means are trained like weights, and a count of batches stays an integer."""
    learner = Torch(NORMALISED)
    start = learner.initial_parameters(3, 1, generator(0))
    # 120 rows in batches of 7 leave one row over, which has no variance and is left out.
    model = learner.fit(start, separable(learner, 1), Training(2, 7), generator(1))
    assert model["stack.1.num_batches_tracked"] == 2 * 17
    assert model["stack.1.num_batches_tracked"].dtype == np.int64
    assert not np.array_equal(model["stack.1.running_mean"], start["stack.1.running_mean"])


def test_a_step_is_the_gradient():
    """Trained by one step on one row, logistic regression moves by rate * (label - 1/2) * row."""
    learner = InOneFile()
    start = {"weight": np.zeros((1, 2), np.float32), "bias": np.zeros(1, np.float32)}
    model = learner.fit(start, Examples(np.array([[2.0, -4.0]]), np.array([1])), Training(1, 1, 0.5), generator(0))
    assert model["weight"] == pytest.approx(np.array([[0.5, -1.0]]))


def test_torch_s_own_generator_is_put_back():
    """Training draws from torch's generator, and leaves it as it was."""
    learner = Torch(NORMALISED)
    before = torch.get_rng_state()
    learner.fit(learner.initial_parameters(3, 1, generator(0)), separable(learner, 1), Training(), generator(1))
    assert torch.equal(before, torch.get_rng_state())


def test_threads_do_not_disturb_each_other():
    """Sites trained at the same time in one process give the models they give alone."""
    learner = Torch(NORMALISED, {"dropout": 0.5})
    examples = separable(learner, 1)
    start = learner.initial_parameters(3, 1, generator(0))
    alone = [learner.fit(start, examples, Training(3), generator(seed)) for seed in range(4)]
    together: dict = {}

    def train(seed):
        together[seed] = learner.fit(start, examples, Training(3), generator(seed))

    threads = [threading.Thread(target=train, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(equal(alone[seed], together[seed]) for seed in range(4))


def test_a_model_of_another_module_is_refused():
    """Parameters that do not fit the module are named as the reason."""
    start = Torch("torch.nn:Linear").initial_parameters(3, 1, generator(0))
    with pytest.raises(LearnerError, match="does not fit module"):
        Torch(NORMALISED).predict(start, np.zeros((2, 3)))


def test_a_module_that_is_not_there_is_refused():
    """A wrong module is refused when the learner is made."""
    with pytest.raises(LearnerError, match="did you mean 'Linear'"):
        Torch("torch.nn:Lineer")
    with pytest.raises(LearnerError, match="outputs: 3, the data has 4"):
        Torch("torch.nn:Linear", task="multiclass", outputs=3).initial_parameters(2, 4, generator(0))
    with pytest.raises(ValueError, match="outputs is the number of classes"):
        Torch("torch.nn:Linear", task="multiclass")
