"""What every learner must do; each learner's test subclasses this."""

import numpy as np
import pytest

from fedloom.learners.guard import GuardedLearner
from fedloom.learners.learner import Examples, Learner, Training
from fedloom.values import Tensors, generator, layout

FEATURES = 3
ROWS = 120


def separable(learner: Learner, outputs: int) -> Examples:
    """Make rows a linear model can tell apart: a cloud per class, or a line with little noise."""
    rng = generator("separable", learner.task)
    centres = 3 * rng.normal(size=(max(outputs, 2), FEATURES))
    labels = rng.integers(len(centres), size=ROWS)
    features = centres[labels] + rng.normal(size=(ROWS, FEATURES))
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    if learner.task == "regression":
        return Examples(features, features @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=ROWS))
    return Examples(features, labels)


def equal(one: Tensors, other: Tensors) -> bool:
    """Whether two models are the same to the bit."""
    return layout(one) == layout(other) and all(np.array_equal(one[name], other[name]) for name in one)


def distance(one: Tensors, other: Tensors) -> float:
    """Euclidean distance between two models, over the tensors of the first."""
    return float(np.sqrt(sum(((one[name] - other[name]) ** 2).sum() for name in one)))


class LearnerSuite:
    """Subclasses say how to make the learner; every test runs it under guard, so every answer is checked."""

    outputs = 1
    untrained: tuple[str, ...] = ()
    """Tensors no gradient moves."""
    training = Training(epochs=5, batch_size=16, learning_rate=0.05)

    def make(self) -> Learner:
        raise NotImplementedError

    @pytest.fixture
    def learner(self) -> GuardedLearner:
        return GuardedLearner("mine", self.make())

    @pytest.fixture
    def examples(self, learner: GuardedLearner) -> Examples:
        return separable(learner, self.outputs)

    @pytest.fixture
    def start(self, learner: GuardedLearner) -> Tensors:
        return learner.initial_parameters(FEATURES, self.outputs, generator("start"))

    def test_parameters_are_the_same_for_one_seed(self, learner, start):
        """The model of round 0 is a function of the seed, the width and the number of outputs."""
        assert equal(start, learner.initial_parameters(FEATURES, self.outputs, generator("start")))

    def test_fit_keeps_the_layout(self, learner, examples, start):
        """What comes back can be merged with what was sent."""
        assert layout(learner.fit(start, examples, self.training, generator(1))) == layout(start)

    def test_fit_leaves_its_arguments_alone(self, learner, examples, start):
        """Neither the parameters nor the rows are written to."""
        before = [array.copy() for array in (*start.values(), examples.features, examples.labels)]
        learner.fit(start, examples, self.training, generator(1))
        after = [*start.values(), examples.features, examples.labels]
        assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))

    def test_fit_is_deterministic(self, learner, examples, start):
        """One seed gives one model, whatever was trained in between."""
        first = learner.fit(start, examples, self.training, generator(1))
        learner.fit(start, examples, self.training, generator(2))
        assert equal(first, learner.fit(start, examples, self.training, generator(1)))

    def test_fit_lowers_the_loss(self, learner, examples, start):
        """Training on rows that are easy to tell apart helps, and goes on helping from where it stopped."""
        once = learner.fit(start, examples, self.training, generator(1))
        twice = learner.fit(once, examples, self.training, generator(2))
        losses = [learner.loss(model, examples) for model in (start, once, twice)]
        assert losses[1] < 0.9 * losses[0]
        assert losses[2] < 1.05 * losses[1]

    def test_fit_on_one_row(self, learner, examples, start):
        """A site with a single row still answers."""
        one = Examples(examples.features[:1], examples.labels[:1])
        assert layout(learner.fit(start, one, self.training, generator(1))) == layout(start)

    def test_fit_on_all_rows_at_once(self, learner, examples, start):
        """Without a batch size a step sees every row, so the order of rows hardly matters."""
        training = Training(epochs=3, batch_size=None, learning_rate=0.05)
        one, other = (learner.fit(start, examples, training, generator(seed)) for seed in (1, 2))
        assert layout(one) == layout(other) == layout(start)

    def test_predictions(self, learner, examples, start):
        """Predictions have the promised shape, probabilities sum to 1, and the loss is made of them."""
        model = learner.fit(start, examples, self.training, generator(1))
        predicted = learner.predict(model, examples.features)
        shape = (ROWS, self.outputs) if learner.task == "multiclass" else (ROWS,)
        assert predicted.shape == shape
        if learner.task == "multiclass":
            assert np.allclose(predicted.sum(axis=1), 1)
        assert learner.loss(model, examples) == pytest.approx(_loss(learner.task, predicted, examples.labels), rel=1e-4)

    def test_no_rows_to_predict(self, learner, examples, start):
        """No rows give no predictions."""
        assert len(learner.predict(start, examples.features[:0])) == 0

    def test_proximal_term_holds_back(self, learner, examples, start):
        """The larger mu, the nearer the model stays to where it started (FedProx)."""
        if not learner.supports_proximal:
            pytest.skip("this learner does not do FedProx, and says so")
        moved = []
        for mu in (0.0, 1.0, 10.0):
            model = learner.fit(start, examples, Training(10, 16, 0.05, mu), generator(1))
            trained = {name: array for name, array in model.items() if name not in self.untrained}
            moved.append(distance(trained, start))
        assert moved[0] > 1.2 * moved[1] > 1.2 * moved[2] > 0


def _loss(task: str, predicted, labels) -> float:
    if task == "regression":
        return float(np.mean((predicted - labels) ** 2))
    table = predicted if task == "multiclass" else np.column_stack([1 - predicted, predicted])
    return float(-np.mean(np.log(np.maximum(table[np.arange(len(labels)), labels], 1e-300))))
