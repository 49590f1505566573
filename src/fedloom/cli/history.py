"""`fedloom log` and `report`: what happened, read from the repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fedloom.cli.opening import newest, open_repository
from fedloom.cli.output import bytes_text, console, figure, print_json
from fedloom.cli.tables import print_table
from fedloom.cli.telling import answered, by_commit, commit_json, main_metric, measured, refs_of, state
from fedloom.errors import NotFoundError, StorageError, nearest
from fedloom.pipeline.runs import RUNS
from fedloom.telemetry.recorder import Recorder
from fedloom.values import Digest
from fedloom.versions import tombstones
from fedloom.versions.history import ordered
from fedloom.versions.objects import Commit, Entry
from fedloom.versions.refs import Move, is_ref_name
from fedloom.versions.repository import Repository

_LOG = ("commit", "round", "sites", "loss", "auc", "rmse", "up", "when", "refs")


def print_log(folder: Path, name: str | None, *, as_json: bool) -> None:
    """Print the history of a commit along first parents, newest first."""
    repository = open_repository(folder)
    recorder = Recorder(repository.store)
    tip = repository.resolve(name or newest(repository))
    refs = by_commit(refs_of(repository))
    if as_json:
        for id_, commit in repository.log(tip):
            named = {"refs": refs.get(id_, [])}
            print_json({"commit": id_, **commit_json(commit), "record": recorder.read(id_), **named})
        return
    rows = [_log_row(id_, commit, recorder.read(id_), refs) for id_, commit in repository.log(tip)]
    used = [heading for index, heading in enumerate(_LOG) if any(str(row[index]) for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in used:
        left = heading in ("commit", "when", "refs")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "refs")
    for row in rows:
        table.add_row(*[cell for heading, cell in zip(_LOG, row, strict=True) if heading in used])
    print_table(console(), table, dispensable=("when", "up"))


def print_site(folder: Path, name: str | None, site: str, *, as_json: bool) -> None:
    """Print the rounds in which a site took part, of all the history that led to a commit, newest first."""
    repository = open_repository(folder)
    tip = repository.resolve(name or newest(repository))
    history = list(ordered([tip], repository.commit))
    rounds = [{"commit": i, **told} for i, commit in history if (told := _took_part(repository, commit, site))]
    if not rounds:
        known = {part["site"] for _, commit in history for part in _sites(commit)}
        there = nearest(site, known) if known else "nobody did"
        raise NotFoundError(f"site '{site}' took part in no round of {tip[:12]}; {there}")
    if as_json:
        for one in rounds:
            print_json(one)
        return
    names = by_commit(refs_of(repository))
    table = _table("commit", "round", "weight", "update", "metric", "refs")
    for one in rounds:
        id_ = Digest(one["commit"])
        metric = main_metric(measured(repository, id_, repository.commit(id_)))
        weight, update = f"{one['weight']:.1%}", f"{one['keep']} {one['update'][:12]}" if one["update"] else "none"
        table.add_row(Text(id_[:12], "cyan"), str(one["round"]), weight, update, metric, " ".join(names.get(id_, [])))
    print_table(console(), table)


def _took_part(repository: Repository, commit: Commit, site: str) -> dict[str, Any] | None:
    """Say with what weight a site's update counted in a round, and where its bytes are; None where it did not."""
    part = next((p for p in _sites(commit) if p["site"] == site and p["status"] == "answered"), None)
    if part is None:
        return None
    receipts = repository.tree(commit.tree).get("receipts")
    receipt = repository.tree(receipts.id).get(site) if receipts and receipts.kind == "tree" else None
    update = {"update": receipt.id, "keep": _kept(repository, receipt)} if receipt else {"update": None, "keep": None}
    return {"round": commit.facts.get("round"), "weight": part["weight"], **update}


