"""Runs: the same digests whatever ran them, and honest rounds when sites are missing."""

import json
import shutil

import numpy as np
import pytest

from fedloom.engine.scenario import Faults, Scenario
from fedloom.errors import GateError, RoundFailedError, SiteDataError
from fedloom.local.federation import Workers
from fedloom.pipeline.events import RoundFinished, RunFinished, RunStarted, StageFinished
from fedloom.pipeline.runs import closed
from fedloom.versions.repository import Repository
from tests.projects import allow, edit, everything_kept, history, made_project, project, run


def scenario(number, verbs=("train",), **faults):
    """Faults in one round: `drop={"north"}`, `delay={"south": 60.0}`."""
    kinds = {kind: sites if kind == "delay" else frozenset(sites) for kind, sites in faults.items()}
    return Scenario({number: Faults(**kinds)}, frozenset(verbs))


def participation(home, number):
    repository = Repository.at(home)
    return repository.commit(history(home)[number]).facts["participation"]


def part(home, id_, name):
    repository = Repository.at(home)
    entry = repository.part(id_, name)
    return entry and repository.tensors(entry.id)


@pytest.fixture
def reference(tmp_path):
    """A project and the commits of its run of five rounds."""
    home = project(tmp_path / "reference", rounds=5, gate=False)
    run(home)
    return home, history(home)


# one seed, one digest


@pytest.mark.parametrize("workers", [Workers(1), Workers(2), Workers(4), Workers(2, "processes")])
def test_the_digest_does_not_depend_on_the_workers(tmp_path, reference, workers):
    """Threads or processes, one worker or four, another folder: the same commits, every round."""
    home = project(tmp_path / "elsewhere" / "deeper", rounds=5, gate=False)
    run(home, workers=workers)
    assert history(home) == reference[1]


def test_the_digest_does_not_depend_on_who_finishes_first(tmp_path, reference):
    """The first site in order is made the slowest by far: the fold keeps its order."""
    home = project(tmp_path, rounds=5, gate=False)
    slow = '        __import__("time").sleep(0.03 if len(examples) < 60 else 0)\n'  # harbour, the first of three
    plain = (home / "learner.py").read_text()
    (home / "learner.py").write_text(plain.replace("        weights, bias =", slow + "        weights, bias =", 1))
    run(home, workers=Workers(3))
    ours, theirs = history(home)[-1], reference[1][-1]
    assert ours != theirs, "the learner's source is an input of the run"
    slowed, straight = part(home, ours, "model"), part(reference[0], theirs, "model")
    assert all((slowed[name] == straight[name]).all() for name in straight)
    (home / "learner.py").write_text(plain)
    run(home)
    assert history(home, "runs/2") == reference[1]


def test_another_seed_is_another_run(tmp_path, reference):
    """The seed is a fact of every commit, and changes split, order and model."""
    home = project(tmp_path, rounds=5, gate=False)
    run(home, seed=2)
    assert not set(history(home)) & set(reference[1])


def test_five_rounds_are_the_beginning_of_eight(reference):
    """The number of rounds is no input: a longer run has the shorter one as its prefix."""
    home, first = reference
    run(home, rounds=8)
    again = history(home, "runs/2")
    assert len(again) == 9
    assert again[:6] == first


# sites that are missing


def test_a_corrupt_reply_is_a_failed_site(tmp_path):
    """One byte altered on the way: the checksum says so, the site is failed in that round and in no other."""
    home = project(tmp_path, rounds=3, gate=False)
    allow(home, "{min_sites: 2}")
    finished = run(home, scenario=scenario(2, corrupt={"north"}))
    assert finished.status == "partial-allowed"
    verdict = participation(home, 2)
    assert verdict["status"] == "partial-allowed"
    told = {site["site"]: site for site in verdict["sites"]}
    assert told["north"]["status"] == "failed"
    assert "checksum" in told["north"]["reason"]
    assert [participation(home, n)["status"] for n in (1, 3)] == ["complete", "complete"]
    receipts = Repository.at(home).tree(Repository.at(home).part(history(home)[2], "receipts").id)
    assert sorted(receipts) == ["harbour", "south"]


def test_a_duplicate_counts_once(tmp_path, reference):
    """A reply delivered twice leaves weights, receipts and digests as they are."""
    home = project(tmp_path, rounds=5, gate=False)
    finished = run(home, scenario=scenario(3, duplicate={"north", "south"}))
    assert finished.status == "complete"
    assert history(home) == reference[1]


def test_a_delay_beyond_the_deadline_is_late(tmp_path):
    """Late sites are named as late; a delay within the deadline is none."""
    home = project(tmp_path, rounds=2, gate=False)
    allow(home, "{require: [north], deadline: 20s}")
    run(home, scenario=scenario(1, delay={"south": 60.0, "harbour": 1.0}))
    told = {site["site"]: (site["status"], site["reason"]) for site in participation(home, 1)["sites"]}
    assert told["south"] == ("late", "no answer within 20 s")
    assert told["harbour"] == ("answered", "")


