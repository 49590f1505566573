"""Vocabularies unite with stable ids; rows follow their words."""

from itertools import permutations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.errors import VersionsError
from fedloom.versions.merging.averaging import Fisher, Mean, WeightedMean
from fedloom.versions.merging.branch import Extras
from fedloom.versions.merging.changing import Dare, TaskArithmetic
from fedloom.versions.merging.vocabulary import aligned, grown_axis, united

WORDS = st.lists(st.text("abcdé", min_size=1, max_size=3), unique=True, max_size=6)


@given(base=WORDS | st.none(), heads=st.lists(WORDS, min_size=1, max_size=3))
def test_united_is_the_base_and_then_the_new_words_by_name(base, heads):
    """No word of the base moves, none is lost or doubled, and every head's word is found through its remap."""
    got = united(base, heads)
    start = list(base or [])
    assert list(got.words[: len(start)]) == start
    rest = list(got.words[len(start) :])
    assert rest == sorted(rest)
    assert set(got.words) == {*start, *(word for head in heads for word in head)}
    assert len(set(got.words)) == len(got.words)
    for head, remap in zip(heads, got.remaps, strict=True):
        assert [got.words[place] for place in remap] == head
    assert got.base_remap.tolist() == list(range(len(start)))


@given(base=WORDS, heads=st.lists(WORDS, min_size=2, max_size=3))
def test_the_order_of_heads_does_not_matter(base, heads):
    """Every order gives the same words; a head that is the base changes nothing."""
    assert len({united(base, order).words for order in permutations(heads)}) == 1
    assert united(base, [*heads, base]).words == united(base, heads).words


def test_a_word_twice_is_an_error():
    """An id must mean one word; the error says whose list it is, not which word."""
    with pytest.raises(VersionsError, match="vocabulary of head 2 has a word twice"):
        united(["a"], [["a"], ["secret", "secret"]])


@pytest.mark.parametrize(
    ("base", "heads", "axis"),
    [
        ((3, 4), [(5, 4), (6, 4)], 0),
        ((3, 4), [(3, 4), (3, 9)], 1),
        (None, [(2,), (3,)], 0),
        ((3, 4), [(3, 4)], None),
        ((3, 4), [(5, 6)], None),
        ((3, 4), [(3, 5), (4, 4)], None),
        ((3, 4), [(3, 4, 1)], None),
        ((), [()], None),
    ],
)
def test_grown_axis(base, heads, axis):
    """Growth is a difference on one axis, and on no other."""
    assert grown_axis(base, heads) == axis


def reference(base_words, head_words, base, heads, weights):
    """Decide row by row, by word, with the mean by weight."""
    words = list(base_words) + sorted({w for ws in head_words for w in ws} - set(base_words))
    rows = []
    for word in words:
        old = base[base_words.index(word)] if word in base_words else None
        own = [(h[ws.index(word)], w) for ws, h, w in zip(head_words, heads, weights, strict=True) if word in ws]
        changed = [(row, w) for row, w in own if old is None or row.tobytes() != old.tobytes()]
        if not changed:
            rows.append(old)
        elif len({row.tobytes() for row, _ in changed}) == 1:
            rows.append(changed[0][0])
        else:
            total = sum(w for _, w in changed)
            rows.append(sum(row.astype(np.float64) * w for row, w in changed) / total)
    return np.array([np.asarray(row, np.float64) for row in rows]).reshape(len(words), -1)


@pytest.mark.parametrize("axis", [0, 1])
@given(data=st.data())
@settings(max_examples=60)
def test_rows_follow_their_words(axis, data):
    """New rows come from their owner, rows one head changed from that head, rows several changed from the strategy."""
    base_words = data.draw(WORDS.filter(bool))
    head_words = [data.draw(WORDS.filter(bool)) for _ in range(data.draw(st.integers(1, 3)))]
    numbers = st.sampled_from([0.0, 1.0, 2.0])

    def table(words):
        return np.array([[data.draw(numbers), data.draw(numbers)] for _ in words], dtype=np.float32)

    base, heads = table(base_words), [table(words) for words in head_words]
    weights = [1.0, 2.0, 4.0][: len(heads)]
    turn = (lambda a: a) if axis == 0 else (lambda a: np.ascontiguousarray(a.T))
    vocabulary = united(base_words, head_words)
    got = aligned(vocabulary, turn(base), [turn(head) for head in heads], weights, WeightedMean(), axis=axis)
    expected = reference(base_words, head_words, base, heads, weights)
    np.testing.assert_allclose(turn(got), expected, rtol=1e-6)
    assert got.dtype == np.float32
    decided = aligned(vocabulary, turn(base), [turn(head) for head in heads], weights, None, axis=axis)
    assert decided is None or np.array_equal(decided, got)


