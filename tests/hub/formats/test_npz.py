"""npz: arrays of numbers come in as they are; objects, bombs and broken archives do not."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.hub.formats import FormatError, archive
from fedloom.hub.formats.npz import decode


def saved(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def zipped(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def shaped(*shape):
    """Write the header of an array of this shape, and no elements."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_arrays_come_in_as_they_are():
    """Types, shapes, order of memory, byte order and special values survive."""
    arrays = {
        "w": np.array([[1.5, np.nan], [-0.0, np.inf]], np.float32),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big": np.arange(3, dtype=">f8"),
        "scalar": np.array(7, np.uint8),
        "empty": np.zeros((0, 3)),
        "flag": np.array([True]),
    }
    found = decode(saved(**arrays))
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_python_objects_are_never_unpickled():
    """An array of objects is refused by name, before anything in it is read."""

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    with pytest.raises(FormatError, match=r"'bad.npy' holds Python objects, which are never unpickled"):
        decode(saved(bad=np.array([Bomb()], dtype=object)))
    record = np.zeros(1, dtype=[("x", object)])
    with pytest.raises(FormatError, match="holds Python objects"):
        decode(zipped({"r.npy": npy(np.zeros(1)).replace(b"'<f8'", b"'|O'  ")}))
    with pytest.raises(FormatError, match="holds Python objects"):
        decode(saved(r=record))


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    """An archive that announces far more than it holds is refused by its directory alone."""
    monkeypatch.setattr(archive, "_SLACK", 1 << 16)
    bomb = zipped({"a.npy": bytes(1 << 24)})
    with pytest.raises(FormatError, match="would unpack to more than"):
        decode(bomb)
    # The directory may lie; the member's data does not become more than it says.
    start = bomb.index(b"PK\x01\x02") + 24
    with pytest.raises(FormatError, match=r"another size|cannot be unpacked|no \.npy|whole zip"):
        decode(bomb[:start] + (1024).to_bytes(4, "little") + bomb[start + 4 :])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no whole zip archive"),
        (saved(a=np.zeros(9))[:-20], "no whole zip archive"),
        (npy(np.zeros(3)), "no whole zip archive"),
        (zipped({"readme.txt": b"hello"}), r"no \.npy array"),
        (zipped({"a.npy": npy(np.zeros(3)), "a": npy(np.zeros(3))}), "two members of one name"),
        (zipped({"a.npy": b""}), r"no \.npy array"),
        (zipped({"a.npy": npy(np.zeros(3))[:-1]}), "23 bytes, which is not what its header says"),
        (zipped({"a.npy": npy(np.zeros(3)) + b"x"}), "25 bytes"),
        (zipped({"a.npy": npy(np.zeros(3)).replace(b"(3,), ", b"(9e9),")}), r"no \.npy array"),
        (zipped({"a.npy": npy(np.zeros(3)).replace(b"(3,)", b"(-3)")}), r"no \.npy array|bytes"),
        (zipped({"a.npy": shaped(0, 2**40, 2**40)}), "'a.npy' has a shape that no array can have"),
        (zipped({"a.npy": shaped(0, 2**70)}), "'a.npy' has a shape that no array can have"),
        (zipped({"a.npy": shaped(*[0] * 70)}), "'a.npy' has a shape that no array can have"),
        (zipped({"a.npy": npy(np.array(["text"]))}), "cannot be stored"),
        (zipped({"a.npy": npy(np.zeros(2, complex))}), "cannot be stored"),
        (zipped({"a.npy": npy(np.zeros(2, [("x", "f4")]))}), "cannot be stored"),
    ],
)
def test_what_is_no_archive_of_numbers_is_refused(data, problem):
    """One reason each, and no error but ValueError."""
    with pytest.raises(FormatError, match=problem):
        decode(data)


def test_an_encrypted_member_is_refused():
    """A member that needs a password cannot be read."""
    data = bytearray(zipped({"a.npy": npy(np.zeros(3))}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    with pytest.raises(FormatError, match="cannot be unpacked"):
        decode(bytes(data))


@given(st.data())
def test_no_changed_file_does_more_than_raise_value_error(data):
    """Any byte changed: other values or a ValueError, never another error."""
    whole = bytearray(saved(w=np.arange(3, dtype=np.float32)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(whole))
    except FormatError:
        return
