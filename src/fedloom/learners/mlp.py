"""A multilayer perceptron in NumPy: forward, backward, SGD.

Rules: parameters are float32 and so is training (half the memory traffic); predictions and losses are
float64. Layer i has `layer{i}.weights`, shape (inputs, outputs), and `layer{i}.bias`, shape (outputs,); the
last layer gives the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fedloom.learners.learner import Examples, TaskKind, Training
from fedloom.learners.linear import link, predictions, score_loss, targets
from fedloom.values import Tensors

Activation = Literal["relu", "tanh"]
Layers: TypeAlias = list[NDArray[Any]]
"""Weights and bias of layer 0, weights and bias of layer 1, …"""


@dataclass(frozen=True)
class Mlp:
    """Fully connected layers, trained by backpropagation (Rumelhart, Hinton & Williams 1986).

    hidden: units of each hidden layer. activation: relu or tanh. task: what it predicts. l2: weight of the
    penalty l2/2 * ||weights||^2 beside the mean log loss, or beside half the mean squared error.
    """

    hidden: tuple[int, ...] = (32,)
    activation: Activation = "relu"
    task: TaskKind = "binary"
    l2: float = 0.0
    supports_proximal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not all(units > 0 for units in self.hidden):
            raise ValueError("hidden must be positive numbers of units, one a layer")
        if self.l2 < 0:
            raise ValueError("l2 must be 0 or more")

    def initial_parameters(self, features: int, outputs: int, rng: np.random.Generator) -> Tensors:
        """Draw weights that keep the signal's variance: He et al. 2015 for relu, or Glorot & Bengio 2010."""
        sizes = (features, *self.hidden, outputs)
        made: dict[str, NDArray[Any]] = {}
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            hidden_relu = self.activation == "relu" and i < len(self.hidden)
            variance = 2 / fan_in if hidden_relu else 2 / (fan_in + fan_out)
            weights = rng.normal(0.0, np.sqrt(variance), (fan_in, fan_out))
            made[f"layer{i}.weights"] = weights.astype(np.float32)
            made[f"layer{i}.bias"] = np.zeros(fan_out, np.float32)
        return made

    def fit(self, parameters: Tensors, examples: Examples, training: Training, rng: np.random.Generator) -> Tensors:
        """Descend the gradient of loss + l2 + FedProx's mu/2 * ||w - w_global||^2 (Li et al. 2020, eq. 2)."""
        start = _layers(parameters, np.float32)
        current = [array.copy() for array in start]
        rows = examples.features.astype(np.float32)
        goal = targets(self.task, examples.labels, len(start[-1])).astype(np.float32)
        for batch in training.batches(len(rows), rng):
            gradients = self._gradients(current, rows[batch], goal[batch])
            for i, gradient in enumerate(gradients):
                if self.l2 and current[i].ndim == 2:
                    gradient += self.l2 * current[i]  # noqa: PLW2901  in place: the gradient is ours
                if training.proximal_mu:
                    gradient += training.proximal_mu * (current[i] - start[i])  # noqa: PLW2901  same
                current[i] -= training.learning_rate * gradient
        return {name: array.astype(np.float32) for name, array in zip(_names(current), current, strict=True)}

    def predict(self, parameters: Tensors, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict, float64: see `Learner.predict`."""
        return predictions(self.task, self._activations(_layers(parameters, np.float64), features)[-1])

    def loss(self, parameters: Tensors, examples: Examples) -> float:
        """Mean log loss in nats, or mean squared error; without the penalty."""
        scores = self._activations(_layers(parameters, np.float64), examples.features)[-1]
        return score_loss(self.task, scores, examples.labels)

    def _activations(self, layers: Layers, rows: NDArray[Any]) -> list[NDArray[Any]]:
        """Give the inputs of every layer, then the scores."""
        seen = [rows]
        for i in range(0, len(layers), 2):
            scores = seen[-1] @ layers[i] + layers[i + 1]
            last = i + 2 == len(layers)
            seen.append(scores if last else _ACTIVATIONS[self.activation](scores))
        return seen

    def _gradients(self, layers: Layers, rows: NDArray[Any], goal: NDArray[Any]) -> Layers:
        """Give the gradient of the mean loss (half the mean squared error) by each array of `layers`."""
        *inputs, scores = self._activations(layers, rows)
        delta = (link(self.task, scores) - goal) / len(rows)
        gradients: Layers = []
        for i in reversed(range(len(inputs))):
            gradients += [delta.sum(axis=0), inputs[i].T @ delta]
            if i:
                delta = (delta @ layers[2 * i].T) * _SLOPES[self.activation](inputs[i])
        return gradients[::-1]


_Map: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
_ACTIVATIONS: dict[str, _Map] = {"relu": lambda scores: np.maximum(scores, 0), "tanh": np.tanh}
_SLOPES: dict[str, _Map] = {"relu": lambda active: active > 0, "tanh": lambda active: 1 - active**2}
"""The derivative, written in terms of the activation itself."""


def _names(arrays: Sized) -> list[str]:
    return [f"layer{i // 2}.{'bias' if i % 2 else 'weights'}" for i in range(len(arrays))]


def _layers(parameters: Tensors, dtype: DTypeLike) -> Layers:
    return [parameters[name].astype(dtype, copy=False) for name in _names(parameters)]
