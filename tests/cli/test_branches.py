"""`branch`, `switch`, `tag`, `protect` and `diff` as typed: what is printed, what is refused, and their JSON."""

import json

import numpy as np
import pytest

from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
from tests.projects import edit, project, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with two runs, the second at another learning rate; `main` is at the second."""
    home = project(tmp_path_factory.mktemp("trained"), rounds=3, gate=False)
    run(home)
    edit(home / "pipeline.yaml", "learning_rate: 0.1", "learning_rate: 0.2")
    (home / "learner.py").write_text((home / "learner.py").read_text() + "# slower\n")
    run(home, rounds=4)
    return home


@pytest.fixture
def home(tmp_path):
    """A project folder with two commits and the branch `main`, made without training."""
    repository = Repository.at(tmp_path)
    first = commit(repository, {"w": np.zeros(2, np.float32)})
    second = commit(repository, {"w": np.ones(2, np.float32)}, first)
    repository.refs.compare_and_set("heads/main", None, second, "test")
    return tmp_path


def commit(repository, model, *parents):
    tree = repository.add_tree({"model": repository.add_tensors(model)})
    return repository.add_commit(Commit(tree.id, parents, "round", f"after {len(parents)}"))


def test_a_branch_is_made_listed_switched_to_and_deleted(home, cli):
    """The way of a branch, in the words a person reads."""
    tip = Repository.at(home).resolve("main")[:12]
    assert f"branch north made at {tip}" in cli("branch", "north", "-C", home).out
    assert cli("branch", "-C", home).out.splitlines() == [
        f"* main   {tip}  protected  after 1",
        f"  north  {tip}             after 1",
    ]
    assert f"the current branch is north, at {tip}" in cli("switch", "north", "-C", home).out
    cli("branch", "north", "--delete", "-C", home).refused(5, "'north' is the current branch: `fedloom switch`")
    assert cli("switch", "-c", "south", "main~1", "-C", home).code == 0
    listed = json.loads(cli("branch", "--json", "-C", home).out)
    assert [(one["branch"], one["current"], one["protected"]) for one in listed] == [
        ("main", False, True),
        ("north", False, False),
        ("south", True, False),
    ]
    said = cli("branch", "north", "--delete", "-C", home)
    assert f"branch north deleted, it was at {tip}: `fedloom branch north {tip}` brings it back" in said.out
    moves = [json.loads(row) for row in cli("log", "--reflog", "north", "--json", "-C", home).out.splitlines()]
    assert [(move["ref"], move["commit"] is None, move["why"]) for move in moves] == [
        ("heads/north", True, "deleted"),
        ("heads/north", False, "made at HEAD"),
    ]


def test_tags_and_protection(home, cli):
    """Tags are listed with their commits; protection is listed, given and taken."""
    first = Repository.at(home).resolve("main~1")
    assert cli("tag", "-C", home).out.startswith("there is no tag yet")
    assert cli("tag", "v1", "main~1", "-C", home).out == f"tag v1 names {first[:12]}\n"
    cli("tag", "v1", "-C", home).refused(5, "there is a tag 'v1' already: a tag never moves")
    assert json.loads(cli("tag", "--json", "-C", home).out) == [
        {"tag": "v1", "commit": first, "kind": "round", "message": "after 0"}
    ]
    assert cli("tag", "-C", home).out.split() == ["v1", first[:12], "after", "0"]
    assert cli("protect", "-C", home).out == "heads/main\n"
    assert cli("protect", "v1", "-C", home).code == 0
    assert json.loads(cli("protect", "--json", "-C", home).out) == ["heads/main", "tags/v1"]
    cli("tag", "v1", "--delete", "-C", home).refused(5, "tag 'v1' is protected")
    assert cli("protect", "--remove", "v1", "-C", home).out == "tags/v1 is protected no longer\n"
    assert json.loads(cli("tag", "v1", "--delete", "--json", "-C", home).out) == {"deleted": "v1", "commit": first}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["branch", "main"], 5, "there is a branch 'main' already"),
        (["branch", "north", "nowhere"], 4, "no commit or ref 'nowhere'"),
        (["tag", "bad name"], 2, "is no name for a tag: use lower-case letters"),
        (["switch", "-c", "bad name"], 2, "is no name for a branch"),
        (["branch", "Nörth"], 2, "is no name for a branch: use lower-case letters"),
        (["branch", "nort", "--delete"], 4, "there is no branch 'nort'"),
        (["switch", "mian"], 4, "did you mean 'main'?"),
        (["tag", "v9", "--delete"], 4, "there is no tag 'v9': there is none yet"),
        (["protect", "mian"], 4, "there is no branch or tag 'mian' to protect"),
        (["protect", "--remove", "north"], 4, "'north' is not protected; protected: heads/main"),
        (["diff", "nowhere"], 4, "no commit or ref 'nowhere'"),
        (["diff", "main~1", "main~5"], 4, "the history ends 1 step back"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(home, cli, words, code, told):
    """Each refusal has its exit code, and says what there is or what to do."""
    cli(words[0], "-C", home, *words[1:]).refused(code, told)


@pytest.mark.parametrize(
    "words",
    [
        ["branch", "--delete"],
        ["branch", "x", "--force"],
        ["branch", "x", "main", "--delete"],
        ["switch", "main", "main~1"],
        ["tag", "--delete"],
        ["protect", "--remove"],
        ["log", "--graph", "--refs"],
        ["log", "--all-rounds"],
    ],
)
def test_options_that_do_not_go_together(home, cli, words):
    """Wrong usage is exit code 2, and nothing is done."""
    said = cli(*words, "-C", home)
    assert said.code == 2, said
    assert "Traceback" not in said.err
    assert Repository.at(home).refs.names() == ["heads/main"]


def test_a_new_repository_has_no_branch(tmp_path, cli):
    """Before the first run: the list says so, and `switch -c` chooses where it shall go."""
    for command in ("branch", "tag", "protect", "diff"):
        cli(command, *(["x"] if command == "diff" else []), "-C", tmp_path).refused(4, "has no history yet")
    Repository.at(tmp_path)
    assert "there is no branch yet" in cli("branch", "-C", tmp_path).out
    assert json.loads(cli("branch", "--json", "-C", tmp_path).out) == []
    assert "the current branch is trial, which has no commit yet" in cli("switch", "-c", "trial", "-C", tmp_path).out


# diff


def test_diff_tells_settings_code_metrics_and_tensors(trained, cli):
    """What a person changed, and what came of it, between two runs."""
    said = cli("diff", "runs/1", "runs/2", "--tensors", "-C", trained)
    assert said.code == 0, said.err
    for words in (
        "~ stages.train.learning_rate: 0.1 → 0.2 (+0.1)",
        "~ inputs/source/learner.py\n      +# slower",
        "~ round: 3 → 4 (+1)",
        "model: 2 changed",
        "preprocessing: 4 same",
    ):
        assert words in said.out
    table = next(line for line in said.out.splitlines() if line.startswith("all sites"))
    assert table.count(" → ") == 3
    rows = {line.split()[0]: line.split() for line in said.out.splitlines() if line.startswith("model/")}
    assert rows["model/weights"][1:5] == ["F32", "3", "3", "(100.0%)"]
    assert cli("diff", "runs/1", "-C", trained).out.startswith(
        f"from {Repository.at(trained).resolve('runs/1')[:12]} to "
    )


def test_diff_as_json_is_whole(trained, cli):
    """One object with every entry, also those that are the same, and the figures of the tensors."""
    found = json.loads(cli("diff", "runs/1", "--tensors", "--json", "-C", trained).out)
    assert found["counts"]["model"] == {"changed": 2}
    tensors = {entry["path"]: entry["tensor"] for entry in found["entries"] if entry["tensor"]}
    assert set(tensors) == {"model/bias", "model/weights"}
    assert tensors["model/weights"]["share"] == 1.0
    assert {"key": "round", "change": "changed", "old": 3, "new": 4} in found["facts"]
    assert any(entry["change"] == "same" for entry in found["entries"])
    same = cli("diff", "main", "main", "-C", trained)
    assert (same.code, same.out.splitlines()[1]) == (0, "nothing differs")
