"""merge, conflicts, resolve, cherry-pick, revert on the command line: what is printed, exit codes, what moves."""

import json

import pytest

from fedloom.versions.repository import Repository
from tests.projects import process, project
from tests.versions.histories import commit, listed

BASE = {"a": [0, 0], "b": [0], "c": [1]}
OURS = {"a": [1, 0], "b": [0], "c": [1]}
THEIRS = {"a": [3, 8], "b": [2], "c": [1]}


def repository(folder, ours=OURS, theirs=THEIRS, *, protected=False):
    """Make a folder whose repository has `main` and `north`, of 30 and 10 rows, which contest `a`."""
    made = Repository.at(folder)
    root = commit(made, BASE)
    x, y = commit(made, ours, root, rows=30), commit(made, theirs, root, rows=10)
    for name, id_ in (("main", x), ("north", y)):
        made.refs.compare_and_set(f"heads/{name}", None, id_, "test")
    if not protected:
        made.unprotect("main")
    return made


@pytest.fixture
def home(tmp_path):
    repository(tmp_path)
    return tmp_path


def tip(folder, name="main"):
    return Repository.at(folder).resolve(name)


def test_a_merge_by_strategy_says_what_came_of_every_entry(cli, home):
    """Base, weights, a row per outcome with its entries, and where the branch is."""
    said = cli("merge", "north", "--strategy", "weighted_mean", "-C", home)
    assert (said.code, said.err) == (0, "")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0] == "merge north into main"
    assert lines[1].startswith("base ")
    assert lines[1].endswith("weights main 75%, north 25%")
    assert lines[2:6] == ["outcome entries", "unchanged 1", "taken 1 model/b", "weighted_mean 1 model/a"]
    assert lines[6:] == ["not measured: there is no pipeline.yaml here", f"main is at {tip(home)[:12]}"]
    assert listed(Repository.at(home), tip(home))["a"] == [1.5, 2]
    again = cli("merge", "north", "-C", home)
    assert (again.code, again.out) == (0, "main has all of it already\n")


def test_conflicts_end_with_code_5_and_with_what_to_type_next(cli, home):
    """The whole way: merge, conflicts, resolve, continue; each ends as scripts expect."""
    said = cli("merge", "north", "-C", home)
    assert said.code == 5
    row = next(line for line in said.out.splitlines() if line.startswith("model/a"))
    assert row.split() == ["model/a", "contested", "F32", "[2]", "F32", "[2]", "F32", "[2]", "0.351", "0%", "–", "–"]
    assert "fedloom resolve 'model/a' --take ours|theirs|base|weighted_mean|…" in said.out
    before = tip(home)
    listed_ = cli("conflicts", "-C", home)
    assert (listed_.code, row in listed_.out) == (5, True)
    cli("merge", "--continue", "-C", home).refused(5, "open conflicts at model/a")
    settled = cli("resolve", "a", "--take", "theirs", "-C", home)
    assert (settled.code, settled.out) == (
        0,
        "model/a: theirs, which is north's\nnothing is open any more. next: fedloom merge --continue\n",
    )
    assert cli("conflicts", "-C", home).code == 0
    assert tip(home) == before
    done = cli("merge", "--continue", "-C", home)
    unmeasured = "not measured: there is no pipeline.yaml here\n"
    assert (done.code, done.out) == (0, f"{unmeasured}main is at {tip(home)[:12]}\n")
    assert listed(Repository.at(home), tip(home)) == {"a": [3, 8], "b": [2], "c": [1]}


def test_every_problem_shows_what_each_side_has(cli, tmp_path):
    """Shapes side by side, and a dash where a branch has nothing."""
    repository(tmp_path, {"a": [1, 1, 1], "b": [0], "c": [2]}, {"a": [2], "b": [0]})
    said = cli("merge", "north", "-C", tmp_path)
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in said.out.splitlines() if line.startswith("model/")}
    assert rows == {"model/a": "shape F32 [2] F32 [3] F32 [1]", "model/c": "delete_modify F32 [1] F32 [1] –"}


