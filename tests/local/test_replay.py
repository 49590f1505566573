"""Replayed rounds: the same bytes from the commit alone, wherever the same data lie; and what is found where not."""

import shutil

import numpy as np
import pytest

from fedloom.errors import PlanError
from fedloom.local.replay import replay
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
from tests.projects import allow, edit, history, project, run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project with one finished run of three rounds, in which one site was lost once."""
    from fedloom.engine.scenario import Faults, Scenario

    home = project(tmp_path_factory.mktemp("replay"), rounds=3, gate=False)
    allow(home, "{min_sites: 2}")
    run(home, scenario=Scenario({2: Faults(drop=frozenset({"south"}))}))
    return home


def again(home, commit, **how):
    return replay(home, commit, lambda _: None, **how)


def test_every_round_comes_out_as_the_same_commit(home):
    """One by one and as a whole run: model, receipts and metrics, and so the commit's id; a lost site stays lost."""
    _, *rounds = history(home)
    whole = again(home, rounds[-1], whole_run=True)
    assert [(one.round, one.again, one.same) for one in whole] == [(n, id_, True) for n, id_ in enumerate(rounds, 1)]
    assert [again(home, id_)[0].again for id_ in rounds] == rounds


def test_a_replay_needs_the_commit_and_the_data_only(home, tmp_path):
    """Settings, contract and learner of today may be others: they are read from the commit."""
    copy = tmp_path / "project"
    shutil.copytree(home, copy)
    edit(copy / "pipeline.yaml", "learning_rate: 0.1", "learning_rate: 0.7")
    (copy / "learner.py").write_text("raise SystemExit('not this one')\n")
    tip = history(home)[-1]
    with pytest.raises(PlanError, match=r"carries a learner\.py that is not the one here"):
        again(copy, tip)
    (found,) = again(copy, tip, run_its_code=True)
    assert found.again == tip


def test_a_replay_leaves_nothing_behind(home):
    """It works in a folder of its own: refs, objects and journals of the project stay as they are."""
    before = {path: path.read_bytes() for path in sorted((home / ".fedloom").rglob("*")) if path.is_file()}
    again(home, history(home)[-1])
    assert {path: path.read_bytes() for path in sorted((home / ".fedloom").rglob("*")) if path.is_file()} == before


def forged(repository, tip, change):
    commit = repository.commit(tip)
    parts = dict(repository.tree(commit.tree))
    parts["model"] = repository.add_tensors({name: change(array) for name, array in repository.model(tip).items()})
    tree = repository.add_tree(parts).id
    return repository.add_commit(Commit(tree, commit.parents, "round", commit.message, commit.facts, commit.recipe))


def test_a_forged_model_is_found_at_its_first_byte(home, tmp_path):
    """One unit in the last place of the last weight: the tensor and the byte are named."""
    copy = tmp_path / "project"
    shutil.copytree(home, copy)
    repository = Repository.at(copy)

    def nudge(array):
        out = array.copy()
        out.reshape(-1)[-1] = np.nextafter(out.reshape(-1)[-1], out.dtype.type(np.inf))
        return out if out.size > 1 else array

    (found,) = again(copy, forged(repository, history(copy)[-1], nudge))
    assert not found.same
    assert found.parts == ("model",)
    weights = repository.model(history(copy)[-1])["weights"]
    assert found.difference.path == "model/weights"
    assert found.difference.offset // weights.itemsize == weights.size - 1
    assert found.difference.recorded != found.difference.replayed


def test_changed_rows_are_said_before_anything_runs(home, tmp_path):
    """A replay on other rows would prove nothing: site and part are named."""
    copy = tmp_path / "project"
    shutil.copytree(home, copy)
    path = copy / "data" / "north.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    with pytest.raises(PlanError, match="data of north changed since"):
        again(copy, history(copy)[-1])


def test_what_cannot_be_replayed_is_said(home, tmp_path):
    """The first commit of a run is no round; a site that left the project is named."""
    with pytest.raises(PlanError, match="is a commit of kind 'import': rounds are replayed"):
        again(home, history(home)[0])
    copy = tmp_path / "project"
    shutil.copytree(home, copy)
    edit(copy / "pipeline.yaml", "  harbour: sites/harbour.yaml\n", "")
    with pytest.raises(PlanError, match=r"pipeline\.yaml has no site harbour"):
        again(copy, history(copy)[-1])


def test_a_learner_outside_its_project_is_not_written_there(home):
    """A commit that names `../x.py` as its learner's file cannot make a replay write outside its folder."""
    from pathlib import Path

    from fedloom.local.replay import _write_source
    from fedloom.versions.objects import Entry

    repository = Repository.at(home)
    blob = repository.add_blob(b"x = 1\n")
    for use in ("../x.py:X", "/tmp/x.py:X", "a/../../x.py:X", "y.py:X"):
        with pytest.raises(PlanError, match="lies outside its project"):
            _write_source(Path("/nonexistent"), use, repository, {"x.py": Entry("blob", blob.id)})
