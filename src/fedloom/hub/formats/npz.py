"""npz: NumPy arrays in a zip archive. Arrays of Python objects, which would have to be unpickled, are refused."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
from numpy.lib import format as npy

from fedloom.hub.formats import FormatError
from fedloom.hub.formats.archive import Archive
from fedloom.values import Tensor, dtype_tag

_SUFFIX = ".npy"


def decode(data: bytes) -> dict[str, Tensor]:
    """Read all arrays; raises FormatError when it is no whole npz file of numbers."""
    archive = Archive(data)
    names = {name.removesuffix(_SUFFIX): name for name in archive.names}
    if len(names) != len(archive.names):
        raise FormatError("it holds two members of one name")
    return {name: _array(member, archive.read(member)) for name, member in names.items()}


def _array(name: str, data: bytes) -> Tensor:
    """Read one .npy member; its header is read first, and the array only when all of its bytes are there."""
    label = name[:80]
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's remarks about headers of Python 2
            shape, fortran, dtype = read(file)
    except (KeyError, ValueError, SyntaxError, RecursionError, TypeError, EOFError, MemoryError):
        raise FormatError(f"its member '{label}' is no .npy array") from None
    if dtype.hasobject:
        raise FormatError(f"'{label}' holds Python objects, which are never unpickled: save it as numbers")
    payload = memoryview(data)[file.tell() :]
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(payload):
        raise FormatError(f"'{label}' has {len(payload)} bytes, which is not what its header says")
    try:
        array: Tensor = np.ndarray(shape, dtype, payload, order="F" if fortran else "C")
    except (ValueError, OverflowError):  # too many dimensions, or, where one is 0, too long ones
        raise FormatError(f"'{label}' has a shape that no array can have") from None
    try:
        dtype_tag(array)
    except TypeError as error:
        raise FormatError(f"'{label}': {error}") from None
    return array
