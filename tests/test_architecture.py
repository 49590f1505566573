"""Invariants of ARCHITECTURE.md that are about the source itself."""

import ast
from pathlib import Path

import pytest

import fedloom

SOURCE = Path(fedloom.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
PRINTS = {"cli/output.py", "cli/project.py", "cli/main.py"}
SAVES_ENVIRONMENT = {"engine/flower/environment.py"}


def names_in(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_the_library_never_prints_reads_the_environment_or_unpickles(path):
    """Printing is for cli; the environment is nobody's; pickle is never loaded."""
    name, used = str(path.relative_to(SOURCE)), set(names_in(path))
    if name not in PRINTS:
        assert "print" not in used or name.startswith("cli/")
    if name not in SAVES_ENVIRONMENT:
        assert not used & {"environ", "getenv"}
    assert "pickle" not in used
    assert "allow_pickle" not in path.read_text()


def test_the_public_api_is_what_is_listed():
    """`__all__` is the whole public API, and everything in it loads."""
    assert sorted(fedloom.__all__) == ["FedloomError", "Repository", "__version__"]
    for name in fedloom.__all__:
        assert getattr(fedloom, name) is not None


def test_importing_fedloom_is_cheap():
    """`import fedloom` and the command's module load no NumPy, pydantic or store."""
    import subprocess
    import sys

    code = (
        "import sys, fedloom, fedloom.cli.main\n"
        "heavy = {'numpy', 'pydantic', 'obstore', 'jinja2', 'yaml', 'sklearn', 'flwr', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
