"""`fedloom log --graph`: the history of all refs, or of one, as a drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fedloom.cli.graph import Cell, Node, Row, draw, folded, plain
from fedloom.cli.opening import open_repository
from fedloom.cli.output import FILE_WIDTH, console, print_json
from fedloom.cli.telling import answered, by_commit, commit_json, labels, main_metric, measured, refs_of
from fedloom.errors import NotFoundError
from fedloom.values import Digest
from fedloom.versions.history import ordered
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository

_LANES = ("cyan", "magenta", "green", "yellow", "blue", "red")
_WIDEST = 24
"""Columns beyond which the drawing pushes the text of its own row aside, and no other's."""

_ALIGNED = 4
"""Columns that stand under each other; labels and message follow as they come."""


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What is drawn: the commits, which of them each dot stands for, and the names that point to them."""

    repository: Repository
    commits: Mapping[Digest, Commit]
    nodes: Sequence[tuple[Node, tuple[str, ...]]]
    names: Mapping[Digest, list[str]]
    current: str


def print_graph(folder: Path, name: str | None, *, all_rounds: bool, as_json: bool) -> None:
    """Draw the history of a commit, or of all branches, tags and runs; as JSON, one commit a line."""
    repository = open_repository(folder)
    refs = refs_of(repository)
    tips = [repository.resolve(name)] if name else _tips(repository, refs)
    commits, names = dict(ordered(tips, repository.commit)), by_commit(refs)
    if as_json:
        for id_, commit in commits.items():
            print_json({"commit": id_, **commit_json(commit), "refs": names.get(id_, [])})
        return
    foldable = () if all_rounds else [i for i, c in commits.items() if c.kind == "round" and i not in names]
    nodes = folded([Node(id_, commit.parents) for id_, commit in commits.items()], foldable)
    current = repository.settings.read().branch
    _print_drawing(_Drawing(repository, commits, nodes, names, current), console())


def _print_drawing(drawing: _Drawing, out: Console) -> None:
    """Draw on a console: with lines where it can show them, in ASCII elsewhere."""
    lines = out.encoding.lower().startswith("utf")
    rows = list(draw(node for node, _ in drawing.nodes))
    width = min(_WIDEST, max(len(row.cells) for row in rows))
    held = {node.id: ids for node, ids in drawing.nodes}
    texts = {id_: _columns(drawing, ids) for id_, ids in held.items()}
    widths = [max((len(columns[place]) for columns in texts.values()), default=0) for place in range(_ALIGNED)]
    for row in rows:
        line = _picture(row, width)
        if row.node:
            line.append_text(_line(texts[row.node.id], widths))
        line.rstrip()
        shown = line if lines else _ascii(line)
        out.print(shown, no_wrap=True, overflow="ellipsis", soft_wrap=not (out.is_terminal or out.width < FILE_WIDTH))


def _tips(repository: Repository, refs: Mapping[str, Digest]) -> list[Digest]:
    """List where the refs point, the current branch first: it gets the lane on the left."""
    if not refs:
        raise NotFoundError("there is no commit yet: start a run with `fedloom run`")
    mine = f"heads/{repository.settings.read().branch}"
    first = [refs[mine]] if mine in refs else []
    return list(dict.fromkeys([*first, *refs.values()]))


def _picture(row: Row, width: int) -> Text:
    text = Text()
    for cell in row.cells:
        text.append(cell.glyph, _style(cell))
    text.append(" " * (width - len(row.cells) + 2))
    return text


def _style(cell: Cell) -> str:
    colour = _LANES[cell.lane % len(_LANES)]
    return f"bold {colour}" if cell.glyph == "●" else colour


def _columns(drawing: _Drawing, ids: Sequence[str]) -> list[Text]:
    """Tell a dot: id, kind, sites, metric; then its labels and what it says of itself."""
    id_ = Digest(ids[0])
    if len(ids) > 1:
        return [Text(f"… {len(ids)} rounds …", "dim"), Text(), _partial(drawing, ids), Text(), _figures(drawing, ids)]
    commit = drawing.commits[id_]
    number = commit.facts.get("round", "")
    kind = f"round {number}" if commit.kind == "round" else commit.kind
    metric = main_metric(measured(drawing.repository, id_, commit))
    told = labels(drawing.names.get(id_, []), drawing.current)
    told.append(commit.message.partition("\n")[0].removesuffix(f": round {number}"))
    return [
        Text(id_[:12], "cyan"),
        Text(kind, "bold" if commit.kind == "merge" else ""),
        answered(commit),
        Text(metric),
        told,
    ]


def _partial(drawing: _Drawing, ids: Sequence[str]) -> Text:
    """Count the rounds that lacked a site."""
    verdicts = [drawing.commits[Digest(id_)].facts.get("participation", {}).get("status") for id_ in ids]
    count = sum(verdict == "partial-allowed" for verdict in verdicts)
    return Text(f"{count} partial" if count else "", "yellow")


def _figures(drawing: _Drawing, ids: Sequence[str]) -> Text:
    """Say where the metric went from the oldest of these rounds to the newest."""
    ends = [
        main_metric(drawing.commits[Digest(id_)].facts.get("metrics", {}).get("pooled", {}))
        for id_ in (ids[-1], ids[0])
    ]
    return Text(f"{ends[0]} → {ends[1].partition(' ')[2]}" if all(ends) else "", "dim")


def _line(columns: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text()
    for text, width in zip(columns, [*widths, 0], strict=True):
        line.append_text(text)
        line.append(" " * (width - len(text) + 2 if width else 0))
    return line


def _ascii(line: Text) -> Text:
    """Write a line with the characters every output has; what has none becomes a question mark."""
    told = line.copy()
    told.plain = plain(line.plain).encode("ascii", "replace").decode()
    return told