def _kept(repository: Repository, receipt: Entry) -> str:
    """Say where a site's update is; erased where nothing but a tombstone is left of it, or of a tensor in it."""
    below = [receipt.id]
    if receipt.kind == "tree" and repository.has(receipt.id):
        below += [entry.id for entry in repository.tree(receipt.id).values()]
    gone = any(not repository.has(id_) and tombstones.find(repository.store, id_) for id_ in below)
    return "erased" if gone else receipt.keep


def _sites(commit: Commit) -> list[dict[str, Any]]:
    if commit.kind != "round":
        return []
    found: list[dict[str, Any]] = commit.facts.get("participation", {}).get("sites", [])
    return found


def print_refs(folder: Path, *, as_json: bool) -> None:
    """Print where branches, tags and runs point, since when and why."""
    repository = open_repository(folder)
    told = dict(_ref_facts(repository))
    if as_json:
        print_json(told)
        return
    table = _table("ref", "commit", "state", "kind", "moved", "why")
    for name, ref in told.items():
        table.add_row(name, ref["commit"][:12], ref["state"], ref["kind"], _when(ref["moved"]), ref["why"])
    print_table(console(), table, dispensable=("kind",))


def _ref_facts(repository: Repository) -> Iterator[tuple[str, dict[str, str]]]:
    for name, id_ in refs_of(repository).items():
        last = repository.refs.log(name)[-1]
        kind = repository.commit(id_).kind
        told = {"commit": id_, "state": state(repository, id_, name), "kind": kind}
        yield name, {**told, "moved": last.when, "why": last.why}


def print_reflog(folder: Path, name: str, *, as_json: bool) -> None:
    """Print every move of a ref, newest first, also of one that is deleted."""
    repository = open_repository(folder)
    ref, moves = _moves(repository, name)
    if as_json:
        for move in reversed(moves):
            print_json({"ref": ref, "commit": move.target, "moved": move.when, "why": move.why})
        return
    table = _table("commit", "moved", "why")
    for move in reversed(moves):
        table.add_row(Text(move.target[:12] if move.target else "deleted", "cyan"), _when(move.when), move.why)
    print_table(console(), table)


def _moves(repository: Repository, name: str) -> tuple[str, list[Move]]:
    remote, _, rest = name.partition("/")
    for ref in (name, f"heads/{name}", f"tags/{name}", f"remotes/{remote}/heads/{rest}"):
        if not is_ref_name(ref):
            continue
        try:
            return ref, repository.refs.log(ref)
        except NotFoundError:
            continue
    raise NotFoundError(f"there never was a ref '{name}': {nearest(name, refs_of(repository)) or 'there is none yet'}")


def write_report(folder: Path, name: str | None, path: Path) -> None:
    """Write the HTML report of a run up to a commit."""
    from fedloom.hub.report import collect, render

    repository = open_repository(folder)
    name = name or newest(repository)
    id_ = repository.resolve(name)
    page = render(collect(repository, Recorder(repository.store), id_, name if name.startswith(RUNS) else None))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    console().print(f"report of {id_[:12]}: {path}")


def _log_row(id_: Digest, commit: Commit, record: dict[str, Any], refs: Mapping[Digest, list[str]]) -> list[Any]:
    pooled = commit.facts.get("metrics", {}).get("pooled", {})
    figures = [figure(pooled[name]) if name in pooled else "" for name in ("loss", "auc", "rmse")]
    up = bytes_text(record["bytes_up"]) if record else ""
    when = _when(record["began"])[5:] if record else ""
    names = Text(" ".join(refs.get(id_, [])), style="green")
    number = str(commit.facts.get("round", "" if commit.kind == "round" else commit.kind))
    return [Text(id_[:12], style="cyan"), number, answered(commit), *figures, up, when, names]


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        numbers = heading in ("round", "weight")
        table.add_column(heading, justify="right" if numbers else "left", no_wrap=heading not in ("why", "refs"))
    return table


def _when(moment: str) -> str:
    """Write an ISO time to the minute."""
    return moment[:16].replace("T", " ")
