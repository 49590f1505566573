"""Real runs to export: one project per task, run once."""

import pytest

from fedloom.versions.repository import Repository
from tests.projects import made_project, run

LEARNERS = {
    "logistic": ("binary", {"use": "linear", "kind": "logistic"}),
    "softmax": ("multiclass", {"use": "linear", "kind": "softmax"}),
    "ridge": ("regression", {"use": "linear", "kind": "ridge"}),
    "mlp-relu": ("binary", {"use": "mlp", "hidden": [5, 3], "task": "binary"}),
    "mlp-tanh": ("multiclass", {"use": "mlp", "hidden": [4], "activation": "tanh", "task": "multiclass"}),
    "mlp-flat": ("regression", {"use": "mlp", "hidden": [], "task": "regression"}),
}


class Runs:
    """Finished runs by learner, made when first asked for."""

    def __init__(self, folder):
        self._folder, self._made = folder, {}

    def __call__(self, name):
        """Give the repository and the last commit of a run."""
        if name not in self._made:
            task, learner = LEARNERS[name]
            settings = {"learner": learner, "rounds": 3}
            home = made_project(self._folder / name, task, pipeline=settings)
            self._made[name] = home, run(home).commit
        home, commit = self._made[name]
        return Repository.at(home), commit


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("runs"))
