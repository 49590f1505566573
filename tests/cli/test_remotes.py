"""`fedloom remote`, `clone`, `fetch`, `pull`, `push`: what they print, their exit codes, and a project's whole way."""

import json

import pytest

from fedloom.versions.repository import Repository
from tests.projects import project, run
from tests.versions.remotes.histories import commit, model, rounds
from tests.versions.remotes.places import hub


@pytest.fixture
def home(tmp_path):
    """A folder with a history of three commits on main, and a remote `origin` that is a folder beside it."""
    repository = Repository.at(tmp_path / "home")
    rounds(repository, 2, frozen=2)
    repository.add_remote("origin", str(tmp_path / "there"))
    return tmp_path / "home"


def test_a_run_is_shared(cli, tmp_path):
    """A project's run becomes a branch, is pushed, cloned and looked at elsewhere, with its evaluation and its gate."""
    ours = project(tmp_path, rounds=2)
    tip = run(ours).commit
    Repository.at(ours).refs.compare_and_set("heads/shared", None, tip, "share")
    assert cli("remote", "add", "origin", tmp_path / "there", "-C", ours).code == 0
    pushed = cli("push", "origin", "shared", "-C", ours)
    assert pushed.code == 0, pushed
    assert f"shared: new, at {tip[:12]}" in pushed.out
    theirs = tmp_path / "clone"
    cloned = cli("clone", tmp_path / "there", theirs)
    assert f"{theirs}/ is a clone, on branch shared" in cloned.out.replace("\n", "")
    assert tip[:12] in cli("log", "shared", "-C", theirs).out
    shown = json.loads(cli("show", tip[:12], "-C", theirs, "--json").out)
    assert shown["commit"] == tip
    assert cli("show", "shared", "-C", tmp_path / "there").out.startswith(f"commit {tip}\n")
    assert shown["gate"]["passed"] in (True, False)


def test_push_and_pull_say_what_travelled(cli, home, tmp_path):
    """One line of objects, bytes and their share of the raw size, then what moved; then that all is up to date."""
    pushed = cli("push", "-C", home)
    first, second = pushed.out.splitlines()
    assert first.startswith("28 objects, ")
    assert " kB sent (0." in first
    assert first.endswith(" of raw)")
    assert second.strip().startswith("main: new, at ")
    assert cli("push", "-C", home).out == "up to date: 0 objects\n"
    cli("clone", tmp_path / "there", tmp_path / "clone")
    ours = Repository.at(home)
    new = commit(ours, model(3, 2), ours.resolve("main"))
    cli("push", "-C", home)
    pulled = cli("pull", "-C", tmp_path / "clone")
    assert pulled.out.startswith("8 objects, ")
    assert f"→ {new[:12]}" in pulled.out
    assert Repository.at(tmp_path / "clone").resolve("main") == new
    assert Repository.at(tmp_path / "clone").resolve("origin/main") == new


def test_json_is_for_machines(cli, home):
    """With --json one object says objects, bytes, raw, refs and notes."""
    said = json.loads(cli("push", "-C", home, "--json").out)
    assert set(said) == {"objects", "bytes", "raw", "refs", "notes"}
    assert said["refs"]["heads/main"]["old"] is None
    assert json.loads(cli("fetch", "-C", home, "--json").out)["objects"] == 0
    assert set(json.loads(cli("remote", "list", "-C", home, "--json").out)) == {"origin"}


def test_a_diverged_push_ends_with_5(cli, home, tmp_path):
    """Exit code 5, and what to do; so does a pull."""
    cli("push", "-C", home)
    cli("clone", tmp_path / "there", tmp_path / "clone")
    theirs, ours = Repository.at(tmp_path / "clone"), Repository.at(home)
    commit(theirs, model(8), theirs.resolve("main"))
    cli("push", "-C", tmp_path / "clone")
    commit(ours, model(9), ours.resolve("main"))
    cli("push", "-C", home).refused(5, "origin has commits on main", "`fedloom merge origin/main`, then push again")
    cli("pull", "-C", home).refused(5, "have gone apart: merge with `fedloom merge origin/main`")


