"""Statistics of data are not averaged, they are pooled: as if all rows had been seen in one place.

Rules: a head that saw the base's rows and more counts with what it saw since. Where counts are missing or make no
sense the answer is `NoCounts`, a conflict, never a guess. Batch normalisation is the exception: its running figures
forget the base, so they are pooled over what each head saw since, and the base's have no part in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from fedloom.errors import VersionsError
from fedloom.values import Tensor, Tensors, is_floating, tensor_bytes
from fedloom.versions.merging.coordinates import narrowed

_CONSTANT = 1e-7
"""A deviation below this share of the mean is what rounding leaves of a constant column."""


@dataclass(frozen=True, slots=True)
class NoCounts:
    """Why statistics could not be pooled: the text of a `no_counts` conflict."""

    reason: str


@dataclass(frozen=True, slots=True)
class Moments:
    """How many rows were seen, their mean and their (population) variance; arrays or numbers, one a feature."""

    count: Tensor
    mean: Tensor
    variance: Tensor


@dataclass(frozen=True, slots=True)
class Group:
    """Entries that only make sense together.

    kind: `batch_norm`: running_mean, running_var, num_batches_tracked; `scaler`: mean, and scale or var or both,
    and count; `moments`: count, sum and sum of squares in one tensor, and the mean and scale made of it.
    members: the role of each, to its path.
    """

    kind: Literal["batch_norm", "scaler", "moments"]
    members: Mapping[str, str]


_MEMBERS: Mapping[str, tuple[str, str]] = {
    "running_mean": ("batch_norm", "mean"),
    "running_var": ("batch_norm", "var"),
    "num_batches_tracked": ("batch_norm", "count"),
    "mean": ("scaler", "mean"),
    "var": ("scaler", "var"),
    "scale": ("scaler", "scale"),
    "count": ("scaler", "count"),
}

PREPROCESSING = "preprocessing/"
_FITTED = {
    "sums": f"{PREPROCESSING}moments/moments",
    "mean": f"{PREPROCESSING}scaling/mean",
    "scale": f"{PREPROCESSING}scaling/scale",
}
"""What the `fit` stage leaves."""


def groups(paths: Iterable[str]) -> list[Group]:
    """Find the statistics among the entries of a commit's tree: of layers in the model, of scalers anywhere else."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    paths = set(paths)
    fitted = {role: path for role, path in _FITTED.items() if path in paths}
    whole = len(fitted) == len(_FITTED)
    for path in sorted(paths - set(fitted.values()) if whole else paths):
        place, last = _split(path)
        kind, role = _MEMBERS.get(last, ("", ""))
        if kind == "batch_norm" or (kind and path.startswith(PREPROCESSING)):
            found.setdefault((kind, place), {})[role] = path
    made = [Group("moments", fitted)] if whole else []
    for (kind, _), members in found.items():
        if kind == "batch_norm" and {"mean", "var"} <= members.keys():
            made.append(Group("batch_norm", members))
        elif kind == "scaler" and "mean" in members and members.keys() & {"var", "scale"}:
            made.append(Group("scaler", members))
    return made


def pool(group: Group, base: Tensors | None, heads: Sequence[Tensors]) -> dict[str, Tensor] | NoCounts:
    """Pool a group's tensors, given by path, of the base (None or without them: it has none) and of the heads."""
    start = _parts(group, base or {})
    parts = [_parts(group, tensors) for tensors in heads]
    if problem := _unfit(group, start, parts):
        return problem
    changed = [part for part in parts if not _equal(part, start)]
    pooled = _POOLS[group.kind](start, changed) if changed else start
    return pooled if isinstance(pooled, NoCounts) else {group.members[role]: value for role, value in pooled.items()}


def pooled_sums(base: Tensor | None, heads: Sequence[Tensor]) -> Tensor:
    """Pool what adds up over rows (counts, sums, sums of squares, Gram matrices): the base and all that came since.

    Integers are added exactly, floats in float64; the result has the first head's dtype.
    """
    like = heads[0]
    wide: DTypeLike = np.float64 if is_floating(like) else np.object_
    start: Tensor = np.zeros(like.shape, dtype=wide) if base is None else base.astype(wide)
    total = start
    for head in heads:
        total = np.asarray(total + (head.astype(wide) - start))
    if is_floating(like):
        return narrowed(total.copy(), like)
    try:
        return total.astype(like.dtype)
    except OverflowError:
        raise VersionsError(f"pooled counts do not fit {like.dtype}: store them as a wider type") from None


def pooled_moments(base: Moments | None, heads: Sequence[Moments]) -> Moments:
    """Pool moments of rows: float64, exact but for rounding, whatever part of the rows each head saw.

    Sums are taken around the base's mean (or the first head's), so nothing cancels that a mean is large against its
    deviation (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance").
    """
    origin = _wide((base or heads[0]).mean)
    first = _around(origin, base) if base else (np.zeros(()),) * 3
    sums = list(first)
    for head in heads:
        sums = [total + (own - old) for total, own, old in zip(sums, _around(origin, head), first, strict=True)]
    count, total, squares = sums
    seen = np.where(count > 0, count, 1.0)
    off = total / seen
    spread = np.maximum(squares / seen - off**2, 0.0)
    return Moments(np.asarray(count), np.asarray(origin + off), np.asarray(spread))


