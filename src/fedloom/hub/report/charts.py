"""Line charts and participation grids as inline SVG, pure.

Rules: no script, no style attribute, no colour: the page's style sheet colours by class. Every picture carries a
title and a description in words, and nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, floor, log10
from statistics import fmean
from typing import TypeAlias

from markupsafe import Markup

from fedloom.engine.port import Status

Values: TypeAlias = Sequence[float | None]
Scale: TypeAlias = Callable[[float], float]

HUES = 6
"""Colours the style sheet holds for sites (`s0` to `s5`); the next six sites take the same ones dashed."""
NAMED_SITES = 2 * HUES
"""Beyond this many sites, only the best and the worst are coloured and named; the others are grey."""
EVERYBODY = "all rows"

_WIDTH, _HEIGHT = 380.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 278.0, 12.0, 204.0
_LABEL_PITCH = 13.0
_LABEL_LENGTH = 13
_GRID_LEFT, _GRID_WIDTH, _ROW, _CELL = 112.0, 976.0, 19.0, 13.0
_GRID_COLUMNS = 240
_DRAWN: tuple[Status, ...] = ("answered", "late", "failed")
_RANK: Mapping[Status | None, int] = {None: 0, "answered": 1, "late": 2, "failed": 3}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: its name, a value per round (None where undefined) and its class.

    named: written beside the line's end.
    """

    name: str
    values: Values
    style: str
    named: bool = True

    @property
    def known(self) -> list[tuple[int, float]]:
        """Positions and values that are defined."""
        return [(at, value) for at, value in enumerate(self.values) if value is not None]


def lines(everybody: Values, sites: Mapping[str, Values], *, higher_is_better: bool) -> list[Line]:
    """Choose how lines look: few sites each in a colour of their own, of many only the best and the worst."""
    last = Line(EVERYBODY, everybody, "everybody")
    if len(sites) <= NAMED_SITES:
        styles = [f"s{at % HUES}" + (" dashed" if at >= HUES else "") for at in range(len(sites))]
        return [*(Line(name, values, style) for (name, values), style in zip(sites.items(), styles, strict=True)), last]
    quiet = [Line(name, values, "quiet", named=False) for name, values in sites.items()]
    ranked = sorted((line for line in quiet if line.known), key=lambda line: line.known[-1][1])
    if not ranked:
        return [*quiet, last]
    worst, best = (ranked[0], ranked[-1]) if higher_is_better else (ranked[-1], ranked[0])
    chosen = [Line(worst.name, worst.values, "s1"), Line(best.name, best.values, "s0")]
    return [*(line for line in quiet if line not in (worst, best)), *chosen, last]


def line_chart(key: str, title: str, rounds: Sequence[int], drawn: Sequence[Line]) -> Markup:
    """Draw lines over rounds; `key` makes ids unique in the page. Undefined values leave a gap."""
    drawn = [line for line in drawn if line.known]
    values = [value for line in drawn for _, value in line.known]
    ticks, label = _ticks(min(values), max(values))
    y = _scale(ticks[0], ticks[-1], _BOTTOM, _TOP)
    x = _scale(rounds[0], rounds[-1], _LEFT + 6, _RIGHT - 6)
    parts = [
        *(_y_tick(y(tick), label(tick)) for tick in ticks),
        *(_x_tick(x(number), _BOTTOM + 17, number) for number in _round_ticks(rounds, 6)),
        Markup('<text class="tick" x="{}" y="{}">round</text>').format(_RIGHT + 14, _BOTTOM + 17),
        *(_curve(line, [x(number) for number in rounds], y) for line in drawn),
        *_labels([line for line in drawn if line.named], [x(number) for number in rounds], y),
    ]
    return _picture(key, "chart", (_WIDTH, _HEIGHT), (title, _line_words(rounds, drawn)), parts)


