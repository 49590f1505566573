"""How a commit is told in a few words: its refs, who took part, what it measured, how its run ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from fedloom.cli.output import figure
from fedloom.pipeline.runs import RUNS, closed, run_numbers
from fedloom.values import Digest
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
from fedloom.versions.revisions import short_name

SPACES = ("heads/", "merging/", "tags/", "remotes/", RUNS)
"""The refs that name commits, in the order in which they are shown."""
STYLES = {"heads": "bold green", "merging": "bold yellow", "tags": "bold yellow", "remotes": "bold red"}
_METRICS = ("auc", "rmse", "accuracy", "r2", "loss")


def refs_of(repository: Repository) -> dict[str, Digest]:
    """List all refs that name commits, with where they point."""
    names = [name for space in SPACES[:-1] for name in repository.refs.names(space)]
    names += [f"{RUNS}{number}" for number in run_numbers(repository)]
    return {name: target for name in names if (target := repository.refs.get(name))}


def by_commit(refs: Mapping[str, Digest]) -> dict[Digest, list[str]]:
    """Turn refs around: commit → the names that point to it."""
    found: dict[Digest, list[str]] = {}
    for name, target in refs.items():
        found.setdefault(target, []).append(name)
    return found


def labels(names: Sequence[str], current: str) -> Text:
    """Write refs as coloured labels; the current branch has a star."""
    told = Text()
    for name in names:
        star = "*" if name == f"heads/{current}" else ""
        told.append(f"[{star}{short_name(name)}] ", STYLES.get(name.partition("/")[0], "dim"))
    return told


def answered(commit: Commit) -> Text:
    """Count the sites that took part of those that were asked; yellow when somebody was missing."""
    participation = commit.facts.get("participation")
    if not participation:
        return Text()
    count = sum(site["status"] == "answered" for site in participation["sites"])
    partial = participation["status"] != "complete"
    return Text(f"{count}/{len(participation['sites'])}", style="yellow" if partial else "")


def measured(repository: Repository, id_: Digest, commit: Commit) -> Mapping[str, Any]:
    """Find the pooled metrics: in the commit itself, or in what was stated about it later."""
    if found := commit.facts.get("metrics", {}).get("pooled"):
        return dict(found)
    evaluation = repository.attestation(id_, "evaluation")
    return dict(evaluation.body["federated"]["pooled"]) if evaluation else {}


def main_metric(pooled: Mapping[str, Any]) -> str:
    """Write the one metric that says most."""
    name = next((name for name in _METRICS if pooled.get(name) is not None), None)
    return f"{name} {figure(pooled[name])}" if name else ""


def state(repository: Repository, id_: Digest, name: str) -> str:
    """Say how a run ended here, or that it did not."""
    ended = closed(repository, id_, name if name.startswith(RUNS) else None)
    if ended:
        return f"end of {ended['ref']}, {ended['status']}"
    gate = repository.attestation(id_, "gate")
    if gate and not gate.body["passed"]:
        return "refused by the gate"
    if name.startswith(RUNS):
        return "not ended"
    commit = repository.commit(id_)
    if commit.kind in ("import", "train", "round"):
        return "a commit of a run" if "round" in commit.facts else "imported"
    return "passed its gate" if gate else "not measured"


def commit_json(commit: Commit) -> dict[str, Any]:
    """Turn a commit into plain JSON, its facts beside the rest."""
    return {"kind": commit.kind, "message": commit.message, "parents": list(commit.parents), **commit.facts}
