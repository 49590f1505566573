"""What a stage is: what it needs and makes, its hub half, its site halves, and what it lets out of a site."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from fedloom.engine import wire
from fedloom.engine.wire import Message
from fedloom.pipeline.context import HubContext, SiteContext
from fedloom.pipeline.contract import Contract
from fedloom.pipeline.spec import PipelineSpec
from fedloom.values import Layout, TensorSpec

Artifacts: TypeAlias = tuple[str, ...]
SiteHalf: TypeAlias = Callable[[SiteContext, Message], Message]


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known before anything runs: enough to say what will leave each site, to the byte."""

    spec: PipelineSpec
    contract: Contract
    task: str
    width: int
    outputs: int
    model: Layout

    @property
    def scaling(self) -> Layout:
        """Layout of the standardisation."""
        return (TensorSpec("mean", "F64", (self.width,)), TensorSpec("scale", "F64", (self.width,)))


@dataclass(frozen=True, slots=True)
class Leaving:
    """One kind of message out of a site: what is in it, how large, how often. `epsilon` None: no noise is added."""

    stage: str
    what: str
    values: int
    nbytes: int
    times: int
    epsilon: float | None = None

    @classmethod
    def of(cls, stage: str, what: str, reply: Message, specs: Layout, times: int = 1) -> Leaving:
        """Describe a reply by the layout of its tensors."""
        size = wire.encoded_size(reply.verb, reply.round, reply.body, specs)
        return cls(stage, what, sum(spec.size for spec in specs), size, times)

    @classmethod
    def each_round(cls, stage: str, what: str, verb: str, specs: Layout, rounds: int) -> Iterator[Leaving]:
        """Describe a reply sent every round; a line more where longer round numbers make it longer."""
        times: dict[int, int] = {}
        for digits in range(1, len(str(rounds)) + 1):
            first, last = 10 ** (digits - 1), min(10**digits - 1, rounds)
            size = wire.encoded_size(verb, first, {}, specs)
            times[size] = times.get(size, 0) + last - first + 1
        values = sum(spec.size for spec in specs)
        yield from (cls(stage, what, values, size, count) for size, count in times.items())


class Stage(Protocol):
    """A step of a pipeline."""

    name: str
    needs: Artifacts
    """What must have been made before."""
    uses: Artifacts
    """What it takes when it is there."""
    makes: Artifacts
    """What it makes."""

    def answers(self) -> Mapping[str, SiteHalf]:
        """Give the site halves, by the verb of the task they answer."""
        ...

    def leaving(self, draft: Draft) -> Iterator[Leaving]:
        """Say what leaves each site when this stage runs."""
        ...

    def run(self, context: HubContext) -> str:
        """Do the hub half; give one sentence for the person who watches."""
        ...


def renamed(prefix: str, specs: Layout) -> Layout:
    """Put a layout into a message's name space."""
    return tuple(TensorSpec(f"{prefix}/{spec.name}", spec.dtype, spec.shape) for spec in specs)


ROWS = TensorSpec("rows", "F64", ())
"""A count of rows as it travels: a scalar tensor, so that a message's size does not depend on it."""
