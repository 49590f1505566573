"""Renames: seen where they are the one explanation, made in all sides, or a clash; nothing is lost."""

from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.versions.merging.renames import align, renamed
from fedloom.versions.merging.threeway import decide
from fedloom.versions.objects import Entry

NAMES = ("a", "b", "x", "y")
SPEC = ("F32", (2,))


def side(**letters):
    return {name: Entry("tensor", letter * 64) for name, letter in letters.items()}


SIDES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from("abc")).map(lambda letters: side(**letters))


def pairs(base, head):
    """All renames that the bytes allow, kept where neither end has a second choice."""
    allowed = [
        (old, new) for old in base for new in head if old not in head and new not in base and base[old] == head[new]
    ]
    return {
        old: new
        for old, new in allowed
        if sum(one == old for one, _ in allowed) == 1 and sum(other == new for _, other in allowed) == 1
    }


def agreed(base, heads):
    """Renames that every head can follow."""
    moves = [pairs(base, head) for head in heads]
    result = {}
    for old, new in {(old, new) for move in moves for old, new in move.items()}:
        movers = [move for move in moves if old in move]
        same_goal = all(move[old] == new for move in movers)
        everywhere = all(old in move or old in head for move, head in zip(moves, heads, strict=True))
        free = all(move.get(old) == new or new not in head for move, head in zip(moves, heads, strict=True))
        unclaimed = all(other == old for move in moves for other, goal in move.items() if goal == new)
        if same_goal and everywhere and free and unclaimed:
            result[old] = new
    return result


def check(base, heads):
    got = align(base, heads)
    moves = [pairs(base, head) for head in heads]
    assert [renamed(base, head) for head in heads] == moves
    assert got.renamed == agreed(base, heads)
    assert got.clashes.keys() == {old for move in moves for old in move} - got.renamed.keys()
    for n, head in enumerate(heads):
        clashed = {clash.names[n]: clash.heads[n] for clash in got.clashes.values() if clash.names[n] is not None}
        back = {new: old for old, new in got.renamed.items()}
        free = {(name if name in head else back[name]): found for name, found in got.heads[n].items()}
        assert {**free, **clashed} == head
        assert len(got.heads[n]) + len(clashed) == len(head)
    assert {back.get(name, name) for name in got.base} | got.clashes.keys() == base.keys()
    return got


@pytest.mark.parametrize("base", [side(a="a", b="b"), side(a="a", b="a"), side(a="a")], ids=["two", "alike", "one"])
def test_every_small_case(base):
    """Two heads, three names, three values: the same renames as the plain rule finds, and no entry lost or doubled."""
    letters = [None, "a", "b", "c"]
    heads = [
        side(**{name: letter for name, letter in zip(("a", "b", "x"), mix, strict=True) if letter})
        for mix in product(letters, repeat=3)
    ]
    assert sum(len(check(base, pair).renamed) for pair in product(heads, repeat=2)) > 0


@given(base=SIDES, heads=st.lists(SIDES, min_size=1, max_size=3))
@settings(max_examples=300)
def test_any_case(base, heads):
    """More names and heads; in any order of the heads the same, and a head like the base changes nothing."""
    got = check(base, heads)
    for order in permutations(range(len(heads))):
        other = align(base, [heads[n] for n in order])
        assert (other.renamed, other.clashes.keys()) == (got.renamed, got.clashes.keys())
        assert list(other.heads) == [got.heads[n] for n in order]
    more = align(base, [*heads, base])
    assert (more.renamed, more.clashes.keys(), more.heads[:-1]) == (got.renamed, got.clashes.keys(), got.heads)


def test_a_change_follows_a_rename():
    """One head renames, the other changes: the change stands under the new name."""
    base, one, other = side(a="a"), side(x="a"), side(a="b")
    got = align(base, [one, other])
    decision = decide(got.base["x"], [head["x"] for head in got.heads], lambda _: SPEC)
    assert got.renamed == {"a": "x"}
    assert (decision.outcome, decision.take) == ("take", 1)


def test_alike_entries_are_never_guessed():
    """Two biases of zeros renamed together: a delete and an add each, so a change of the other head is a conflict."""
    base, one, other = side(a="a", b="a"), side(x="a", y="a"), side(a="b", b="a")
    got = align(base, [one, other])
    assert got.renamed == {}
    assert decide(got.base["a"], [None, got.heads[1]["a"]], lambda _: SPEC).outcome == "delete_modify"


@pytest.mark.parametrize(
    ("heads", "names"),
    [
        ([side(x="a"), side(y="a")], ("x", "y")),
        ([side(x="a"), side()], ("x", None)),
        ([side(x="a"), side(a="b", x="c")], ("x", "a")),
    ],
    ids=["two names", "deleted", "taken"],
)
def test_clashes(heads, names):
    """Renamed differently, renamed and deleted, renamed to where something else is: the clash says where it went."""
    got = align(side(a="a"), heads)
    assert got.clashes["a"].names == names
    assert got.clashes["a"].base == side(a="a")["a"]
    assert "a" not in got.base
    assert all("a" not in head for head in got.heads)


def test_what_was_told_is_believed_where_it_can_be():
    """A rename with a change at once is told; what is not so is ignored."""
    base, one, other = side(a="a", b="b"), side(x="c", b="b"), side(a="a", b="b")
    assert align(base, [one, other]).renamed == {}
    got = align(base, [one, other], [{"a": "x", "b": "y", "q": "x"}, {}])
    assert got.renamed == {"a": "x"}
    assert got.heads[0]["x"] == one["x"]
    assert got.heads[1]["x"] == base["a"]
    assert renamed(base, other, {"a": "b"}) == {}


def test_two_names_told_to_be_one_are_a_clash():
    """Nothing is overwritten: both stand open."""
    base = side(a="a", b="b")
    got = align(base, [side(x="c"), base], [{"a": "x", "b": "x"}, {}])
    assert got.clashes.keys() == {"a", "b"}
    assert (got.renamed, got.base, got.heads) == ({}, {}, ({}, {}))


def test_a_rename_stays_in_its_part():
    """The same bytes gone from the model and new in the optimizer are no rename."""
    base, head = side(**{"model/a": "a"}), side(**{"optimizer/a": "a"})
    assert renamed(base, head) == {}
    assert renamed(base, side(**{"model/b": "a"})) == {"model/a": "model/b"}
