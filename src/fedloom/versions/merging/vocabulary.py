"""Vocabularies and what is indexed by them: united with stable ids, rows of tensors aligned by word.

Rules: a word of the base keeps its id; new words follow, sorted by name, so the order of the heads does not matter.
No word is dropped: an id that once meant something never means something else. A row is decided as an entry is:
changed by one head it is that head's, changed by several a strategy decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import VersionsError
from fedloom.values import Tensor, dtype_tag, tensor_bytes
from fedloom.versions.merging.averaging import WeightedMean
from fedloom.versions.merging.branch import NO_EXTRAS, BranchStrategy, Extras


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The united words; a word's id is its place.

    remaps: of each head, its old ids' new ones, shape (words of the head,).
    base_remap: the same of the base, whose ids do not change: 0, 1, ...
    """

    words: tuple[str, ...]
    remaps: tuple[NDArray[np.intp], ...]
    base_remap: NDArray[np.intp]


def united(base: Sequence[str] | None, heads: Sequence[Sequence[str]]) -> Vocabulary:
    """Unite vocabularies: the base's words in its order, then the new ones by name."""
    known = _distinct(base or (), "the base")
    new = {word for n, head in enumerate(heads) for word in _distinct(head, f"head {n + 1}")}
    words = (*known, *sorted(new.difference(known)))
    places = {word: place for place, word in enumerate(words)}
    remaps = tuple(np.array([places[word] for word in head], dtype=np.intp) for head in heads)
    return Vocabulary(words, remaps, np.arange(len(known)))


def grown_axis(base: tuple[int, ...] | None, heads: Sequence[tuple[int, ...]]) -> int | None:
    """Find the one axis on which shapes differ; None where they differ on several, on none, or in their number."""
    shapes = [*heads, *([] if base is None else [base])]
    if len({len(shape) for shape in shapes}) != 1:
        return None
    differ = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
    return differ[0] if len(differ) == 1 else None


def aligned(
    vocabulary: Vocabulary,
    base: Tensor | None,
    heads: Sequence[Tensor],
    weights: Sequence[float],
    strategy: BranchStrategy | None,
    extras: Extras = NO_EXTRAS,
    *,
    axis: int = 0,
) -> Tensor | None:
    """Merge tensors that have one row a word along `axis`, such as an embedding or the rows of a class head.

    None where heads changed a row differently and there is no strategy. A row that is new in several heads has no
    base: where the strategy needs one, it is averaged by weight. Raises VersionsError for tensors that do not fit.
    """
    sides = list(zip(heads, vocabulary.remaps, strict=True))
    _check_alike(sides if base is None else [*sides, (base, vocabulary.base_remap)], axis, extras.path)
    size = len(vocabulary.words)
    there = [_mask(remap, size) for remap in vocabulary.remaps]
    rows = [_placed(head, remap, size, axis) for head, remap in sides]
    old = _mask(vocabulary.base_remap, size) if base is not None else np.zeros(size, dtype=np.bool_)
    start = np.zeros_like(rows[0]) if base is None else _placed(base, vocabulary.base_remap, size, axis)
    changed = [here & ~(old & _alike(own, start)) for here, own in zip(there, rows, strict=True)]
    merged = start.copy()
    for own, which in reversed(list(zip(rows, changed, strict=True))):
        merged[which] = own[which]
    contested = np.zeros(size, dtype=np.bool_)
    for own, which in zip(rows, changed, strict=True):
        contested |= which & ~_alike(own, merged)
    if contested.any() and strategy is None:
        return None
    for group in np.unique(np.stack([old, *changed])[:, contested], axis=1).T:
        assert strategy is not None, "returned before"
        has_base, who = bool(group[0]), [int(n) for n in np.flatnonzero(group[1:])]
        members = contested & np.all(np.stack([old, *changed]) == group[:, None], axis=0)
        chosen = strategy if has_base or not strategy.needs_base else WeightedMean()
        merged[members] = chosen.merge(
            start[members] if has_base else None,
            [rows[n][members] for n in who],
            [weights[n] for n in who],
            _extras_of(extras, who, vocabulary, members, axis),
        )
    return np.ascontiguousarray(np.moveaxis(merged, 0, axis))


def _distinct(words: Sequence[str], whose: str) -> Sequence[str]:
    if len(set(words)) != len(words):
        raise VersionsError(f"the vocabulary of {whose} has a word twice: an id must mean one word")
    return words


def _check_alike(sides: Sequence[tuple[Tensor, NDArray[np.intp]]], axis: int, path: str) -> None:
    kinds = set()
    for array, remap in sides:
        if not 0 <= axis < array.ndim or array.shape[axis] != len(remap):
            raise VersionsError(f"'{path}' of shape {list(array.shape)} has not one row for each of {len(remap)} words")
        kinds.add((dtype_tag(array), array.shape[:axis], array.shape[axis + 1 :]))
    if len(kinds) > 1:
        raise VersionsError(f"the versions of '{path}' differ in more than their words: they cannot be aligned")


def _placed(array: Tensor, remap: NDArray[np.intp], size: int, axis: int) -> Tensor:
    """Put rows where the united vocabulary has them; rows in front."""
    rows = np.moveaxis(array, axis, 0)
    placed = np.zeros((size, *rows.shape[1:]), dtype=array.dtype)
    placed[remap] = rows
    return placed


def _mask(remap: NDArray[np.intp], size: int) -> NDArray[np.bool_]:
    mask = np.zeros(size, dtype=np.bool_)
    mask[remap] = True
    return mask


def _alike(one: Tensor, other: Tensor) -> NDArray[np.bool_]:
    """Say of each row whether its bytes are the same."""
    first, second = (np.frombuffer(tensor_bytes(rows), np.uint8).reshape(len(rows), -1) for rows in (one, other))
    return np.asarray((first == second).all(axis=1))


def _extras_of(
    extras: Extras, who: Sequence[int], vocabulary: Vocabulary, members: NDArray[np.bool_], axis: int
) -> Extras:
    """Cut what belongs to the heads and the rows in question out of what belongs to all."""

    def of_rows(n: int) -> Tensor | None:
        entries = extras.fisher[n] if n < len(extras.fisher) else None
        if entries is None:
            return None
        return _placed(entries, vocabulary.remaps[n], len(vocabulary.words), axis)[members]

    grams = [extras.gram[n] if n < len(extras.gram) else None for n in who]
    return replace(extras, fisher=[of_rows(n) for n in who], gram=grams)
