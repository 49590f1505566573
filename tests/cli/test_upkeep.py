"""fsck, gc and erase on the command line: what a person types and reads, and the exit codes scripts rely on."""

import json
import shutil

import pytest

from fedloom.versions.repository import Repository
from tests.projects import edit, history, project, run


@pytest.fixture
def home(tmp_path):
    """A run of three rounds whose updates the hub keeps, registered as main."""
    folder = project(tmp_path, rounds=3, gate=False)
    edit(folder / "pipeline.yaml", "rounds: 3", "rounds: 3\nkeep_updates: hub")
    run(folder)
    return folder


def test_a_whole_repository_is_said_to_be_whole(cli, home):
    """What was read, what need not be here and the verdict, in a few lines; exit code 0."""
    said = cli("fsck", "-C", home)
    assert said.code == 0
    *lines, verdict = said.out.splitlines()
    assert verdict == "whole"
    assert "read and held to their ids" in lines[0]
    assert "4 commits" in lines[0]
    assert "computed by recipe" in said.out
    assert len(lines) < 6
    quick = cli("fsck", "--quick", "-C", home)
    assert quick.code == 0
    assert "held to their ids" not in quick.out


def test_fsck_speaks_json(cli, home):
    """Machines get every figure."""
    told = json.loads(cli("fsck", "--json", "-C", home).out)
    assert told["ok"] is True
    assert told["commits"] == 4
    assert told["problems"] == []
    assert sum(told["absent"].values()) == len(told["absences"])


def test_a_problem_is_listed_with_what_to_do(cli, home):
    """Exit code 1, one line a problem, no traceback."""
    for path in (home / ".fedloom/bundles").iterdir():
        path.unlink()
    said = cli("fsck", "-C", home)
    assert said.code == 1
    assert "problem" in said.out
    assert "heads/main: commit" in said.out
    assert "is missing: `fedloom remote add` a repository that has it" in said.out
    assert json.loads(cli("fsck", "--json", "-C", home).out)["ok"] is False


def test_repair_brings_back_what_a_remote_has(cli, home, tmp_path):
    """After it the repository is whole; the remote is named."""
    cli("remote", "add", "copy", tmp_path / "copy", "-C", home)
    cli("push", "copy", "-C", home)
    for path in (home / ".fedloom/bundles").iterdir():
        path.unlink()
    assert cli("fsck", "-C", home).code == 1
    said = cli("fsck", "--repair", "-C", home)
    assert "from copy" in said.out
    report = Repository.at(home).fsck()
    assert not [problem for problem in report.problems if problem.where.startswith("heads/main")]
    assert len(Repository.at(home).model(Repository.at(home).resolve("main"))) == 2


def test_repair_of_a_whole_repository_does_nothing(cli, home):
    """It is safe to ask for."""
    said = cli("fsck", "--repair", "-C", home)
    assert (said.code, said.out.splitlines()[-1]) == (0, "whole")


def test_garbage_waits_and_then_goes(cli, home):
    """A run that is no longer named is condemned at first, and removed by a run past the grace."""
    repository = Repository.at(home)
    for ref in ("heads/main", "runs/1"):
        repository.refs.compare_and_set(ref, repository.refs.get(ref), None, "drop")
    repository.lease.release()
    held = cli("gc", "-C", home)
    assert held.code == 0
    assert "nothing was to be removed" in held.out  # the reflog holds what the refs named
    first = cli("gc", "--reflog-older-than", "0", "-C", home)
    assert "wait for a run after 14d" in first.out
    dry = cli("gc", "--grace", "0", "--reflog-older-than", "0", "--dry-run", "-C", home)
    assert "would be removed" in dry.out
    done = cli("gc", "--grace", "0", "--reflog-older-than", "0", "-C", home)
    assert dry.out.split(" would")[0] == done.out.split(" removed")[0]
    assert cli("fsck", "-C", home).code == 0
    assert "0 commits" in cli("fsck", "-C", home).out


