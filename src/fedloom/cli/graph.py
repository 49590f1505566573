"""How a history is drawn: which lane a commit stands in, and the lines between commits and their parents.

Rules: pure. Commits come children first. Each lane waits for one commit, and each commit is waited for in one lane:
lines that lead to it join as soon as they can, in the lane on the left. A line that passes behind another is not joined
to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
_ACROSS = LEFT | RIGHT
NODE = "●"
GLYPHS = {
    0: " ",
    UP | DOWN: "│",
    _ACROSS: "─",
    LEFT | DOWN: "╮",
    RIGHT | DOWN: "╭",
    LEFT | UP: "╯",
    RIGHT | UP: "╰",
    UP | DOWN | RIGHT: "├",
    UP | DOWN | LEFT: "┤",
    _ACROSS | DOWN: "┬",
    _ACROSS | UP: "┴",
    UP | DOWN | _ACROSS: "┼",
}
_PLAIN = str.maketrans("●│─╮╭╯╰├┤┬┴┼…→", "*|-..''++.'+.>")


@dataclass(frozen=True, slots=True)
class Node:
    """What is drawn as one dot: a commit, or several of one line folded into one (`id` is the newest of them)."""

    id: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One character of the drawing and the number of the lane it belongs to, which chooses its colour."""

    glyph: str
    lane: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the drawing; `node` is the one whose dot is on it, None where there are lines only."""

    cells: tuple[Cell, ...]
    node: Node | None

    @property
    def text(self) -> str:
        """The drawing without colours."""
        return "".join(cell.glyph for cell in self.cells)


def draw(nodes: Iterable[Node]) -> Iterator[Row]:
    """Draw nodes that come children first."""
    lanes = _Lanes()
    for node in nodes:
        yield from lanes.add(node)


def plain(text: str) -> str:
    """Write a drawing for an output that has ASCII only."""
    return text.translate(_PLAIN)


def folded(nodes: Sequence[Node], foldable: Iterable[str], least: int = 3) -> list[tuple[Node, tuple[str, ...]]]:
    """Draw `least` or more foldable nodes that follow each other on one line as one; gives each with what it holds.

    A node at which lines meet or part is never folded, nor one at an end.
    """
    children: dict[str, int] = {}
    for node in nodes:
        for parent in node.parents:
            children[parent] = children.get(parent, 0) + 1
    wanted = set(foldable)
    inner = {n.id for n in nodes if n.id in wanted and len(n.parents) == 1 and children.get(n.id) == 1}
    known = {node.id: node for node in nodes}
    inside, found = set[str](), list[tuple[Node, tuple[str, ...]]]()
    for node in nodes:
        if node.id in inside:
            continue
        chain = _chain(node, inner, known)
        if len(chain) < least:
            found.append((node, (node.id,)))
            continue
        inside.update(chain)
        found.append((Node(node.id, known[chain[-1]].parents), tuple(chain)))
    return found


def _chain(node: Node, inner: set[str], known: dict[str, Node]) -> list[str]:
    chain, at = list[str](), node.id
    while at in inner:
        chain.append(at)
        at = known[at].parents[0]
    return chain


@dataclass
class _Lanes:
    """What each lane waits for, from left to right; a lane keeps its colour as long as it goes on."""

    waits: list[str | None] = field(default_factory=list)
    colours: list[int] = field(default_factory=list)
    opened: int = 0
    root: int | None = None  # where the dot just drawn has no line down

    def add(self, node: Node) -> Iterator[Row]:
        """Draw a node, and below it the lines to its parents where they are not simply straight down."""
        begins = node.id not in self.waits
        own = self._open(node.id, 0, ()) if begins else self.waits.index(node.id)
        above = [wait is not None for wait in self.waits]
        if begins and own == self.root:  # or this one would seem to be the parent of the root above
            yield Row(self._spaced(["│" if there and n != own else " " for n, there in enumerate(above)]), None)
        yield Row(self._spaced([NODE if n == own else "│" if there else " " for n, there in enumerate(above)]), node)
        self.waits[own] = None
        self.root = None if node.parents else own
        ends = {own: UP}
        for parent in dict.fromkeys(node.parents):
            self._join(parent, own, ends)
        if ends.keys() != {own}:
            yield Row(self._links(own, ends, above), None)
        while self.waits and self.waits[-1] is None:
            del self.waits[-1], self.colours[-1]

    def _join(self, parent: str, own: int, ends: dict[int, int]) -> None:
        """Lead a line from the own lane to where the parent is waited for; `ends` collects the strokes per lane."""
        place = self.waits.index(parent) if parent in self.waits else None
        free = self.waits[own] is None
        if free and (place is None or place > own):  # the line goes straight on, and one from the right ends in it
            self.waits[own] = parent
            ends[own] |= DOWN
            if place is None:
                return
            self.waits[place] = None
            ends[place] = UP
        elif place is None:
            place = self._open(parent, own + 1, ends)
            ends[place] = DOWN
        else:
            ends[place] = UP | DOWN
        towards, back = (RIGHT, LEFT) if place > own else (LEFT, RIGHT)
        ends[own] |= towards
        ends[place] |= back

    def _open(self, id_: str, first: int, taken: Collection[int]) -> int:
        """Begin a lane in the first place from `first` on where none is, and none ended on this very line."""
        places = range(first, len(self.waits))
        place = next((n for n in places if self.waits[n] is None and n not in taken), len(self.waits))
        if place == len(self.waits):
            self.waits.append(None)
            self.colours.append(0)
        self.waits[place], self.colours[place] = id_, self.opened
        self.opened += 1
        return place

    def _links(self, own: int, ends: dict[int, int], above: Sequence[bool]) -> tuple[Cell, ...]:
        """Draw one line: what passes, the own lane, and a line across from there to every other end."""
        strokes = [UP | DOWN if n < len(above) and above[n] else 0 for n in range(len(self.waits))]
        behind: dict[int, int] = {}  # half places that a line across covers → its lane
        for place in sorted(ends, key=lambda place: -abs(place - own)):
            strokes[place] = ends[place]
            colour = self.colours[place] if ends[own] & DOWN else self.colours[own]
            behind |= dict.fromkeys(range(2 * min(own, place) + 1, 2 * max(own, place)), colour)
        return self._cells(strokes, behind, set(ends))

    def _cells(self, ends: Sequence[int], behind: dict[int, int], joined: set[int]) -> tuple[Cell, ...]:
        cells = []
        for place in range(2 * len(ends) - 1):
            lane, between = divmod(place, 2)
            if between or not ends[lane]:
                cells.append(Cell("─" if place in behind else " ", behind.get(place, 0)))
                continue
            across = _ACROSS if place in behind and lane in joined else 0
            cells.append(Cell(GLYPHS[ends[lane] | across], self.colours[lane]))
        return tuple(cells)

    def _spaced(self, glyphs: Sequence[str]) -> tuple[Cell, ...]:
        cells = [Cell(glyph, colour) for glyph, colour in zip(glyphs, self.colours, strict=True)]
        return tuple(part for cell in cells for part in (cell, Cell(" ")))[:-1]
