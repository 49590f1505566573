"""All learners by name, and a user's own from a package or a file.

Rules: a learner's module is imported when it is used, so scikit-learn and torch cost nothing to those who do
not use them. A learner file stands alone: `sys.path` stays as it is, so a digest of the file covers its code.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.abc import SourceLoader
from pathlib import Path
from threading import RLock
from types import ModuleType

from fedloom.errors import LearnerError, nearest
from fedloom.learners.guard import place_in_code
from fedloom.learners.learner import Learner
from fedloom.values import Digest, sha256

LEARNERS: Mapping[str, str] = {
    "linear": "fedloom.learners.linear:Linear",
    "mlp": "fedloom.learners.mlp:Mlp",
    "sklearn": "fedloom.learners.sklearn:Sklearn",
    "torch": "fedloom.learners.torch:Torch",
}

_METHODS = ("initial_parameters", "fit", "predict", "loss")
_EXTRAS = ("sklearn", "torch")
_LOADING = RLock()


def load_class(use: str, folder: Path) -> type:
    """Load a learner's class: a name of LEARNERS, `package.module:Class`, or `file.py:Class` in `folder`.

    Raises LearnerError: unknown name, no such file or class, a failing import, or methods that are missing.
    """
    file = _file(use, folder)
    if file is not None:
        cls = _pick(use, _load_file(use, file))
    elif ":" in use or use in LEARNERS:
        cls = import_class(LEARNERS.get(use, use))
    else:
        raise LearnerError(f"no learner '{use}'; {nearest(use, LEARNERS)}, or your own as file.py:Class")
    absent = [name for name in _METHODS if getattr(cls, name, None) in (None, getattr(Learner, name))]
    if absent:
        raise LearnerError(f"learner '{use}' lacks {', '.join(absent)}: see fedloom.learners.learner.Learner")
    return cls


def source_digest(use: str, folder: Path) -> Digest:
    """SHA-256 of the source file that defines a learner: the code digest of a commit."""
    cls = load_class(use, folder)
    return _digest(use, _file(use, folder) or inspect.getsourcefile(cls))


def source_file(use: str, folder: Path) -> tuple[str, bytes] | None:
    """Name and bytes of a learner's own file, so that a commit can carry it; None for a learner of a package."""
    file = _file(use, folder)
    return (file.name, file.read_bytes()) if file is not None else None


def imported_digest(use: str) -> Digest:
    """SHA-256 of the source file of `package.module:Class`, such as the module a torch learner trains."""
    return _digest(use, inspect.getsourcefile(import_class(use)))


def import_class(use: str) -> type:
    """Import any class by `package.module:Class`; raises LearnerError."""
    name = use.rpartition(":")[0]
    try:
        module = import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  a module's top level can raise anything
        raise _unloadable(use, error, name) from None
    return _pick(use, module)


def _digest(use: str, file: Path | str | None) -> Digest:
    if file is None:
        raise LearnerError(f"'{use}' has no Python source to take a digest of")
    return sha256(Path(file).read_bytes())


def _file(use: str, folder: Path) -> Path | None:
    name = use.rpartition(":")[0]
    return folder / name if name.endswith(".py") else None


def _load_file(use: str, path: Path) -> ModuleType:
    """Load a file as a module of a name that belongs to its path and content, once."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise LearnerError(f"learner '{use}' cannot be read: {error.strerror}: {path}") from None
    name = "fedloom_learner_" + sha256(str(path.resolve()).encode(), b"\0", source)[:16]
    with _LOADING:
        if name not in sys.modules:
            module = sys.modules[name] = ModuleType(name)  # dataclasses look it up while it is executed
            module.__file__ = str(path)
            try:
                _Loaded(path, source).exec_module(module)
            except (Exception, SystemExit) as error:  # noqa: BLE001  a module's top level can raise anything
                del sys.modules[name]
                raise _unloadable(use, error, name) from None
        return sys.modules[name]


class _Loaded(SourceLoader):
    """Executes bytes already read; writes and reads no bytecode, which could be of an older version."""

    def __init__(self, path: Path, source: bytes) -> None:
        self.path, self.source = path, source

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002  the base class's signature
        return str(self.path)

    def get_data(self, path: str | bytes) -> bytes:  # noqa: ARG002  same
        return self.source


def _unloadable(use: str, error: BaseException, module: str) -> LearnerError:
    """Say why a module cannot be imported; no data is loaded yet, so an ImportError's text may be shown."""
    text, todo = "", "import it in Python to see the whole error"
    if isinstance(error, (SyntaxError, ImportError)):
        text = f" ({error.msg})"
    if isinstance(error, ImportError):
        package = (error.name or "").partition(".")[0]
        todo = "install it at the hub and every site; a learner file cannot import its neighbours"
        if package in _EXTRAS:
            todo = f"pip install 'fedloom[{package}]' at the hub and every site"
    place = place_in_code(error, module)
    what = type(error).__name__ + (f" at {place}" if place else "") + text
    return LearnerError(f"'{use}' cannot be loaded: {what}: {todo}")


def _pick(use: str, module: ModuleType) -> type:
    name = use.rpartition(":")[2]
    found = getattr(module, name, None)
    if isinstance(found, type):
        return found
    classes = [key for key, value in vars(module).items() if isinstance(value, type) and key[0] != "_"]
    if not classes:
        raise LearnerError(f"'{use}' cannot be loaded: its module has no classes")
    raise LearnerError(f"'{use}' cannot be loaded: there is no class '{name}'; {nearest(name, classes)}")
