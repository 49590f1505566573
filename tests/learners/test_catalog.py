import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from fedloom.errors import LearnerError
from fedloom.learners import linear
from fedloom.learners.catalog import LEARNERS, import_class, load_class, source_digest
from fedloom.learners.guard import GuardedLearner

GOOD = '''
from __future__ import annotations
from dataclasses import dataclass
from fedloom.learners.linear import Linear

@dataclass(frozen=True)
class Mine(Linear):
    """A user's own, with an option more."""
    depth: int = 1
'''


def write(folder: Path, text: str) -> Path:
    path = folder / "learner.py"
    path.write_text(text)
    return path


def told(use: str, folder: Path) -> str:
    with pytest.raises(LearnerError) as caught:
        load_class(use, folder)
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_name_loads(name, tmp_path):
    """Every catalogued learner is a class with the Protocol's methods, and has a digest of its source."""
    cls = load_class(name, tmp_path)
    assert f"{cls.__module__}:{cls.__qualname__}" == LEARNERS[name]
    assert len(source_digest(name, tmp_path)) == 64


def test_heavy_packages_wait_until_they_are_used():
    """Neither the catalogue nor a learner of it imports scikit-learn or torch before it is made."""
    code = (
        "import sys; from pathlib import Path; from fedloom.learners.catalog import LEARNERS, load_class\n"
        "[load_class(name, Path()) for name in LEARNERS]\n"
        "assert not {'sklearn', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_user_s_file(tmp_path):
    """A class of a file in the project loads, works, and has the digest of that file."""
    path = write(tmp_path, GOOD)
    cls = load_class("learner.py:Mine", tmp_path)
    assert GuardedLearner("learner.py:Mine", cls(depth=3)).task == "binary"
    assert source_digest("learner.py:Mine", tmp_path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(tmp_path) not in sys.path
    assert not (tmp_path / "__pycache__").exists()


def test_a_file_is_loaded_once_until_it_changes(tmp_path):
    """The same bytes give the same class; other bytes another one, at once."""
    write(tmp_path, GOOD)
    first = load_class("learner.py:Mine", tmp_path)
    assert load_class("learner.py:Mine", tmp_path) is first
    write(tmp_path, GOOD.replace("depth: int = 1", "depth: int = 2"))
    assert load_class("learner.py:Mine", tmp_path)().depth == 2


def test_a_user_s_package(tmp_path):
    """A class of an importable package loads by `package.module:Class`, with its file's digest."""
    use = "fedloom.learners.linear:Linear"
    assert load_class(use, tmp_path) is linear.Linear
    digest = hashlib.sha256(Path(linear.__file__).read_bytes()).hexdigest()
    assert source_digest(use, tmp_path) == source_digest("linear", tmp_path) == digest


def test_unknown_name(tmp_path):
    """A wrong name is told with the nearest one."""
    assert "no learner 'liner'; did you mean 'linear'?" in told("liner", tmp_path)


def test_missing_file(tmp_path):
    """A file that is not there is named."""
    message = told("learner.py:Mine", tmp_path)
    assert "'learner.py:Mine' cannot be read: No such file" in message
    assert str(tmp_path / "learner.py") in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os\nimport nowhere_to_be_found\n", "ModuleNotFoundError at learner.py:2 (No module named"),
        ("x = 1\nraise KeyError('patient-4711')\n", "KeyError at learner.py:2: import it in Python"),
        ("x = 1\ndef broken(:\n", "SyntaxError at learner.py:2 (invalid syntax)"),
    ],
)
def test_a_file_that_cannot_be_imported(text, words, tmp_path):
    """What fails during an import is told with its line; only import and syntax errors with their text."""
    write(tmp_path, text)
    message = told("learner.py:Mine", tmp_path)
    assert words in message
    assert "patient-4711" not in message
    assert not [name for name, module in sys.modules.items() if getattr(module, "__file__", "") == str(tmp_path)]


def test_missing_extra(tmp_path, monkeypatch):
    """Where scikit-learn is not installed, the message says how to install it."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    write(tmp_path, "import sklearn\n")
    assert "pip install 'fedloom[sklearn]' at the hub and every site" in told("learner.py:Mine", tmp_path)


def test_missing_class(tmp_path):
    """A wrong class is told with the nearest one; a file without classes says so."""
    write(tmp_path, GOOD)
    assert "no class 'Mien'; did you mean 'Mine'?" in told("learner.py:Mien", tmp_path)
    write(tmp_path, "x = 1\n")
    assert "has no classes" in told("learner.py:x", tmp_path)


def test_missing_methods(tmp_path):
    """A class that lacks methods is told which, also where it inherits the Protocol's empty ones."""
    write(tmp_path, "class Mine:\n    def fit(self): ...\n")
    assert "lacks initial_parameters, predict, loss" in told("learner.py:Mine", tmp_path)
    inherits = "from fedloom.learners.learner import Learner\nclass Mine(Learner):\n    def fit(self): ...\n"
    write(tmp_path, inherits)
    assert "lacks initial_parameters, predict, loss" in told("learner.py:Mine", tmp_path)


def test_a_class_without_source(tmp_path, monkeypatch):
    """A learner without Python source has no digest, and says so."""
    monkeypatch.setattr("inspect.getsourcefile", lambda cls: None)
    with pytest.raises(LearnerError, match="no Python source"):
        source_digest("linear", tmp_path)


def test_a_module_that_is_not_there():
    """A wrong module is named."""
    with pytest.raises(LearnerError, match=r"ModuleNotFoundError \(No module named 'nowhere_to_be_found'\)"):
        import_class("nowhere_to_be_found:Class")
