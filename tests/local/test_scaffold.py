"""What `fedloom init` writes: a project that plans, runs, passes its gate, and is the same each time."""

import pytest

from fedloom.errors import SpecError, StorageError
from fedloom.local.scaffold import write_project
from tests.projects import history, project, run


def test_the_project_runs_as_it_is(tmp_path):
    """Twenty rounds, complete, the gate holds, the model lies where it is said to."""
    home = project(tmp_path)
    finished = run(home)
    assert (finished.status, finished.model) == ("complete", str(home / "models" / "machines.safetensors"))
    assert len(history(home)) == 21
    assert finished.summary["federated"]["pooled"]["auc"] > 0.8


def test_every_file_is_named_and_the_same_each_time(tmp_path):
    """The paths given are those written; two projects are equal byte for byte."""
    written = write_project(tmp_path / "a")
    write_project(tmp_path / "b")
    files = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert files == set(written)
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)


def test_an_empty_folder_will_do_and_a_full_one_will_not(tmp_path):
    """Nothing of a person's is overwritten."""
    (tmp_path / "empty").mkdir()
    assert write_project(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(SpecError, match="not empty"):
        write_project(tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    with pytest.raises(StorageError, match="cannot write"):
        write_project(tmp_path / "full" / "mine" / "below")