def grid(key: str, title: str, rounds: Sequence[int], sites: Mapping[str, Sequence[Status | None]]) -> Markup:
    """Draw one row per site and one cell per round; None leaves a cell empty.

    Beyond 240 rounds a cell stands for several and shows the worst of them.
    """
    span = grid_span(len(rounds))
    columns = ceil(len(rounds) / span)
    pitch = max(4.0, min(16.0, _GRID_WIDTH / columns))
    size = (_GRID_LEFT + pitch * columns + 8, _ROW * len(sites) + 26)
    at = {number: _GRID_LEFT + pitch * (place // span + 0.5) for place, number in enumerate(rounds)}
    parts = [
        *(
            _grid_row(name, at_y * _ROW, pitch, _grouped(cells, span))
            for at_y, (name, cells) in enumerate(sites.items())
        ),
        *(_x_tick(at[number], size[1] - 8, number) for number in _round_ticks(rounds, 12)),
    ]
    return _picture(key, "grid", size, (title, _grid_words(rounds, sites)), parts)


def grid_span(rounds: int) -> int:
    """Say how many rounds one cell of a grid stands for."""
    return max(1, ceil(rounds / _GRID_COLUMNS))


def swatch(status: Status) -> Markup:
    """Draw one cell for a legend; decoration, the word stands beside it."""
    cell = _cells([status], status, 0.0, 0.0, _CELL + 1)
    return Markup('<svg class="swatch" width="13" height="17" viewBox="0 0 13 17" aria-hidden="true">{}</svg>').format(
        cell
    )


def ranges(numbers: Sequence[int]) -> str:
    """Write numbers in order, runs of them as ranges.

    >>> ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _picture(key: str, kind: str, size: tuple[float, float], words: tuple[str, str], parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="{kind}" role="img" aria-labelledby="{key}-title {key}-desc" viewBox="0 0 {w:.0f} {h:.0f}" '
        'width="{w:.0f}" height="{h:.0f}"><title id="{key}-title">{title}</title><desc id="{key}-desc">{desc}</desc>'
        "{body}</svg>"
    ).format(kind=kind, key=key, w=size[0], h=size[1], title=words[0], desc=words[1], body=Markup("").join(parts))


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    if low == high:
        return lambda _: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(low: float, high: float) -> tuple[list[float], Callable[[float], str]]:
    """Choose three to six round numbers that enclose all values, and how to write them."""
    if low == high:
        low, high = low - (abs(low) / 10 or 1), high + (abs(high) / 10 or 1)
    raw = (high - low) / 4
    unit = 10.0 ** floor(log10(raw))
    step = next(step for step in (unit, 2 * unit, 2.5 * unit, 5 * unit, 10 * unit) if step >= raw * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    places = max(0, -floor(log10(step)) + (1 if round(step / unit, 1) == 2.5 else 0))
    return [
        at * step for at in range(first, last + 1)
    ], lambda value: f"{value:,.{places}f}" if value < 1e6 else f"{value:.0e}"


def _round_ticks(rounds: Sequence[int], at_most: int) -> list[int]:
    """Choose rounds to write under the axis: all of a few, else multiples of a round number."""
    if len(rounds) <= at_most:
        return list(rounds)
    steps = (factor * 10**power for power in range(9) for factor in (1, 2, 5))
    step = next(step for step in steps if len(rounds) / step <= at_most)
    return [number for number in rounds if number % step == 0]


def _y_tick(at: float, text: str) -> Markup:
    return Markup(
        '<path class="rule" d="M{x:.0f} {y:.1f}H{end:.0f}"/><text class="tick" text-anchor="end" x="{left:.0f}" '
        'y="{base:.1f}">{text}</text>'
    ).format(x=_LEFT, y=at, end=_RIGHT, left=_LEFT - 6, base=at + 4, text=text)


def _x_tick(at: float, base: float, number: int) -> Markup:
    return Markup('<text class="tick" text-anchor="middle" x="{:.1f}" y="{:.1f}">{}</text>').format(at, base, number)


def _curve(line: Line, xs: Sequence[float], y: Scale) -> Markup:
    """Draw a line as one path; a value alone between gaps is a dot."""
    pieces = [list(run) for _, run in groupby(enumerate(line.known), lambda pair: pair[1][0] - pair[0])]
    points = [[(xs[at], y(value)) for _, (at, value) in piece] for piece in pieces]
    path = "".join("M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in piece) for piece in points if len(piece) > 1)
    dots = [
        Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(line.style, *piece[0])
        for piece in points
        if len(piece) == 1
    ]
    curve = Markup('<path class="line {}" d="{}"/>').format(line.style, path) if path else Markup("")
    return curve + Markup("").join(dots)


def _labels(named: Sequence[Line], xs: Sequence[float], y: Scale) -> Iterator[Markup]:
    """Write names beside the lines' ends, moved apart where they would touch, each tied to its line."""
    order = sorted(named, key=lambda line: y(line.known[-1][1]))
    for line, base in zip(order, _spread([y(line.known[-1][1]) for line in order]), strict=True):
        at, value = line.known[-1]
        yield Markup(
            '<path class="leader {}" d="M{:.1f} {:.1f}L{:.1f} {:.1f}h5"/>'
            '<text class="name {}" x="{:.1f}" y="{:.1f}">{}</text>'
        ).format(line.style, xs[at], y(value), _RIGHT + 3, base, line.style, _RIGHT + 11, base + 4, _short(line.name))


def _spread(wanted: Sequence[float]) -> list[float]:
    """Move sorted heights apart to one label's pitch, as little as possible, and keep them inside the picture.

    Pool adjacent violators (Ayer et al. 1955), on heights from which each one's place in the order is taken off.
    """
    pools: list[list[float]] = []
    for at, height in enumerate(wanted):
        pools.append([height - at * _LABEL_PITCH])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    highest = _BOTTOM - 2 - (len(wanted) - 1) * _LABEL_PITCH
    fitted = [max(_TOP, min(highest, fmean(pool))) for pool in pools for _ in pool]
    return [base + at * _LABEL_PITCH for at, base in enumerate(fitted)]


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_LENGTH else name[: _LABEL_LENGTH - 1] + "…"


def _line_words(rounds: Sequence[int], drawn: Sequence[Line]) -> str:
    told = [
        f"{line.name} from {line.known[0][1]:.3f} to {line.known[-1][1]:.3f}" for line in reversed(drawn) if line.named
    ]
    others = sum(not line.named for line in drawn)
    more = f"; {others} more sites in grey" if others else ""
    return f"Rounds {rounds[0]} to {rounds[-1]}. {'; '.join(told)}{more}."


def _grouped(cells: Sequence[Status | None], span: int) -> list[Status | None]:
    groups = [cells[at : at + span] for at in range(0, len(cells), span)]
    return [max(group, key=lambda status: _RANK[status]) for group in groups]


def _grid_row(name: str, top: float, pitch: float, cells: Sequence[Status | None]) -> Markup:
    present = [status for status in _DRAWN if status in cells]
    drawn = [_cells(cells, status, _GRID_LEFT, top + 2, pitch) for status in present]
    return Markup('<text class="name" x="0" y="{:.1f}">{}{}</text>{}').format(
        top + 13, _short(name), Markup("<title>{}</title>").format(name), Markup("").join(drawn)
    )


def _cells(cells: Sequence[Status | None], status: Status, left: float, top: float, pitch: float) -> Markup:
    """Draw all cells of one status in a row as one path; a late one is half as high."""
    width = pitch - (2 if pitch >= 8 else 1)
    down = _CELL / 2 if status == "late" else 0.0
    box = f"h{width:.1f}v{_CELL - down:.1f}h-{width:.1f}z"
    path = "".join(
        f"M{left + at * pitch:.1f} {top + down:.1f}{box}" for at, found in enumerate(cells) if found == status
    )
    return Markup('<path class="cell {}" d="{}"/>').format(status, path)


def _grid_words(rounds: Sequence[int], sites: Mapping[str, Sequence[Status | None]]) -> str:
    missed = {
        name: [n for n, s in zip(rounds, cells, strict=True) if s in ("late", "failed")]
        for name, cells in sites.items()
    }
    told = [f"{name} missing in {ranges(numbers)}" for name, numbers in missed.items() if numbers]
    everything = "; ".join(told) or "every site answered in every round"
    return f"{len(sites)} sites by rounds {rounds[0]} to {rounds[-1]}: {everything}."
