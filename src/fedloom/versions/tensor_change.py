"""How far one tensor is from another, exactly: by bits first, by figures second.

Rules: an element has changed when its bits have, never by a tolerance, so one unit in the last place counts and so does
the sign of a zero. Figures are computed in float64 over the elements that are finite on both sides; one that is not
defined is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.values import Tensor, dtype_tag, is_floating

_STEP = 1 << 20  # elements at a time: a large tensor is never copied whole

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shape:
    """Element type and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorChange:
    """What lies between two tensors; all figures are None where dtype or shape differ.

    elements: how many there are. changed: how many differ in a bit; share: of all. not_finite: how many are NaN or
    infinite on either side, and so are in no figure. ulps: the largest change counted in representable numbers
    (floating types only). norm, max_abs: of the change. relative: its norm by that of the old tensor. cosine: between
    old and new.
    """

    old: Shape
    new: Shape
    elements: int | None = None
    changed: int | None = None
    share: float | None = None
    not_finite: int | None = None
    ulps: int | None = None
    norm: float | None = None
    relative: float | None = None
    max_abs: float | None = None
    cosine: float | None = None


def measure(old: Tensor, new: Tensor) -> TensorChange:
    """Compare two tensors."""
    before, after = _shape(old), _shape(new)
    if before != after:
        return TensorChange(before, after)
    changed = sum(int(np.count_nonzero(a != b)) for a, b in _chunks(_bits(old), _bits(new)))
    return TensorChange(
        before,
        after,
        elements=old.size,
        changed=changed,
        share=changed / old.size if old.size else 0.0,
        not_finite=old.size - sum(int(np.count_nonzero(keep)) for keep in _finite(old, new)),
        ulps=_ulps(old, new) if is_floating(old) else None,
        **_figures(old, new),
    )


def _shape(array: Tensor) -> Shape:
    return Shape(dtype_tag(array), tuple(int(n) for n in array.shape))


@np.errstate(over="ignore", invalid="ignore")  # a difference beyond float64 is not defined
def _figures(old: Tensor, new: Tensor) -> dict[str, float | None]:
    """Compute norms in two passes: scaled by the largest element, so that squares neither overflow nor vanish."""
    largest = np.zeros(3)
    for a, b in _floats(old, new):
        largest = np.maximum(largest, [np.abs(part).max(initial=0.0) for part in (a, b, b - a)])
    scale = np.where(largest > 0, largest, 1.0)
    sums, dot = np.zeros(3), 0.0
    for a, b in _floats(old, new):
        scaled = [part / by for part, by in zip((a, b, b - a), scale, strict=True)]
        sums += [np.sum(part * part) for part in scaled]
        dot += float(np.sum(scaled[0] * scaled[1]))
    length, _, change = (float(s) * math.sqrt(total) for s, total in zip(scale, sums, strict=True))
    angle = dot / math.sqrt(sums[0] * sums[1]) if sums[0] * sums[1] else None
    return {
        "norm": _defined(change),
        "relative": _defined(change / length) if length else None,
        "max_abs": _defined(float(largest[2])),
        "cosine": None if angle is None else max(-1.0, min(1.0, angle)),
    }


def _ulps(old: Tensor, new: Tensor) -> int:
    most = 0
    for (a, b), keep in zip(_chunks(_bits(old), _bits(new)), _finite(old, new), strict=True):
        x, y = _ordered(a[keep]), _ordered(b[keep])
        most = max(most, int(np.where(x > y, x - y, y - x).max(initial=0)))
    return most


def _ordered(bits: NDArray[Any]) -> NDArray[Any]:
    """Map the bits of floats to whole numbers in the order of the floats: neighbours differ by one."""
    sign = bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def _bits(array: Tensor) -> NDArray[Any]:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(f"u{flat.dtype.itemsize}")


def _floats(old: Tensor, new: Tensor) -> Iterator[tuple[_Floats, _Floats]]:
    """Give both in float64 and in pieces, without the elements that are not finite on either side."""
    for (a, b), keep in zip(_chunks(old, new), _finite(old, new), strict=True):
        yield a.astype(np.float64)[keep], b.astype(np.float64)[keep]


def _finite(old: Tensor, new: Tensor) -> Iterator[NDArray[np.bool_]]:
    for a, b in _chunks(old, new):
        yield np.isfinite(a.astype(np.float64)) & np.isfinite(b.astype(np.float64))


def _chunks(old: Tensor, new: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    a, b = old.reshape(-1), new.reshape(-1)
    for start in range(0, a.size, _STEP):
        yield a[start : start + _STEP], b[start : start + _STEP]


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