def test_without_a_strategy_contested_rows_are_no_answer():
    """One head alone needs none; two that changed the same row differently do."""
    words = united(["a", "b"], [["a", "b", "x"], ["b", "a"]])
    base = np.array([[1.0], [2.0]])
    one, other = np.array([[1.0], [5.0], [7.0]]), np.array([[2.0], [9.0]])
    assert aligned(words, base, [one, other], [1.0, 1.0], None).tolist() == [[9.0], [5.0], [7.0]]
    assert aligned(words, base, [one, np.array([[3.0], [9.0]])], [1.0, 1.0], None) is None


def test_rows_that_nobody_changed_keep_their_bytes():
    """NaN with a payload and minus zero too, and in bf16."""
    odd = np.array([0x7FC1, 0x8000], np.uint16).view(ml_dtypes.bfloat16)
    base = np.stack([odd, odd])
    head = np.concatenate([base, np.ones((1, 2), ml_dtypes.bfloat16)])
    got = aligned(united(["a", "b"], [["a", "b", "c"]]), base, [head], [1.0], None)
    assert got[:2].tobytes() == base.tobytes()


def test_a_bias_is_aligned_as_its_head_is():
    """One number a word."""
    words = united(["no", "yes"], [["no", "yes", "maybe"], ["no", "yes"]])
    got = aligned(words, np.array([0.0, 1.0]), [np.array([0.0, 3.0, 8.0]), np.array([0.0, 5.0])], [1, 1], Mean())
    assert got.tolist() == [0.0, 4.0, 8.0]


def test_a_row_that_is_new_in_two_heads_needs_no_base():
    """Strategies that combine changes work on the rows the base has; the new row is averaged by weight."""
    words = united(["a"], [["a", "x"], ["a", "x"]])
    base, heads = np.array([[1.0]]), [np.array([[2.0], [0.0]]), np.array([[3.0], [4.0]])]
    for strategy in (TaskArithmetic(), Dare(drop=0.0)):
        got = aligned(words, base, heads, [1.0, 3.0], strategy)
        assert got[1].tolist() == [3.0]
    assert aligned(words, base, heads, [1.0, 1.0], TaskArithmetic()).tolist() == [[4.0], [2.0]]
    nothing = aligned(
        united(None, [["b", "a"], ["c"]]), None, [np.array([[1.0], [2.0]]), np.array([[3.0]])], [1, 1], None
    )
    assert nothing.tolist() == [[2.0], [1.0], [3.0]]


def test_fisher_entries_follow_their_rows():
    """Certainty is read of the row's own place in each head."""
    words = united(["a", "b"], [["b", "a"], ["a", "b"]])
    base = np.array([[0.0], [0.0]])
    heads = [np.array([[8.0], [4.0]]), np.array([[0.0], [4.0]])]
    fisher = [np.array([[3.0], [0.0]]), np.array([[0.0], [1.0]])]
    got = aligned(words, base, heads, [1.0, 1.0], Fisher(), Extras("model/e", fisher))
    assert got.tolist() == [[4.0], [7.0]]


@pytest.mark.parametrize(
    ("base", "head", "axis", "message"),
    [
        (np.zeros((2, 3)), np.zeros((4, 3)), 0, "has not one row for each of 3 words"),
        (np.zeros((2, 3)), np.zeros((3, 3)), 2, "has not one row for each"),
        (np.zeros((2, 3)), np.zeros((3, 4)), 0, "differ in more than their words"),
        (np.zeros((2, 3)), np.zeros((3, 3), np.float32), 0, "differ in more than their words"),
    ],
)
def test_tensors_that_do_not_fit_their_words_are_refused(base, head, axis, message):
    """The error names the tensor."""
    with pytest.raises(VersionsError, match=f"'model/e'.*{message}"):
        aligned(united(["a", "b"], [["a", "b", "c"]]), base, [head], [1.0], None, Extras("model/e"), axis=axis)
