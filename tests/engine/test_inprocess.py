"""The embedded engine, beyond what every engine must do."""

import multiprocessing
import threading
import time
from dataclasses import dataclass

import pytest

from fedloom.engine.inprocess import InProcessEngine
from fedloom.engine.port import Task
from fedloom.engine.scenario import Faults, Scenario
from tests.suites.engine import SITES, Echo, EngineSuite, OneSleeps


class TestThreads(EngineSuite):
    def make(self, handler, sites):
        return InProcessEngine(handler, workers=2)


class TestProcesses(EngineSuite):
    deadline = 3.0  # a replaced worker process has to start within it

    def make(self, handler, sites):
        return InProcessEngine(handler, workers=2, kind="processes")


def replies(scenario, *, deadline=None, task=None):
    engine = InProcessEngine(Echo(first_is_slow=False), scenario=scenario)
    task = task or Task("train", 2, b"work")
    return {r.site: r for r in engine.run(lambda: list(engine.exchange(task, SITES, deadline)))}


def test_a_dropped_site_fails_and_only_in_its_round():
    """A scenario drops a site in the round it names and in no other."""
    scenario = Scenario({2: Faults(drop=frozenset({"alpha"}))})
    assert replies(scenario)["alpha"].status == "failed"
    assert replies(scenario)["alpha"].reason == "connection lost"
    assert replies(scenario, task=Task("train", 3, b"work"))["alpha"].status == "answered"
    assert replies(scenario, task=Task("evaluate", 2, b"work"))["alpha"].status == "answered"


def test_a_delay_is_simulated_and_counts_against_the_deadline():
    """An hour of delay costs no time here, and is late against a minute."""
    scenario = Scenario({2: Faults(delay={"bravo": 3600.0})})
    began = time.monotonic()
    slow = replies(scenario, deadline=60.0)["bravo"]
    assert slow.status == "late"
    assert slow.seconds >= 3600
    assert time.monotonic() - began < 5
    assert replies(scenario)["bravo"].status == "answered"


def test_a_corrupt_reply_differs_in_one_byte():
    """Corruption alters the bytes, not the length."""
    scenario = Scenario({2: Faults(corrupt=frozenset({"charlie"}))})
    good, bad = b"charlie:work", bytes(replies(scenario)["charlie"].payload)
    assert len(good) == len(bad)
    assert sum(a != b for a, b in zip(good, bad, strict=True)) == 1


def test_a_duplicate_counts_once():
    """A reply delivered twice is yielded once."""
    engine = InProcessEngine(Echo(first_is_slow=False), scenario=Scenario({2: Faults(duplicate=frozenset(SITES))}))
    got = engine.run(lambda: [r.site for r in engine.exchange(Task("train", 2, b"x"), SITES)])
    assert got == list(SITES)


@dataclass
class Counting:
    """Counts how many replies exist that the hub has not yet taken."""

    made: int = 0
    taken: int = 0
    most: int = 0

    def __post_init__(self):
        self.lock = threading.Lock()

    def handle(self, site, task):
        with self.lock:
            self.made += 1
            self.most = max(self.most, self.made - self.taken)
        return bytes(len(task))


def test_a_large_model_narrows_the_window_to_one():
    """With messages near the bound, no second reply exists while one is being folded."""
    handler = Counting()
    engine = InProcessEngine(handler, workers=4, in_flight_bytes=1000)
    names = [f"s{i}" for i in range(20)]

    def job():
        for _ in engine.exchange(Task("train", 1, bytes(900)), names):
            time.sleep(0.001)
            handler.taken += 1

    engine.run(job)
    assert handler.made == 20
    assert handler.most == 1


def test_small_messages_stay_within_the_window():
    """At most twice as many sites as workers are in flight, however many sites there are."""
    handler = Counting()
    engine = InProcessEngine(handler, workers=3)

    def job():
        for _ in engine.exchange(Task("train", 1, b"x"), [f"s{i}" for i in range(50)]):
            handler.taken += 1

    engine.run(job)
    assert handler.most <= 7


def test_an_interrupted_job_waits_for_no_worker_process():
    """Ctrl-C while sites are at work in processes: the engine ends at once."""
    engine = InProcessEngine(OneSleeps(30), workers=2, kind="processes")

    def job():
        for reply in engine.exchange(Task("train", 1, b"x"), SITES):
            if reply.site == "alpha":
                raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.run(job)
    for worker in multiprocessing.active_children():
        worker.join(5)
    assert multiprocessing.active_children() == []
    assert time.monotonic() - began < 15
