"""The Flower engine on Ray. Starting Ray takes ten seconds, so the suite's tests share one simulation."""

import logging
import os
import pickle
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread

import pytest

from fedloom.engine.flower import FlowerEngine, hub_side
from fedloom.engine.port import Task
from fedloom.errors import EngineError
from tests.suites.engine import SITES, Echo, EngineSuite, OneSleeps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # typer's, while flwr is imported
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves files and processes to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # the same, from __del__
]
for module in ("flwr", "ray"):
    if hub_side.find_spec(module) is None:
        pytest.skip(f"the [flower] extra is not installed: no {module}", allow_module_level=True)


@dataclass(frozen=True)
class OneDies:
    """One site takes its worker process with it, every time; the others answer."""

    def handle(self, site, task):
        if site == "alpha":
            os._exit(3)
        return bytes(task)


@dataclass(frozen=True)
class AnyHandler:
    """Is whatever handler the task brings along, so that one simulation serves many tests."""

    def handle(self, site, task):
        handler, payload = pickle.loads(task)  # noqa: S301  we wrote it ourselves, a few lines below
        return handler.handle(site, payload)


class Shared:
    """A FlowerEngine as the suite wants it, in a simulation that runs already."""

    name = FlowerEngine.name

    def __init__(self, running, handler, idle):
        self.running, self.handler, self.idle = running, handler, idle
        self.is_open = False

    def run(self, job):
        self.is_open = True
        return job()

    def exchange(self, task, sites, deadline=None):
        if not self.is_open:
            return self.idle.exchange(task, sites, deadline)
        carried = pickle.dumps((self.handler, bytes(task.payload)))
        return self.running.exchange(Task(task.verb, task.round, carried), sites, deadline)


