"""One exchange at the hub: a task to many sites, their replies in the order of invitation.

Rules: the deadline bounds a site's own time at work, for on real machines no site waits until another's
worker is free. A site that worked longer is late although its answer came; and once no site has answered for
the length of a deadline, those still out are late. Late work goes on in its worker process until it ends or
the run does. `Reply.seconds` is the time at work where an answer came, else the time since the invitation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import monotonic, sleep

from flwr.app import Error, Message

from fedloom.engine.flower.records import read_answer, task_record
from fedloom.engine.flower.simulation import POLL_SECONDS, Simulation
from fedloom.engine.flower.site_side import HANDLER_RAISED
from fedloom.engine.port import Reply, Task

_TRANSIT_SECONDS = 0.5
"""What a message may spend on its way: flwr's simulation looks for new ones every 0.1 s."""


def exchange(running: Simulation, task: Task, sites: Sequence[str], deadline: float | None) -> Iterator[Reply]:
    """Send now, yield later: the sites work while the caller is busy with the first replies."""
    started = monotonic()
    message_ids = running.send(task_record(task.payload), sites)
    return _replies(running, dict(zip(sites, message_ids, strict=True)), started, deadline)


def _replies(running: Simulation, invited: dict[str, str], started: float, deadline: float | None) -> Iterator[Reply]:
    try:
        for site, message_id in invited.items():
            message = _wait(running, message_id, started, deadline)
            yield _reply(site, message, monotonic() - started, deadline)
    finally:
        running.abandon(invited.values())


def _wait(running: Simulation, message_id: str, started: float, deadline: float | None) -> Message | None:
    while (message := running.take(message_id)) is None:
        quiet = monotonic() - max(started, running.last_reply)
        if deadline is not None and quiet > deadline + _TRANSIT_SECONDS:
            return None
        sleep(POLL_SECONDS)
    return message


def _reply(site: str, message: Message | None, elapsed: float, deadline: float | None) -> Reply:
    if message is None:
        return _late(site, elapsed, deadline)
    if message.has_error():
        return Reply(site, "failed", reason=_reason(message.error), seconds=elapsed)
    payload, seconds = read_answer(message.content)
    if deadline is not None and seconds > deadline:
        return _late(site, seconds, deadline)
    return Reply(site, "answered", payload, seconds=seconds)


def _late(site: str, seconds: float, deadline: float | None) -> Reply:
    return Reply(site, "late", reason=f"no answer within {deadline:g} s", seconds=seconds)


def _reason(error: Error) -> str:
    if error.code == HANDLER_RAISED and error.reason:
        return error.reason
    return f"its worker process died (Flower's error {error.code})"  # flwr's own text may hold values
