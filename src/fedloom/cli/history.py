"""`fedloom log`, `show` and `report`: what happened, read from the repository."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedloom.cli.output import bytes_text, comparison_table, console, figure, print_json
from fedloom.errors import NotFoundError, StorageError
from fedloom.pipeline.lineage import RUNS, closed, run_numbers
from fedloom.telemetry.recorder import Recorder
from fedloom.values import Digest
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository

_LOG = ("commit", "round", "sites", "loss", "auc", "rmse", "up", "when", "refs")


def print_log(folder: Path, name: str | None, *, as_json: bool) -> None:
    """Print the history of a commit, newest first."""
    repository = _open(folder)
    recorder = Recorder(repository.store)
    tip = repository.resolve(name or _newest_run(repository))
    if as_json:
        for id_, commit in repository.log(tip):
            print_json({"commit": id_, **_commit_json(commit), "record": recorder.read(id_)})
        return
    refs = _refs_by_commit(repository)
    rows = [_log_row(id_, commit, recorder.read(id_), refs) for id_, commit in repository.log(tip)]
    used = [heading for index, heading in enumerate(_LOG) if any(str(row[index]) for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in used:
        left = heading in ("commit", "when", "refs")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "refs")
    for row in rows:
        table.add_row(*[cell for heading, cell in zip(_LOG, row, strict=True) if heading in used])
    console().print(table)


def print_refs(folder: Path, *, as_json: bool) -> None:
    """Print where branches and runs point."""
    repository = _open(folder)
    names = repository.refs.names("heads/") + [f"{RUNS}{number}" for number in run_numbers(repository)]
    found = {name: repository.refs.get(name) for name in names}
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("ref", "commit", "state"):
        table.add_column(heading)
    for name, id_ in found.items():
        assert id_ is not None
        table.add_row(name, id_[:12], _state(repository, id_, name))
    console().print(table)


def print_commit(folder: Path, name: str | None, *, as_json: bool) -> None:
    """Print one commit: who took part, what it measured, what it is made of."""
    repository = _open(folder)
    name = name or _newest_run(repository)
    id_ = repository.resolve(name)
    commit, record = repository.commit(id_), Recorder(repository.store).read(id_)
    evaluation, gate = repository.attestation(id_, "evaluation"), repository.attestation(id_, "gate")
    tree = {part: entry.id for part, entry in repository.tree(commit.tree).items()}
    inputs = {part: entry.id for part, entry in repository.tree(tree["inputs"]).items()} if "inputs" in tree else {}
    if as_json:
        said = {"evaluation": evaluation.body if evaluation else None, "gate": gate.body if gate else None}
        body = {
            "commit": id_,
            **_commit_json(commit),
            "parts": tree,
            "inputs": inputs,
            "record": record,
            **said,
        }
        print_json(body)
        return
    out = console()
    out.print(Text.assemble(("commit ", "dim"), (id_, "bold")))
    out.print(Text.assemble(("parent ", "dim"), ", ".join(commit.parents) or "none"))
    out.print(f"{commit.message}, {_state(repository, id_, name)}")
    _print_round(out, commit, record)
    measured = evaluation.body if evaluation else {"federated": commit.facts.get("metrics", {"pooled": {}})}
    if measured["federated"]["pooled"]:
        out.print()
        out.print(comparison_table(measured))
    if gate:
        _print_gate(out, gate.body)
    _print_notes(out, json.loads(repository.blob(tree["notes"])) if "notes" in tree else [])
    out.print("\nmade from")
    parts = Table(box=None, show_header=False, pad_edge=False)
    for part, entry in {**tree, **{f"inputs/{key}": value for key, value in inputs.items()}}.items():
        parts.add_row(part, Text(entry[:16], style="dim"))
    out.print(parts)


def _print_round(out: Console, commit: Commit, record: Mapping[str, Any]) -> None:
    if record:
        traffic = f"{bytes_text(record['bytes_up'])} up, {bytes_text(record['bytes_down'])} down"
        out.print(f"{record['began']}, {record['seconds']:.2f} s on {record['engine']}, {traffic}")
    participation = commit.facts.get("participation")
    if participation:
        why = f", {participation['reason']}" if participation["reason"] else ""
        out.print(f"\nparticipation: {participation['status']}{why}")
        out.print(_participation_table(participation, dict(record)))


def _print_gate(out: Console, gate: Mapping[str, Any]) -> None:
    out.print(f"\ngate: {'passed' if gate['passed'] else 'refused'}")
    for rule in gate["rules"]:
        value = rule["value"] if isinstance(rule["value"], str) else figure(rule["value"])
        out.print(f"  {'holds ' if rule['holds'] else 'BROKEN'} {rule['rule']} (it is {value})")


def _print_notes(out: Console, notes: Sequence[Mapping[str, str]]) -> None:
    if notes:
        out.print("\nwhat the contract checks noted")
    for note in notes:
        out.print(f"  {note['site']}: {note['note']}")


def write_report(folder: Path, name: str | None, path: Path) -> None:
    """Write the HTML report of a run up to a commit."""
    from fedloom.hub.report import collect, render

    repository = _open(folder)
    name = name or _newest_run(repository)
    id_ = repository.resolve(name)
    page = render(collect(repository, Recorder(repository.store), id_, name if name.startswith(RUNS) else None))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    console().print(f"report of {id_[:12]}: {path}")


def _open(folder: Path) -> Repository:
    if not Repository.exists_at(folder):
        where = folder.resolve()
        raise NotFoundError(f"{where} has no history yet: `fedloom run` makes one, -C FOLDER looks elsewhere")
    return Repository.at(folder)


def _newest_run(repository: Repository) -> str:
    numbers = run_numbers(repository)
    if not numbers:
        raise NotFoundError("there is no run yet: start one with `fedloom run`")
    return f"{RUNS}{numbers[-1]}"


def _refs_by_commit(repository: Repository) -> dict[Digest, list[str]]:
    found: dict[Digest, list[str]] = {}
    for name in repository.refs.names("heads/") + repository.refs.names(RUNS):
        target = repository.refs.get(name)
        if target:
            found.setdefault(target, []).append(name)
    return found


def _log_row(id_: Digest, commit: Commit, record: dict[str, Any], refs: dict[Digest, list[str]]) -> list[Any]:
    participation = commit.facts.get("participation")
    sites: str | Text = ""
    if participation:
        answered = sum(site["status"] == "answered" for site in participation["sites"])
        partial = participation["status"] != "complete"
        sites = Text(f"{answered}/{len(participation['sites'])}", style="yellow" if partial else "")
    measured = commit.facts.get("metrics", {}).get("pooled", {})
    figures = [figure(measured[name]) if name in measured else "" for name in ("loss", "auc", "rmse")]
    up = bytes_text(record["bytes_up"]) if record else ""
    when = record["began"][5:16].replace("T", " ") if record else ""
    names = Text(" ".join(refs.get(id_, [])), style="green")
    return [
        Text(id_[:12], style="cyan"),
        str(commit.facts.get("round", "")),
        sites,
        *figures,
        up,
        when,
        names,
    ]


def _participation_table(participation: dict[str, Any], record: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("site", "status", "weight", "seconds", "up", "reason"):
        table.add_column(heading, justify="right" if heading in ("weight", "seconds", "up") else "left")
    for site in participation["sites"]:
        told = record.get("sites", {}).get(site["site"], {})
        seconds = f"{told['seconds']:.3f}" if told else ""
        up = bytes_text(told["bytes_up"]) if told else ""
        table.add_row(site["site"], site["status"], f"{site['weight']:.1%}", seconds, up, site["reason"])
    return table


def _state(repository: Repository, id_: Digest, name: str) -> str:
    ended = closed(repository, id_, name if name.startswith(RUNS) else None)
    if ended:
        return f"end of {ended['ref']}, {ended['status']}"
    gate = repository.attestation(id_, "gate")
    if gate and not gate.body["passed"]:
        return "refused by the gate"
    return "not ended" if name.startswith(RUNS) else "a commit of a run"


def _commit_json(commit: Commit) -> dict[str, Any]:
    return {"kind": commit.kind, "message": commit.message, "parents": list(commit.parents), **commit.facts}
