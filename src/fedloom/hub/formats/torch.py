"""torch: a state dict as `torch.save` writes it, read without torch and without unpickling.

A torch file is a zip archive of storages and a program in pickle's bytecode that puts tensors together. The program
is not run: the few instructions that a state dict consists of are carried out here, and calls are answered only for
torch's own tensor builders. Whatever else it names (a class, a function) is refused by name.
"""

from __future__ import annotations

import math
import pickletools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fedloom.hub.formats import FormatError
from fedloom.hub.formats.archive import Archive
from fedloom.values import DTYPES, Tensor

_STORAGES: Mapping[str, str] = {
    "BoolStorage": "BOOL",
    "ByteStorage": "U8",
    "CharStorage": "I8",
    "ShortStorage": "I16",
    "IntStorage": "I32",
    "LongStorage": "I64",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
    "UntypedStorage": "U8",
}
_ELEMENTS: Mapping[str, str] = {  # torch's names of the types that have no storage class of their own
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
_ADVICE = "save `model.state_dict()` by itself"


class _Global(NamedTuple):
    """Something the program names; a name, and never the thing."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """Bytes that tensors are views of, and the element type they are announced with."""

    data: bytes
    dtype: str


def decode(data: bytes) -> dict[str, Tensor]:
    """Read a state dict; raises FormatError when it is none, or holds anything but tensors by name."""
    try:
        archive = Archive(data)
    except FormatError as error:
        old = "" if data[:2] == b"PK" else "; torch before 1.6 wrote another format: load and save it again"
        raise FormatError(f"{error}{old}") from None
    programs = [name for name in archive.names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(programs) != 1:
        raise FormatError("it is no file of torch.save")
    found = _Machine(archive, programs[0].removesuffix("data.pkl")).run(archive.read(programs[0]))
    items = found.items() if isinstance(found, dict) else [("", found)]
    tensors = {key: value for key, value in items if isinstance(key, str) and isinstance(value, np.ndarray)}
    if not isinstance(found, dict) or len(tensors) != len(found):
        other = next((f", its '{key[:80]}' is no tensor" for key in _words(items) if key not in tensors), "")
        raise FormatError(f"it is no state dict{other}: {_ADVICE}")
    return tensors


def _words(items: Iterable[tuple[Any, Any]]) -> list[str]:
    return [key for key, _ in items if isinstance(key, str) and key]


@dataclass
class _Machine:
    """A stack, a memo, and the instructions a state dict needs."""

    archive: Archive
    folder: str
    stack: list[Any] = field(default_factory=list)
    marks: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, bytes] = field(default_factory=dict)
    made: int = 0

    def run(self, program: bytes) -> Any:
        """Carry out a program and give what it leaves; raises FormatError at anything unknown."""
        if (
            f"{self.folder}byteorder" in self.archive.names
            and self.archive.read(f"{self.folder}byteorder") != b"little"
        ):
            raise FormatError("it was written on a big-endian machine: load and save it on another")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's remarks about text that is escaped in an old way
                return self._carry_out(program)
        except FormatError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            raise FormatError("it is no state dict of torch, or was cut off") from None

    def _carry_out(self, program: bytes) -> Any:
        """Go through the instructions; raises as they do, and ValueError where the program ends too early."""
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                (result,) = self.stack
                return result
            self._step(opcode.name, argument)
        raise ValueError("it does not stop")

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in _INSTRUCTIONS:
            _INSTRUCTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise FormatError(f"it holds more than tensors ({name}): {_ADVICE}")

    def mark(self, _: Any) -> None:
        """Start a group of values."""
        self.marks.append(self.stack)
        self.stack = []

    def group(self) -> list[Any]:
        """Take the values since the last mark."""
        values, self.stack = self.stack, self.marks.pop()
        return values

    def group_tuple(self, _: Any) -> None:
        """Put the values since the last mark into a tuple."""
        values = tuple(self.group())
        self.stack.append(values)

    def take_tuple(self, size: int) -> None:
        """Put the last few values into a tuple."""
        values = tuple(self.stack[-size:])
        if len(values) != size:
            raise IndexError
        del self.stack[-size:]
        self.stack.append(values)

    def name_global(self, argument: str) -> None:
        """Name something, by an instruction that has the name in it."""
        module, _, name = argument.partition(" ")
        self.stack.append(_Global(module, name))

    def name_from_stack(self, _: Any) -> None:
        """Name something, by two words on the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_Global(module, name))

    def set_items(self, values: list[Any]) -> None:
        """Fill the dict on the stack."""
        target = self.stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise TypeError
        target.update(zip(values[::2], values[1::2], strict=True))

    def set_item(self, _: Any) -> None:
        """Fill one place of the dict on the stack."""
        values = self.stack[-2:]
        del self.stack[-2:]
        self.set_items(values)

    def append(self, values: list[Any]) -> None:
        """Fill the list on the stack."""
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError
        target.extend(values)

    def build(self, _: Any) -> None:
        """Set attributes of the dict on the stack: torch keeps versions of modules there, which are let go."""
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise TypeError

    def find_storage(self, _: Any) -> None:
        """Read the bytes that a persistent id names."""
        kind, storage, key, _place, count = self.stack.pop()
        if kind != "storage" or not isinstance(storage, _Global) or storage.name not in _STORAGES:
            raise FormatError(f"it holds a storage of an unknown type: {_ADVICE}")
        if key not in self.storages:
            self.storages[key] = self.archive.read(f"{self.folder}data/{key}")
        dtype = _STORAGES[storage.name]
        if len(self.storages[key]) != count * DTYPES[dtype].itemsize:
            raise FormatError(f"its storage '{str(key)[:40]}' was cut off")
        self.stack.append(_Storage(self.storages[key], dtype))

    def call(self, _: Any) -> None:
        """Answer a call, if it is one of a state dict's."""
        arguments, what = self.stack.pop(), self.stack.pop()
        if what == ("collections", "OrderedDict") and arguments == ():
            self.stack.append({})
        elif what == ("torch._utils", "_rebuild_tensor_v2"):
            storage, offset, shape, strides = arguments[:4]
            self.stack.append(self._tensor(storage, storage.dtype, offset, shape, strides))
        elif what == ("torch._utils", "_rebuild_tensor_v3"):
            storage, offset, shape, strides, *_more, dtype = arguments
            if dtype.name not in _ELEMENTS:
                raise FormatError(f"it holds elements of type {str(dtype.name)[:40]}, which the store does not hold")
            self.stack.append(self._tensor(storage, _ELEMENTS[dtype.name], offset, shape, strides))
        elif what == ("torch._utils", "_rebuild_parameter"):
            self.stack.append(arguments[0])
        else:
            named = f"{what.module}.{what.name}"[:80] if isinstance(what, _Global) else "something else"
            raise FormatError(f"it holds more than tensors ({named}): {_ADVICE}")

    def _tensor(
        self, storage: _Storage, dtype: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> Tensor:
        """Cut a tensor out of a storage; offset and strides count elements."""
        flat = np.frombuffer(storage.data, DTYPES[dtype])
        if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
            raise FormatError("a tensor has no proper shape")
        size = math.prod(shape)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if size and last >= len(flat):
            raise FormatError("a tensor reaches beyond its storage")
        self.made += size * flat.itemsize
        if self.made > self.archive.limit:  # a view can be far larger than what it shows
            raise FormatError(f"it would unpack to more than {self.archive.limit // 2**20} MiB, far more than a model")
        if not size:
            return np.empty(shape, flat.dtype)
        steps = tuple(stride * flat.itemsize for stride in strides)
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat[offset:], shape, steps)).reshape(shape)


_PUSHED = frozenset(
    ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
)
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_INSTRUCTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "TUPLE": _Machine.group_tuple,
    "TUPLE1": lambda machine, _: machine.take_tuple(1),
    "TUPLE2": lambda machine, _: machine.take_tuple(2),
    "TUPLE3": lambda machine, _: machine.take_tuple(3),
    "GLOBAL": _Machine.name_global,
    "STACK_GLOBAL": _Machine.name_from_stack,
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.group()),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.group()),
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.find_storage,
    "REDUCE": _Machine.call,
}