def test_gc_speaks_json(cli, home):
    """Machines get every figure."""
    told = json.loads(cli("gc", "--json", "-C", home).out)
    assert told["removed"] == 0
    assert told["dry_run"] is False
    assert told["kept"] > 0


@pytest.mark.parametrize("words", [("--grace", "soon"), ("--grace", "14"), ("--reflog-older-than", "-1d")])
def test_a_duration_that_is_none_is_told(cli, home, words):
    """With what to write instead."""
    cli("gc", *words, "-C", home).refused(2, words[0], "14d")


def test_while_somebody_writes_no_grace_is_refused(cli, home):
    """With what to do: exit code 5, as for every conflict."""
    writer = Repository.at(home)
    writer.add_blob(b"x")
    cli("gc", "--grace", "0", "-C", home).refused(5, "process", "--grace")
    assert "nothing removed" in cli("gc", "-C", home).out
    writer.lease.release()


def test_updates_of_a_site_are_erased_and_models_stay(cli, home):
    """First it says what it would do; then what it did, and what it did not touch."""
    words = ("erase", "--site", "north", "--updates", "--why", "the site asked", "-C", home)
    before = [Repository.at(home).model(id_) for id_ in history(home)]
    cli(*words).refused(3, "nothing was erased", "--yes", "the updates of north")
    said = cli(*words, "--who", "ada", "--yes")
    assert said.code == 0
    assert "erased the updates of north: 6 objects" in said.out
    assert "stored 2 models before" in said.out
    assert "north's own" in said.out
    assert cli("fsck", "-C", home).code == 0
    assert "erased by ada" in cli("fsck", "-C", home).out
    assert "the site asked" in cli("fsck", "-C", home).out
    after = [Repository.at(home).model(id_) for id_ in history(home)]
    assert [{n: a.tobytes() for n, a in m.items()} for m in after] == [
        {n: a.tobytes() for n, a in m.items()} for m in before
    ]
    cli(*words, "--yes").refused(4, "no update of 'north' is stored here")


def test_a_path_or_an_object_is_erased(cli, home):
    """A tensor of an old model by its path, an object by its id; reading it is "not found"."""
    root = history(home)[0]
    said = cli("erase", root, "--path", "model/bias", "--why", "x", "--yes", "--json", "-C", home)
    (id_,) = json.loads(said.out)["objects"]
    cli("export", "safetensors", root, "-C", home).refused(4, "was erased by")
    again = cli("erase", id_[:12], "--why", "y", "--yes", "-C", home)
    assert again.code == 0
    assert f"erased object {id_[:12]}" in again.out


def test_the_model_in_use_is_refused(cli, home):
    """It is protected; with --force it goes."""
    shutil.copytree(home, home.with_name("second"))
    words = ("erase", "--site", "north", "--updates", "--why", "x", "--yes")
    assert cli(*words, "-C", home).code == 0
    words = ("erase", "main", "--path", "model", "--why", "x", "--yes")
    cli(*words, "-C", home).refused(3, "heads/main is protected", "--force")
    assert cli(*words, "--force", "-C", home).code == 0
    assert cli("fsck", "-C", home).code == 0


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--site", "north"),
        ("--updates",),
        ("--path", "model", "--site", "north", "--updates"),
        ("abcdef", "--site", "north", "--updates"),
    ],
)
def test_one_thing_at_a_time_is_erased(cli, home, words):
    """An object, or a path, or a site's updates."""
    said = cli("erase", *words, "--why", "x", "--yes", "-C", home)
    assert said.code == 2
    assert "give an OBJECT, or --path PATH [COMMIT], or --site SITE --updates" in " ".join(said.err.split())


def test_a_reason_is_asked_for(cli, home):
    """It is all that will be left."""
    cli("erase", "main", "--path", "model/bias", "--yes", "-C", home).refused(2, "--why")


@pytest.mark.parametrize("command", [("fsck",), ("gc",), ("erase", "abcdef", "--why", "x")])
def test_without_a_repository_they_say_so(cli, tmp_path, command):
    """And make none."""
    cli(*command, "-C", tmp_path).refused(4, "no history")
    assert list(tmp_path.iterdir()) == []
