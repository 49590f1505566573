"""`fedloom revert --site`: what taking a site out did, before and after."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from fedloom.cli.opening import open_repository
from fedloom.cli.output import console, figure, print_json
from fedloom.cli.watching import watcher
from fedloom.errors import EXIT_OK, EXIT_REFUSED, SpecError, nearest
from fedloom.local.removal import Method, Removal, Request, remove_site
from fedloom.pipeline.stages.evaluate import Evaluation
from fedloom.telemetry.metrics import HIGHER_IS_BETTER, worst

_SHORT = 12


def revert_site(
    folder: Path, site: str, *, rounds: str, method: str, repair_rounds: int, force: bool, as_json: bool
) -> int:
    """Take a site out of the current branch and say what that did; the exit code says whether the branch moved."""
    open_repository(folder)
    if method not in get_args(Method):
        raise SpecError(f"no method '{method}'; {nearest(method, get_args(Method))}")
    request = Request(site, _span(rounds), method, repair_rounds, force)  # type: ignore[arg-type]  # checked above
    watch = watcher(as_json=as_json)
    try:
        removal = remove_site(folder, request, watch)
    finally:
        watch.close()
    if as_json:
        print_json(_as_json(removal))
    else:
        _print(console(), request, removal)
    return EXIT_REFUSED if removal.refused else EXIT_OK


def _span(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
    if not found or int(found.group(2) or found.group(1)) < int(found.group(1)):
        raise SpecError(f"'{text}' are no rounds: write for example 3..7, or 5")
    return int(found.group(1)), int(found.group(2) or found.group(1))


def _print(out: Console, request: Request, removal: Removal) -> None:
    count = f"{len(removal.rounds)} round{'s' if len(removal.rounds) > 1 else ''}"
    out.print(f"\n{request.site} taken out of {count} by {request.method}")
    out.print(_table(removal))
    if removal.remains:
        out.print(f"an approximation, not erasure. In the model's history remain: {', '.join(removal.remains)}")
    else:
        out.print(f"erasure: nothing the new model was made from has {request.site} in it")
    for rule in removal.measured.rules:
        value = rule["value"] if isinstance(rule["value"], str) else figure(rule["value"])
        out.print(f"  {'holds ' if rule['holds'] else 'BROKEN'} {rule['rule']} (it is {value})")
    if removal.refused:
        out.print(f"the branch stays where it was: {removal.refused}")
        out.print(f"to keep the candidate: fedloom branch NAME {removal.commit[:_SHORT]}")
    else:
        out.print(f"the branch is at {removal.commit}")
        stay = "its rounds stay in the history before, and any updates the hub kept"
        out.print(f"{stay}: `fedloom erase --site {request.site} --updates` takes those away")


def _table(removal: Removal) -> Table:
    """Set figures before and after beside each other, as the remaining sites measured them."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("at the other sites")
    for heading in ("before", "after"):
        table.add_column(heading, justify="right")
    sides = [removal.measured.evaluations[id_] for id_ in (removal.before, removal.commit)]
    for name in (name for name in HIGHER_IS_BETTER if all(name in side.pooled for side in sides)):
        table.add_row(name, *(figure(side.pooled[name]) for side in sides))
    metric = removal.measured.metric
    table.add_row(f"worst site's {metric}", *(_worst(side, metric) for side in sides))
    return table


def _worst(side: Evaluation, metric: str) -> str:
    found = worst(side.sites, metric)
    return figure(found[1]) if found else "–"


def _as_json(removal: Removal) -> dict[str, object]:
    return {
        "commit": removal.commit,
        "before": removal.before,
        "rounds": removal.rounds,
        "erasure": not removal.remains,
        "remains": removal.remains,
        "passed": removal.measured.passed,
        "rules": removal.measured.rules,
        "refused": removal.refused,
        "measured": {id_: found.as_json() for id_, found in removal.measured.evaluations.items()},
    }
