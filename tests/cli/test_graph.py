"""The drawing of a history: what is drawn can be read back, and is what the commits say."""

from textwrap import dedent

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedloom.cli.graph import DOWN, GLYPHS, LEFT, NODE, RIGHT, UP, Node, draw, folded, plain

STROKES = {glyph: strokes for strokes, glyph in GLYPHS.items()}


def nodes(graph: dict[str, str]) -> list[Node]:
    """Make nodes of a table of names to the names of their parents."""
    return [Node(name, tuple(of)) for name, of in graph.items()]


def drawn(graph: dict[str, str]) -> str:
    return "\n".join(f"{row.text.rstrip()} {row.node.id if row.node else ''}".rstrip() for row in draw(nodes(graph)))


def same(picture: str, expected: str) -> None:
    assert picture == dedent(expected).strip("\n")


def test_a_line_is_a_line():
    """Commits on one line stand under each other, with nothing between."""
    same(drawn({"c": "b", "b": "a", "a": ""}), "● c\n● b\n● a")


def test_a_merge_of_two_branches():
    """The merged branch leaves to the right and comes back where it began."""
    picture = """
        ● f
        ├─╮
        │ ● e
        │ ● d
        ● │ c
        ├─╯
        ● a
    """
    same(drawn({"f": "ce", "e": "d", "d": "a", "c": "a", "a": ""}), picture)


def test_a_merge_of_many():
    """An octopus: one line across, a lane for each parent."""
    picture = """
        ● m
        ├─┬─┬─╮
        │ │ │ ● d
        │ │ ● │ c
        │ │ ├─╯
        │ ● │ b
        │ ├─╯
        ● │ a
        ├─╯
        ● r
    """
    same(drawn({"m": "abcd", "d": "r", "c": "r", "b": "r", "a": "r", "r": ""}), picture)


def test_lines_that_pass_each_other_are_not_joined():
    """A line across leaves the lanes it passes as they are."""
    picture = """
        ● z
        │ ● q
        │ │ ● x
        ├─│─╯
        ● │ y
        ├─╯
        ● a
    """
    same(drawn({"z": "y", "q": "a", "x": "y", "y": "a", "a": ""}), picture)


def test_unrelated_histories_stand_apart():
    """A root ends its lane; the next history begins below a gap, or it would seem to be older."""
    same(drawn({"b": "a", "a": "", "d": "c", "c": ""}), "● b\n● a\n\n● d\n● c")


@st.composite
def graphs(draw_):
    """Graphs of up to 14 commits, children first, of up to four parents each, in the order of their numbers."""
    size = draw_(st.integers(1, 14))
    parents = {}
    for number in range(size):
        older = list(range(number + 1, size))
        chosen = draw_(st.lists(st.sampled_from(older), unique=True, max_size=4)) if older else []
        parents[number] = tuple(map(str, chosen))
    return [Node(str(number), of) for number, of in parents.items()]


def read_back(rows) -> dict[str, set[str]]:
    """Follow the lines of a drawing down from each dot to the dots they lead to."""
    grid = [list(text.ljust(200)) for text in (*(row.text for row in rows), "")]
    at = {(y, row.text.index(NODE)): row.node.id for y, row in enumerate(rows) if row.node}
    return {name: set(_down(grid, at, y + 1, x)) for (y, x), name in at.items()}


def _down(grid, at, y, x):
    """Follow a line that enters (y, x) from above, until it comes to a dot."""
    while (y, x) not in at:
        if not STROKES[grid[y][x]] & UP:
            return  # nothing comes from above: the dot there has no parents
        if (y - 1, x) in at:
            yield from (found for step in (-2, 2) for found in _across(grid, at, y, x, step))
        elif not STROKES[grid[y][x]] & DOWN:  # it ends in the lane of the dot that this row is about
            x = next(place for place in range(x, -1, -2) if (y - 1, place) in at)
        if not STROKES[grid[y][x]] & DOWN:
            return
        y += 1
    yield at[y, x]


def _across(grid, at, y, x, step):
    """Follow a line across to every lane that it joins, and not only passes, on its way down."""
    back, on = (LEFT, RIGHT) if step > 0 else (RIGHT, LEFT)
    while STROKES[grid[y][x]] & on or grid[y][x + step // 2] == "─":
        x += step
        if STROKES[grid[y][x]] & back and STROKES[grid[y][x]] & DOWN:
            yield from _down(grid, at, y + 1, x)


@settings(max_examples=400, deadline=None)
@given(graphs())
@example(nodes({"a": "bc", "b": "de", "c": "ed", "d": "f", "e": "f", "f": ""}))
@example(nodes({"x": "d", "a": "cd", "b": "de", "c": "f", "d": "f", "e": "f", "f": ""}))
def test_what_is_drawn_can_be_read_back(graph):
    """Whoever follows the lines with a finger finds each commit's parents, whatever the history."""
    rows = list(draw(graph))
    assert [row.node.id for row in rows if row.node] == [node.id for node in graph]
    assert read_back(rows) == {node.id: set(node.parents) for node in graph}
    assert all(row.text.count(NODE) == (row.node is not None) for row in rows)
    assert plain("".join(row.text for row in rows)).isascii()


# folding

LINE = {"9": "8", "8": "7", "7": "6", "6": "5", "5": "4", "4": ""}


def fold(graph, foldable):
    return [(node.id, "".join(node.parents), "".join(held)) for node, held in folded(nodes(graph), foldable)]


def test_a_row_of_rounds_is_folded_into_one_dot():
    """Between the two ends that are shown; its line goes on to where the oldest of them came from."""
    assert fold(LINE, "8765") == [("9", "8", "9"), ("8", "4", "8765"), ("4", "", "4")]


def test_what_is_named_or_where_lines_meet_is_not_folded():
    """A commit with a ref is not foldable, and splits the row; so do a merge and the commit that two branches share."""
    assert fold(LINE, "876") == [("9", "8", "9"), ("8", "5", "876"), ("5", "4", "5"), ("4", "", "4")]
    assert [held for *_, held in fold(LINE, "865")] == list("987654")
    merged = {"m": "cz", "z": "a", "c": "b", "b": "a", "a": "r", "r": "q", "q": "p", "p": "o", "o": ""}
    assert [held for *_, held in fold(merged, "mzcbarqp")] == ["m", "z", "c", "b", "a", "rqp", "o"]


def test_two_in_a_row_are_shown():
    """Folding two would save nothing."""
    assert [held for *_, held in fold(LINE, "87")] == list("987654")
