import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedloom.learners.learner import Training
from fedloom.values import generator


@given(rows=st.integers(0, 50), size=st.none() | st.integers(1, 60), epochs=st.integers(0, 3))
def test_batches_cover_every_row_once_an_epoch(rows, size, epochs):
    """Each epoch sees every row exactly once, in batches no larger than asked."""
    batches = list(Training(epochs, size).batches(rows, generator(0)))
    seen = np.sort(np.concatenate([np.empty(0, np.intp), *batches]))
    assert np.array_equal(seen, np.repeat(np.arange(rows), epochs))
    assert all(0 < len(batch) <= (size or rows) for batch in batches)


def test_batches_are_in_a_new_order_each_epoch():
    """Two epochs do not see the rows in the same order."""
    first, second = Training(2, None).batches(30, generator(0))
    assert not np.array_equal(first, second)
