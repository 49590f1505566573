"""The only way out of a site: a message is checked, written to the site's journal, and handed to the engine.

Rules: no tensor with NaN or infinity leaves; every message is journalled (verb, round, bytes, digest, what is in it)
before it leaves, so the steward can read what ever went out. Where the journal cannot be written nothing leaves but
one fixed sentence that says so.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np

from fedloom.engine import wire
from fedloom.engine.wire import Message
from fedloom.errors import SiteDataError
from fedloom.pipeline.exchange import ERROR
from fedloom.values import is_floating, sha256


class Outbox:
    """One site's way out; `journal` is its file, None to keep none."""

    def __init__(self, journal: Path | None) -> None:
        self._journal = journal

    def send(self, message: Message) -> memoryview:
        """Turn a message into the bytes that leave; the message is empty afterwards."""
        shapes = {name: list(array.shape) for name, array in message.tensors.items()}
        for name, array in message.tensors.items():
            if is_floating(array) and not np.isfinite(array).all():
                raise SiteDataError(f"'{name}' holds NaN or infinity and was kept back")
        data = wire.encode_and_release(message)
        if self._journal is not None:
            facts = {"verb": message.verb, "round": message.round, "bytes": len(data), "sha256": sha256(data)}
            try:
                _append(self._journal, {**facts, "tensors": shapes})
            except OSError as error:
                reason = f"its outbox journal cannot be written ({error.strerror}), so nothing leaves: free space there"
                return wire.encode(Message(ERROR, message.round, {"reason": reason}))
        return data


def _append(journal: Path, entry: dict[str, object]) -> None:
    journal.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(entry) + "\n").encode()
    with journal.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        written = 0
        try:
            written = file.write(line)
        finally:
            if written != len(line):
                file.truncate(before)  # the next line must not stand behind half of this one
    if written != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
