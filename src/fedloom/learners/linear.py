"""Linear models: logistic and softmax regression, ridge; and the links and losses all our learners share.

Rules: parameters are float32 and arithmetic is float64; scores are two-dimensional, shape (rows, outputs),
and no score, however large, overflows; the bias is never penalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import nearest
from fedloom.learners.learner import Examples, TaskKind, Training
from fedloom.values import Tensors

Kind = Literal["logistic", "softmax", "ridge"]

_TASKS: Mapping[str, TaskKind] = {"logistic": "binary", "softmax": "multiclass", "ridge": "regression"}


@dataclass(frozen=True)
class Linear:
    """A generalised linear model, trained by minibatch SGD (McCullagh & Nelder 1989; Robbins & Monro 1951).

    kind: logistic (two classes), softmax (more) or ridge (a number). l2: weight of the penalty
    l2/2 * ||weights||^2 beside the mean log loss, or beside half the mean squared error. Parameters:
    `weights`, shape (features,), and `bias`, shape (1,); for softmax (features, outputs) and (outputs,).
    """

    kind: Kind = "logistic"
    l2: float = 0.0
    supports_proximal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.kind not in _TASKS:
            raise ValueError(f"no kind '{self.kind}'; {nearest(self.kind, _TASKS)}")
        if self.l2 < 0:
            raise ValueError("l2 must be 0 or more")

    @property
    def task(self) -> TaskKind:
        """What it predicts."""
        return _TASKS[self.kind]

    def initial_parameters(self, features: int, outputs: int, rng: np.random.Generator) -> Tensors:  # noqa: ARG002  the Protocol's signature
        """Start from zeros: the loss is convex, so any start leads to the same optimum."""
        shape = (features, outputs) if self.kind == "softmax" else (features,)
        return {"weights": np.zeros(shape, np.float32), "bias": np.zeros(outputs, np.float32)}

    def fit(self, parameters: Tensors, examples: Examples, training: Training, rng: np.random.Generator) -> Tensors:
        """Descend the gradient of loss + l2 + FedProx's mu/2 * ||w - w_global||^2 (Li et al. 2020, eq. 2).

        For ridge no step is longer than 1 / (mean squared length of the batch's rows + l2 + mu), as in
        normalised least mean squares (Nagumo & Noda 1967): columns of any scale slow training down, and never
        overflow it.
        """
        rows = np.column_stack([examples.features, np.ones(len(examples))])
        pulled = self.l2 > 0 or training.proximal_mu > 0
        start = _joined(parameters)
        goal = targets(self.task, examples.labels, start.shape[1])
        penalty = np.full_like(start, self.l2)
        penalty[-1] = 0.0
        curvature = self._curvature(rows, training)
        current = start.copy()
        for batch in training.batches(len(rows), rng):
            x = rows.take(batch, axis=0)
            gradient = x.T @ (link(self.task, x @ current) - goal.take(batch, axis=0)) / len(batch)
            if pulled:
                gradient += penalty * current + training.proximal_mu * (current - start)
            step = training.learning_rate
            if curvature is not None:
                step = min(step, len(batch) / curvature[batch].sum())
            current -= step * gradient
        return _split(current, parameters)

    def predict(self, parameters: Tensors, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict, float64: see `Learner.predict`."""
        return predictions(self.task, _scores(parameters, features))

    def loss(self, parameters: Tensors, examples: Examples) -> float:
        """Mean log loss in nats, or mean squared error; without the penalty."""
        return score_loss(self.task, _scores(parameters, examples.features), examples.labels)

    def _curvature(self, rows: NDArray[np.float64], training: Training) -> NDArray[np.float64] | None:
        """Bound the second derivative at each row; None for log losses, whose gradient is bounded anyway."""
        if self.kind != "ridge":
            return None
        squares: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows)
        return squares + (self.l2 + training.proximal_mu)


def link(task: TaskKind, scores: NDArray[Any]) -> NDArray[Any]:
    """Turn scores into means: sigmoid, softmax or themselves; same shape and dtype."""
    if task == "regression":
        return scores
    if task == "binary":
        means: NDArray[Any] = np.exp(-np.logaddexp(0, -scores))
        return means
    powers: NDArray[Any] = np.exp(scores - scores.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def targets(task: TaskKind, labels: NDArray[Any], outputs: int) -> NDArray[np.float64]:
    """Give labels the shape of scores, one-hot for multiclass: link - targets is the gradient by score."""
    if task == "multiclass":
        one_hot: NDArray[np.float64] = np.eye(outputs)[labels]
        return one_hot
    return labels.astype(np.float64)[:, None]


def predictions(task: TaskKind, scores: NDArray[Any]) -> NDArray[np.float64]:
    """Give what `Learner.predict` promises from scores of shape (rows, outputs)."""
    means = link(task, scores.astype(np.float64, copy=False))
    return means if task == "multiclass" else means[:, 0]


def score_loss(task: TaskKind, scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean loss over the rows, from scores: log loss passes through no probability, so it stays exact."""
    if task == "regression":
        return float(np.mean((scores[:, 0] - labels) ** 2))
    if task == "binary":
        return float(np.mean(np.logaddexp(0, scores[:, 0]) - labels * scores[:, 0]))
    shifted = scores - scores.max(axis=1, keepdims=True)
    picked = shifted[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - picked))


def _joined(parameters: Tensors) -> NDArray[np.float64]:
    """Stack weights and bias, float64, shape (features + 1, outputs): one product gives all scores."""
    weights, bias = parameters["weights"], parameters["bias"]
    return np.concatenate([weights.reshape(-1, len(bias)), bias[None]]).astype(np.float64)


def _split(joined: NDArray[np.float64], like: Tensors) -> Tensors:
    parts = {"weights": joined[:-1], "bias": joined[-1]}
    return {name: part.reshape(like[name].shape).astype(like[name].dtype) for name, part in parts.items()}


def _scores(parameters: Tensors, features: NDArray[np.float64]) -> NDArray[np.float64]:
    joined = _joined(parameters)
    scores: NDArray[np.float64] = features @ joined[:-1] + joined[-1]
    return scores
