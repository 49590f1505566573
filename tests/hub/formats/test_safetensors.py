"""safetensors: bit for bit in every element type, as the reference reader sees it, and strict with strangers."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from fedloom.hub.formats import FormatError
from fedloom.hub.formats.safetensors import decode, encode
from fedloom.values import DTYPES, tensor_bytes


def written(tensors, metadata=None):
    return b"".join(encode(tensors, metadata or {}))


@st.composite
def arrays(draw):
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=count, max_size=count))
    if dtype == np.dtype("?"):
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


names = st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__")


@given(st.dictionaries(names, arrays(), max_size=5), st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_any_tensors_come_back_bit_for_bit(tensors, metadata):
    """Every type, shape, NaN payload and name survives, and the reference implementation reads the same bytes."""
    data = written(tensors, metadata)
    found, text = decode(data)
    assert text == metadata
    assert {name: (a.dtype, a.shape, bytes(tensor_bytes(a))) for name, a in found.items()} == {
        name: (a.dtype, a.shape, bytes(tensor_bytes(a))) for name, a in tensors.items()
    }
    reference = {name: (tuple(spec["shape"]), bytes(spec["data"])) for name, spec in safetensors.deserialize(data)}
    assert reference == {name: (a.shape, bytes(tensor_bytes(a))) for name, a in tensors.items()}


def test_files_of_the_reference_implementation_are_read():
    """What the safetensors package writes, we read, and the other way round."""
    tensors = {"w": np.arange(6.0).reshape(2, 3), "n": np.array(3, np.int64), "h": np.ones(2, np.float16)}
    found, metadata = decode(save(tensors, {"made": "there"}))
    assert metadata == {"made": "there"}
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)
        np.testing.assert_array_equal(load(written(tensors))[name], array)


def test_golden_bytes():
    """The file is laid out as the format says: length, header padded to 8, large elements first."""
    data = written({"b": np.array([1.5], ml_dtypes.bfloat16), "a": np.array([2.0])}, {"k": "v"})
    header = (
        b'{"__metadata__":{"k":"v"},"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},'
        b'"b":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]}}'
    )
    header += b" " * (-len(header) % 8)
    assert data == len(header).to_bytes(8, "little") + header + b"\0\0\0\0\0\0\0\x40" + b"\xc0\x3f"


def file(header, payload=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + payload


def line(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no safetensors file"),
        (b"\x08\0\0\0", "no safetensors file"),
        (file({}, length=2**63), "no safetensors file"),
        (file({}, length=50), "no safetensors file"),
        (file(b"{"), "no JSON"),
        (file(b"\xff\xff"), "no JSON"),
        (file(b"[" * 200_000), "no JSON"),
        (file(b'{"a":' + b"9" * 5000 + b"}"), "no JSON"),
        (file(b"[]"), "no JSON object"),
        (file(b'{"a":1,"a":2}'), "names something twice"),
        (file({"a": 7}), "wrong at 'a'"),
        (file({"a": {"dtype": "F32"}}), "wrong at 'a'"),
        (file({"a": line(shape=(-1,))}, bytes(4)), "wrong at 'a'"),
        (file({"a": line(shape=(True,))}, bytes(4)), "wrong at 'a'"),
        (file({"a": line(shape=(1.0,))}, bytes(4)), "wrong at 'a'"),
        (file({"a": line(dtype=3)}, bytes(4)), "wrong at 'a'"),
        (file({"a": line(dtype="F4")}, bytes(4)), "which the store does not hold"),
        (file({"a": line()}, bytes(3)), "cut off"),
        (file({"a": line()}, bytes(5)), "bytes follow"),
        (file({"a": line(offsets=(4, 8))}, bytes(8)), "does not lie"),
        (file({"a": line(shape=(2,))}, bytes(4)), "does not lie"),
        (file({"a": line(), "b": line(offsets=(2, 6))}, bytes(6)), "does not lie"),
        (file({"a": line(shape=(2**62, 2**62), offsets=(0, 4))}, bytes(4)), "does not lie"),
        (file({"a": line(shape=(0, 2**40, 2**40), offsets=(0, 0))}), "'a' has a shape that no array can have"),
        (file({"a": line(shape=(0, 2**70), offsets=(0, 0))}), "'a' has a shape that no array can have"),
        (file({"a": line(shape=(1,) * 70)}, bytes(4)), "'a' has a shape that no array can have"),
        (file({"__metadata__": {"k": 1}}), "metadata"),
        (file({"__metadata__": []}), "metadata"),
    ],
)
def test_what_is_no_whole_file_is_refused(data, problem):
    """A reader never believes a size or offset that the bytes do not bear out."""
    with pytest.raises(FormatError, match=problem):
        decode(data)


@given(st.data())
def test_no_changed_file_does_more_than_raise_value_error(data):
    """Any byte changed, any end cut: other values or a ValueError, never another error."""
    whole = bytearray(written({"w": np.arange(3, dtype=np.float32), "b": np.array(True)}, {"k": "v"}))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for changed in (bytes(whole), bytes(whole[:cut])):
        try:
            decode(changed)
        except FormatError:
            continue
