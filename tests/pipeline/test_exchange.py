"""One exchange: which replies count, and what a bad one becomes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedloom.engine import wire
from fedloom.engine.port import Reply
from fedloom.engine.wire import Message
from fedloom.pipeline.exchange import ERROR, Exchange, prefixed, taken, task
from fedloom.values import TensorSpec


@dataclass
class Canned:
    """An engine that gives what it was made with."""

    replies: list[Reply]
    name = "canned"

    def run(self, job):
        return job()

    def exchange(self, task, sites, deadline=None) -> Iterator[Reply]:
        return iter(self.replies)


def answered(site, message):
    return Reply(site, "answered", wire.encode(message), seconds=0.5)


ASKED = (TensorSpec("x", "F64", (2,)),)


def exchange(*replies):
    made = Exchange(Canned(list(replies)), task(Message("train", 3)), [r.site for r in replies], ASKED)
    return made, dict(made)


def test_only_the_right_answer_counts():
    """Good, late, altered, an error, another verb, another round: one counts, and each other has its reason."""
    altered = wire.encode(Message("train", 3))
    altered[12] ^= 1
    made, counted = exchange(
        answered("good", Message("train", 3, {}, {"x": np.ones(2)})),
        Reply("late", "late", reason="no answer within 1 s"),
        Reply("altered", "answered", altered),
        Reply("short", "answered", altered[:10]),
        answered("sick", Message(ERROR, 3, {"reason": "out of memory at the site"})),
        answered("mute", Message(ERROR, 3)),
        answered("other", Message("evaluate", 3)),
        answered("old", Message("train", 2)),
        answered("bare", Message("train", 3)),
        answered("wide", Message("train", 3, {}, {"x": np.ones(3)})),
        answered("more", Message("train", 3, {}, {"x": np.ones(2), "y": np.ones(2)})),
        answered("nan", Message("train", 3, {}, {"x": np.array([1.0, np.nan])})),
    )
    assert list(counted) == ["good"]
    told = {site: (status, reason) for site, status, reason in made.outcomes}
    assert told["good"] == ("answered", "")
    assert told["late"] == ("late", "no answer within 1 s")
    assert told["altered"][0] == "failed"
    assert "checksum" in told["altered"][1]
    assert "truncated" in told["short"][1]
    assert told["sick"] == ("failed", "out of memory at the site")
    assert told["mute"] == ("failed", "it gave no reason")
    for site in ("bare", "wide", "more"):
        assert told[site] == ("failed", "answered with other tensors than it was asked for")
    assert told["nan"] == ("failed", "answered with NaN or infinity in 'x'")
    assert told["other"] == ("failed", "answered another task (evaluate, round 3)")
    assert told["old"] == ("failed", "answered another task (train, round 2)")


def test_bytes_are_counted_as_they_crossed():
    """Up: what each site sent, whether it counts or not. Down: the task, once a site."""
    good = Message("train", 3)
    made, _ = exchange(answered("a", good), answered("b", Message("fit", 0)), Reply("c", "failed", reason="gone"))
    assert made.bytes_up["a"] == len(wire.encode(Message("train", 3)))
    assert made.bytes_up["c"] == 0
    assert made.total_up == sum(made.bytes_up.values())
    assert made.total_down == 3 * len(made.task.payload)
    assert made.seconds["a"] == 0.5


def test_name_spaces_are_put_on_and_taken_off():
    """`model/weights` and `scaling/mean` live side by side in one message."""
    both = {**prefixed("model", {"w": np.ones(1)}), **prefixed("models", {"w": np.zeros(1)})}
    assert list(taken("model", both)) == ["w"]
    assert taken("model", both)["w"] == 1
    assert taken("nothing", both) == {}
