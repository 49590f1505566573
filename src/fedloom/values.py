"""The nouns every room shares: tensors, their layout, contributions and digests.

Rules of this module: values are frozen, functions are pure, bytes are canonical (little-endian, C order),
so the same numbers give the same digest on every machine.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NewType, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes that are read and never changed."""

Tensor: TypeAlias = NDArray[Any]
Tensors: TypeAlias = Mapping[str, Tensor]
"""Named arrays. Order carries no meaning: whatever is hashed or sent is sorted by name."""

Digest = NewType("Digest", str)
"""64 lower-case hexadecimal digits of a SHA-256."""

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
"""Element types by the names the safetensors format uses."""

FLOATS = frozenset(tag for tag in DTYPES if tag.startswith(("F", "BF")))
"""The floating ones: NumPy counts bf16 and one fp8 as `kind == "V"`, the other as `"f"`."""

_TAGS = {dtype: tag for tag, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, element type (a key of DTYPES) and shape of one tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the canonical payload in bytes."""
        return DTYPES[self.dtype].itemsize * self.size


Layout: TypeAlias = tuple[TensorSpec, ...]
"""Specs sorted by name: what two models must share to be merged."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one site adds to a merge: its tensors after training and the weight they count with.

    `weight` is a number of examples: positive and finite, and only its ratio to the others matters.
    """

    site: str
    tensors: Tensors
    weight: float


def dtype_tag(array: Tensor) -> str:
    """Name of an array's element type; raises TypeError for one that has none (objects, strings, complex)."""
    try:
        return _TAGS[array.dtype.newbyteorder("<")]
    except KeyError:
        known = ", ".join(DTYPES)
        raise TypeError(f"dtype {array.dtype} cannot be stored or sent; use one of {known}") from None


def is_floating(array: Tensor) -> bool:
    """Whether an array holds floating numbers; bf16 and fp8 too, whatever NumPy calls them."""
    return _TAGS.get(array.dtype.newbyteorder("<")) in FLOATS


def tensor_spec(name: str, array: Tensor) -> TensorSpec:
    """Describe one array."""
    return TensorSpec(name, dtype_tag(array), tuple(int(n) for n in array.shape))


def layout(tensors: Tensors) -> Layout:
    """Describe all tensors, sorted by name."""
    return tuple(tensor_spec(name, tensors[name]) for name in sorted(tensors))


def tensor_bytes(array: Tensor) -> memoryview:
    """Canonical bytes of an array: little-endian, C order; a view where the array already is so."""
    canonical = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return canonical.reshape(-1).view(np.uint8).data


def tensor_from_bytes(spec: TensorSpec, payload: Buffer) -> Tensor:
    """Read an array back as a read-only view of `payload`; raises ValueError when the size does not fit."""
    if len(payload) != spec.nbytes:
        raise ValueError(f"tensor '{spec.name}' needs {spec.nbytes} bytes, got {len(payload)}")
    array = np.frombuffer(payload, dtype=DTYPES[spec.dtype]).reshape(spec.shape)
    array.flags.writeable = False
    return array


def sha256(*parts: Buffer) -> Digest:
    """SHA-256 of the parts as if they were one byte string (FIPS 180-4)."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return Digest(state.hexdigest())


def seed_for(*words: object) -> int:
    """Derive a 128-bit seed from words such as (run seed, round, site): the same words, the same seed."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, words)).encode()).digest()[:16], "little")


def generator(*words: object) -> np.random.Generator:
    """Make the random generator that belongs to these words (PCG64 seeded by `seed_for`)."""
    return np.random.Generator(np.random.PCG64(seed_for(*words)))