def test_a_protected_branch_at_a_hub_ends_with_3(cli, home, tmp_path):
    """Where the hub's gate refuses, the exit code is that of a refused gate; nothing else is shown."""
    ours = Repository.at(home)
    side = commit(ours, model(5), ours.resolve("main~1"), branch="side")
    commit(ours, model(6), ours.resolve("main"), side, kind="merge")
    with hub(Repository.at(tmp_path / "hub")) as url:
        cli("remote", "add", "hub", url, "-C", home)
        cli("push", "hub", "-C", home).refused(3, "heads/main is protected", "never measured")


def test_what_is_not_there_ends_with_4(cli, home, tmp_path):
    """Remotes, branches and repositories that are not there are named, with what there is."""
    cli("fetch", "nowhere", "-C", home).refused(4, "no remote 'nowhere'. Remotes: origin")
    cli("push", "origin", "nope", "-C", home).refused(4, "no branch or tag 'nope' to push. There are: main")
    cli("fetch", "-C", home).refused(4, "there is no repository at", "push there first")
    cli("clone", tmp_path / "absent", tmp_path / "clone").refused(4, "there is no repository at")
    assert not (tmp_path / "clone").exists()
    cli("push", "-C", tmp_path / "empty").refused(4, "has no history yet")


def test_secrets_are_never_shown(cli, home):
    """Neither adding nor listing nor a wrong option prints the value of an option."""
    said = [
        cli("remote", "add", "hub", "https://host/x", "--option", "token=s3cr3t", "-C", home),
        cli("remote", "list", "-C", home),
        cli("remote", "list", "--json", "-C", home),
        cli("remote", "add", "other", "https://host/x", "--option", "tokn=s3cr3t", "-C", home),
        cli("remote", "add", "third", "https://host/x", "--option", "=s3cr3t", "-C", home),
        cli("clone", "https://host/x", "--option", "tokn=s3cr3t"),
    ]
    assert [one.code for one in said] == [0, 0, 0, 2, 2, 2]
    assert not any("s3cr3t" in one.out + one.err for one in said)


def test_remotes_are_listed_and_removed(cli, home, tmp_path):
    """A list of names and addresses, without; removing says that what was fetched stays."""
    assert str(tmp_path / "there") in cli("remote", "list", "-C", home).out.replace("\n", "")
    assert "what was fetched from it stays" in cli("remote", "remove", "origin", "-C", home).out
    assert "no remotes yet" in cli("remote", "list", "-C", home).out


def test_a_clone_of_some_tensors_says_what_is_absent(cli, home, tmp_path):
    """With --only the rest is left out, and reading it says how to bring it."""
    cli("push", "-C", home)
    part, whole = tmp_path / "part", tmp_path / "whole"
    few = json.loads(cli("clone", tmp_path / "there", part, "--only", "encoder.*", "--json").out)
    many = json.loads(cli("clone", tmp_path / "there", whole, "--json").out)
    assert few["objects"] < many["objects"]
    assert few["bytes"] < many["bytes"]
    more = cli("fetch", "--only", "head.2.*", "--only", "head.3.*", "-C", part)
    assert more.code == 0
    ours, theirs = Repository.at(part), Repository.at(whole)
    assert ours.model(ours.resolve("main")).keys() == theirs.model(theirs.resolve("main")).keys()


def test_a_clone_never_goes_into_what_is_there(cli, home, tmp_path, monkeypatch):
    """Neither into the repository it comes from nor beside other files: exit code 2, and nothing is made."""
    cli("push", "-C", home)
    monkeypatch.chdir(tmp_path)
    for words in (("there",), ("there", "there"), ("there", "there/.fedloom"), ("home",), ("home/.fedloom", "home")):
        cli("clone", *words).refused(2, "is the repository that is to be cloned", "name another folder")
    assert not (tmp_path / "there" / ".fedloom").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    for target in ("full", "full/note.txt"):
        cli("clone", "there", target).refused(2, "is there already and is not empty: name a new folder")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["note.txt"]
    (tmp_path / "empty").mkdir()
    assert cli("clone", "there", "empty").code == 0


