"""Any `torch.nn.Module`: its state_dict, buffers too, is the parameters.

Rules: torch is imported when a learner is used. A module is made anew for every call, on the CPU, so
nothing is kept between rounds. torch draws from one generator per process: it is seeded from the generator
that is passed in, under a lock, and put back afterwards, so the same seed gives the same model whatever
else runs here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import LearnerError
from fedloom.learners.catalog import import_class
from fedloom.learners.learner import Examples, TaskKind, Training
from fedloom.learners.linear import predictions, score_loss
from fedloom.values import Tensors

_GENERATOR = Lock()


@dataclass(frozen=True)
class Torch:
    """A PyTorch module (Paszke et al. 2019), trained by SGD.

    module: where its class is, as `package.module:Class`; it is called with the numbers of features and
    outputs, then `options`, and gives scores (logits, or values for regression), shape (rows, outputs); a
    subclass that overrides `network` needs none. task: what it predicts. outputs: for multiclass, the
    number of classes. weight_decay and momentum are those of torch.optim.SGD. The loss of regression is the
    mean squared error.
    """

    module: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    task: TaskKind = "binary"
    outputs: int = 1
    momentum: float = 0.0
    weight_decay: float = 0.0
    supports_proximal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if (self.outputs > 1) != (self.task == "multiclass"):
            raise ValueError("outputs is the number of classes: 2 or more for multiclass, else leave it out")
        if type(self).network is Torch.network:
            import_class(self.module)

    def network(self, features: int) -> Any:
        """Make the module, in any state; override it to have the module and its learner in one file."""
        return import_class(self.module)(features, self.outputs, **self.options)

    def initial_parameters(self, features: int, outputs: int, rng: np.random.Generator) -> Tensors:
        """Start as the module starts itself."""
        if outputs != self.outputs:
            raise LearnerError(f"'{self.module}' is set to outputs: {self.outputs}, the data has {outputs}")
        with _seeded(rng):
            return _state(self.network(features))

    def fit(self, parameters: Tensors, examples: Examples, training: Training, rng: np.random.Generator) -> Tensors:
        """Descend the gradient of loss + FedProx's mu/2 * ||w - w_global||^2 (Li et al. 2020, eq. 2).

        A batch of a single row is left out where the module normalises by batch: it has no variance.
        """
        import torch

        with _seeded(rng):
            network = self._loaded(parameters, examples.features.shape[1]).train()
            weights = list(network.parameters())
            start = [weight.detach().clone() for weight in weights]
            rows, labels = self._as_torch(examples, weights[0].dtype)
            descent = torch.optim.SGD(
                weights, lr=training.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
            )
            smallest = 2 if _normalises_by_batch(network) else 1
            for batch in training.batches(len(examples), rng):
                if len(batch) < smallest:
                    continue
                descent.zero_grad()
                self._loss(network(rows[batch]), labels[batch]).backward()
                for weight, anchor in zip(weights, start, strict=True):
                    if training.proximal_mu and weight.grad is not None:
                        weight.grad += training.proximal_mu * (weight.detach() - anchor)
                descent.step()
            return _state(network)

    def predict(self, parameters: Tensors, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict, float64: see `Learner.predict`."""
        return predictions(self.task, self._scores(parameters, features))

    def loss(self, parameters: Tensors, examples: Examples) -> float:
        """Mean log loss in nats, or mean squared error."""
        return score_loss(self.task, self._scores(parameters, examples.features), examples.labels)

    def _loaded(self, parameters: Tensors, features: int) -> Any:
        """Make the module and load the parameters into it."""
        import torch

        network = self.network(features)
        try:
            network.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in parameters.items()})
        except RuntimeError:
            raise LearnerError(f"the model does not fit module '{self.module}': did it change?") from None
        return network

    def _scores(self, parameters: Tensors, features: NDArray[np.float64]) -> NDArray[np.float64]:
        import torch

        with _seeded(np.random.default_rng(0)), torch.no_grad():
            network = self._loaded(parameters, features.shape[1]).eval()
            rows = torch.from_numpy(np.array(features)).to(next(network.parameters()).dtype)
            scores: NDArray[np.float64] = network(rows).reshape(len(features), self.outputs).double().numpy()
        return scores

    def _as_torch(self, examples: Examples, dtype: Any) -> tuple[Any, Any]:
        import torch

        labels = torch.from_numpy(np.array(examples.labels))
        rows = torch.from_numpy(np.array(examples.features)).to(dtype)
        return rows, labels if self.task == "multiclass" else labels.to(dtype)

    def _loss(self, scores: Any, labels: Any) -> Any:
        from torch.nn import functional

        if self.task == "multiclass":
            return functional.cross_entropy(scores, labels)
        loss = functional.mse_loss if self.task == "regression" else functional.binary_cross_entropy_with_logits
        return loss(scores.reshape(len(labels)), labels)


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """Let torch draw what belongs to `rng`, then give its generator back as it was."""
    import torch

    with _GENERATOR, torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)  # sums, and so the result, depend on their number
        torch.manual_seed(int(rng.integers(2**63)))
        yield


def _state(network: Any) -> Tensors:
    return {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}


def _normalises_by_batch(network: Any) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    return any(isinstance(part, _BatchNorm) for part in network.modules())
