"""`log` and `show` as typed: the graph, one site's rounds, refs with their reason, and what a commit is."""

import json
import re

import pytest
from rich.console import Console

from fedloom.local.federation import plan_local, run_local
from fedloom.versions.keys import create_key, read_private_key
from fedloom.versions.merge import How
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
from fedloom.versions.upkeep.erase import choose_updates
from tests.projects import allow, edit, history, project, run


def train(home, branch, rounds, seed, sites=()):
    """Train on from a branch and move it to the end of the run."""
    repository = Repository.at(home)
    tip = repository.resolve(branch)
    run_local(plan_local(home, rounds=rounds, seed=seed, sites=sites), lambda _: None, start=tip)
    newest = max(repository.refs.names("runs/"), key=lambda name: int(name[5:]))
    repository.refs.compare_and_set(f"heads/{branch}", tip, repository.resolve(newest), newest)


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """A run of 10 rounds; two regions trained on from there with their own sites, and merged; a conflict waits."""
    home = project(tmp_path_factory.mktemp("merged"), rounds=10, gate=False)
    text = (home / "pipeline.yaml").read_text()
    (home / "pipeline.yaml").write_text("\n".join(line for line in text.splitlines() if "register" not in line) + "\n")
    run(home)
    repository = Repository.at(home)
    repository.unprotect("main")
    repository.branch("main", "runs/1")
    repository.tag("v1")
    for name in ("east", "west"):
        repository.branch(name)
    train(home, "east", 6, 2, ("north", "harbour"))
    train(home, "west", 2, 3, ("south",))
    repository.switch("main")
    repository.merge("east", "west", how=How(strategy="weighted_mean"))
    repository.switch("west")
    repository.merge("east")
    repository.switch("main")
    return home


PICTURE = """
●      ID  merge  [*main] merge east, west into main
├─╮
│ │ ●  ID  merge  [merging/west] merge east into west
├─┼─╯
● │    ID  round 6  2/2  AUC  [east] [runs/2] machines
● │    … 5 rounds …  AUC → AUC
● │    ID  train  machines: training goes on from ID
│ ●    ID  round 2  1/1  AUC  [west] [runs/3] machines
│ ●    ID  round 1  1/1  AUC  machines
│ ●    ID  train  machines: training goes on from ID
├─╯
●      ID  round 10  3/3  AUC  [v1] [runs/1] machines
●      … 9 rounds …  AUC → AUC
●      ID  import  machines: initial model
"""


def test_the_graph_shows_branches_merges_and_folded_rounds(merged, cli):
    """Two regions leave the line and come back; rounds are folded; a merge under way has its label."""
    said = cli("log", "--graph", "-C", merged)
    assert said.code == 0, said.err
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID", said.out)
    text = re.sub(r"auc 0\.\d{3}( → )?(0\.\d{3})?", lambda found: "AUC → AUC" if found[2] else "AUC", text)
    drawn = [line[:7] + re.sub(r" {2,}", "  ", line[7:]).rstrip() for line in text.splitlines()]
    assert [line.rstrip() for line in drawn] == PICTURE.strip().splitlines()


def test_all_rounds_unfolds(merged, cli):
    """One line a commit, and no dots that stand for several."""
    folded, whole = (cli("log", "--graph", *more, "-C", merged).out for more in ((), ("--all-rounds",)))
    assert "… 9 rounds …" in folded
    assert "…" not in whole
    assert whole.count("●") == len(json_lines(cli("log", "--graph", "--json", "-C", merged)))


def json_lines(said):
    assert said.code == 0, said.err
    return [json.loads(line) for line in said.out.splitlines()]


def test_the_graph_of_a_ref_is_what_it_reaches(merged, cli):
    """With a REF nothing else is drawn; as JSON it is one commit a line, children first, with refs and parents."""
    assert len(cli("log", "v1", "--graph", "-C", merged).out.splitlines()) == 3
    commits = json_lines(cli("log", "main", "--graph", "--json", "-C", merged))
    place = {one["commit"]: at for at, one in enumerate(commits)}
    assert all(place[one["commit"]] < place[parent] for one in commits for parent in one["parents"])
    assert commits[0]["refs"] == ["heads/main"]
    assert len(commits[0]["parents"]) == 2
    assert len(commits) == 11 + 7 + 3 + 1


def test_without_utf8_the_graph_is_ascii(merged, cli, monkeypatch):
    """An output that cannot show lines gets others."""
    monkeypatch.setattr(Console, "encoding", property(lambda _: "ascii"))
    said = cli("log", "--graph", "-C", merged)
    assert said.out.isascii()
    assert "+-." in said.out
    assert "* " in said.out