def test_a_clone_that_was_cut_off_goes_on(cli, home, tmp_path):
    """What it left is no other history; a history of its own is: exit code 5."""
    cli("push", "-C", home)
    Repository.at(tmp_path / "cut").add_remote("origin", str(tmp_path / "there"))
    assert cli("clone", tmp_path / "there", tmp_path / "cut").code == 0
    cli("clone", tmp_path / "there", tmp_path / "cut").refused(5, "another history is here already")


def test_a_pushed_folder_is_looked_at_like_a_project(cli, home, tmp_path):
    """fsck, gc, log, show and verify take a bare folder; nothing is made in it."""
    cli("push", "-C", home)
    there, tip = tmp_path / "there", Repository.at(home).resolve("main")
    for words in (("fsck",), ("gc", "--dry-run"), ("log", "main"), ("verify", "main"), ("branch",)):
        said = cli(*words, "-C", there)
        assert said.code == 0, said
    assert tip[:12] in cli("log", "main", "-C", there).out
    assert not (there / ".fedloom").exists()
    (tmp_path / "git" / "objects").mkdir(parents=True)
    (tmp_path / "git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "git" / "refs" / "heads" / "main").write_text("0" * 40)
    cli("log", "-C", tmp_path / "git").refused(4, "has no history yet")


def test_what_is_wrong_and_what_is_taken_have_their_exit_codes(cli, home, tmp_path):
    """2 for a name, a scheme and a run that cannot be; 5 for a name that is taken."""
    cli("remote", "add", "Bad Name", tmp_path, "-C", home).refused(2, "is no name for a remote")
    cli("remote", "add", "far", "ftp://host/x", "-C", home).refused(2, "'ftp://' is not known")
    cli("remote", "add", "far", "s3://", "-C", home).refused(2, "is no address")
    cli("push", "origin", "runs/1", "-C", home).refused(2, "a run is pushed as a branch")
    cli("remote", "add", "origin", tmp_path, "-C", home).refused(5, "there is a remote 'origin' already")


def test_a_glob_that_fits_nothing_is_told(cli, home, tmp_path):
    """`encoder.0.w` and `model/encoder.0.w` are one tensor; a misspelt glob is named with what there is."""
    cli("push", "-C", home)
    names = Repository.at(home).model(Repository.at(home).resolve("main"))
    name = min(names)
    short = json.loads(cli("clone", tmp_path / "there", tmp_path / "a", "--only", name, "--json").out)
    long = json.loads(cli("clone", tmp_path / "there", tmp_path / "b", "--only", f"model/{name}", "--json").out)
    assert (short["objects"], short["notes"]) == (long["objects"], long["notes"])
    assert short["notes"] == []
    none = cli("clone", tmp_path / "there", tmp_path / "c", "--only", "nosuch*", "--only", name)
    assert (none.code, none.out.count("fits no tensor")) == (0, 1)
    assert f"note: --only 'nosuch*' fits no tensor of these branches; there are {name}" in none.out
    pushed = json.loads(cli("push", "--only", "nosuch*", "--json", "-C", home).out)
    assert any("--only 'nosuch*' fits no tensor" in note for note in pushed["notes"])


def test_a_clone_is_named_by_its_address(cli, home, tmp_path, monkeypatch):
    """Without a folder the last part of the address is its name; where there is none, one is asked for."""
    cli("push", "-C", home)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli("clone", "../there").code == 0
    assert Repository.exists_at(tmp_path / "elsewhere" / "there")
    cli("clone", "https://host").refused(2, "give the folder to make after the address")
