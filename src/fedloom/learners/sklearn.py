"""Any scikit-learn estimator with `partial_fit`: its learned numbers are the parameters.

Rules: scikit-learn is imported when a learner is made, not before. An estimator is made anew for every
call, from its options and the parameters, so nothing is kept between rounds. Estimators with `coef_` and
`intercept_` work as they are; for others a ParameterHook names what is learned. Rows are shuffled by us,
`random_state` is set by us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import LearnerError
from fedloom.learners.catalog import import_class
from fedloom.learners.learner import Examples, TaskKind, Training
from fedloom.values import Tensors

_WORKS = "SGDClassifier (loss: log_loss), SGDRegressor; with a hook GaussianNB, MLPClassifier, MLPRegressor"


class ParameterHook(Protocol):
    """Says what is learned in an estimator that has more, or other, than `coef_` and `intercept_`.

    Named in the pipeline as `hook: package.module:Class` and made without arguments. The estimator it is
    given has seen one row of zeros per class, so all its attributes exist, with their shapes.
    """

    def get(self, estimator: Any) -> Tensors:
        """Read what is learned; the names become those of the model's tensors."""
        ...

    def set(self, estimator: Any, tensors: Tensors) -> None:
        """Write it back; `tensors` are read-only, so copy them to what the estimator needs."""
        ...

    def initial(self, features: int, outputs: int, rng: np.random.Generator) -> Tensors:
        """Make the parameters of round 0, arguments as in `Learner.initial_parameters`; sets the dtypes."""
        ...