def test_json_for_machines(cli, home):
    """One object with kind, outcomes and conflicts; the same for conflicts, resolve, continue."""
    said = json.loads(cli("merge", "north", "--json", "-C", home).out)
    assert said["kind"] == "conflicts"
    assert said["outcomes"] == {"model/a": "conflict", "model/b": "taken", "model/c": "unchanged"}
    (conflict,) = said["conflicts"]
    assert (conflict["path"], conflict["problem"], conflict["base"]["is"]) == ("model/a", "contested", "F32 [2]")
    assert json.loads(cli("conflicts", "--json", "-C", home).out)["conflicts"] == said["conflicts"]
    settled = json.loads(cli("resolve", "*", "--take", "mean", "--json", "-C", home).out)
    assert (settled["settled"], settled["open"]) == (["model/a"], [])
    done = json.loads(cli("merge", "--continue", "--json", "-C", home).out)
    assert done == {"kind": "merged", "branch": "main", "commit": tip(home), "measured": None}


def test_abort_leaves_everything_as_it_was(cli, home):
    """And says so."""
    before = tip(home)
    cli("merge", "north", "-C", home)
    cli("merge", "north", "-C", home).refused(5, "a merge into main is under way", "--continue", "--abort")
    said = cli("merge", "--abort", "-C", home)
    assert (said.code, tip(home)) == (0, before)
    assert said.out.endswith("is given up; main stays where it was\n")
    cli("merge", "--abort", "-C", home).refused(4, "no merge into main is under way")


def test_rules_and_weights_are_read(cli, home):
    """`--rule` decides by name, `--weights` by branch."""
    assert cli("merge", "north", "--rule", "a=weighted_mean", "--weights", "north=3,main=1", "-C", home).code == 0
    assert listed(Repository.at(home), tip(home))["a"] == [2.5, 6]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "name the branches to merge, or give --continue or --abort"),
        (("north", "--abort"), 2, "--abort is about the merge under way: leave out north"),
        (("nroth",), 4, "nroth"),
        (("north", "--strategy", "meen"), 2, "did you mean 'mean'"),
        (("north", "--rule", "a"), 2, "rule 'a' must be GLOB=STRATEGY"),
        (("north", "--rule", "zz*=ours"), 2, "rule 'zz*' fits nothing"),
        (("north", "--weights", "north=1"), 2, "--weights must name each branch once: main=1, north=1"),
        (("north", "--weights", "main=1,north=x"), 2, "weight 'north=x' must be NAME=NUMBER"),
        (("north", "--weights", "main=1,north=-1"), 2, "weight 'north=-1' cannot be"),
        (("north", "--weights", "main=nan,north=1"), 2, "weight 'main=nan' cannot be"),
        (("north", "--optimizer", "keep"), 2, "no optimizer policy 'keep'"),
        (("north", "--strategy", "fisher"), 3, "without fisher of head 1, 2"),
        (("--continue",), 4, "no merge into main is under way"),
    ],
)
def test_what_cannot_be_merged_so_is_one_sentence(cli, home, words, code, told):
    """With its exit code, and nothing moves."""
    before = tip(home)
    cli("merge", *words, "-C", home).refused(code, told)
    assert (tip(home), Repository.at(home).merge_under_way()) == (before, None)


def test_resolving_what_is_not_open_is_refused(cli, home):
    """No merge, no such path, no such word."""
    cli("resolve", "a", "--take", "ours", "-C", home).refused(4, "no merge into main is under way")
    cli("merge", "north", "-C", home)
    cli("resolve", "b", "--take", "ours", "-C", home).refused(4, "no conflict at 'b'", "model/a")
    cli("resolve", "a", "--take", "hours", "-C", home).refused(2, "did you mean 'ours'")
    assert cli("conflicts", "-C", home).code == 5


def test_whose_ours_is_is_told(cli, home):
    """The sides are those of the heads: where the others contain the current branch, it has none, and that is said."""
    made = Repository.at(home)
    made.refs.compare_and_set("heads/base", None, made.resolve("main~1"), "test")
    assert "sides: ours is main's, theirs is north's\n" in cli("merge", "north", "-C", home).out
    cli("merge", "--abort", "-C", home)
    cli("switch", "base", "-C", home)
    told = "sides: ours is north's, theirs is main's; base has no side, for the others contain it\n"
    assert told in cli("merge", "north", "main", "-C", home).out
    assert told in cli("conflicts", "-C", home).out
    assert cli("resolve", "a", "--take", "ours", "-C", home).out.startswith("model/a: ours, which is north's\n")
    assert cli("merge", "--continue", "-C", home).code == 0
    assert listed(Repository.at(home), tip(home, "base"))["a"] == THEIRS["a"]


