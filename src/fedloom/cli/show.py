"""`fedloom show`: one commit, from who took part to what it is made of and what was stated about it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedloom.cli.opening import newest, open_repository
from fedloom.cli.output import bytes_text, comparison_table, console, counted, figure, print_json
from fedloom.cli.tables import print_table
from fedloom.cli.telling import by_commit, commit_json, refs_of, state
from fedloom.pipeline.runs import RUNS, closed, run_commits
from fedloom.telemetry.recorder import Recorder
from fedloom.values import Digest
from fedloom.versions import tombstones
from fedloom.versions.conflicts import open_conflicts
from fedloom.versions.objects import Commit, Conflict, Entry
from fedloom.versions.repository import Repository
from fedloom.versions.signing import Signed, signatures
from fedloom.versions.tombstones import Tombstone

_KEEPS = {"stored": "here", "promised": "kept by the site", "opaque": "never kept, only named"}
_LINES = 12


@dataclass(frozen=True, slots=True)
class _Shown:
    """All that is known about one commit."""

    id: Digest
    commit: Commit
    state: str
    run: Mapping[str, Any]
    parents: Mapping[Digest, str]
    parts: Mapping[str, Entry]
    inputs: Mapping[str, Entry]
    receipts: Mapping[str, Entry]
    conflicts: Mapping[str, Conflict]
    erased: Mapping[str, Tombstone]
    record: Mapping[str, Any]
    statements: Sequence[str]
    signatures: Sequence[Signed]
    evaluation: Mapping[str, Any] | None
    gate: Mapping[str, Any] | None
    notes: Sequence[Mapping[str, str]]


def print_commit(folder: Path, name: str | None, *, as_json: bool) -> None:
    """Print one commit."""
    repository = open_repository(folder)
    shown = _collect(repository, name or newest(repository))
    if as_json:
        print_json(_as_json(shown))
        return
    out = console()
    for block in (_print_head, _print_merge, _print_round, _print_measured, _print_notes, _print_made, _print_stated):
        block(out, shown)


def _collect(repository: Repository, name: str) -> _Shown:
    id_ = repository.resolve(name)
    commit = repository.commit(id_)
    parts = repository.tree(commit.tree)
    place = f"attestations/{id_}/"
    return _Shown(
        id_,
        commit,
        state(repository, id_, name),
        run=_run(repository, id_, name),
        parents=_parents(repository, commit),
        parts=parts,
        inputs=_below(repository, parts.get("inputs")),
        receipts=_below(repository, parts.get("receipts")),
        conflicts=open_conflicts(repository, id_),
        erased=_erased(repository, parts),
        record=Recorder(repository.store).read(id_),
        statements=[ref.removeprefix(place) for ref in repository.refs.names(place)],
        signatures=signatures(repository, id_),
        evaluation=_said(repository, id_, "evaluation"),
        gate=_said(repository, id_, "gate"),
        notes=_notes(repository, parts),
    )


def _notes(repository: Repository, parts: Mapping[str, Entry]) -> Sequence[Mapping[str, str]]:
    if "notes" not in parts or not repository.has(parts["notes"].id):
        return []
    found: Sequence[Mapping[str, str]] = json.loads(repository.blob(parts["notes"].id))
    return found


def _erased(repository: Repository, parts: Mapping[str, Entry], above: str = "") -> dict[str, Tombstone]:
    """Find what of a commit is gone and has a tombstone, by its path."""
    found: dict[str, Tombstone] = {}
    for name, entry in parts.items():
        path = f"{above}{name}"
        if repository.has(entry.id):
            below = repository.tree(entry.id) if entry.kind == "tree" else {}
            found |= _erased(repository, below, f"{path}/")
        elif tombstone := tombstones.find(repository.store, entry.id):
            found[path] = tombstone
    return found


def _said(repository: Repository, id_: Digest, type_: str) -> Mapping[str, Any] | None:
    found = repository.attestation(id_, type_)
    return found.body if found else None


def _below(repository: Repository, entry: Entry | None) -> Mapping[str, Entry]:
    return repository.tree(entry.id) if entry and entry.kind == "tree" else {}


def _parents(repository: Repository, commit: Commit) -> dict[Digest, str]:
    """Name the parents: as the merge was told to, or by the refs that point there now."""
    refs = by_commit(refs_of(repository))
    told = {part.id: part.name for part in commit.recipe.inputs} if commit.recipe else {}
    return {id_: told.get(id_) or " ".join(refs.get(id_, [])) for id_ in commit.parents}


def _run(repository: Repository, tip: Digest, name: str) -> dict[str, Any]:
    """Judge the whole run that ends here, not its last round alone; {} in the middle of one."""
    ended = closed(repository, tip, name if name.startswith(RUNS) else None)
    if ended is None and not name.startswith(RUNS):
        return {}
    rounds = [commit for _, commit in run_commits(repository, tip)]
    verdicts = [commit.facts["participation"] for commit in rounds if "participation" in commit.facts]
    fits = [commit.facts["fit"] for commit in rounds if "fit" in commit.facts]
    partial = [verdict for verdict in verdicts if verdict["status"] != "complete"]
    unfit = any(verdict["status"] != "complete" for verdict in fits)
    return {
        "ref": ended["ref"] if ended else name,
        "ended": ended is not None,
        "status": ended["status"] if ended else "partial-allowed" if partial or unfit else "complete",
        "rounds": len(verdicts),
        "partial_rounds": len(partial),
        "missing": _missing([*partial, *(fit for fit in fits if fit["status"] != "complete")]),
    }


def _missing(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say who was missing how often and why, and what else was wrong."""
    absent = Counter(
        (site["site"], site["reason"] or site["status"])
        for verdict in verdicts
        for site in verdict["sites"]
        if site["status"] != "answered"
    )
    reasons = dict.fromkeys(verdict["reason"] for verdict in verdicts if verdict["reason"])
    return [*(f"{site} missed {times} ({why})" for (site, why), times in sorted(absent.items())), *reasons]


