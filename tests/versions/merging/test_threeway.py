"""The decision about one entry: every small case, against a table written in another way."""

from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.versions.merging.threeway import Decision, decide, decisions
from fedloom.versions.objects import Entry

SPECS = [("F32", (2,)), ("F32", (3,)), ("F64", (2,)), ("F64", (3,)), None]


def entry(letter, keep="stored"):
    return None if letter is None else Entry("tensor", letter * 64, keep)


def table(base, heads, specs):  # noqa: PLR0911 - a line a row
    """Decide over letters: what each head did to the entry, then who did what."""
    did = ["kept" if head == base else "removed" if head is None else "wrote" for head in heads]
    actors = tuple(n for n, what in enumerate(did) if what != "kept")
    written = sorted({heads[n] for n in actors if did[n] == "wrote"})
    removed = "removed" in did
    if not written:
        return ("delete" if removed else "unchanged"), None, actors, False
    if len(written) == 1 and not removed:
        return ("take" if len(actors) == 1 else "same"), written[0], actors, False
    if removed:
        return "delete_modify", None, actors, False
    kinds = [specs[letter] for letter in written] + ([] if base is None else [specs[base]])
    whole = all(kinds) and all(kind == kinds[0] for kind in kinds)
    if base is None:
        return "add_add", None, actors, whole
    if not all(kinds):
        return "opaque", None, actors, False
    if any(kind[0] != kinds[0][0] for kind in kinds):
        return "dtype", None, actors, False
    return ("contested" if whole else "shape"), None, actors, whole


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_small_case(count):
    """Base or none, each head as the base, changed in two ways, or gone, with every mix of dtypes and shapes."""
    cases = 0
    for base, heads in product([None, "a"], product([None, "a", "b", "c"], repeat=count)):
        letters = sorted({letter for letter in (base, *heads) if letter})
        for kinds in product(SPECS, repeat=len(letters)):
            specs = dict(zip(letters, kinds, strict=True))
            got = decide(entry(base), [entry(head) for head in heads], lambda e: specs[e.id[0]])  # noqa: B023 - called here
            outcome, letter, actors, whole = table(base, heads, specs)
            assert (got.outcome, got.changed, got.mergeable) == (outcome, actors, whole), (base, heads, specs)
            assert (None if got.take is None else heads[got.take]) == letter, (base, heads, specs)
            if got.settled:
                expected = {"unchanged": base, "delete": None}.get(outcome, letter)
                assert got.entry(entry(base), [entry(head) for head in heads]) == entry(expected)
            cases += 1
    assert cases >= 2 * 4**count


@given(
    base=st.sampled_from([None, "a"]), heads=st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=1, max_size=4)
)
def test_the_order_of_heads_does_not_matter(base, heads):
    """In any order the outcome is the same and the entry too; a head like the base, anywhere, changes nothing."""

    def told(order):
        sides = [entry(head) for head in order]
        got = decide(entry(base), sides, lambda _: SPECS[0])
        taken = got.entry(entry(base), sides) if got.settled else None
        return got.outcome, got.mergeable, taken, sorted(order[n] or "" for n in got.changed)

    assert {str(told(order)) for order in permutations(heads)} == {str(told(heads))}
    assert told([base, *heads]) == told([*heads, base]) == told(heads)


def test_only_what_is_contested_is_looked_at():
    """Most entries need no bytes: dtype and shape are asked for where versions differ."""

    def look(_):
        raise AssertionError

    for heads in (["a", "a"], ["a", "b"], ["b", "b"], ["a", None], [None, "b"]):
        decide(entry("a"), [entry(head) for head in heads], look)


def test_of_equal_entries_the_stored_one_is_taken():
    """One head has the bytes, another only a promise of them."""
    sides = [entry("b", "opaque"), entry("b", "promised"), entry("b")]
    assert decide(entry("a"), sides, lambda _: SPECS[0]) == Decision("same", 2, (0, 1, 2))
    assert decide(entry("a"), sides[:2], lambda _: SPECS[0]).take == 1


def test_decisions_go_over_all_names_in_order():
    """Names of the base and of every head, each once."""
    base, one, other = {"b": entry("a")}, {"b": entry("a"), "c": entry("b")}, {"a": entry("c")}
    got = dict(decisions(base, [one, other], lambda _: None))
    assert list(got) == ["a", "b", "c"]
    assert [decision.outcome for decision in got.values()] == ["take", "delete", "take"]
