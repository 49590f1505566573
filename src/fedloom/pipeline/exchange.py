"""One exchange as a stage sees it: a message goes to sites, messages or reasons come back, bytes are counted.

Rules: a reply counts only when its checksum, verb, round and tensors are right; an error message from a site becomes
that site's reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedloom.engine import wire
from fedloom.engine.port import Engine, Reply, Status, Task
from fedloom.engine.wire import Message
from fedloom.errors import WireError
from fedloom.values import Layout, Tensor, Tensors, is_floating, layout

ERROR = "error"
_LONGEST_REASON = 500


@dataclass
class Exchange:
    """Sends one task; iterate once, then read the outcomes and the counters."""

    engine: Engine
    task: Task
    sites: Sequence[str]
    expects: Layout
    """The tensors an answer must hold; one that holds others, or NaN, has failed."""
    deadline: float | None = None
    outcomes: list[tuple[str, Status, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, Message]]:
        """Yield (site, message) of each site that answered, in the order of the sites."""
        for reply in self.engine.exchange(self.task, self.sites, self.deadline):
            self.seconds[reply.site] = reply.seconds
            self.bytes_up[reply.site] = len(reply.payload or b"")
            status, reason, message = self._read(reply)
            self.outcomes.append((reply.site, status, reason))
            if message is not None:
                yield reply.site, message
            del reply, message  # do not hold a large reply while the next one is made

    @property
    def total_up(self) -> int:
        """Bytes received from all sites."""
        return sum(self.bytes_up.values())

    @property
    def total_down(self) -> int:
        """Bytes sent to all sites."""
        return len(self.task.payload) * len(self.sites)

    def _read(self, reply: Reply) -> tuple[Status, str, Message | None]:
        if reply.payload is None:
            return reply.status, reply.reason, None
        try:
            message = wire.decode(reply.payload)
        except WireError as error:
            return "failed", str(error), None
        if message.verb == ERROR:
            return "failed", _clean(message.body.get("reason", "it gave no reason")), None
        if (message.verb, message.round) != (self.task.verb, self.task.round):
            return "failed", f"answered another task ({message.verb}, round {message.round})", None
        fault = self._fault(message.tensors)
        return ("failed", fault, None) if fault else ("answered", "", message)

    def _fault(self, tensors: Tensors) -> str:
        if set(layout(tensors)) != set(self.expects):
            return "answered with other tensors than it was asked for"
        for name, array in tensors.items():
            if is_floating(array) and not np.isfinite(array).all():
                return f"answered with NaN or infinity in '{name}'"
        return ""


def _clean(reason: object) -> str:
    """Keep what a site says short and printable: it goes into a commit and onto a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(reason))[:_LONGEST_REASON]


def task(message: Message) -> Task:
    """Encode a message as an engine task; the message is empty afterwards."""
    return Task(message.verb, message.round, wire.encode_and_release(message))


def prefixed(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    """Put tensors into a message's name space: `model/weights`."""
    return {f"{prefix}/{name}": array for name, array in tensors.items()}


def taken(prefix: str, tensors: Tensors) -> Tensors:
    """Take the tensors of one name space out of a message."""
    start = prefix + "/"
    return {name[len(start) :]: array for name, array in tensors.items() if name.startswith(start)}
