"""The agent at a site: takes a task, runs its site half, and hands the result to the outbox.

Rules: whatever goes wrong comes back as an error message. A FedloomError is written by us and holds no value of the
data, so its text may leave; of any other exception only the type leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedloom.engine import wire
from fedloom.engine.wire import Message
from fedloom.errors import FedloomError
from fedloom.pipeline.context import SiteContext
from fedloom.pipeline.exchange import ERROR
from fedloom.pipeline.stages.catalog import ANSWERS
from fedloom.site.outbox import Outbox
from fedloom.values import Buffer


@dataclass(frozen=True)
class SiteAgent:
    """Answers tasks for one site."""

    context: SiteContext
    outbox: Outbox

    def answer(self, data: Buffer) -> memoryview:
        """Answer one task, always."""
        verb, number = "", 0
        try:
            asked = wire.decode(data)
            verb, number = asked.verb, asked.round
            half = ANSWERS.get(verb)
            if half is None:
                return self._refuse(number, f"this site knows no task '{verb}': upgrade fedloom here")
            return self.outbox.send(half(self.context, asked))
        except FedloomError as error:
            return self._refuse(number, str(error))
        except MemoryError:
            return self._refuse(number, "out of memory at the site")
        except Exception as error:  # noqa: BLE001  the text of a foreign exception may hold a value: only its type leaves
            return self._refuse(number, f"{type(error).__name__} in the site half of '{verb}'")

    def _refuse(self, number: int, reason: str) -> memoryview:
        return self.outbox.send(Message(ERROR, number, {"reason": reason}))
