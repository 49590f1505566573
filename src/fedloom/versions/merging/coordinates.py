"""One tensor at a time, coordinate by coordinate: float64 stacks of a few numbers each, and back to the dtype.

Rules: sums are taken in the order of the arrays, never by a matrix product, whose last bits depend on the machine.
Integers and booleans round to nearest, halves to even, and stay in the range of their dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from fedloom.values import DTYPES, FLOATS, Tensor, dtype_tag, is_floating

STACKED = 1 << 18
"""Numbers, over all arrays, that are compared at once: 2 MiB of float64."""

_ADDED = frozenset(tag for tag in FLOATS if DTYPES[tag].isbuiltin == 2)
"""The types that ml_dtypes adds to NumPy's own: bf16 and fp8."""


def by_coordinate(like: Tensor, arrays: Sequence[Tensor], reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """Reduce each coordinate's values, one an array, to one of the dtype and shape of `like`.

    `reduce` gets float64 of shape (arrays, coordinates), part after part in order, and may overwrite it.
    """
    flat = np.empty(like.size, dtype=like.dtype)
    for part, stack in stacks(arrays):
        flat[part] = narrowed(reduce(stack), like)
    return flat.reshape(like.shape)


def stacks(arrays: Sequence[Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Cut equally shaped arrays into float64 stacks of shape (arrays, coordinates), a part at a time."""
    flat = [array.reshape(-1) for array in arrays]
    width = max(1, STACKED // len(flat))
    for start in range(0, flat[0].size, width):
        part = slice(start, start + width)
        yield part, np.stack([array[part] for array in flat], dtype=np.float64)


def combined(rows: Sequence[Tensor] | Tensor, factors: Sequence[float]) -> Tensor:
    """Sum factor * row in order."""
    total = np.asarray(rows[0] * factors[0])
    for row, factor in zip(rows[1:], factors[1:], strict=True):
        total += row * factor
    return total


def narrowed(values: Tensor, like: Tensor) -> Tensor:
    """Convert float64 values, which may be overwritten, to the dtype of `like`, rounding once."""
    if not is_floating(like):
        np.clip(np.rint(values, out=values), *_range(like.dtype), out=values)
    elif dtype_tag(like) in _ADDED:
        values = _rounded(values, like.dtype)  # the casts of ml_dtypes go through float32 or half: they round twice
    return values.astype(like.dtype, copy=False)


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Bounds of an integer type; above 2**53 the largest float64 that does not exceed them."""
    if dtype.kind == "b":
        return 0.0, 1.0
    limits = np.iinfo(dtype)
    low, high = float(limits.min), float(limits.max)
    return low, high if int(high) <= limits.max else float(np.nextafter(high, 0.0))


def _rounded(values: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """Round float64 to the nearest number of a narrower floating type, ties to even, still as float64."""
    kind = ml_dtypes.finfo(dtype.type)  # type: ignore[no-untyped-call]  # its stubs have no types
    exponent = np.maximum(np.frexp(values)[1] - 1, kind.minexp)
    last = exponent - kind.nmant  # of the last binary digit that the type keeps
    return np.asarray(np.ldexp(np.rint(np.ldexp(values, -last)), last))