def test_three_sides_are_told_by_number(cli, home):
    """One has a number as well as a word, the others their numbers."""
    made = Repository.at(home)
    third = commit(made, {"a": [7, 7], "b": [0], "c": [1]}, made.resolve("main~1"), rows=5)
    made.refs.compare_and_set("heads/south", None, third, "test")
    said = cli("merge", "north", "south", "-C", home)
    assert "sides: 1 or ours is main's, 2 is north's, 3 is south's\n" in said.out
    assert cli("resolve", "a", "--take", "3", "-C", home).out.startswith("model/a: 3, which is south's\n")


def test_a_mind_can_be_changed_before_the_merge_is_finished(cli, home):
    """The last word holds; it is told as the first was."""
    cli("merge", "north", "-C", home)
    cli("resolve", "a", "--take", "ours", "-C", home)
    again = cli("resolve", "model/a", "--take", "theirs", "-C", home)
    assert again.out.startswith("model/a: theirs, which is north's\n")
    assert json.loads(cli("resolve", "a", "--take", "theirs", "--json", "-C", home).out)["settled"] == ["model/a"]
    cli("merge", "--continue", "-C", home)
    assert listed(Repository.at(home), tip(home))["a"] == THEIRS["a"]
    assert "  resolved by hand: model/a theirs\n" in cli("show", "main", "-C", home).out


def test_show_lists_the_rules_that_decided(cli, home):
    """Rules in their order, then what decides about the rest."""
    assert cli("merge", "north", "--rule", "a=weighted_mean", "--rule", "b=ours", "-C", home).code == 0
    lines = cli("show", "main", "-C", home).out.splitlines()
    assert "  contested ones by the first rule that fits: a=weighted_mean, b=ours" in lines
    assert "  the rest by nothing: they are conflicts" in lines


def test_what_was_reverted_is_brought_back(cli, home):
    """cherry-pick does a change again though its commit is in the history, and says so; or that it makes no odds."""
    assert cli("merge", "north", "--strategy", "theirs", "-C", home).code == 0
    merged = tip(home)
    assert cli("revert", merged, "--mainline", "1", "-C", home).code == 0
    assert listed(Repository.at(home), tip(home)) == OURS
    said = cli("cherry-pick", merged, "--mainline", "1", "-C", home)
    assert said.code == 0
    assert said.out.startswith(f"{merged[:12]} is part of main already: its change is done once more\n")
    assert listed(Repository.at(home), tip(home)) == THEIRS
    again = tip(home)
    assert cli("cherry-pick", "HEAD", "-C", home).out == "main has all of it already\n"
    assert tip(home) == again


def test_nobody_thinks_that_an_unmeasured_change_was_measured(cli, home):
    """Without a pipeline it is said of merge, --continue, cherry-pick and revert; with --no-measure it is known."""
    told = "not measured: there is no pipeline.yaml here\n"
    assert told in cli("cherry-pick", "north", "-C", home).out
    assert told in cli("revert", "HEAD", "-C", home).out
    assert told not in cli("revert", "HEAD", "--no-measure", "-C", home).out
    assert told not in cli("merge", "north", "-C", home).out  # conflicts: nothing to measure yet
    cli("resolve", "*", "--take", "ours", "-C", home)
    assert told in cli("merge", "--continue", "-C", home).out


def test_tables_keep_to_the_width_there_is(cli, home, monkeypatch):
    """At 80 columns no line is longer, figures go before names do, and no line ends in blanks."""
    monkeypatch.setenv("COLUMNS", "80")
    cli("merge", "north", "-C", home)
    for words in (("conflicts",), ("diff", "main~1", "main", "--tensors"), ("log", "--refs"), ("log", "--graph")):
        lines = cli(*words, "-C", home).out.splitlines()
        assert max(map(len, lines[:-4] if words == ("conflicts",) else lines)) <= 80, words
        assert [line for line in lines if line != line.rstrip()] == [], words
    assert "cosine" in cli("conflicts", "-C", home).out
    monkeypatch.delenv("COLUMNS")
    assert "opposite" in cli("conflicts", "-C", home).out


def test_unrelated_histories_need_a_word(cli, home):
    """As in git."""
    made = Repository.at(home)
    made.refs.compare_and_set("heads/alien", None, commit(made, {"a": [5, 5]}, facts={"alien": 1}), "test")
    cli("merge", "alien", "-C", home).refused(3, "have no commit in common", "--allow-unrelated")
    assert cli("merge", "alien", "--allow-unrelated", "--strategy", "ours", "-C", home).code == 0


