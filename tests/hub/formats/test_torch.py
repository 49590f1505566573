"""torch state dicts: read without torch, bit for bit; whatever is more than tensors is refused and never run.

The files were written by torch 2.14.1: `plain` is a module's state dict, `odd` holds views and rare types.
"""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.hub.formats import FormatError, archive
from fedloom.hub.formats.torch import decode

FILES = Path(__file__).parent / "files"


def read(name):
    return (FILES / f"{name}.pt").read_bytes()


def remade(program, members=None):
    """Zip a program with storages as torch.save does."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("x/data.pkl", program)
        for name, data in (members or {}).items():
            target.writestr(f"x/{name}", data)
    return file.getvalue()


def program_of(name):
    with zipfile.ZipFile(io.BytesIO(read(name))) as file:
        return file.read(f"{name}/data.pkl")


def test_a_module_comes_in_by_its_names():
    """Weights, running statistics and counters of a module."""
    found = decode(read("plain"))
    assert {name: (a.dtype.name, a.shape) for name, a in found.items()} == {
        "0.weight": ("float32", (2, 3)),
        "0.bias": ("float32", (2,)),
        "1.weight": ("float32", (2,)),
        "1.bias": ("float32", (2,)),
        "1.running_mean": ("float32", (2,)),
        "1.running_var": ("float32", (2,)),
        "1.num_batches_tracked": ("int64", ()),
    }
    assert found["0.weight"][0, 0] == np.float32(-0.37599909)


def test_views_and_rare_types_come_in_as_torch_shows_them():
    """A transposed tensor, a slice with an offset, bf16, fp8, unsigned, empty, scalar, a parameter."""
    found = decode(read("odd"))
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = {
        "t": whole.T,
        "slice": whole[1:, 2:],
        "bf": np.array([1.5, np.nan], ml_dtypes.bfloat16),
        "h": np.ones(2, np.float16),
        "b": np.array([True, False]),
        "i": np.arange(3),
        "u8": np.zeros(0, np.uint8),
        "s": np.array(3.0),
        "f8": np.ones(2, ml_dtypes.float8_e4m3fn),
        "p": np.ones(2, np.float32),
        "u16": np.ones(2, np.uint16),
    }
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == np.ascontiguousarray(array).tobytes(), name


class Evil:
    """What a hostile file calls when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("/tmp/fedloom-was-here",))


@pytest.mark.parametrize("protocol", range(6))
def test_no_code_is_run(protocol):
    """A program that calls something is refused in every protocol, and the call is not made."""
    with pytest.raises(FormatError, match=r"holds more than tensors|no state dict"):
        decode(remade(pickle.dumps({"w": Evil()}, protocol)))
    assert not Path("/tmp/fedloom-was-here").exists()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (read("checkpoint"), r"its 'epoch' is no tensor: save `model\.state_dict"),
        (read("module"), "holds more than tensors"),
        (read("legacy"), "torch before 1.6"),
        (read("plain")[:-100], "no whole zip archive"),
        (b"", "no whole zip archive"),
        (remade(b""), "cut off"),
        (remade(b"\x80\x02}q\x00"), "cut off"),
        (remade(pickle.dumps([1, 2], 2)), "no state dict"),
        (remade(pickle.dumps({1: 2}, 2)), "no state dict"),
        (remade(b"\x80\x02Q."), "cut off"),
        (remade(b"\x80\x02S'\\o'\n."), r"more than tensors \(STRING\)"),
        (remade(b"\x80\x02h\x07."), "cut off"),
        (remade(b"\x80\x02K\x01K\x02."), "no state dict"),
        (remade(b"\x80\x02]}s."), "no state dict"),
        (remade(program_of("plain")), "member 'x/data/0' is missing"),
        (remade(program_of("plain"), {"data/0": bytes(8)}), "storage '0' was cut off"),
        (remade(program_of("plain"), {"byteorder": b"big"}), "big-endian"),
    ],
)
def test_what_is_no_state_dict_is_refused(data, problem):
    """One reason each, and no error but ValueError."""
    with pytest.raises(FormatError, match=problem):
        decode(data)