def test_without_a_policy_everybody_must_answer(tmp_path):
    """One site lost in round 3 fails it: the ref stays at round 2, and what happened is kept beside the history."""
    home = project(tmp_path, rounds=5, gate=False)
    with pytest.raises(
        RoundFailedError, match=r"round 3 of runs/1 failed: 1 of 3 sites .*: north failed \(connection lost\)"
    ):
        run(home, scenario=scenario(3, drop={"north"}))
    assert len(history(home)) == 3
    records = list((home / ".fedloom" / "telemetry" / "failed").rglob("*.json"))
    assert json.loads(records[0].read_text())["verdict"]["status"] == "failed"


def test_when_nobody_answers_the_round_fails_and_can_be_taken_up_again(tmp_path, reference):
    """All dropped: no commit for that round; resumed without faults it ends as if nothing had been."""
    home = project(tmp_path, rounds=5, gate=False)
    with pytest.raises(RoundFailedError, match="round 4 of runs/1 failed: "):
        run(home, scenario=scenario(4, drop={"north", "south", "harbour"}))
    assert history(home) == reference[1][:4]
    run(home, resume=True)
    assert history(home) == reference[1]


def test_no_policy_makes_a_round_of_nobody(tmp_path):
    """Even where one site would be enough, none is not."""
    home = project(tmp_path, rounds=2, gate=False)
    allow(home, "{min_sites: 1}")
    with pytest.raises(
        RoundFailedError, match="round 2 of runs/1 failed: no site answered: harbour, north, south failed"
    ):
        run(home, scenario=scenario(2, drop={"north", "south", "harbour"}))
    assert len(history(home)) == 2


def test_a_partial_round_is_never_called_complete(tmp_path):
    """Commit facts, the run's attestation, its last event and the gate's rule all say partial."""
    home = project(tmp_path, rounds=3)
    allow(home, "{min_sites: 2}")
    edit(home / "pipeline.yaml", "auc >= 0.7, participation", "auc >= 0.1, participation")
    with pytest.raises(GateError, match="participation == complete \\(it is partial-allowed\\)"):
        run(home, scenario=scenario(1, drop={"south"}))
    repository, tip = Repository.at(home), history(home)[-1]
    gate = repository.attestation(tip, "gate").body
    assert gate["passed"] is False
    assert {rule["rule"]: rule["holds"] for rule in gate["rules"]} == {
        "auc >= 0.1": True,
        "participation == complete": False,
    }
    assert closed(repository, tip) is None
    assert repository.refs.get("heads/main") is None
    assert not (home / "models").exists()
    edit(home / "pipeline.yaml", "participation == complete", "participation == partial-allowed")
    assert run(home, scenario=scenario(1, drop={"south"})).status == "partial-allowed"
    tip = history(home, "runs/2")[-1]
    assert closed(repository, tip)["status"] == "partial-allowed"
    assert repository.refs.get("heads/main") == tip


def test_a_site_that_is_not_measured_makes_the_round_partial(tmp_path):
    """Trained by all, measured at two: partial, and the reason names the third."""
    home = project(tmp_path, rounds=2, gate=False)
    allow(home, "{min_sites: 2}")
    finished = run(home, scenario=scenario(1, ["evaluate"], drop={"south"}))
    assert finished.status == "partial-allowed"
    verdict = participation(home, 1)
    assert verdict["status"] == "partial-allowed"
    assert "south failed (connection lost)" in verdict["reason"]
    assert {site["status"] for site in verdict["sites"]} == {"answered"}
    assert sorted(Repository.at(home).commit(history(home)[1]).facts["metrics"]["sites"]) == ["harbour", "north"]


def test_a_fit_without_a_site_makes_the_run_partial(tmp_path):
    """The scaling was made without one site: the root says so, and the run is partial to its end, resumed or not."""
    home = project(tmp_path, rounds=2, gate=False)
    allow(home, "{min_sites: 2}")
    seen = []
    assert run(home, seen.append, scenario=scenario(0, ["fit"], drop={"south"})).status == "partial-allowed"
    told = {e.stage: e.summary for e in seen if isinstance(e, StageFinished)}
    assert told["fit"] == "3 features standardised over 2 sites, without south failed (connection lost)"
    assert Repository.at(home).commit(history(home)[0]).facts["fit"]["status"] == "partial-allowed"
    assert run(home, resume=True, rounds=3).status == "partial-allowed"


def test_a_contract_stage_needs_every_site(tmp_path):
    """Who cannot show that its data fits is not trained with: the run stops before round 1, whatever the policy."""
    home = project(tmp_path, rounds=2)
    allow(home, "{min_sites: 1}")
    with pytest.raises(SiteDataError, match="site south: connection lost"):
        run(home, scenario=scenario(0, ["contract"], drop={"south"}))
    assert everything_kept(home).count(b"commit v1") == 0


