"""Resuming: an interrupted run ends with the digests of an uninterrupted one, and only onto equal inputs."""

import os

import pytest

from fedloom.engine.scenario import Faults, Scenario
from fedloom.errors import ConflictError, NotFoundError, SpecError
from fedloom.pipeline.events import RoundFinished, RunStarted, StageFinished
from fedloom.versions.repository import Repository
from tests.projects import allow, edit, history, project, run


def stop_after(number, kind=RoundFinished):
    """An `emit` that is interrupted as by Ctrl-C once a round, or the stage after all rounds, is done."""

    def emit(event):
        if (
            isinstance(event, kind)
            and getattr(event, "round", number) == number
            and getattr(event, "stage", "") != "fit"
        ):
            raise KeyboardInterrupt

    return emit


def interrupted(home, number, kind=RoundFinished):
    with pytest.raises(KeyboardInterrupt):
        run(home, stop_after(number, kind))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The commits of a run of five rounds that nobody interrupted."""
    home = project(tmp_path_factory.mktemp("whole"), rounds=5)
    run(home)
    return history(home)


@pytest.mark.parametrize("number", [1, 2, 4, 5])
def test_interrupted_after_a_round_and_resumed(tmp_path, whole, number):
    """Ctrl-C after round k keeps k rounds; resumed, every commit is that of the uninterrupted run."""
    home = project(tmp_path, rounds=5)
    interrupted(home, number)
    assert history(home) == whole[: number + 1]
    assert Repository.at(home).refs.get("heads/main") is None
    seen = []
    assert run(home, seen.append, resume=True).status == "complete"
    assert history(home) == whole
    assert Repository.at(home).refs.get("heads/main") == whole[-1]
    assert next(e.resumed_at for e in seen if isinstance(e, RunStarted)) == number
    assert [e.round for e in seen if isinstance(e, RoundFinished)] == list(range(number + 1, 6))


def test_interrupted_before_the_first_round(tmp_path, whole):
    """Only the root is there; resumed, it goes on from it."""
    home = project(tmp_path, rounds=5)
    with pytest.raises(KeyboardInterrupt):
        run(home, lambda event: (_ for _ in ()).throw(KeyboardInterrupt) if isinstance(event, RunStarted) else None)
    assert history(home) == whole[:1]
    run(home, resume=True)
    assert history(home) == whole


def test_interrupted_twice(tmp_path, whole):
    """Two interruptions are as none."""
    home = project(tmp_path, rounds=5)
    interrupted(home, 2)
    with pytest.raises(KeyboardInterrupt):
        run(home, stop_after(3), resume=True)
    run(home, resume=True)
    assert history(home) == whole


def test_a_run_that_was_partial_stays_partial_when_resumed(tmp_path):
    """What happened before the interruption is not forgotten."""
    home = project(tmp_path, rounds=4, gate=False)
    allow(home, "{min_sites: 2}")
    faults = Scenario({1: Faults(drop=frozenset({"south"}))})
    with pytest.raises(KeyboardInterrupt):
        run(home, stop_after(2), scenario=faults)
    assert run(home, resume=True).status == "partial-allowed"


def change_data(home):
    with (home / "data" / "south.csv").open("a") as file:
        file.write("70,3,A,no\n")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda home: edit(home / "pipeline.yaml", "l2: 0.001", "l2: 0.002"), "pipeline learner"),
        (lambda home: edit(home / "pipeline.yaml", "epochs: 1", "epochs: 2"), "pipeline stages"),
        (lambda home: edit(home / "pipeline.yaml", "seed: 1", "seed: 2"), "pipeline seed"),
        (lambda home: edit(home / "contract.yaml", "maximum: 60", "maximum: 61"), "contract"),
        (
            lambda home: edit(home / "sites" / "north.yaml", "columns: {}", "columns: {}\nnotes: new"),
            "adapter of north",
        ),
        (change_data, "data of south"),
        (lambda home: edit(home / "learner.py", "l2: float = 0.0", "l2: float = 0.5"), "code learner"),
        (
            lambda home: edit(home / "pipeline.yaml", "  south: sites/south.yaml\n", ""),
            "the list of sites (south left)",
        ),
    ],
)
def test_a_changed_input_is_named_and_refused(tmp_path, change, named):
    """Resume goes on only onto what it began with: the sentence names what changed, and nothing moves."""
    home = project(tmp_path, rounds=5)
    interrupted(home, 2)
    before = history(home)
    change(home)
    with pytest.raises(ConflictError) as caught:
        run(home, resume=True)
    assert str(caught.value).startswith(f"runs/1 cannot be resumed: {named} changed since it started. ")
    assert caught.value.exit_code == 5
    assert history(home) == before


def test_a_file_that_was_only_touched_is_the_same(tmp_path, whole):
    """Digests are of bytes: a new time of change is none."""
    home = project(tmp_path, rounds=5)
    interrupted(home, 2)
    os.utime(home / "data" / "south.csv", (1, 1))
    run(home, resume=True)
    assert history(home) == whole


def test_nothing_to_resume(tmp_path):
    """Without a run there is nothing to go on with: exit code 4."""
    with pytest.raises(NotFoundError, match="no run to resume") as caught:
        run(project(tmp_path), resume=True)
    assert caught.value.exit_code == 4


def test_a_finished_run_is_not_resumed_but_prolonged(tmp_path, whole):
    """Finished: exit code 2 and how to go on; with more rounds it does; with fewer than it has it cannot."""
    home = project(tmp_path, rounds=3)
    run(home)
    for rounds in (3, 2):
        with pytest.raises(SpecError, match=f"runs/1 has 3 rounds, and {rounds} are asked for: give more"):
            run(home, resume=True, rounds=rounds)
    run(home, resume=True, rounds=5)
    assert history(home) == whole


def test_a_run_whose_last_stages_are_missing_only_gets_those(tmp_path, whole):
    """Interrupted after all rounds: evaluation, gate and registration are made up for, no round is run again."""
    home = project(tmp_path, rounds=5)
    with pytest.raises(KeyboardInterrupt):
        run(
            home,
            lambda e: (
                (_ for _ in ()).throw(KeyboardInterrupt) if isinstance(e, StageFinished) and e.stage == "gate" else None
            ),
        )
    assert history(home) == whole
    seen = []
    assert run(home, seen.append, resume=True).model
    assert not [e for e in seen if isinstance(e, RoundFinished)]


def test_runs_are_numbered(tmp_path):
    """Each start is a run of its own; the newest is the one that is resumed."""
    home = project(tmp_path, rounds=2)
    run(home)
    interrupted(home, 1)
    assert [len(history(home, name)) for name in ("runs/1", "runs/2")] == [3, 2]
    run(home, resume=True)
    assert history(home, "runs/1") == history(home, "runs/2")
