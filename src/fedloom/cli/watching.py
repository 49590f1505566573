"""How a run looks: a live table on a terminal, a few plain lines elsewhere, JSON lines for machines."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedloom.cli.output import bytes_text, comparison_table, console, figure, print_json
from fedloom.errors import EXIT_OK, EXIT_PARTIAL
from fedloom.pipeline.events import Event, RoundFinished, RunFinished, RunStarted, StageFinished

PLAIN_ROUNDS = 6
LIVE_ROUNDS = 10


class Watcher(Protocol):
    """Somebody who watches a run."""

    def __call__(self, event: Event) -> None:
        """Hear what happened."""
        ...

    def close(self) -> None:
        """Leave the screen tidy, whatever happened."""
        ...


def watcher(*, as_json: bool) -> Watcher:
    """Choose how to watch."""
    if as_json:
        return JsonLines()
    out = console()
    return LiveTable(out) if out.is_terminal else PlainLines(out)


def exit_code(finished: RunFinished) -> int:
    """Say by exit code whether every round was complete."""
    return EXIT_OK if finished.status == "complete" else EXIT_PARTIAL


class JsonLines:
    """One JSON object a line: `event` names it."""

    def __call__(self, event: Event) -> None:
        """Print an event."""
        name = "".join("_" + c.lower() if c.isupper() else c for c in type(event).__name__).lstrip("_")
        code = {"exit_code": exit_code(event)} if isinstance(event, RunFinished) else {}
        print_json({"event": name, **dataclasses.asdict(event), **code})

    def close(self) -> None:
        """Nothing to tidy."""


class _Tally:
    """What both human views remember: how far the run is and who was missing."""

    def __init__(self) -> None:
        self.started: RunStarted | None = None
        self._missing: Counter[tuple[str, str]] = Counter()
        self._reasons: dict[str, None] = {}
        self._partial = 0

    def note(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.started = event
        elif isinstance(event, RoundFinished) and event.verdict.status != "complete":
            self._partial += 1
            for outcome in event.verdict.missing:
                self._missing[outcome.site, outcome.reason] += 1
            if event.verdict.reason:
                self._reasons[event.verdict.reason] = None

    def closing(self, event: RunFinished) -> list[str]:
        where = event.model or f"not registered; `fedloom show {event.run}` has it"
        ended = [f"{event.run} ended {event.status}: commit {event.commit}", f"model: {where}"]
        return ended if event.status == "complete" else [self._partial_line(), *ended]

    def _partial_line(self) -> str:
        if not self._partial:
            return "PARTIAL: the fit or an earlier part of this run lacked a site, see `fedloom report`"
        rounds = self.started.rounds if self.started else self._partial
        told = [f"{site} missed {times} ({why})" for (site, why), times in sorted(self._missing.items())]
        causes = "; ".join([*told, *self._reasons])
        return f"PARTIAL: {self._partial} of {rounds} rounds went on without everybody: {causes}"


class PlainLines:
    """At most 15 lines for a log file: the stages, a few rounds, how it ended."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._tally = _Tally()

    def __call__(self, event: Event) -> None:
        """Print what is worth a line."""
        self._tally.note(event)
        if isinstance(event, RunStarted):
            self._out.print(_headline(event))
        elif isinstance(event, StageFinished):
            self._out.print(f"{event.stage}: {event.summary}")
        elif isinstance(event, RoundFinished) and self._worth_a_line(event):
            self._out.print("  ".join(_plain_round(event)))
        elif isinstance(event, RunFinished):
            for line in self._tally.closing(event):
                self._out.print(line)

    def close(self) -> None:
        """Nothing to tidy."""

    def _worth_a_line(self, event: RoundFinished) -> bool:
        started = self._tally.started
        if started is None:
            return True
        left = started.rounds - started.resumed_at
        step = max(1, -(-left // (PLAIN_ROUNDS - 1)))
        place = event.round - started.resumed_at
        return place == 1 or event.round == started.rounds or place % step == 0


class LiveTable:
    """A table that grows while the run goes on, and stays when it ends."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._tally = _Tally()
        self._rounds: list[RoundFinished] = []
        self._live: Live | None = None

    def __call__(self, event: Event) -> None:
        """Draw what happened."""
        self._tally.note(event)
        if isinstance(event, RunStarted):
            self._out.print(Text(_headline(event), style="bold"))
            self._live = Live(console=self._out, refresh_per_second=8)
            self._live.start()
        elif isinstance(event, RoundFinished):
            self._rounds.append(event)
            if self._live:
                self._live.update(self._table())
        elif isinstance(event, StageFinished):
            self.close()
            self._out.print(Text.assemble((f"{event.stage:>9} ", "cyan"), event.summary))
        else:
            self._finish(event)

    def close(self) -> None:
        """Stop drawing and leave the last picture."""
        if self._live:
            self._live.stop()
            self._live = None

    def _table(self) -> RenderableType:
        started = self._tally.started
        assert started is not None
        table = Table(box=None, pad_edge=False, header_style="dim")
        names = list(self._rounds[-1].metrics)
        figures = [name for name in ("loss", "accuracy", "auc", "rmse", "r2") if name in names]
        for heading in ("round", "sites", *figures, "up", "down", "seconds"):
            table.add_column(heading, justify="right")
        for event in self._rounds[-LIVE_ROUNDS:]:
            table.add_row(*_live_round(event, figures))
        bar = ProgressBar(total=started.rounds, completed=self._rounds[-1].round, width=40)
        return Group(table, bar)

    def _finish(self, event: RunFinished) -> None:
        comparison = comparison_table(event.summary)
        if comparison is not None:
            self._out.print()
            self._out.print(comparison)
        *warnings, ended, model = self._tally.closing(event)
        for line in warnings:
            self._out.print(Text(line, style="bold yellow"))
        self._out.print(Text(ended, style="bold green" if event.status == "complete" else "bold yellow"))
        self._out.print(Text(model))


def _headline(event: RunStarted) -> str:
    goes_on = f", going on after round {event.resumed_at}" if event.resumed_at else ""
    return f"{event.pipeline}: {event.run}, {len(event.sites)} sites, {event.rounds} rounds, seed {event.seed}{goes_on}"


def _sites_text(event: RoundFinished) -> str:
    return f"{len(event.verdict.answered)}/{len(event.verdict.sites)}"


def _plain_round(event: RoundFinished) -> list[str]:
    figures = [f"{n} {figure(event.metrics[n])}" for n in ("loss", "auc", "rmse") if n in event.metrics]
    parts = [f"round {event.round}", f"sites {_sites_text(event)}", *figures]
    return [*parts, f"up {bytes_text(event.bytes_up)}", f"{event.seconds:.2f} s"]


def _live_round(event: RoundFinished, figures: Sequence[str]) -> list[RenderableType]:
    partial = event.verdict.status != "complete"
    sites = Text(_sites_text(event), style="yellow" if partial else "")
    told = [figure(event.metrics[name]) for name in figures]
    traffic = [bytes_text(event.bytes_up), bytes_text(event.bytes_down)]
    return [str(event.round), sites, *told, *traffic, f"{event.seconds:.2f}"]