# what a run tells and leaves


def test_events_come_in_order_and_agree_with_the_history(reference):
    """Started, a round each with its commit, stages, finished: the last names the tip."""
    home, _ = reference
    seen = []
    run(home, seen.append)
    kinds = [type(event) for event in seen]
    assert kinds[0] is StageFinished
    assert kinds.count(RunStarted) == 1
    rounds = [event for event in seen if isinstance(event, RoundFinished)]
    assert [event.commit for event in rounds] == history(home, "runs/2")[1:]
    assert [event.round for event in rounds] == [1, 2, 3, 4, 5]
    assert isinstance(seen[-1], RunFinished)
    assert seen[-1].commit == rounds[-1].commit
    assert seen[-1].model == str(home / "models" / "machines.safetensors")
    assert rounds[0].bytes_up > 0
    assert rounds[0].bytes_down > 0


def test_a_commit_names_where_it_comes_from(reference):
    """Base, contract, adapters, data, code, preprocessing, strategy, seed; no clock time; receipts weigh the rows."""
    home, commits = reference
    repository = Repository.at(home)
    tip = repository.commit(commits[-1])
    assert tip.parents == (commits[-2],)
    assert {"pipeline", "seed", "learner", "strategy", "codec", "privacy", "round", "participation", "metrics"} <= set(
        tip.facts
    )
    tree = repository.tree(tip.tree)
    assert set(tree) == {"model", "preprocessing", "inputs", "notes", "receipts"}
    inputs = repository.tree(tree["inputs"].id)
    assert set(inputs) == {"contract", "pipeline", "code", "source", "environment", "sites"}
    source = repository.tree(inputs["source"].id)
    assert {name: repository.blob(entry.id) for name, entry in source.items()} == {
        "learner.py": (home / "learner.py").read_bytes()
    }
    assert repository.blob(inputs["contract"].id) == (home / "contract.yaml").read_bytes()
    sites = json.loads(repository.blob(inputs["sites"].id))
    assert sorted(sites) == ["harbour", "north", "south"]
    assert all(set(digests) == {"adapter", "data"} for digests in sites.values())
    receipts = repository.tree(tree["receipts"].id)
    assert {(entry.kind, entry.keep) for entry in receipts.values()} == {("tree", "opaque")}  # nobody keeps updates
    weights = {"harbour": 42.0, "north": 126.0, "south": 84.0}  # 70 % of the rows
    assert [(part.name, part.id, part.weight) for part in tip.recipe.inputs] == [
        (site, receipts[site].id, weights[site]) for site in sorted(weights)
    ]
    assert "seconds" not in json.dumps(dict(tip.facts))


STRATEGIES = [
    {"use": "fedavg"},
    {"use": "fedprox", "proximal_mu": 0.1},
    {"use": "fedadam"},
    {"use": "fedyogi"},
    {"use": "fedadagrad"},
    {"use": "median"},
    {"use": "trimmed_mean", "beta": 0.2},
    {"use": "krum", "num_malicious": 1},
    {"use": "multi_krum", "num_malicious": 1, "num_selected": 3},
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s["use"])
def test_every_strategy_runs_three_rounds(tmp_path, strategy):
    """Five sites, three rounds: it learns something, and twice the same."""
    home = made_project(tmp_path, "binary", sites=5, pipeline={"strategy": strategy, "rounds": 3})
    assert run(home).status == "complete"
    run(home)
    assert history(home) == history(home, "runs/2")
    first, last = (Repository.at(home).model(history(home)[n]) for n in (0, -1))
    assert any((first[name] != last[name]).any() for name in first)


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedadagrad"])
def test_the_optimizers_state_lives_in_the_commit(tmp_path, name):
    """Moments and step are in the tree; a run cut after round 2 and resumed ends with the same digest."""
    home = made_project(tmp_path / "whole", "binary", pipeline={"strategy": {"use": name}, "rounds": 4})
    run(home)
    state = part(home, history(home)[-1], "optimizer")
    assert int(state["step"]) == 4
    assert np.any(state["v/weights"])
    cut = made_project(tmp_path / "cut", "binary", pipeline={"strategy": {"use": name}, "rounds": 4})
    run(cut, rounds=2)
    run(cut, resume=True)
    assert history(cut) == history(home)


def test_a_copy_of_the_folder_goes_on_elsewhere(tmp_path, reference):
    """A repository is only files: copied, it resumes at its new place to the same digest."""
    home, _ = reference
    run(home, rounds=8)
    other = project(tmp_path / "copy", rounds=5, gate=False)
    run(other)
    moved = tmp_path / "moved"
    shutil.copytree(other, moved)
    run(moved, rounds=8, resume=True)
    assert history(moved) == history(home, "runs/2")