def tensor_program(*, offset, shape, strides):
    """Write a program that cuts one tensor out of a storage of 12 floats."""
    with zipfile.ZipFile(io.BytesIO(read("odd"))) as file:
        start = b"ctorch._utils\n_rebuild_tensor_v2\n"
        assert start in file.read("odd/data.pkl")
    storage = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0ctQ"
    numbers = b"".join(pickle.dumps(part, 2)[2:-1] for part in (offset, tuple(shape), tuple(strides)))
    return b"\x80\x02}(X\x01\x00\x00\x00w" + start + storage + numbers + b"\x89ccollections\nOrderedDict\n)RtRu."


def test_a_tensor_stays_inside_its_storage(monkeypatch):
    """Offsets, strides and shapes beyond the storage are refused, and so is a view that is far larger than it."""
    members = {"data/0": np.arange(12, dtype=np.float32).tobytes()}
    good = decode(remade(tensor_program(offset=1, shape=(2, 5), strides=(5, 1)), members))["w"]
    np.testing.assert_array_equal(good, np.arange(1, 11).reshape(2, 5))
    for bad in [
        {"offset": 12, "shape": (1,), "strides": (1,)},
        {"offset": 0, "shape": (13,), "strides": (1,)},
        {"offset": 0, "shape": (3, 4), "strides": (5, 1)},
        {"offset": 2**40, "shape": (), "strides": ()},
    ]:
        with pytest.raises(FormatError, match="beyond its storage"):
            decode(remade(tensor_program(**bad), members))
    for bad in [
        {"offset": -1, "shape": (1,), "strides": (1,)},
        {"offset": 0, "shape": (1,), "strides": (-1,)},
        {"offset": 0, "shape": (-1,), "strides": (1,)},
        {"offset": 0, "shape": (1, 1), "strides": (1,)},
        {"offset": True, "shape": (1,), "strides": (1,)},
    ]:
        with pytest.raises(FormatError, match=r"no proper shape|cut off"):
            decode(remade(tensor_program(**bad), members))
    for shape in ((0, 2**40, 2**40), (0, 2**70), (1,) * 70):
        with pytest.raises(FormatError, match="cut off"):
            decode(remade(tensor_program(offset=0, shape=shape, strides=(0,) * len(shape)), members))
    wide = decode(remade(tensor_program(offset=0, shape=(100,), strides=(0,)), members))["w"]
    assert wide.tolist() == [0.0] * 100, "an expanded tensor is a view that repeats"
    monkeypatch.setattr(archive, "_SLACK", 0)
    with pytest.raises(FormatError, match="unpack to more than"):
        decode(remade(tensor_program(offset=0, shape=(2**40,), strides=(0,)), members))


def test_deep_nesting_is_refused():
    """A program that nests without end ends in a ValueError."""
    with pytest.raises(FormatError, match="no state dict"):
        decode(remade(b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s."))


def test_an_empty_dict_has_no_tensors():
    """It is a state dict; whether that is enough is for the import to say."""
    assert decode(remade(pickle.dumps({}, 2))) == {}
    assert decode(remade(pickle.dumps(OrderedDict(), 4))) == {}


@settings(max_examples=300)
@given(st.data())
def test_no_changed_file_does_more_than_raise_value_error(data):
    """Any byte of the program changed: other values or a ValueError, never another error."""
    with zipfile.ZipFile(io.BytesIO(read("odd"))) as file:
        members = {name.removeprefix("odd/"): file.read(name) for name in file.namelist()}
    program = bytearray(members.pop("data.pkl"))
    for _ in range(data.draw(st.integers(1, 3))):
        program[data.draw(st.integers(0, len(program) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(remade(bytes(program), members))
    except FormatError:
        return
