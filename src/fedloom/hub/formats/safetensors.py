"""safetensors: a JSON header, then the elements of every tensor. Every element type of the store, bit by bit.

Written out here because the package's NumPy half knows neither bf16 nor fp8 on all the versions we support. Format:
github.com/huggingface/safetensors ("Format"): 8 bytes header length, header, data without holes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fedloom.hub.formats import FormatError
from fedloom.values import DTYPES, Buffer, Tensor, Tensors, TensorSpec, tensor_bytes, tensor_from_bytes, tensor_spec

_METADATA = "__metadata__"
_LARGEST_HEADER = 100_000_000  # as the format says, against headers that take all memory


def encode(tensors: Tensors, metadata: Mapping[str, str]) -> Iterator[Buffer]:
    """Write tensors and text as the parts of a safetensors file, one tensor at a time."""
    header: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))}
    specs = [tensor_spec(name, array) for name, array in tensors.items()]
    # Large elements first, so that every tensor starts at a multiple of its element's size.
    specs.sort(key=lambda spec: (-DTYPES[spec.dtype].itemsize, spec.name))
    start = 0
    for spec in specs:
        end = start + spec.nbytes
        header[spec.name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for spec in specs:
        yield tensor_bytes(tensors[spec.name])


def decode(data: Buffer) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors, as views of `data`, and text; raises FormatError when it is no whole safetensors file."""
    view = memoryview(data)
    size = int.from_bytes(view[:8], "little")
    if len(view) < 8 or size > min(len(view) - 8, _LARGEST_HEADER):
        raise FormatError("it is no safetensors file, or was cut off")
    header = _header(bytes(view[8 : 8 + size]))
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise FormatError("its metadata is no text")
    places = sorted((_place(name, entry) for name, entry in header.items()), key=lambda place: place[1])
    payload, end = view[8 + size :], 0
    for spec, start, stop in places:
        if start != end or stop - start != spec.nbytes or stop > len(payload):
            raise FormatError(f"'{spec.name[:80]}' does not lie where it should, or was cut off")
        end = stop
    if end != len(payload):
        raise FormatError("bytes follow its last tensor")
    return {spec.name: _tensor(spec, payload[start:stop]) for spec, start, stop in places}, metadata


def _tensor(spec: TensorSpec, payload: Buffer) -> Tensor:
    try:
        return tensor_from_bytes(spec, payload)
    except (ValueError, OverflowError):  # too many dimensions, or, where one is 0, too long ones
        raise FormatError(f"'{spec.name[:80]}' has a shape that no array can have") from None


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except FormatError:
        raise
    except (ValueError, RecursionError):  # no UTF-8, no JSON, or a number of thousands of digits
        raise FormatError("its header is no JSON") from None
    if isinstance(header, dict):
        return header
    raise FormatError("its header is no JSON object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("its header names something twice")
    return found


def _place(name: str, entry: Any) -> tuple[TensorSpec, int, int]:
    """Read one line of the header: what tensor it is, and from where to where its bytes lie."""
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, stop))
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"its header is wrong at '{name[:80]}'") from None
    if not whole or type(dtype) is not str:
        raise FormatError(f"its header is wrong at '{name[:80]}'")
    if dtype not in DTYPES:
        raise FormatError(f"'{name[:80]}' has elements of type {dtype[:20]}, which the store does not hold")
    return TensorSpec(name, dtype, tuple(shape)), start, stop