def _as_json(shown: _Shown) -> dict[str, Any]:
    recipe = shown.commit.recipe
    return {
        "commit": shown.id,
        **commit_json(shown.commit),
        "state": shown.state,
        "run": shown.run or None,
        "parts": {part: entry.id for part, entry in shown.parts.items()},
        "inputs": {part: entry.id for part, entry in shown.inputs.items()},
        "receipts": {site: {"update": entry.id, "keep": entry.keep} for site, entry in shown.receipts.items()},
        "parent_names": shown.parents,
        "recipe": asdict(recipe) if recipe else None,
        "erased": {path: asdict(tombstone) for path, tombstone in shown.erased.items()},
        "conflicts": {path: {"problem": one.problem, **one.stats} for path, one in shown.conflicts.items()},
        "attestations": list(shown.statements),
        "signatures": [{**asdict(one), "holds": one.holds} for one in shown.signatures],
        "record": shown.record,
        "evaluation": shown.evaluation,
        "gate": shown.gate,
    }


def _print_head(out: Console, shown: _Shown) -> None:
    out.print(Text.assemble(("commit ", "dim"), (shown.id, "bold")))
    for id_, name in shown.parents.items():
        out.print(Text.assemble(("parent ", "dim"), id_, (f"  {name}" if name else "", "green")))
    if not shown.parents:
        out.print(Text.assemble(("parent ", "dim"), "none"))
    out.print(f"{shown.commit.message}, {shown.state}")
    if shown.run and shown.run["status"] != "complete":
        out.print(Text(_run_line(shown.run), style="bold yellow"))


def _run_line(run: Mapping[str, Any]) -> str:
    so_far = "" if run["ended"] else " so far"
    count = f", {run['partial_rounds']} of {counted(run['rounds'], 'round')} went on without everybody"
    causes = "; ".join(run["missing"])
    return f"{run['ref']}: {run['status']}{so_far}{count if run['partial_rounds'] else ''}{causes and ': '}{causes}"


def _print_merge(out: Console, shown: _Shown) -> None:
    merge = shown.commit.facts.get("merge")
    if merge:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in merge.get("weights", {}).items())
        bases = ", ".join(base[:12] for base in merge.get("bases", [])) or "none"
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(merge.get("outcomes", {}).items()))
        out.print(f"\nmerged: {weights}{weights and '; '}base {bases}")
        out.print(f"entries: {counts}")
        for line in _deciders(shown.commit):
            out.print(f"  {line}")
    if shown.conflicts:
        out.print(
            Text(f"\n{counted(len(shown.conflicts), 'open conflict')}: settle with `fedloom resolve`", "bold yellow")
        )
    for path, conflict in list(shown.conflicts.items())[:_LINES]:
        out.print(f"  {path}: {conflict.problem}")
    if (more := len(shown.conflicts) - _LINES) > 0:
        out.print(f"  and {more} more")


def _deciders(commit: Commit) -> Iterator[str]:
    """Say what decided about contested entries: rules by their glob, the strategy for the rest, a person's words."""
    told = commit.facts.get("merge", {})
    made = commit.recipe.settings if commit.recipe else {}
    rules = [f"{glob}={_strategy(strategy)}" for glob, strategy in made.get("rules") or ()] or told.get("rules") or []
    otherwise = made.get("otherwise") or told.get("strategy")
    if rules:
        yield f"contested ones by the first rule that fits: {', '.join(rules)}"
    rest = "the rest" if rules else "contested ones"
    yield f"{rest} by {_strategy(otherwise)}" if otherwise else f"{rest} by nothing: they are conflicts"
    settled = made.get("settled") or {}
    if settled:
        yield f"resolved by hand: {', '.join(f'{path} {take}' for path, take in settled.items())}"


