"""What every engine must do; each engine's test subclasses this."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from fedloom.engine.port import Engine, SiteHandler, Task
from fedloom.errors import EngineError, GateError

SITES = ("delta", "alpha", "charlie", "bravo")


@dataclass(frozen=True)
class Echo:
    """Answers with its name and the task; slower for the first site, so that finishing order is not the fold order."""

    first_is_slow: bool = True

    def handle(self, site: str, task: bytes | memoryview) -> bytes:
        if self.first_is_slow and site == SITES[0]:
            time.sleep(0.2)
        return site.encode() + b":" + bytes(task)


@dataclass(frozen=True)
class OneFails:
    """One site raises, the others answer."""

    def handle(self, site: str, task: bytes | memoryview) -> bytes:
        if site == "alpha":
            raise ValueError("the secret value 4711")
        return hashlib.sha256(bytes(task)).digest()


@dataclass(frozen=True)
class OneSleeps:
    """One site needs longer than any deadline here."""

    seconds: float = 4.0

    def handle(self, site: str, task: bytes | memoryview) -> bytes:
        if site == "charlie":
            time.sleep(self.seconds)
        return b"ok"


class EngineSuite:
    """Subclasses say how to make the engine."""

    deadline = 1.0

    def make(self, handler: SiteHandler, sites: Sequence[str]) -> Engine:
        raise NotImplementedError

    def test_replies_come_once_each_in_invited_order(self):
        """Whatever the finishing order, replies follow the order of invitation, one per site."""
        engine = self.make(Echo(), SITES)
        task = Task("train", 1, b"\x00work\xff")
        replies = engine.run(lambda: list(engine.exchange(task, SITES)))
        assert [reply.site for reply in replies] == list(SITES)
        assert [bytes(reply.payload) for reply in replies] == [s.encode() + b":\x00work\xff" for s in SITES]
        assert {reply.status for reply in replies} == {"answered"}

    def test_several_exchanges_and_subsets(self):
        """One run serves many exchanges, each with its own subset of sites."""
        engine = self.make(Echo(first_is_slow=False), SITES)

        def job():
            first = [r.site for r in engine.exchange(Task("train", 1, b"a"), ["bravo", "delta"])]
            second = [bytes(r.payload) for r in engine.exchange(Task("train", 2, b"b"), ["alpha"])]
            return first, second

        assert engine.run(job) == (["bravo", "delta"], [b"alpha:b"])

    def test_large_messages_arrive_whole(self):
        """Five megabytes go both ways unchanged."""
        engine = self.make(OneFails(), SITES)
        payload = bytes(range(256)) * 20_000
        replies = engine.run(lambda: list(engine.exchange(Task("train", 1, payload), ["bravo"])))
        assert bytes(replies[0].payload) == hashlib.sha256(payload).digest()

    def test_a_failing_site_fails_alone_and_says_no_value(self):
        """A site that raises is failed; the others answer; what it raised does not cross."""
        engine = self.make(OneFails(), SITES)
        replies = {r.site: r for r in engine.run(lambda: list(engine.exchange(Task("train", 1, b"x"), SITES)))}
        assert replies["alpha"].status == "failed"
        assert replies["alpha"].payload is None
        assert "4711" not in replies["alpha"].reason
        assert {s: r.status for s, r in replies.items() if s != "alpha"} == dict.fromkeys(
            ("delta", "charlie", "bravo"), "answered"
        )

    def test_a_slow_site_is_late_alone(self):
        """Past the deadline a site is late; the others are not."""
        engine = self.make(OneSleeps(), SITES)
        task = Task("train", 1, b"x")
        replies = engine.run(lambda: list(engine.exchange(task, SITES, deadline=self.deadline)))
        assert {r.site: r.status for r in replies} == {
            "delta": "answered",
            "alpha": "answered",
            "charlie": "late",
            "bravo": "answered",
        }

    def test_the_jobs_own_error_comes_out(self):
        """What the job raises leaves `run` unchanged."""
        engine = self.make(Echo(), SITES)

        def job():
            raise GateError("no")

        with pytest.raises(GateError, match=r"^no$"):
            engine.run(job)

    def test_exchange_outside_run_is_refused(self):
        """An engine that is not running says so."""
        engine = self.make(Echo(), SITES)
        with pytest.raises(EngineError, match="not running"):
            list(engine.exchange(Task("train", 1, b"x"), SITES))