def standardization(sums: Tensor) -> dict[str, Tensor]:
    """Turn count, sum and sum of squares, shape (3, features), into mean and scale (1 where a feature is constant)."""
    count, total, squares = sums
    mean = total / np.maximum(count, 1)
    # The difference of two squares is exact to about 1e-15 of them: below the root of that, a scale is rounding noise
    # of a constant column, and dividing by it would blow the column up.
    scale = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0))
    return {"mean": mean, "scale": np.where(scale > _CONSTANT * np.abs(mean), scale, 1.0)}


def _pooled_fit(base: Tensors, heads: Sequence[Tensors]) -> dict[str, Tensor] | NoCounts:
    """Pool the sums the `fit` stage keeps, and make mean and scale of them as it does."""
    if problem := _miscounted(base["sums"][:1] if base else None, [head["sums"][:1] for head in heads]):
        return problem
    sums = pooled_sums(base.get("sums"), [head["sums"] for head in heads])
    return {"sums": sums, **standardization(sums)}


def _pooled_scaler(base: Tensors, heads: Sequence[Tensors]) -> dict[str, Tensor] | NoCounts:
    """Pool mean and variance by count; where there is only a scale, it is the root of the variance."""
    if problem := _miscounted(base.get("count"), [head["count"] for head in heads]):
        return problem
    pooled = pooled_moments(_moments(base) if base else None, [_moments(head) for head in heads])
    deviation = np.sqrt(pooled.variance)
    scale = np.where(deviation > _CONSTANT * np.abs(pooled.mean), deviation, 1.0)
    made = {"mean": pooled.mean, "var": pooled.variance, "scale": scale}
    counted = pooled_sums(base.get("count"), [head["count"] for head in heads])
    like = heads[0]
    return {"count": counted, **{role: narrowed(value, like[role]) for role, value in made.items() if role in like}}


def _pooled_batch_norm(base: Tensors, heads: Sequence[Tensors]) -> dict[str, Tensor] | NoCounts:
    """Pool what each head saw since the base, with what lies between the heads' means (law of total variance)."""
    counts = [head["count"] for head in heads]
    if problem := _miscounted(base.get("count"), counts):
        return problem
    before = _wide(base["count"]) if base else np.zeros(())
    since = [_wide(count) - before for count in counts]
    if any((seen <= 0).any() for seen in since):
        return NoCounts("a head changed its statistics and counts no batch since the base")
    seen_by = zip(since, heads, strict=True)
    pooled = pooled_moments(None, [Moments(seen, head["mean"], head["var"]) for seen, head in seen_by])
    like = heads[0]
    return {
        "mean": narrowed(pooled.mean, like["mean"]),
        "var": narrowed(pooled.variance, like["var"]),
        "count": pooled_sums(base.get("count"), counts),
    }


_Pool: TypeAlias = Callable[[Tensors, Sequence[Tensors]], dict[str, Tensor] | NoCounts]
_POOLS: Mapping[str, _Pool] = {"moments": _pooled_fit, "scaler": _pooled_scaler, "batch_norm": _pooled_batch_norm}


def _around(origin: Tensor, moments: Moments) -> tuple[Tensor, Tensor, Tensor]:
    """Count, and sums of rows and of their squares, both around `origin`."""
    count, off = _wide(moments.count), _wide(moments.mean) - origin
    return count, np.asarray(count * off), np.asarray(count * (_wide(moments.variance) + off**2))


def _moments(scaler: Tensors) -> Moments:
    variance = scaler["var"] if "var" in scaler else _wide(scaler["scale"]) ** 2
    return Moments(scaler["count"], scaler["mean"], np.asarray(variance))


def _unfit(group: Group, base: Tensors, heads: Sequence[Tensors]) -> NoCounts | None:
    """Say what is missing, or differs in shape, so that nothing can be pooled."""
    if group.kind != "moments" and "count" not in group.members:
        beside = min(group.members.values())
        return NoCounts(f"there is no count beside '{beside}': how many rows are behind each version is not known")
    sides = [(f"head {n + 1}", head) for n, head in enumerate(heads)]
    for role, path in group.members.items():
        for whose, side in [("the base", base), *sides] if base else sides:
            if role not in side:
                return NoCounts(f"{whose} has no '{path}'")
            if side[role].shape != heads[0][role].shape:
                return NoCounts(f"'{path}' of {whose} has shape {list(side[role].shape)}, others another")
    return None


def _miscounted(base: Tensor | None, heads: Sequence[Tensor]) -> NoCounts | None:
    """Say whose counts make no sense."""
    before = np.zeros(()) if base is None else _wide(base)
    for count in map(_wide, heads):
        if not (np.isfinite(count).all() and (count >= 0).all()):
            return NoCounts("a count is negative or no number")
        if (count < before).any():
            return NoCounts("a head counts less than the base: it was fitted anew, on rows the base may have too")
    return None


def _parts(group: Group, tensors: Tensors) -> dict[str, Tensor]:
    return {role: tensors[path] for role, path in group.members.items() if path in tensors}


def _equal(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(tensor_bytes(one[role]) == tensor_bytes(other[role]) for role in one)


def _split(path: str) -> tuple[str, str]:
    """Cut the last word, after a dot or a slash, off a path."""
    at = max(path.rfind("."), path.rfind("/")) + 1
    return path[:at], path[at:]


def _wide(array: Tensor) -> Tensor:
    return np.asarray(array, dtype=np.float64)