def test_one_site_s_rounds(merged, cli):
    """The rounds in which it took part, on every branch that led here, with its weight and where its update is."""
    rounds = json_lines(cli("log", "main", "--site", "south", "--json", "-C", merged))
    assert len(rounds) == 10 + 2
    assert [one["weight"] for one in rounds[:2]] == [1.0, 1.0]
    assert {one["keep"] for one in rounds} == {"opaque"}
    text = cli("log", "east", "--site", "south", "-C", merged).out.splitlines()
    assert len(text) == 1 + 10
    assert text[1].split()[2:4] == ["33.3%", "opaque"]
    cli("log", "--site", "suoth", "-C", merged).refused(4, "took part in no round", "; did you mean 'south'?")
    cli("log", "--site", "zzz", "-C", merged).refused(4, "; Allowed: harbour, north, south")


def test_what_was_erased_is_told(tmp_path, cli):
    """`log --site` and `show` say so of updates that are gone, with who, when and why; others' stay as they are."""
    home = project(tmp_path, rounds=2, gate=False)
    edit(home / "pipeline.yaml", "rounds: 2", "rounds: 2\nkeep_updates: hub")
    run(home)
    assert "erased" not in cli("show", "-C", home).out + cli("log", "--site", "north", "-C", home).out
    repository = Repository.at(home)
    repository.erase(choose_updates(repository, "north"), who="ada", why="they asked")
    assert {one["keep"] for one in json_lines(cli("log", "--site", "north", "--json", "-C", home))} == {"erased"}
    assert {one["keep"] for one in json_lines(cli("log", "--site", "south", "--json", "-C", home))} == {"stored"}
    said = cli("show", "-C", home).out
    lines = [line for line in said.splitlines() if line.startswith(("north ", "south "))]
    assert ["erased" in line for line in lines[:2]] == [True, False]
    line = next(line for line in said.splitlines() if line.startswith("receipts/north"))
    assert re.fullmatch(r"receipts/north.*: erased by ada, \d{4}-\d\d-\d\d: they asked", line)
    shown = json.loads(cli("show", "--json", "-C", home).out)["erased"]
    assert {path.split("/")[1] for path in shown} == {"north"}
    assert {one["who"] for one in shown.values()} == {"ada"}


def test_refs_tell_kind_time_and_reason(merged, cli):
    """Branches, the merge that waits, tags and runs, each with its state."""
    refs = json.loads(cli("log", "--refs", "--json", "-C", merged).out)
    assert list(refs) == [
        *("heads/east", "heads/main", "heads/west", "merging/west", "tags/v1", "runs/1", "runs/2", "runs/3"),
    ]
    assert refs["heads/main"]["state"] == "not measured"
    assert refs["heads/main"]["kind"] == "merge"
    assert refs["runs/2"]["state"] == "end of runs/2, complete"
    assert refs["heads/east"]["why"] == "runs/2"
    text = cli("log", "--refs", "-C", merged).out.splitlines()
    assert text[0].split() == ["ref", "commit", "state", "kind", "moved", "why"]
    assert len(text) == 1 + len(refs)


def test_the_reflog_goes_backwards(merged, cli):
    """Newest move first, by short name; a ref that never was is not found."""
    moves = json_lines(cli("log", "--reflog", "east", "--json", "-C", merged))
    assert [move["why"] for move in moves] == ["runs/2", "made at HEAD"]
    assert len(cli("log", "--reflog", "runs/1", "-C", merged).out.splitlines()) == 1 + 11
    cli("log", "--reflog", "esat", "-C", merged).refused(4, "there never was a ref 'esat'")


# show


def test_show_says_what_a_merge_was_made_of(merged, cli):
    """The parents by name, weights, base, how the entries came about, and the recipe."""
    said = cli("show", "main", "-C", merged)
    lines = said.out.splitlines()
    assert [line.split()[2:] for line in lines if line.startswith("parent")] == [["east"], ["west"]]
    base = Repository.at(merged).resolve("v1")[:12]
    assert any(line.startswith("merged: ") and line.endswith(f"base {base}") for line in lines)
    assert any(line.startswith("entries: ") and "2 weighted_mean" in line for line in lines)
    assert "  contested ones by weighted_mean" in lines
    assert any(line.startswith("recipe") and "merge/1 of east" in line for line in lines)


