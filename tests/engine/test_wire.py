"""Message bytes: round trips, golden bytes, and refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.engine import wire
from fedloom.engine.wire import Message
from fedloom.errors import WireError
from fedloom.values import DTYPES, FLOATS, layout

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = st.sampled_from(sorted(DTYPES)).flatmap(
    # floats as any bits at all: every NaN, bf16 and fp8 too
    lambda tag: hnp.arrays(f"<u{DTYPES[tag].itemsize}" if tag in FLOATS else DTYPES[tag], shapes).map(
        lambda bits: bits.view(DTYPES[tag])
    )
)
messages = st.builds(
    Message,
    verb=st.sampled_from(["train", "evaluate"]),
    round=st.integers(0, 10**6),
    body=st.dictionaries(st.text(max_size=5), st.one_of(st.booleans(), st.integers(-9, 9), st.text(max_size=9))),
    tensors=st.dictionaries(st.text(min_size=1, max_size=8), arrays, max_size=4),
)


@given(messages)
def test_round_trip_is_bit_exact(message):
    """Every dtype, NaN payload, empty and 0-d tensor comes back with the same bytes."""
    data = wire.encode(message)
    back = wire.decode(data)
    assert (back.verb, back.round, dict(back.body)) == (message.verb, message.round, dict(message.body))
    assert layout(back.tensors) == layout(message.tensors)
    for name, array in message.tensors.items():
        assert back.tensors[name].tobytes() == array.tobytes()
    assert len(data) == wire.encoded_size(message.verb, message.round, message.body, layout(message.tensors))
    assert wire.encode(back) == data


def test_decoded_tensors_are_views_and_read_only():
    """Decoding copies nothing, and nobody can change what was received."""
    data = wire.encode(Message("train", 1, tensors={"w": np.arange(1000, dtype=np.float32)}))
    tensor = wire.decode(data).tensors["w"]
    assert not tensor.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        tensor[0] = 1


def test_golden_bytes():
    """The bytes of version 1 do not change."""
    message = Message("train", 3, {"who": "é"}, {"b": np.array([1, -2], "<i2"), "a": np.float32(1.5).reshape(())})
    assert wire.encode(message).hex() == GOLDEN


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_truncated_is_refused(cut):
    """A message cut anywhere is refused with a sentence."""
    data = bytes(wire.encode(Message("train", 1, tensors={"w": np.ones(9)})))
    with pytest.raises(WireError):
        wire.decode(data[:cut])


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_any_changed_byte_is_refused(position, change):
    """One altered byte anywhere is found."""
    data = bytearray(wire.encode(Message("train", 1, {"a": 1}, {"w": np.ones(3)})))
    data[position % len(data)] ^= change
    with pytest.raises(WireError):
        wire.decode(data)


GOLDEN = (
    "464c4d31590000007b22626f6479223a7b2277686f223a22c3a9227d2c22726f756e64223a332c2274656e736f727322"
    "3a5b5b2261222c22463332222c5b5d5d2c5b2262222c22493136222c5b325d5d5d2c2276657262223a22747261696e22"
    "7d000000000000000000c03f000000000100feff000000004535b1b0165b6621fde206d71d34e9f1693755dc668810c7"
    "cad026b8f8746024"
)
