import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression, Ridge

from fedloom.learners.learner import Examples, Training
from fedloom.learners.linear import Linear, link, predictions, score_loss, targets
from fedloom.values import generator
from tests.suites.learner import FEATURES, ROWS, LearnerSuite

LONG = Training(epochs=4000, batch_size=None, learning_rate=0.5)
TASKS = st.sampled_from(["binary", "multiclass"])
SCORES = arrays(np.float64, (4, 3), elements=st.floats(-1e6, 1e6))


class TestLogistic(LearnerSuite):
    def make(self):
        return Linear("logistic", l2=0.01)


class TestSoftmax(LearnerSuite):
    outputs = 3

    def make(self):
        return Linear("softmax")


class TestRidge(LearnerSuite):
    def make(self):
        return Linear("ridge", l2=0.001)


def noisy(classes: int) -> Examples:
    """Rows that overlap, so that the best model is finite."""
    rng = generator("noisy", classes)
    features = rng.normal(size=(ROWS, FEATURES))
    scores = features @ rng.normal(size=(FEATURES, classes)) + rng.gumbel(size=(ROWS, classes))
    return Examples(features, scores.argmax(axis=1))


def trained(learner: Linear, examples: Examples, outputs: int):
    start = learner.initial_parameters(FEATURES, outputs, generator(0))
    return learner.fit(start, examples, LONG, generator(0))


def test_logistic_reaches_the_optimum():
    """Trained long, the model is the one scikit-learn's solver finds for the same objective."""
    examples = noisy(2)
    model = trained(Linear("logistic", l2=0.1), examples, 1)
    best = LogisticRegression(C=1 / (0.1 * ROWS), tol=1e-10).fit(examples.features, examples.labels)
    assert model["weights"] == pytest.approx(best.coef_[0], abs=1e-4)
    assert model["bias"] == pytest.approx(best.intercept_, abs=1e-4)


def test_softmax_reaches_the_optimum():
    """The same for three classes; biases are known up to a constant, so probabilities are compared."""
    examples = noisy(3)
    learner = Linear("softmax", l2=0.1)
    model = trained(learner, examples, 3)
    best = LogisticRegression(C=1 / (0.1 * ROWS), tol=1e-10).fit(examples.features, examples.labels)
    assert learner.predict(model, examples.features) == pytest.approx(best.predict_proba(examples.features), abs=1e-4)


def test_ridge_reaches_the_optimum():
    """The same for ridge regression, whose optimum has a closed form."""
    rng = generator("ridge")
    features = rng.normal(size=(ROWS, FEATURES))
    examples = Examples(features, features @ [3.0, -1.0, 2.0] + 7 + rng.normal(size=ROWS))
    model = trained(Linear("ridge", l2=0.1), examples, 1)
    best = Ridge(alpha=0.1 * ROWS).fit(features, examples.labels)
    assert model["weights"] == pytest.approx(best.coef_, abs=1e-4)
    assert model["bias"] == pytest.approx([best.intercept_], abs=1e-4)


@given(scale=st.floats(1e-3, 1e6), rate=st.floats(1e-4, 100), size=st.sampled_from([1, 7, None]))
def test_ridge_never_overflows(scale, rate, size):
    """Whatever the columns' scale and the learning rate, training does not run away."""
    rng = generator("scale")
    examples = Examples(scale * rng.normal(size=(40, 2)), rng.normal(size=40))
    learner = Linear("ridge")
    start = learner.initial_parameters(2, 1, rng)
    model = learner.fit(start, examples, Training(3, size, rate), generator(1))
    assert learner.loss(model, examples) < 10 * learner.loss(start, examples)


@given(task=TASKS, scores=SCORES)
def test_probabilities_of_any_score(task, scores):
    """Scores of any size give probabilities: within [0, 1], and over the classes they sum to 1."""
    means = link(task, scores)
    assert np.all((means >= 0) & (means <= 1))
    total = means.sum(axis=1) if task == "multiclass" else means + link(task, -scores)
    assert total == pytest.approx(np.ones_like(total))


@given(task=TASKS, scores=SCORES, labels=arrays(np.int64, 4, elements=st.integers(0, 1)))
def test_log_loss_of_any_score(task, scores, labels):
    """Log loss is finite and never negative, however sure and wrong a model is."""
    assert 0 <= score_loss(task, scores, labels) < np.inf


@given(task=TASKS, scores=arrays(np.float64, (4, 3), elements=st.floats(-20, 20)))
def test_gradient_is_link_minus_targets(task, scores):
    """The slope of the loss by each score is link - targets, as `fit` takes it to be."""
    scores = scores if task == "multiclass" else scores[:, :1]
    labels = np.array([0, 1, 1, 0])
    slope = (link(task, scores) - targets(task, labels, scores.shape[1])) / 4
    for place in np.ndindex(scores.shape):
        step = np.zeros_like(scores)
        step[place] = 1e-5
        measured = (score_loss(task, scores + step, labels) - score_loss(task, scores - step, labels)) / 2e-5
        assert measured == pytest.approx(slope[place], abs=1e-6)


def test_predictions_drop_the_column_of_a_single_output():
    """One output gives a vector, several a table."""
    assert predictions("regression", np.zeros((5, 1))).shape == (5,)
    assert predictions("multiclass", np.zeros((5, 2))).shape == (5, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"kind": "logistik"}, "did you mean 'logistic'"), ({"l2": -1.0}, "l2 must be 0 or more")],
)
def test_wrong_options_are_refused(options, words):
    """A wrong option is refused when the learner is made, with what is allowed."""
    with pytest.raises(ValueError, match=words):
        Linear(**options)
