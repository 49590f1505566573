"""The only way out: what leaves is journalled first, and NaN does not leave."""

import json
import resource
import signal

import numpy as np
import pytest

from fedloom.engine import wire
from fedloom.engine.wire import Message
from fedloom.errors import SiteDataError
from fedloom.site.outbox import Outbox
from fedloom.values import sha256


def entries(journal):
    return [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]


def test_every_message_is_journalled_as_it_leaves(tmp_path):
    """Verb, round, bytes, digest and shapes, one line a message, in order."""
    journal = tmp_path / "site" / "outbox.jsonl"
    outbox = Outbox(journal)
    sent = [bytes(outbox.send(Message("train", n, {}, {"w": np.ones((2, n)), "b": np.zeros(())}))) for n in (1, 2)]
    assert [(e["verb"], e["round"]) for e in entries(journal)] == [("train", 1), ("train", 2)]
    assert [(e["bytes"], e["sha256"]) for e in entries(journal)] == [(len(data), sha256(data)) for data in sent]
    assert entries(journal)[1]["tensors"] == {"b": [], "w": [2, 2]}
    assert wire.decode(sent[1]).tensors["w"].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_nan_and_infinity_are_kept_back(tmp_path, bad, kind):
    """They do not leave, are not journalled, and the complaint names the tensor, not its values."""
    journal = tmp_path / "outbox.jsonl"
    with pytest.raises(SiteDataError, match=r"^'w' holds NaN or infinity and was kept back$"):
        Outbox(journal).send(Message("train", 1, {}, {"w": np.array([4711, bad], kind)}))
    assert not journal.exists()


def test_without_a_journal_nothing_leaves_but_a_sentence(tmp_path):
    """Where the journal cannot be written, the answer is an error message that holds no tensor."""
    (tmp_path / "site").write_text("a file where the folder should be")
    answer = wire.decode(Outbox(tmp_path / "site" / "outbox.jsonl").send(Message("train", 3, {}, {"w": np.ones(2)})))
    assert (answer.verb, answer.round, answer.tensors) == ("error", 3, {})
    assert answer.body["reason"].startswith("its outbox journal cannot be written (")


def test_a_full_disk_leaves_whole_lines(tmp_path):
    """A line that only half fits is taken back, so that the next one stands on its own."""
    journal = tmp_path / "outbox.jsonl"
    outbox = Outbox(journal)
    outbox.send(Message("train", 1))
    size = journal.stat().st_size
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, before[1]))
    try:
        answer = wire.decode(outbox.send(Message("train", 2)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert answer.verb == "error"
    assert journal.stat().st_size == size
    outbox.send(Message("train", 3))
    assert [e["round"] for e in entries(journal)] == [1, 3]


def test_a_site_may_keep_no_journal():
    """The pooled baseline's site is no real one."""
    assert wire.decode(Outbox(None).send(Message("train", 1))).verb == "train"