def test_cherry_pick_and_revert_of_a_commit(cli, home):
    """A commit's change comes and goes again."""
    said = cli("cherry-pick", "north", "-C", home)
    assert said.code == 0
    assert said.out.startswith("replay ")
    assert listed(Repository.at(home), tip(home)) == {"a": [4, 8], "b": [2], "c": [1]}
    back = cli("revert", "HEAD", "-C", home)
    assert back.code == 0
    assert back.out.startswith("revert ")
    assert listed(Repository.at(home), tip(home)) == OURS
    cli("cherry-pick", "HEAD~3", "-C", home).refused(2, "is the start of a history")
    cli("revert", "-C", home).refused(2, "say which commit to undo")
    cli("revert", "HEAD", "--site", "north", "-C", home).refused(2, "give a commit or --site, not both")


def test_an_unmeasured_merge_waits_before_a_protected_branch(cli, tmp_path):
    """Without a project nothing can be measured: exit code 3, and the merge is kept."""
    repository(tmp_path, protected=True)
    before = tip(tmp_path)
    cli("merge", "north", "--strategy", "mean", "-C", tmp_path).refused(3, "was never measured")
    assert tip(tmp_path) == before
    assert Repository.at(tmp_path).merge_under_way() is not None


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    """A project with two branches that were trained on, from one round, by other sites each."""
    home = project(tmp_path_factory.mktemp("regions"), rounds=2, gate=False)
    for words in (
        ("run", "--rounds", "1"),
        ("switch", "-c", "region-a"),
        ("run", "--from", "main", "--sites", "north"),
        ("switch", "main"),
        ("switch", "-c", "region-b"),
        ("run", "--from", "main", "--sites", "south,harbour"),
        ("switch", "main"),
    ):
        done = process(home, *words)
        assert done.code == 0, done
    return home


def test_two_regions_trained_apart_are_merged_and_measured(cli, regions):
    """What is worse than the better region by more than epsilon is refused and waits; with more slack it is taken."""
    went_on = cli("merge", "region-a", "-C", regions)
    assert went_on.code == 0, went_on
    assert "main can go straight on to" in went_on.out
    before = tip(regions)
    said = cli("merge", "region-b", "--strategy", "weighted_mean", "-C", regions)
    said.refused(3, "did not pass its gate")
    assert said.out.count("\nparent ") == 2
    assert "BROKEN accuracy >= 0.7493 (best parent - 0.01)" in said.out
    assert tip(regions) == before
    with (regions / "pipeline.yaml").open("a") as file:
        file.write("merge: {epsilon: 0.05}\n")
    taken = cli("merge", "--continue", "--json", "-C", regions)
    assert taken.code == 0, taken
    measured = json.loads(taken.out)["measured"]
    assert (measured["passed"], len(measured["at"])) == (True, 3)
    made = Repository.at(regions)
    assert made.commit(tip(regions)).parents == (before, made.resolve("region-b"))
    assert made.attestation(tip(regions), "gate").body["passed"] is True
    sites = made.blob(made.tree(made.part(tip(regions), "inputs").id)["sites"].id)
    assert set(json.loads(sites)) == {"north", "south", "harbour"}, "all that went into it"
    on = process(regions, "run", "--rounds", "1", "--from", "main")
    assert on.code == 0, on


def test_the_pipelines_rules_stand_for_every_merge(cli, tmp_path):
    """`merge.rules` decides what no typed rule does; what is typed comes first."""
    home = project(tmp_path)
    repository(home)
    path = home / "pipeline.yaml"
    path.write_text(path.read_text() + "merge: {rules: ['a=theirs']}\n")
    assert cli("merge", "north", "--no-measure", "--rule", "a=ours", "-C", home).code == 0
    assert listed(Repository.at(home), tip(home))["a"] == OURS["a"]
    Repository.at(home).branch("again", "main~1")
    assert cli("switch", "again", "-C", home).code == 0
    assert cli("merge", "north", "--no-measure", "-C", home).code == 0
    assert listed(Repository.at(home), tip(home, "again"))["a"] == THEIRS["a"]
    path.write_text(path.read_text().replace("a=theirs", "a=thiers"))
    cli("merge", "north", "-C", home).refused(2, "merge.rules", "did you mean 'theirs'?")
