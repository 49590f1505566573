"""A model as an ONNX graph: raw features in, what the learner predicts out.

Rules: preprocessing is part of the graph, so nobody has to repeat it; arithmetic is float64, as in the learner. A
graph is handed out only after it gave the learner's own predictions on made-up rows. `onnx` is imported here only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import LearnerError, PlanError, SpecError
from fedloom.hub.export.files import write_file
from fedloom.hub.export.model_file import COMMIT, preprocessing, told
from fedloom.learners.catalog import load_class
from fedloom.learners.learner import Examples, Learner, TaskKind
from fedloom.pipeline.features import identity, standardize
from fedloom.values import Digest, Tensors, generator
from fedloom.versions.content import Content

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

TOLERANCE = 1e-5
_OPSET, _IR = 17, 8  # of 2022: old enough for every runtime in use
_ROWS = 64
FEATURES, PREDICTION = "features", "prediction"


def export_onnx(content: Content, commit: Digest, path: Path) -> Path:
    """Write a commit's model as ONNX; raises PlanError when its learner has no such form."""
    return write_file(path, [onnx_model(content, commit)])


def onnx_model(content: Content, commit: Digest) -> bytes:
    """Make the ONNX file of a commit's model.

    Input `features`, float64, shape (rows, features), in the order of the metadata's `features`; a missing value is
    NaN. Output `prediction`, float64: what `Learner.predict` gives.
    """
    _require_onnx()
    facts = told(content, commit)
    settings = dict(facts.get("learner", {}))
    use = settings.pop("use", "")
    if use not in _SCORES:
        what = f"learner '{use}' has" if use else f"commit {commit[:12]} names no learner, so it has"
        raise PlanError(
            f"{what} no ONNX form; {' and '.join(_SCORES)} have one. `fedloom export safetensors` always works"
        )
    learner: Learner = load_class(use, Path())(**settings)
    model = content.model(commit)
    names, scaling = preprocessing(content, commit)
    width = next(iter(model.values())).shape[0] if not scaling else len(scaling["mean"])
    scaling = scaling or dict(identity(width))
    graph = _Graph()
    graph.standardise(scaling)
    _SCORES[use](graph, model, settings)
    graph.link(learner.task)
    labels = {
        "pipeline": facts.get("pipeline", ""),
        "features": json.dumps(names),
        "scaled_by": _scope(content, commit),
    }
    made = graph.model(width, learner.task, {COMMIT: commit, **labels})
    _require_agreement(made, learner, model, scaling)
    return cast("bytes", made.SerializeToString())


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401  only whether it is there
    except ImportError:
        raise SpecError("this needs the package onnx: pip install 'fedloom[onnx]'") from None


def _scope(content: Content, commit: Digest) -> str:
    """Say whose mean and scale the model was trained with: global, site (each its own, which no graph has) or none."""
    part = content.part(commit, "inputs")
    inputs = content.tree(part.id) if part else {}
    settings = json.loads(content.blob(inputs["pipeline"].id)) if "pipeline" in inputs else {}
    fit = (settings.get("stages") or {}).get("fit")
    return str(fit["standardize"]) if fit else "none"


@dataclass
class _Graph:
    """A chain of operations, each on the result of the one before."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    last: str = FEATURES

    def then(self, operation: str, *others: NDArray[Any], **attributes: Any) -> None:
        """Apply an operation to the last result and some constants."""
        from onnx import helper

        inputs = [self.last, *(self.constant(array) for array in others)]
        self.last = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [self.last], **attributes))

    def constant(self, array: NDArray[Any]) -> str:
        """Add a constant; numbers become float64."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        whole = array.dtype.kind == "i"
        self.constants.append(numpy_helper.from_array(array if whole else array.astype(np.float64), name))
        return name

    def standardise(self, scaling: Tensors) -> None:
        """Subtract the mean, divide by the scale; a missing value becomes the mean, as in `features.standardize`."""
        from onnx import helper

        self.then("Sub", scaling["mean"])
        self.then("Div", scaling["scale"])
        known = self.last
        self.then("IsNaN")
        zero = self.constant(np.zeros(()))
        self.nodes.append(helper.make_node("Where", [self.last, zero, known], ["standardised"]))
        self.last = "standardised"

    def layer(self, weights: NDArray[Any], bias: NDArray[Any]) -> None:
        """Multiply by weights, shape (inputs, outputs), and add a bias."""
        self.then("MatMul", weights)
        self.then("Add", bias)

    def link(self, task: TaskKind) -> None:
        """Turn scores, shape (rows, outputs), into what `Learner.predict` gives."""
        if task == "multiclass":
            self.then("Softmax", axis=1)
            return
        if task == "binary":
            self.then("Sigmoid")
        self.then("Squeeze", np.array([1]))

    def model(self, width: int, task: TaskKind, labels: Mapping[str, str]) -> ModelProto:
        """Close the graph, name its ends and check its form."""
        from onnx import TensorProto, checker, helper

        from fedloom._version import __version__

        self.nodes[-1].output[0] = PREDICTION
        shape: list[Any] = ["rows", None] if task == "multiclass" else ["rows"]
        given = [helper.make_tensor_value_info(FEATURES, TensorProto.DOUBLE, ["rows", width])]
        told = [helper.make_tensor_value_info(PREDICTION, TensorProto.DOUBLE, shape)]
        graph = helper.make_graph(self.nodes, "fedloom", given, told, self.constants)
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR,
            producer_name="fedloom",
            producer_version=__version__,
        )
        helper.set_model_props(made, dict(labels))
        checker.check_model(made)
        return made


def _linear(graph: _Graph, model: Tensors, settings: Mapping[str, Any]) -> None:  # noqa: ARG001  one signature for all
    bias = model["bias"]
    graph.layer(model["weights"].reshape(-1, len(bias)), bias)


def _mlp(graph: _Graph, model: Tensors, settings: Mapping[str, Any]) -> None:
    layers = sum(name.endswith(".bias") for name in model)
    activation = {"relu": "Relu", "tanh": "Tanh"}[settings.get("activation", "relu")]
    for index in range(layers):
        graph.layer(model[f"layer{index}.weights"], model[f"layer{index}.bias"])
        if index + 1 < layers:
            graph.then(activation)


_SCORES: Mapping[str, Callable[[_Graph, Tensors, Mapping[str, Any]], None]] = {"linear": _linear, "mlp": _mlp}
"""How a learner's scores are computed, by its name in the catalogue."""


def _require_agreement(made: ModelProto, learner: Learner, model: Tensors, scaling: Tensors) -> None:
    """Hold the graph to the learner's own predictions; raises LearnerError when they differ."""
    from onnx.reference import ReferenceEvaluator

    rng = generator("onnx", "rows")
    rows = scaling["mean"] + scaling["scale"] * rng.normal(0, 3, (_ROWS, len(scaling["mean"])))
    rows[rng.random(rows.shape) < 0.05] = np.nan  # some values are missing
    found = np.asarray(next(iter(ReferenceEvaluator(made).run(None, {FEATURES: rows}))))
    wanted = learner.predict(model, standardize(Examples(rows, np.zeros(_ROWS)), scaling).features)
    if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE):
        raise LearnerError("the ONNX graph does not predict what the learner predicts: please report this")
