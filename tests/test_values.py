"""Values: layouts, canonical bytes, digests and seeds."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.values import (
    DTYPES,
    FLOATS,
    TensorSpec,
    dtype_tag,
    generator,
    layout,
    seed_for,
    sha256,
    tensor_bytes,
    tensor_from_bytes,
    tensor_spec,
)

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = st.one_of(
    st.sampled_from(sorted(DTYPES.keys() - FLOATS)).flatmap(lambda tag: hnp.arrays(DTYPES[tag], shapes)),
    # any bits at all: every NaN payload, bf16 and fp8 too
    st.sampled_from(sorted(FLOATS)).flatmap(
        lambda tag: hnp.arrays(f"<u{DTYPES[tag].itemsize}", shapes).map(lambda bits: bits.view(DTYPES[tag]))
    ),
)


GOLDEN_SEED = 127269975240509506031150354991230419839
GOLDEN_DRAWS = [1875943072, 1341259355, 1871362491]


@given(arrays)
def test_arrays_come_back_from_their_bytes(array):
    """Spec and canonical bytes hold all there is of an array."""
    spec, data = tensor_spec("x", array), tensor_bytes(array)
    back = tensor_from_bytes(spec, data)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert (spec.nbytes, spec.size) == (array.nbytes, array.size) == (len(data), array.size)
    assert not back.flags.writeable


@given(arrays)
def test_foreign_byte_orders_have_the_same_spec_and_bytes(array):
    """A big-endian machine describes and writes the same numbers the same way."""
    foreign = array.astype(array.dtype.newbyteorder(">"))
    assert tensor_spec("x", foreign) == tensor_spec("x", array)
    assert tensor_bytes(foreign) == tensor_bytes(array)


def test_golden_bytes():
    """Little-endian, row by row."""
    assert bytes(tensor_bytes(np.array([[1, 2], [3, -4]], ">i2").T)).hex() == "010003000200fcff"


def test_bytes_of_a_canonical_array_are_a_view():
    """Hashing or sending a large model copies nothing; changing the array afterwards shows in the view."""
    array = np.zeros(3, "<u2")
    view = tensor_bytes(array)
    array[1] = 258
    assert bytes(view) == b"\x00\x00\x02\x01\x00\x00"


@pytest.mark.parametrize("size", [0, 11, 13])
def test_a_wrong_size_is_refused(size):
    """The message names the tensor, what it needs and what came."""
    with pytest.raises(ValueError, match=f"tensor 'w' needs 12 bytes, got {size}"):
        tensor_from_bytes(TensorSpec("w", "F32", (3,)), bytes(size))


def test_a_layout_is_sorted_by_name():
    """Order carries no meaning: two mappings with the same tensors have one layout."""
    tensors = {"b": np.zeros((2, 0), ">f4"), "a": np.array(True), "B": np.zeros(3, np.int8)}
    assert layout(tensors) == layout(dict(reversed(tensors.items())))
    assert layout(tensors) == (TensorSpec("B", "I8", (3,)), TensorSpec("a", "BOOL", ()), TensorSpec("b", "F32", (2, 0)))


def test_element_types_without_a_tag_are_refused():
    """The message lists what can be stored and sent."""
    for array in (np.array(["text"]), np.array([1j]), np.array([{}]), np.zeros(1, "M8[s]"), np.zeros(1, "f4,f4")):
        with pytest.raises(TypeError, match="cannot be stored or sent; use one of BOOL, U8, U16"):
            dtype_tag(array)


def test_a_digest_of_parts_is_the_digest_of_the_whole():
    """Parts are hashed as if they were one byte string."""
    assert sha256(b"a", bytearray(b"b"), memoryview(b"c")) == sha256(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert sha256() == hashlib.sha256().hexdigest()


def test_seeds_do_not_change():
    """A run's random numbers are part of what its commit promises: the seed and the stream of version 1 stay."""
    assert seed_for(7, "train", 3, "clinic") == GOLDEN_SEED
    assert generator(7, "train", 3, "clinic").integers(0, 2**31, 3).tolist() == GOLDEN_DRAWS


def test_other_words_give_other_seeds():
    """Run, round and site each make a difference, and so does where one word ends."""
    seeds = {seed_for(*words) for words in [(1, 2), (2, 1), (12,), (1, 2, ""), (1, "2x"), ("1", "2")]}
    assert len(seeds) == 5  # 2 and "2" are the same word
