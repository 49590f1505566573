"""FedAdam, FedYogi, FedAdagrad: the mean update is a gradient for an optimizer at the hub.

Reddi et al. 2020, "Adaptive Federated Optimization", algorithm 2, arXiv 2003.00295; where Flower departs from
it, as Flower does: both moments start at zero (the paper: v at tau^2 or more), FedAdam corrects its bias by
Kingma & Ba 2014, arXiv 1412.6980, but counts the first step as 2, and FedAdagrad has no first moment.

Rules: one merge is one step. The state is `m/<tensor>` and `v/<tensor>` (float64, the tensor's shape) and
`step` (int64, merges so far); `m/` is left out where beta_1 is 0. Tensors that are not floating, such as
counters, have no gradient: they take the weighted mean.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fedloom.values import Contribution, Tensor, Tensors, is_floating
from fedloom.versions.merging.coordinates import narrowed
from fedloom.versions.merging.fedavg import checked, drained, weighted_sum
from fedloom.versions.merging.strategy import MergeResult


class _HubOptimizer(ABC):
    """What the three share: all but the learning rate and the second moment."""

    __slots__ = ()

    eta = 0.0
    beta_1 = 0.0
    beta_2 = 0.0
    tau = 0.0

    streams = True
    linear = True
    minimum = 1
    proximal_mu = 0.0

    def __post_init__(self) -> None:
        for name, value in (("eta", self.eta), ("tau", self.tau)):
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be a positive, finite number, got {value}")
        for name, value in (("beta_1", self.beta_1), ("beta_2", self.beta_2)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} must be at least 0 and below 1, got {value}")

    def merge(self, base: Tensors, contributions: Iterable[Contribution], state: Tensors) -> MergeResult:
        """Take one step from `base`; raises ValueError as `checked` does and for another model's state."""
        sums, total = weighted_sum(base, checked(base, contributions, self.minimum))
        step = int(state["step"]) + 1 if state else 1
        tensors: dict[str, Tensor] = {}
        moments: dict[str, Tensor] = {"step": np.array(step, dtype=np.int64)}
        for name, sum_ in drained(sums):
            start, mean = base[name], np.divide(sum_, total, out=sum_)
            if is_floating(start):
                m, v = self._moments(name, np.subtract(mean, start, out=mean), state)
                if self.beta_1:
                    moments[f"m/{name}"] = m
                moments[f"v/{name}"] = v
                mean = np.asarray(start + self._rate(step) * m / (np.sqrt(v) + self.tau))  # x_t+1
            tensors[name] = narrowed(mean, start)
        return MergeResult(tensors, moments)

    def _moments(self, name: str, delta: Tensor, state: Tensors) -> tuple[Tensor, Tensor]:
        """Update m_t and v_t with Delta_t, the mean of the sites' updates."""
        m = delta
        if self.beta_1:
            m = self.beta_1 * _moment(state, f"m/{name}", delta.shape) + (1.0 - self.beta_1) * delta
        v = self._second_moment(_moment(state, f"v/{name}", delta.shape), np.square(delta))
        return np.asarray(m), np.asarray(v)

    @abstractmethod
    def _second_moment(self, old: Tensor, square: Tensor) -> Tensor:
        """Make v_t of v_t-1 and Delta_t squared: what sets the three apart."""

    def _rate(self, step: int) -> float:  # noqa: ARG002 - FedAdam's depends on it
        return self.eta


@dataclass(frozen=True, slots=True)
class FedAdam(_HubOptimizer):
    """Adam at the hub.

    eta: learning rate of the hub. beta_1, beta_2: how much of the old first and second moment stays.
    tau: least scale an update is divided by; the larger, the less adaptive.
    """

    eta: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3

    def _second_moment(self, old: Tensor, square: Tensor) -> Tensor:
        return self.beta_2 * old + (1.0 - self.beta_2) * square

    def _rate(self, step: int) -> float:
        # `alpha_t` just before section 2.1 of Kingma & Ba; there the first step is 1, in Flower it is 2.
        t = step + 1
        return self.eta * math.sqrt(1.0 - self.beta_2**t) / (1.0 - self.beta_1**t)


@dataclass(frozen=True, slots=True)
class FedYogi(_HubOptimizer):
    """Yogi at the hub: Adam whose second moment also shrinks slowly; options as for FedAdam."""

    eta: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3

    def _second_moment(self, old: Tensor, square: Tensor) -> Tensor:
        return np.asarray(old - (1.0 - self.beta_2) * square * np.sign(old - square))


@dataclass(frozen=True, slots=True)
class FedAdagrad(_HubOptimizer):
    """Adagrad at the hub: the second moment is the sum of all squares; eta and tau as for FedAdam."""

    eta: float = 0.1
    tau: float = 1e-3

    def _second_moment(self, old: Tensor, square: Tensor) -> Tensor:
        return old + square


def _moment(state: Tensors, key: str, shape: tuple[int, ...]) -> Tensor:
    if not state:
        return np.zeros(shape)
    if key not in state or state[key].shape != shape:
        raise ValueError(f"the optimizer's state has no '{key}' of shape {list(shape)}; start from an empty one")
    return state[key]
