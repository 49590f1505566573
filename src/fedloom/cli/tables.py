"""How tables are printed: within the width there is, and without blanks at the ends of lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table


def print_table(out: Console, table: Table, *, dispensable: Sequence[str] = ()) -> None:
    """Print a table; where it is too wide, columns of these headings are left out, the first of them first."""
    for heading in dispensable:
        if Measurement.get(out, out.options.update(max_width=10_000), table).maximum <= out.width:
            break
        table = _without(table, heading)
    for line in out.render_lines(table, out.options.update(max_width=out.width), pad=False):
        out.print(_Line(_stripped(line)), end="", soft_wrap=True)


class _Line:
    """Segments to be printed as they are."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        self._segments = list(segments)

    def __rich_console__(self, *_: object) -> Iterator[Segment]:
        yield from self._segments
        yield Segment.line()


def _stripped(line: Sequence[Segment]) -> list[Segment]:
    """Take away the blanks that fill the last column."""
    kept = list(line)
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        kept[-1] = Segment(kept[-1].text.rstrip(), *kept[-1][1:])
    return kept


def _without(table: Table, heading: str) -> Table:
    """Give a table without a column, if it has one of this heading."""
    table.columns = [column for column in table.columns if column.header != heading]
    return table
