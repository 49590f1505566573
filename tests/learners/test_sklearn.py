import numpy as np
import pytest

from fedloom.errors import LearnerError
from fedloom.learners.learner import Training
from fedloom.learners.sklearn import Sklearn
from fedloom.values import generator
from tests.suites.learner import LearnerSuite, separable

SGD = "sklearn.linear_model.SGDClassifier"
LOG = {"loss": "log_loss", "alpha": 0.001}


class Bayes:
    """The hook of GaussianNB: class sizes, means and variances."""

    names = ("class_count_", "theta_", "var_")

    def get(self, estimator):
        return {name: getattr(estimator, name) for name in self.names}

    def set(self, estimator, tensors):
        for name in self.names:
            setattr(estimator, name, tensors[name].copy())
        counts = tensors["class_count_"]
        estimator.class_prior_ = counts / counts.sum() if counts.sum() else np.full(len(counts), 1 / len(counts))

    def initial(self, features, outputs, rng):
        classes = max(outputs, 2)
        table = np.zeros((classes, features))
        return {"class_count_": np.zeros(classes), "theta_": table, "var_": np.ones_like(table)}


class Layers:
    """The hook of MLPClassifier with one hidden layer of five units."""

    def get(self, estimator):
        arrays = [*estimator.coefs_, *estimator.intercepts_]
        return {f"array{i}": array for i, array in enumerate(arrays)}

    def set(self, estimator, tensors):
        arrays = [tensors[f"array{i}"].astype(np.float64) for i in range(4)]
        estimator.coefs_[:], estimator.intercepts_[:] = arrays[:2], arrays[2:]
        del estimator._optimizer  # it would go on moving the arrays that were there before

    def initial(self, features, outputs, rng):
        shapes = [(features, 5), (5, outputs), (5,), (outputs,)]
        return {f"array{i}": rng.normal(size=shape).astype(np.float32) for i, shape in enumerate(shapes)}


class TestBinary(LearnerSuite):
    def make(self):
        return Sklearn(SGD, LOG)


class TestMulticlass(LearnerSuite):
    outputs = 3

    def make(self):
        return Sklearn(SGD, LOG, task="multiclass", outputs=3)


class TestTwoClassesAsMulticlass(LearnerSuite):
    outputs = 2

    def make(self):
        return Sklearn(SGD, LOG, task="multiclass", outputs=2)


class TestRegression(LearnerSuite):
    training = Training(5, 16, 0.01)

    def make(self):
        return Sklearn("sklearn.linear_model.SGDRegressor", task="regression")


class TestBayes(LearnerSuite):
    """An estimator without coef_, by a hook."""

    outputs = 3
    training = Training(1, 16)

    def make(self):
        hook = f"{__name__}:Bayes"
        return Sklearn("sklearn.naive_bayes.GaussianNB", hook=hook, task="multiclass", outputs=3)


class TestLayers(LearnerSuite):
    """A neural network, by a hook; options win over the training's learning rate."""

    outputs = 3

    def make(self):
        options = {"hidden_layer_sizes": (5,), "learning_rate_init": 0.02}
        hook = f"{__name__}:Layers"
        return Sklearn("sklearn.neural_network.MLPClassifier", options, hook, task="multiclass", outputs=3)


def test_bayes_over_two_calls_is_bayes_over_all_rows():
    """Going on from the parameters is the same as never having stopped."""
    from sklearn.naive_bayes import GaussianNB

    learner = Sklearn("sklearn.naive_bayes.GaussianNB", hook=f"{__name__}:Bayes")
    examples = separable(learner, 1)
    half = [type(examples)(examples.features[part], examples.labels[part]) for part in (np.s_[:50], np.s_[50:])]
    model = learner.initial_parameters(3, 1, generator(0))
    for part in half:
        model = learner.fit(model, part, Training(1, None), generator(0))
    direct = GaussianNB().fit(examples.features, examples.labels)
    assert model["theta_"] == pytest.approx(direct.theta_)
    assert model["var_"] == pytest.approx(direct.var_)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"estimator": "sklearn.linear_model.LogisticRegression"},
            "has no partial_fit.*These work: SGDClassifier",
        ),
        ({"estimator": "sklearn.linear_model.SGDRegressor"}, "does not do binary: set task"),
        ({"estimator": SGD}, "gives no probabilities.*loss: log_loss"),
        ({"estimator": SGD, "options": {**LOG, "average": True}}, "leave `average` out"),
        ({"estimator": "sklearn.naive_bayes.GaussianNB"}, "has no coef_: name a ParameterHook"),
        ({"estimator": "sklearn.linear_model.SGDClasifier"}, "did you mean 'SGDClassifier'"),
        ({"estimator": "sklern.linear_model.SGDClassifier"}, "No module named 'sklern'"),
    ],
)
def test_estimators_that_cannot_work_are_refused(arguments, words):
    """A wrong estimator is refused when the learner is made, before there is data, with what would work."""
    with pytest.raises(LearnerError, match=words):
        Sklearn(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"options": {"los": "log_loss"}}, "does not take these options: .*'los'"),
        ({"options": LOG, "task": "multiclass"}, "outputs is the number of classes"),
        ({"options": LOG, "outputs": 3}, "outputs is the number of classes"),
    ],
)
def test_wrong_options_are_refused(arguments, words):
    """A wrong option is refused when the learner is made."""
    with pytest.raises(ValueError, match=words):
        Sklearn(SGD, **arguments)


def test_other_number_of_classes_is_refused():
    """The classes of the data and those in the pipeline must agree."""
    with pytest.raises(LearnerError, match="outputs: 3, the data has 4"):
        Sklearn(SGD, LOG, task="multiclass", outputs=3).initial_parameters(2, 4, generator(0))