def test_show_lists_open_conflicts(merged, cli):
    """Where a merge waits, what is open and what to do about it."""
    said = cli("show", "merging/west", "-C", merged)
    assert "2 open conflicts: settle with `fedloom resolve`" in said.out
    assert "  model/weights: contested" in said.out
    conflicts = json.loads(cli("show", "merging/west", "--json", "-C", merged).out)["conflicts"]
    assert {path: one["problem"] for path, one in conflicts.items()} == {
        "model/bias": "contested",
        "model/weights": "contested",
    }


def test_show_of_a_round_tells_its_recipe_and_its_receipts(merged, cli):
    """What each site's update has become, and how the model follows from them."""
    said = cli("show", "v1", "-C", merged)
    assert said.out.count("never kept, only named") == 3
    assert "fold/1 of harbour (" in said.out
    told = json.loads(cli("show", "v1", "--json", "-C", merged).out)
    assert {one["keep"] for one in told["receipts"].values()} == {"opaque"}
    assert told["recipe"]["algorithm"] == "fold/1"
    assert told["run"]["status"] == "complete"
    assert told["attestations"] == ["evaluation", "run/1"]


def test_show_says_who_signed(merged, tmp_path, cli):
    """A signature of a trusted key by its name; of another, that nobody vouches for it."""
    repository = Repository.at(merged)
    target = repository.resolve("v1")
    known, unknown = (create_key(tmp_path / name) for name in ("known", "unknown"))
    repository.trust("hub", known)
    for name in ("known", "unknown"):
        repository.sign(target, read_private_key(tmp_path / name))
    said = cli("show", "v1", "-C", merged)
    assert f"signed by hub (key {known.id[:12]})" in said.out
    assert f"signed with key {unknown.id[:12]}, which nobody vouches for here" in said.out
    told = json.loads(cli("show", "v1", "--json", "-C", merged).out)["signatures"]
    assert sorted((one["name"], one["holds"]) for one in told) == [("", False), ("hub", True)]


def test_show_leads_with_the_verdict_on_the_run(tmp_path, cli):
    """A run that lacked a site in round 2 is partial, though its last round was complete."""
    home = project(tmp_path, rounds=3, gate=False)
    allow(home, "{min_sites: 2}")
    (home / "faults.yaml").write_text("rounds: {2: {drop: [north]}}")
    assert cli("run", "-C", home, "--scenario", home / "faults.yaml").code == 6
    for name in ("runs/1", "main"):
        lines = cli("show", name, "-C", home).out.splitlines()
        verdict = lines.index(
            "runs/1: partial-allowed, 1 of 3 rounds went on without everybody: north missed 1 (connection lost)"
        )
        assert verdict < lines.index("participation in round 3: complete")
    assert json.loads(cli("show", "--json", "-C", home).out)["run"]["partial_rounds"] == 1
    middle = cli("show", history(home)[2], "-C", home).out
    assert "participation: partial-allowed" in middle
    assert "runs/1" not in middle


def test_a_run_that_has_not_ended_is_judged_so_far(tmp_path, cli):
    """A run that failed in round 3, after one without everybody, is partial so far."""
    home = project(tmp_path, rounds=4, gate=False)
    allow(home, "{min_sites: 2}")
    (home / "faults.yaml").write_text("rounds: {1: {drop: [north]}, 3: {drop: [north, south]}}")
    cli("run", "-C", home, "--scenario", home / "faults.yaml").refused(1)
    said = cli("show", "-C", home).out
    assert "runs/1: partial-allowed so far, 1 of 2 rounds went on without everybody: north missed 1" in said


def test_what_is_meant_where_nothing_is_named(tmp_path, cli):
    """The newest run; once the current branch goes on from there, that branch."""
    home = project(tmp_path, rounds=1, gate=False)
    run(home)
    repository = Repository.at(home)
    first = repository.resolve("runs/1")
    run(home, seed=9)
    newest = repository.resolve("runs/2")
    assert json.loads(cli("show", "--json", "-C", home).out)["commit"] == newest
    repository.switch("old", create=True, start="runs/1")
    assert json.loads(cli("show", "--json", "-C", home).out)["commit"] == newest
    top = repository.add_commit(Commit(repository.commit(newest).tree, (newest, first), "merge", "both"))
    repository.refs.compare_and_set("heads/old", first, top, "merge")
    assert json.loads(cli("show", "--json", "-C", home).out)["commit"] == top
    assert json.loads(cli("log", "--json", "-C", home).out.splitlines()[0])["commit"] == top
