"""Zip archives that hold tensors: opened, measured, and only then unpacked."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Mapping

from fedloom.hub.formats import FormatError

_GROWTH = 64
_SLACK = 1 << 28

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What zipfile raises at archives that are broken, encrypted or packed in a way it does not know."""


def largest(packed: int) -> int:
    """Say how many bytes may come out of a file: more than any model grows by, less than would fill a memory."""
    return _GROWTH * packed + _SLACK


class Archive:
    """The members of one zip file by name."""

    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            members = self._zip.infolist()
        except _BROKEN:
            raise FormatError("it is no whole zip archive") from None
        self.limit = largest(len(data))
        self._members: Mapping[str, zipfile.ZipInfo] = {member.filename: member for member in members}
        if len(self._members) != len(members):
            raise FormatError("it holds two members of one name")
        if sum(member.file_size for member in members) > self.limit:
            raise FormatError(f"it would unpack to more than {self.limit // 2**20} MiB, far more than a model would")

    @property
    def names(self) -> tuple[str, ...]:
        """The members, in the order of the file."""
        return tuple(self._members)

    def read(self, name: str) -> bytes:
        """Unpack one member; raises FormatError when it is missing or broken."""
        if name not in self._members:
            raise FormatError(f"its member '{name[:80]}' is missing")
        member = self._members[name]
        try:
            with self._zip.open(member) as file:
                # One byte beyond what is announced: the directory may lie about what the member holds.
                data = file.read(member.file_size + 1)
        except _BROKEN:
            raise FormatError(f"its member '{name[:80]}' cannot be unpacked") from None
        if len(data) != member.file_size:
            raise FormatError(f"its member '{name[:80]}' has another size than announced")
        return data