def processes():
    """Map every process's id to its parent's id and state."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it ended meanwhile
        found[int(stat.parent.name)] = (int(parent), state)
    return found


def descendants():
    """Find the processes that this one has started, theirs included."""
    known, family = processes(), {os.getpid()}
    while more := {pid for pid, (parent, _) in known.items() if parent in family} - family:
        family |= more
    return family - {os.getpid()}


def settings():
    return {name: os.environ[name] for name in os.environ if name.startswith(("FLWR", "PYTHON"))}


def alive(pids):
    return {pid for pid, (_, state) in processes().items() if pid in pids and state != "Z"}


def test_nothing_survives_a_run_that_is_interrupted(tmp_path):
    """Ctrl-C while a site works comes out, at once, and leaves no process, thread or setting."""
    engine = FlowerEngine(OneSleeps(seconds=600), SITES, home=tmp_path / "flower")
    threads, variables, before, started = set(threading.enumerate()), settings(), set(descendants()), set()

    def job():
        started.update(set(descendants()) - before)  # other tests may keep a server of theirs
        replies = list(engine.exchange(Task("train", 1, b"x"), ["alpha", "charlie"], deadline=0.5))
        assert [reply.status for reply in replies] == ["answered", "late"]
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.run(job)
    assert time.monotonic() - began < 120
    assert len(started) > 2
    assert not alive(started)
    assert not [t for t in threading.enumerate() if t not in threads and not t.daemon]
    assert settings() == variables
    assert not logging.getLogger("flwr").filters


def test_a_handler_that_cannot_be_carried_is_refused(tmp_path):
    """A handler holding a lock stops the run before Ray starts, in a sentence."""
    engine = FlowerEngine(Lock(), SITES, home=tmp_path)
    with pytest.raises(EngineError, match="cannot be carried to a worker process"):
        engine.run(list)


def test_more_cpus_than_there_are_is_refused(tmp_path):
    """A site that needs more CPUs than the machine has stops the run before Ray starts."""
    engine = FlowerEngine(Echo(), SITES, home=tmp_path, cpus_per_client=10_000)
    with pytest.raises(EngineError, match="a site needs 10000 CPUs"):
        engine.run(list)


def test_without_the_extra_the_engine_says_what_to_install(tmp_path, monkeypatch):
    """Where Ray is missing the message is the command to type."""
    monkeypatch.setattr(hub_side, "find_spec", lambda name: None if name == "ray" else object())
    with pytest.raises(EngineError, match=r"pip install 'fedloom\[flower\]'"):
        FlowerEngine(Echo(), SITES, home=tmp_path)


@pytest.fixture(scope="class")
def running(tmp_path_factory):
    engine = FlowerEngine(AnyHandler(), SITES, home=tmp_path_factory.mktemp("flower"))
    ready, done = Event(), Event()

    def job():
        ready.set()
        done.wait()

    thread = Thread(target=engine.run, args=(job,))
    thread.start()
    try:
        assert ready.wait(120)
        yield engine
    finally:
        done.set()
        thread.join()


class TestFlower(EngineSuite):
    @pytest.fixture(autouse=True)
    def _share(self, running, tmp_path):
        self.running, self.home = running, tmp_path

    def make(self, handler, sites):
        return Shared(self.running, handler, FlowerEngine(handler, sites, home=self.home))

    def test_five_megabytes_come_back_unchanged(self):
        """A large answer crosses whole, too."""
        engine = self.make(Echo(first_is_slow=False), SITES)
        payload = os.urandom(5_000_000)
        [reply] = engine.run(lambda: list(engine.exchange(Task("train", 1, payload), ["bravo"])))
        assert reply.payload == b"bravo:" + payload

    def test_a_late_answer_is_not_taken_for_the_next_one(self):
        """What a late site sends in the end is dropped; its next answer is the next task's."""
        slow, quick = self.make(OneSleeps(seconds=1.5), SITES), self.make(Echo(), SITES)
        late = slow.run(lambda: list(slow.exchange(Task("train", 1, b"x"), ["charlie"], deadline=0.3)))
        assert [reply.status for reply in late] == ["late"]
        for round_number in (2, 3):
            task = Task("train", round_number, b"%d" % round_number)
            [reply] = quick.run(lambda task=task: list(quick.exchange(task, ["charlie"])))
            assert reply.payload == b"charlie:%d" % round_number

    def test_sites_that_wait_for_a_worker_are_not_late(self):
        """Four sites of 0.8 s on two cores take 1.6 s, and none is late against one second each."""
        engine = self.make(EachSleeps(), SITES)
        task = Task("train", 1, b"x")
        replies = engine.run(lambda: list(engine.exchange(task, SITES, deadline=1.0)))
        assert {reply.status for reply in replies} == {"answered"}
        assert all(0.8 <= reply.seconds <= 1.0 for reply in replies)

    def test_a_site_that_kills_its_worker_fails_alone(self):
        """A dead worker is replaced: its site has failed, the others answer, and so does the next task."""
        engine = self.make(OneDies(), SITES)
        replies = {r.site: r for r in engine.run(lambda: list(engine.exchange(Task("train", 1, b"x"), SITES)))}
        assert replies["alpha"].status == "failed"
        assert "worker process died" in replies["alpha"].reason
        assert {r.status for s, r in replies.items() if s != "alpha"} == {"answered"}
        following = engine.run(lambda: list(engine.exchange(Task("train", 2, b"x"), ["delta", "bravo"])))
        assert [reply.status for reply in following] == ["answered", "answered"]

    def test_an_unknown_site_is_refused(self):
        """A site that the engine was not built for is named."""
        engine = self.make(Echo(), SITES)
        with pytest.raises(EngineError, match="no such site in this engine: zulu"):
            engine.run(lambda: engine.exchange(Task("train", 1, b"x"), ["alpha", "zulu"]))

    def test_a_second_run_is_refused(self):
        """The engine runs one job at a time."""
        with pytest.raises(EngineError, match="running already"):
            self.running.run(list)


@dataclass(frozen=True)
class EachSleeps:
    """Every site needs 0.8 s."""

    def handle(self, site, task):
        time.sleep(0.8)
        return b"ok"