@dataclass(frozen=True)
class Sklearn:
    """A scikit-learn estimator (Pedregosa et al. 2011), trained by `partial_fit`.

    estimator: where it is, such as `sklearn.linear_model.SGDClassifier`. options: its arguments. hook: a
    ParameterHook as `package.module:Class`. task: what it predicts. outputs: for multiclass, the number of
    classes. The training's learning rate is `eta0` (constant) or `learning_rate_init`, unless options set
    them.
    """

    estimator: str
    options: Mapping[str, Any] = field(default_factory=dict)
    hook: str | None = None
    task: TaskKind = "binary"
    outputs: int = 1
    supports_proximal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if (self.outputs > 1) != (self.task == "multiclass"):
            raise ValueError("outputs is the number of classes: 2 or more for multiclass, else leave it out")
        self._check_estimator()

    def initial_parameters(self, features: int, outputs: int, rng: np.random.Generator) -> Tensors:
        """Start from the hook's parameters, or from zeros."""
        if outputs != self.outputs:
            raise LearnerError(f"'{self.estimator}' is set to outputs: {self.outputs}, the data has {outputs}")
        return self._hook().initial(features, outputs, rng)

    def fit(self, parameters: Tensors, examples: Examples, training: Training, rng: np.random.Generator) -> Tensors:
        """Feed the site's rows to `partial_fit`, each epoch in a new order.

        With a hook it is batch by batch. Linear estimators step row by row in any case, so they get an epoch
        a call, which saves scikit-learn's checks.
        """
        estimator = self._ready(parameters, examples.features.shape[1], training.learning_rate, rng)
        fed = training if self.hook else replace(training, batch_size=None)
        for batch in fed.batches(len(examples), rng):
            estimator.partial_fit(examples.features[batch], examples.labels[batch])
        learned = self._hook().get(estimator)
        return {name: np.array(learned[name], dtype=array.dtype) for name, array in parameters.items()}

    def predict(self, parameters: Tensors, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict, float64: see `Learner.predict`; no rows, which scikit-learn refuses, give none."""
        if len(features) == 0:
            return np.empty((0, self.outputs) if self.task == "multiclass" else 0)
        estimator = self._ready(parameters, features.shape[1])
        if self.task == "regression":
            return np.asarray(estimator.predict(features), np.float64)
        probabilities = np.asarray(estimator.predict_proba(features), np.float64)
        return probabilities[:, 1] if self.task == "binary" else probabilities

    def loss(self, parameters: Tensors, examples: Examples) -> float:
        """Mean log loss in nats, of probabilities kept above 0, or mean squared error."""
        predicted = self.predict(parameters, examples.features)
        if self.task == "regression":
            return float(np.mean((predicted - examples.labels) ** 2))
        if self.task == "binary":
            predicted = np.column_stack([1 - predicted, predicted])
        picked = predicted[np.arange(len(examples)), examples.labels.astype(np.intp)]
        return float(-np.mean(np.log(np.maximum(picked, np.finfo(np.float64).tiny))))

    def _ready(
        self,
        parameters: Tensors,
        features: int,
        learning_rate: float = 0.01,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """Make an estimator that has just learned `parameters`."""
        estimator = self._primed(features, learning_rate, rng)
        self._hook().set(estimator, parameters)
        return estimator

    def _primed(self, features: int, learning_rate: float = 0.01, rng: np.random.Generator | None = None) -> Any:
        """Make an estimator that knows its classes and features, from one row of zeros per class."""
        estimator = self._made()
        settings = {
            "random_state": 0 if rng is None else int(rng.integers(2**31)),
            "learning_rate": "constant",
            "eta0": learning_rate,
            "learning_rate_init": learning_rate,
        }
        ours = (settings.keys() & estimator.get_params(deep=False).keys()) - self.options.keys()
        estimator.set_params(**{name: settings[name] for name in ours})
        if self.task == "regression":
            return estimator.partial_fit(np.zeros((1, features)), np.zeros(1))
        classes = np.arange(max(self.outputs, 2))
        return estimator.partial_fit(np.zeros((len(classes), features)), classes, classes=classes)

    def _made(self) -> Any:
        module, _, name = self.estimator.rpartition(".")
        try:
            return import_class(f"{module}:{name}")(**self.options)
        except TypeError as error:
            raise ValueError(f"'{self.estimator}' does not take these options: {error}") from None

    def _hook(self) -> ParameterHook:
        if self.hook is None:
            return _Coefficients(self.task)
        hook: ParameterHook = import_class(self.hook)()
        return hook

    def _check_estimator(self) -> None:
        """Refuse now, before there is data, what could not train."""
        made, problem = self._made(), ""  # before the next import: it says which extra is missing
        from sklearn.base import is_classifier, is_regressor

        if not hasattr(made, "partial_fit"):
            problem = "has no partial_fit, so it cannot go on from the global model"
        elif not (is_regressor(made) if self.task == "regression" else is_classifier(made)):
            problem = f"does not do {self.task}: set task"
        elif self.task != "regression" and not hasattr(made, "predict_proba"):
            problem = "gives no probabilities with these options"
        elif getattr(made, "average", False):
            problem = "averages over steps, which would be lost between rounds: leave `average` out"
        elif self.hook is None and not hasattr(self._primed(1), "coef_"):
            problem = "has no coef_: name a ParameterHook as hook: package.module:Class"
        if problem:
            raise LearnerError(f"'{self.estimator}' {problem}. These work: {_WORKS}")


@dataclass(frozen=True)
class _Coefficients:
    """The hook of linear estimators."""

    task: TaskKind

    def get(self, estimator: Any) -> Tensors:
        return {"coef_": estimator.coef_, "intercept_": estimator.intercept_}

    def set(self, estimator: Any, tensors: Tensors) -> None:
        for name, array in tensors.items():
            setattr(estimator, name, array.astype(np.float64))

    def initial(self, features: int, outputs: int, rng: np.random.Generator) -> Tensors:  # noqa: ARG002  the Protocol's signature
        # scikit-learn keeps one row of coefficients for two classes, and a plain vector for regression.
        rows = 1 if outputs == 2 else outputs
        shape = (features,) if self.task == "regression" else (rows, features)
        return {"coef_": np.zeros(shape, np.float32), "intercept_": np.zeros(rows, np.float32)}