def _strategy(told: Any) -> str:
    """Name a strategy, given by name or as a pipeline file has it."""
    if isinstance(told, Mapping):
        options = ", ".join(f"{key} {value}" for key, value in told.items() if key != "use")
        return f"{_name(told.get('use'))}{f' ({options})' if options else ''}"
    return _name(told)


def _name(strategy: Any) -> str:
    """Leave out the number of a strategy's version."""
    return str(strategy).partition("/")[0]


def _print_round(out: Console, shown: _Shown) -> None:
    record, participation = shown.record, shown.commit.facts.get("participation")
    if record:
        traffic = f"{bytes_text(record['bytes_up'])} up, {bytes_text(record['bytes_down'])} down"
        out.print(f"{record['began']}, {record['seconds']:.2f} s on {record['engine']}, {traffic}")
    if not participation:
        return
    why = f", {participation['reason']}" if participation["reason"] else ""
    whole = not shown.run or shown.run["status"] == "complete"
    which = "participation" if whole else f"participation in round {shown.commit.facts.get('round')}"
    out.print(f"\n{which}: {participation['status']}{why}")
    print_table(out, _participation_table(participation, shown))


def _participation_table(participation: Mapping[str, Any], shown: _Shown) -> Table:
    record, receipts = shown.record, shown.receipts
    gone = {path.split("/")[1] for path in shown.erased if path.startswith("receipts/")}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("site", "status", "weight", "seconds", "up", *(("update",) if receipts else ()), "reason"):
        table.add_column(heading, justify="right" if heading in ("weight", "seconds", "up") else "left")
    for site in participation["sites"]:
        told = record.get("sites", {}).get(site["site"], {})
        seconds = f"{told['seconds']:.3f}" if told else ""
        up = bytes_text(told["bytes_up"]) if told else ""
        receipt = receipts.get(site["site"])
        kept = "erased" if site["site"] in gone else _KEEPS[receipt.keep] if receipt else "none"
        update = (kept,) if receipts else ()
        table.add_row(site["site"], site["status"], f"{site['weight']:.1%}", seconds, up, *update, site["reason"])
    return table


def _print_measured(out: Console, shown: _Shown) -> None:
    found = shown.evaluation or {"federated": shown.commit.facts.get("metrics", {"pooled": {}})}
    if found["federated"]["pooled"]:
        out.print()
        if table := comparison_table(found):
            print_table(out, table)
    if shown.gate:
        out.print(f"\ngate: {'passed' if shown.gate['passed'] else 'refused'}")
    for rule in shown.gate["rules"] if shown.gate else ():
        value = rule["value"] if isinstance(rule["value"], str) else figure(rule["value"])
        out.print(f"  {'holds ' if rule['holds'] else 'BROKEN'} {rule['rule']} (it is {value})")


def _print_notes(out: Console, shown: _Shown) -> None:
    if shown.notes:
        out.print("\nwhat the contract checks noted")
    for note in shown.notes:
        out.print(f"  {note['site']}: {note['note']}")


def _print_made(out: Console, shown: _Shown) -> None:
    out.print("\nmade from")
    table = Table(box=None, show_header=False, pad_edge=False)
    for part, entry in {**shown.parts, **{f"inputs/{key}": one for key, one in shown.inputs.items()}}.items():
        table.add_row(part, Text(entry.id[:16], style="dim"))
    recipe = shown.commit.recipe
    if recipe:
        table.add_row(
            "recipe", f"{recipe.algorithm} of {', '.join(_input(part.name, part.weight) for part in recipe.inputs)}"
        )
    print_table(out, table)
    for why, paths in _by_reason(shown.erased).items():
        more = f" and {len(paths) - _LINES} more" if len(paths) > _LINES else ""
        out.print(Text(f"{', '.join(paths[:_LINES])}{more}: {why}", style="yellow"))


def _by_reason(erased: Mapping[str, Tombstone]) -> dict[str, list[str]]:
    """Put together what was erased in one go."""
    found: dict[str, list[str]] = {}
    for path, tombstone in erased.items():
        found.setdefault(str(tombstone), []).append(path)
    return found


def _input(name: str, weight: float) -> str:
    return f"{name} ({weight:g})"


def _print_stated(out: Console, shown: _Shown) -> None:
    others = [type_ for type_ in shown.statements if not type_.startswith("signature/")]
    if others:
        out.print(f"\nstated about it: {', '.join(others)}")
    for line in _signature_lines(shown.signatures):
        out.print(line)


def _signature_lines(found: Sequence[Signed]) -> Iterator[Text | str]:
    for one in found:
        if one.problem:
            yield Text(f"signature of key {one.key[:12]} does not hold: {one.problem}", style="bold red")
        elif one.name:
            yield Text(f"signed by {one.name} (key {one.key[:12]})", style="green")
        else:
            yield f"signed with key {one.key[:12]}, which nobody vouches for here"
