"""What a learner is: initial parameters, fit, predict, loss. Pure functions of arrays.

Rules: parameters are named tensors (float32 unless the learner says otherwise) whose names, shapes and dtypes
never change during a run; `fit` returns new arrays and leaves its arguments alone; randomness comes only from
the generator that is passed in. `guard.py` holds a learner to this at every site.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fedloom.values import Tensors

TaskKind = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows a learner sees.

    features: float64, shape (rows, features), finite.
    labels: shape (rows,); int64 class indices 0..outputs-1 for classification, float64 for regression.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64] | NDArray[np.float64]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Training:
    """How a site trains in one round.

    epochs: passes over the site's rows. batch_size: rows a step, None for all. learning_rate: step size.
    proximal_mu: weight of the FedProx term mu/2 * ||w - w_global||^2 (Li et al. 2020); 0 switches it off.
    """

    epochs: int = 1
    batch_size: int | None = 32
    learning_rate: float = 0.05
    proximal_mu: float = 0.0

    def batches(self, rows: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
        """Yield the row numbers of every step: each epoch all rows once, in a new order."""
        size = self.batch_size or max(rows, 1)
        for _ in range(self.epochs):
            order = rng.permutation(rows)
            for first in range(0, rows, size):
                yield order[first : first + size]


class Learner(Protocol):
    """A model family a federation can train."""

    @property
    def task(self) -> TaskKind:
        """What it predicts: decides which metrics the evaluate stage reports."""
        ...

    @property
    def supports_proximal(self) -> bool:
        """Whether `fit` honours `Training.proximal_mu`; the plan refuses FedProx where it does not."""
        ...

    def initial_parameters(self, features: int, outputs: int, rng: np.random.Generator) -> Tensors:
        """Make the parameters of round 0.

        `features` is the number of columns after preprocessing. `outputs` is 1 for binary and regression,
        the number of classes for multiclass.
        """
        ...

    def fit(self, parameters: Tensors, examples: Examples, training: Training, rng: np.random.Generator) -> Tensors:
        """Train from `parameters` on one site's rows; same names, shapes and dtypes come back."""
        ...

    def predict(self, parameters: Tensors, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict, float64.

        binary: P(class 1), shape (rows,); multiclass: probabilities, shape (rows, outputs);
        regression: values, shape (rows,).
        """
        ...

    def loss(self, parameters: Tensors, examples: Examples) -> float:
        """Mean loss over the rows: log loss in nats, or mean squared error for regression."""
        ...
