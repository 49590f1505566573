"""Hold any learner to the contract of `learner.py`, at every site, on every call.

Rules: a learner gets read-only views, and what it was given is compared after the call; names, shapes,
dtypes, finiteness and ranges of what it returns are checked. Messages leave the site, so they hold names of
tensors, shapes, dtypes and types only; of an exception in a user's learner they tell the type and the place
in the code, never the text.
"""

from __future__ import annotations

import os
import sysconfig
import zlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from traceback import walk_tb
from typing import Any, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import LearnerError
from fedloom.learners.learner import Examples, Learner, TaskKind, Training
from fedloom.values import DTYPES, Tensor, Tensors, is_floating, tensor_bytes

_FEDLOOM = str(Path(__file__).parents[1]) + os.sep
_LIBRARIES = (sysconfig.get_path(key) + os.sep for key in ("stdlib", "platstdlib", "purelib", "platlib"))
_INSTALLED = (_FEDLOOM, *_LIBRARIES)


@dataclass(frozen=True)
class GuardedLearner:
    """A learner that keeps the contract or raises LearnerError.

    name: how the person wrote it in the pipeline. Making one raises LearnerError where `task` or
    `supports_proximal` is missing.
    """

    name: str
    learner: Learner

    def __post_init__(self) -> None:
        if self.task not in get_args(TaskKind):
            kinds = ", ".join(get_args(TaskKind))
            raise LearnerError(f"learner '{self.name}' has no task that exists; set it to one of {kinds}")
        if not isinstance(self.supports_proximal, bool):
            raise LearnerError(f"learner '{self.name}' has no supports_proximal; set it to True or False")

    @property
    def task(self) -> TaskKind:
        """What it predicts."""
        return getattr(self.learner, "task", None)  # type: ignore[return-value]  # __post_init__ refuses None

    @property
    def supports_proximal(self) -> bool:
        """Whether `fit` honours FedProx."""
        return getattr(self.learner, "supports_proximal", None)  # type: ignore[return-value]  # same

    def initial_parameters(self, features: int, outputs: int, rng: np.random.Generator) -> Tensors:
        """Make the parameters of round 0, checked: a mapping of finite arrays of storable dtypes."""
        made = self._call("initial_parameters", {}, features, outputs, rng)
        if not (isinstance(made, Mapping) and made and all(isinstance(name, str) for name in made)):
            self._refuse(type(made).__name__, "initial_parameters", "return a dictionary of named arrays")
        for name, array in made.items():
            if not isinstance(array, np.ndarray) or array.dtype not in DTYPES.values():
                kind = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
                todo = f"use an array of {', '.join(DTYPES)}"
                self._refuse(f"{kind} for '{name}'", "initial_parameters", todo)
            self._check_finite(f"'{name}'", array, "initial_parameters", "check how it is drawn")
        return dict(made)

    def fit(self, parameters: Tensors, examples: Examples, training: Training, rng: np.random.Generator) -> Tensors:
        """Train, checked: what comes back has the names, shapes and dtypes of `parameters` and is finite."""
        sealed = _sealed(parameters)
        made = self._call("fit", _given(sealed, examples), sealed, _sealed_rows(examples), training, rng)
        self._check_names(made, parameters)
        for name, want in parameters.items():
            self._check_like(f"'{name}'", made[name], want, "fit")
            self._check_finite(f"'{name}'", made[name], "fit", "lower the learning rate or check the loss")
        return dict(made)

    def predict(self, parameters: Tensors, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict, checked: float64, one prediction a row, finite, probabilities within [0, 1]."""
        sealed, rows = _sealed(parameters), _sealed({"features": features})
        made = self._call("predict", {**sealed, **rows}, sealed, rows["features"])
        if not isinstance(made, np.ndarray):
            self._refuse(type(made).__name__, "predict", "return an array")
        wide = self.task == "multiclass" and made.ndim == 2 and made.shape[1] > 1
        shape = (len(features), made.shape[1]) if wide else (len(features),)
        if made.shape != shape or (self.task == "multiclass" and not wide):
            want = f"({len(features)}, classes)" if self.task == "multiclass" else f"({len(features)},)"
            self._refuse(f"predictions of shape {made.shape}", "predict", f"expected {want} for {self.task}")
        self._check_like("the predictions", made, np.empty(shape), "predict")
        self._check_finite("the predictions", made, "predict", "look for log(0) and divisions by 0")
        if self.task != "regression" and made.size and not 0 <= made.min() <= made.max() <= 1:
            self._refuse("predictions outside [0, 1]", "predict", "apply a sigmoid or softmax to the scores")
        return made

    def loss(self, parameters: Tensors, examples: Examples) -> float:
        """Give the mean loss, checked: one finite number."""
        sealed = _sealed(parameters)
        made = self._call("loss", _given(sealed, examples), sealed, _sealed_rows(examples))
        if not isinstance(made, Real):
            self._refuse(type(made).__name__, "loss", "return one number, the mean over the rows")
        self._check_finite("the loss", np.asarray(made), "loss", "look for log(0) and divisions by 0")
        return float(made)

    def _call(self, method: str, given: Tensors, *arguments: object) -> Any:
        before = _checksums(given)
        fault: LearnerError | None = None
        try:
            # What overflows is found in the result; a warning would only repeat it at the site.
            with np.errstate(all="ignore"):
                # A copy: whatever a learner keeps on itself must not reach another site, round or process.
                made = getattr(deepcopy(self.learner), method)(*arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a user's code raises, its text stays here
            fault = self._fault(method, error)
        if fault is not None:
            raise fault  # outside of `except`, so that the user's exception is not attached as its context
        after = _checksums(given)
        changed = ", ".join(f"'{name}'" for name in given if before[name] != after[name])
        if changed:
            raise LearnerError(f"learner '{self.name}' changed {changed} in {method}: copy before writing")
        return made

    def _fault(self, method: str, error: BaseException) -> LearnerError:
        """Turn an exception into a message that may leave the site."""
        if isinstance(error, LearnerError) and _frames(error)[-1][0].startswith(_FEDLOOM):
            return LearnerError(str(error))  # written by us, so it holds no value of the data
        kind, place = type(error).__name__, place_in_code(error, type(self.learner).__module__)
        todo = "run it on made-up rows to see the whole error"
        if isinstance(error, ValueError) and "read-only" in str(error):
            todo = "copy its arguments before writing to them"
        if place is None:
            place, todo = "the call itself", f"it must take what Learner.{method} takes"
        return LearnerError(f"learner '{self.name}' raised {kind} in {method} at {place}: {todo}")

    def _refuse(self, what: str, method: str, todo: str) -> NoReturn:
        raise LearnerError(f"learner '{self.name}' returned {what} from {method}: {todo}")

    def _check_names(self, made: Any, parameters: Tensors) -> None:
        if not isinstance(made, Mapping):
            self._refuse(type(made).__name__, "fit", "return a dictionary of named arrays")
        missing = sorted(set(parameters) - set(made))
        if missing:
            names = ", ".join(f"'{name}'" for name in missing)
            self._refuse(f"no {names}", "fit", "return every tensor it was given")
        if len(made) > len(parameters):
            # A new name could be made of data: it is counted, not shown.
            extra = len(made) - len(parameters)
            self._refuse(f"tensors it was not given ({extra})", "fit", "return those it was given")

    def _check_like(self, what: str, made: Any, want: Tensor, method: str) -> None:
        if not isinstance(made, np.ndarray):
            self._refuse(f"{type(made).__name__} for {what}", method, "return a NumPy array")
        if made.dtype != want.dtype:
            todo = f"expected {want.dtype.name}, use .astype(np.{want.dtype.name})"
            self._refuse(f"{what} as {made.dtype.name}", method, todo)
        if made.shape != want.shape:
            self._refuse(f"{what} of shape {made.shape}", method, f"expected {want.shape}")

    def _check_finite(self, what: str, array: Tensor, method: str, todo: str) -> None:
        if is_floating(array) and not np.isfinite(array).all():
            self._refuse(f"{'NaN' if np.isnan(array).any() else 'infinity'} in {what}", method, todo)


def place_in_code(error: BaseException, module: str) -> str | None:
    """Say where an exception comes from, as `file.py:12`; None where it is the call or import itself.

    It is the innermost line outside of installed packages; else the innermost of `module`; else of any.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = _frames(error)[1:]  # the first is the caller's own
    written = [frame for frame in frames if not frame[0].startswith(_INSTALLED)]
    own = [frame for frame in frames if frame[2] == module]
    for file, line, _ in reversed(written or own or frames):
        return f"{Path(file).name}:{line}"
    return None


def _frames(error: BaseException) -> list[tuple[str, int, str]]:
    """List file, line and module of each frame an exception passed, outermost first."""
    frames = walk_tb(error.__traceback__)
    named = [(frame.f_code.co_filename, line, frame.f_globals.get("__name__", "")) for frame, line in frames]
    return [frame for frame in named if frame[2].partition(".")[0] != "importlib"]  # says nothing to a person


def _sealed(tensors: Tensors) -> dict[str, Tensor]:
    """Give read-only views."""
    views = {name: array.view() for name, array in tensors.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


def _sealed_rows(examples: Examples) -> Examples:
    return Examples(**_sealed({"features": examples.features, "labels": examples.labels}))


def _given(parameters: Tensors, examples: Examples) -> dict[str, Tensor]:
    return {**parameters, "features": examples.features, "labels": examples.labels}


def _checksums(tensors: Tensors) -> dict[str, int]:
    """CRC-32 of each array: a view that is read-only to NumPy is not so to torch or C, so we look."""
    return {name: zlib.crc32(tensor_bytes(array)) for name, array in tensors.items()}
