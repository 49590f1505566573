"""The only way out of a site: a message is checked, written to the site's journal, and handed to the engine.

Rules: no tensor with NaN or infinity leaves; every message is journalled (verb, round, bytes, digest, what is in it)
before it leaves, so the steward can read what ever went out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fedloom.engine import wire
from fedloom.engine.wire import Message
from fedloom.errors import SiteDataError
from fedloom.values import sha256


class Outbox:
    """One site's way out; `journal` is its file, None to keep none."""

    def __init__(self, journal: Path | None) -> None:
        self._journal = journal

    def send(self, message: Message) -> bytearray:
        """Turn a message into the bytes that leave."""
        for name, array in message.tensors.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise SiteDataError(f"'{name}' holds NaN or infinity and was kept back")
        data = wire.encode(message)
        if self._journal is not None:
            self._note(self._journal, message, data)
        return data

    def _note(self, journal: Path, message: Message, data: bytearray) -> None:
        entry = {
            "verb": message.verb,
            "round": message.round,
            "bytes": len(data),
            "sha256": sha256(data),
            "tensors": {name: list(array.shape) for name, array in message.tensors.items()},
        }
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
