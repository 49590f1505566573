"""What an engine is: it carries task bytes to sites and reply bytes back, in a fixed order.

Rules: an engine never looks into the bytes; it yields exactly one reply per invited site, in the order the
sites were named, whatever the order they finished in; a duplicate delivery counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from fedloom.values import Buffer

Status = Literal["answered", "late", "failed"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work for sites: the verb and round name it, `payload` is the wire bytes."""

    verb: str
    round: int
    payload: Buffer


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from one site; `payload` is None unless it answered.

    seconds: from the invitation to the reply, as the hub's clock saw it.
    """

    site: str
    status: Status
    payload: Buffer | None = None
    reason: str = ""
    seconds: float = 0.0


class SiteHandler(Protocol):
    """The site's end: bytes in, bytes out. Picklable, so that it can be carried to a worker process."""

    def handle(self, site: str, task: Buffer) -> Buffer:
        """Answer one task; faults of the work itself come back as an error message, not as an exception."""
        ...


class Engine(Protocol):
    """Carries tasks to sites."""

    name: str

    def run(self, job: Callable[[], T]) -> T:
        """Start what the engine needs, call `job`, stop everything again; `exchange` works only inside."""
        ...

    def exchange(self, task: Task, sites: Sequence[str], deadline: float | None = None) -> Iterator[Reply]:
        """Send `task` to `sites`; yield one reply per site in the order of `sites`.

        deadline: seconds after which a site that has not answered is `late`.
        """
        ...
