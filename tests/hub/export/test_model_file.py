"""The exported file: what is in the commit, readable by others, written whole or not at all."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from fedloom.errors import ConflictError, StorageError
from fedloom.hub.export import export_model
from fedloom.versions.content import Content
from fedloom.versions.objects import Commit, Conflict
from fedloom.versions.store import Store
from tests.projects import as_root


def test_the_file_holds_the_model_and_what_it_expects(tmp_path, runs):
    """The reference reader finds tensors, scaling, features, learner, metrics and the commit."""
    repository, commit = runs("logistic")
    path = export_model(repository, commit, tmp_path / "new" / "m.safetensors")
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        model = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    assert metadata["fedloom.commit"] == commit
    assert json.loads(metadata["features"]) == ["x", "z", "kind=q", "kind=r"]
    assert json.loads(metadata["learner"]) == {"use": "linear", "kind": "logistic"}
    assert metadata["pipeline"] == "made"
    assert json.loads(metadata["metrics"]) == repository.commit(commit).facts["metrics"]["pooled"]
    assert set(model) == {"model.weights", "model.bias", "preprocessing.mean", "preprocessing.scale"}
    np.testing.assert_array_equal(model["model.weights"], repository.model(commit)["weights"])


def test_a_merge_is_exported_under_its_parents_name(tmp_path):
    """A commit that names neither pipeline nor learner has those of its nearest ancestor that does."""
    content = Content(Store.in_memory())
    tree = content.add_tree({"model": content.add_tensors({"w": np.zeros(2)})}).id
    facts = {"pipeline": "heart", "learner": {"use": "linear"}}
    first = content.add_commit(Commit(tree, (), "import", "start", facts))
    merge = content.add_commit(Commit(tree, (first,), "merge", "both"))
    bare = content.add_commit(Commit(tree, (), "import", "bare"))
    found = {}
    for commit in (merge, bare):
        with safe_open(export_model(content, commit, tmp_path / commit), framework="np") as file:
            found[commit] = file.metadata()
    assert (found[merge]["pipeline"], found[merge]["fedloom.commit"]) == ("heart", merge)
    assert "learner" not in found[bare]


def test_open_conflicts_are_not_exported(tmp_path):
    """A model with undecided parts is none."""
    content = Content(Store.in_memory())
    conflict = content.add_conflict(Conflict("model/w", "contested", None, ()))
    tree = content.add_tree({"model": content.add_tree({"w": conflict})}).id
    commit = content.add_commit(Commit(tree, (), "merge", "open"))
    with pytest.raises(ConflictError, match="open conflicts at model/w"):
        export_model(content, commit, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(as_root(), reason="permissions do not bind root")
def test_a_folder_that_cannot_be_written_is_told(tmp_path, runs):
    """The older file stays, nothing half-written is left."""
    repository, commit = runs("logistic")
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="safe in the repository"):
        export_model(repository, commit, tmp_path / "m.safetensors")
    tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_by_a_folder_is_told(tmp_path, runs):
    """A folder of the file's name stays as it is."""
    repository, commit = runs("logistic")
    (tmp_path / "m.safetensors" / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot write"):
        export_model(repository, commit, tmp_path / "m.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
