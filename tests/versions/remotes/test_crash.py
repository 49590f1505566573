"""Push and fetch killed with SIGKILL at random moments: what is there is whole, and the next try completes it."""

import multiprocessing
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from fedloom.values import generator
from fedloom.versions.content import Content
from fedloom.versions.remotes import addresses, sync
from tests.versions.remotes.histories import commit, everything, model, not_whole, repository
from tests.versions.remotes.places import hub

KILLS = 20
ROUNDS = 2
FORK = multiprocessing.get_context("forkserver")


def work(verb: str, folder: Path, ready) -> None:
    """Push or fetch, after saying that everything is imported and open."""
    content = repository(folder)
    content.settings.read()
    ready.send(True)
    getattr(sync, verb)(content, "origin")
    ready.send(True)


def killed(verb: str, folder: Path, after: float) -> bool:
    """Start a process that pushes or fetches, and kill it after some seconds; whether it was still at it."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=work, args=(verb, folder, theirs))
    process.start()
    theirs.close()
    assert ours.recv()
    time.sleep(after)
    process.kill()
    process.join()
    try:
        return not ours.recv()
    except EOFError:
        return True


def rounds(content: Content, step: int) -> int:
    """Add some rounds of a model to the branch."""
    for number in range(step, step + ROUNDS):
        tip = content.refs.get("heads/main")
        commit(content, model(number, seed="crash"), *([tip] if tip else []), message=f"{number}")
    return step + ROUNDS


def duration(verb: str, content: Content) -> float:
    """Time a verb that nobody kills."""
    began = time.monotonic()
    getattr(sync, verb)(content, "origin")
    return time.monotonic() - began


@pytest.fixture(params=["folder", "hub"])
def there(request, tmp_path):
    """What lies at the other side, and its address."""
    content = repository(tmp_path / "there")
    (tmp_path / "there" / "refs").mkdir()
    with hub(content) if request.param == "hub" else nullcontext(str(tmp_path / "there")) as url:
        yield content, url


@pytest.mark.slow
def test_a_killed_push_leaves_a_whole_remote(there, tmp_path):
    """Killed twenty times at random moments, a push never leaves a commit with holes, and the next one completes."""
    content, url = there
    near = repository(tmp_path / "near")
    addresses.add(near, "origin", url)
    random, step, stopped = generator(7), rounds(near, 0), 0
    usual = duration("push", near)
    for _ in range(KILLS):
        step = rounds(near, step)
        tip = near.refs.get("heads/main")
        stopped += killed("push", tmp_path / "near", random.uniform(0, usual))
        looked = Content(content.store)
        assert not_whole(looked) == []
        sync.push(near, "origin")
        assert Content(content.store).refs.get("heads/main") == tip
    assert not_whole(Content(content.store)) == []
    assert everything(Content(content.store)) == everything(Content(near.store))
    assert stopped > KILLS / 4, "hardly any push was killed in its middle: the test shows nothing"


@pytest.mark.slow
def test_a_killed_fetch_leaves_a_whole_repository(tmp_path):
    """The same for the side that fetches: what came so far is kept, and no commit has holes."""
    url = str(tmp_path / "there")
    near = repository(tmp_path / "near")
    here = repository(tmp_path / "here")
    for side in (near, here):
        addresses.add(side, "origin", url)
    random, step, stopped = generator(11), rounds(near, 0), 0
    sync.push(near, "origin")
    usual = duration("fetch", here)
    for _ in range(KILLS // 2):
        step = rounds(near, step)
        sync.push(near, "origin")
        stopped += killed("fetch", tmp_path / "here", random.uniform(0, usual))
        assert not_whole(Content(here.store)) == []
        again = Content(here.store)
        sync.fetch(again, "origin")
        assert again.refs.get("remotes/origin/heads/main") == near.refs.get("heads/main")
    assert not_whole(Content(here.store)) == []
    assert stopped > 1, "no fetch was killed in its middle: the test shows nothing"
