"""How much the heads of a conflict disagree: figures that help a person to decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from fedloom.values import Tensor
from fedloom.versions.merging.coordinates import stacks

_DIGITS = 6
"""Figures are part of a conflict's id: what is beyond these digits may differ by machine."""


def disagreement(base: Tensor | None, heads: Sequence[Tensor]) -> dict[str, float | list[float | None] | None]:
    """Compare the changes of heads of one shape; without a base, or with one of another shape, their values.

    cosine: the least over all pairs of heads. opposite_signs: the greatest share, over all pairs, of the numbers
    that both changed that they changed in opposite directions. relative_norms: of each head, the norm of its change
    over the base's. A figure that is no finite number (nothing changed, NaN, no base) is None.
    """
    count = len(heads)
    if base is not None and base.shape != heads[0].shape:
        base = None
    start = np.zeros_like(heads[0]) if base is None else base
    gram, opposite, both, size = np.zeros((count, count)), np.zeros((count, count)), np.zeros((count, count)), 0.0
    with np.errstate(all="ignore"):
        for _, stack in stacks([start, *heads]):
            changes, signs = stack[1:] - stack[0], np.sign(stack[1:] - stack[0])
            size += float(np.sum(stack[0] * stack[0]))
            for one in range(count):
                for other in range(one, count):
                    gram[one, other] += np.sum(changes[one] * changes[other])
                    product = signs[one] * signs[other]
                    opposite[one, other] += np.count_nonzero(product < 0)
                    both[one, other] += np.count_nonzero(product)
        pairs = list(combinations(range(count), 2))
        norms = [math.sqrt(gram[n, n]) if gram[n, n] >= 0 else math.nan for n in range(count)]
        cosines = [_ratio(gram[pair], norms[pair[0]] * norms[pair[1]]) for pair in pairs]
        shares = [_ratio(opposite[pair], both[pair]) for pair in pairs]
    return {
        "cosine": min((value for value in cosines if value is not None), default=None),
        "opposite_signs": max((value for value in shares if value is not None), default=None),
        "relative_norms": [None if base is None else _ratio(norm, math.sqrt(size)) for norm in norms],
    }


def _ratio(part: float, whole: float) -> float | None:
    if not (math.isfinite(part) and math.isfinite(whole) and whole > 0.0):
        return None
    value = round(float(part) / float(whole), _DIGITS)
    return value if math.isfinite(value) else None
