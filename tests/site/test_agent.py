"""The agent answers every task; what goes wrong leaves as a sentence without a value."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.engine import wire
from fedloom.engine.wire import Message
from fedloom.learners.guard import GuardedLearner
from fedloom.learners.linear import Linear
from fedloom.pipeline.context import SiteContext
from fedloom.pipeline.features import identity
from fedloom.pipeline.spec import PipelineSpec
from fedloom.site.agent import SiteAgent
from fedloom.site.dataset import CsvData
from fedloom.site.outbox import Outbox
from tests.pipeline.tables import contract

SPEC = PipelineSpec.model_validate(
    {
        "name": "made",
        "purpose": "test",
        "contract": "c.yaml",
        "sites": {"a": "a.yaml"},
        "learner": "linear",
        "stages": {"contract": {}, "fit": {}, "train": {}, "evaluate": {}},
    }
)


def rows(count=40):
    lines = [f"{20 + n},{'pqr'[n % 3]},{'no' if n % 2 else 'yes'}" for n in range(count)]
    return "age,kind,y\n" + "\n".join(lines) + "\n"


def agent(folder, text=None):
    (folder / "a.yaml").write_text("source: rows.csv\n")
    if text is not None:
        (folder / "rows.csv").write_text(text)
    data = CsvData(folder / "a.yaml", contract())
    context = SiteContext("a", SPEC, contract(), GuardedLearner("linear", Linear()), data)
    return SiteAgent(context, Outbox(folder / "outbox.jsonl"))


def ask(site, message):
    return wire.decode(site.answer(wire.encode(message)))


def model(extra=0):
    tensors = {"model/weights": np.zeros(3 + extra, np.float32), "model/bias": np.zeros(1, np.float32)}
    return {**tensors, **{f"scaling/{k}": v for k, v in identity(3).items()}, "proximal_mu": np.array(0.0)}


def test_each_verb_is_answered_under_its_name_and_round(tmp_path):
    """Contract, fit, train, evaluate, local: the reply carries the verb and round of the task."""
    site = agent(tmp_path, rows())
    alone = {"rounds": np.array(2)}
    for verb, tensors in [("contract", {}), ("fit", {}), ("train", model()), ("evaluate", model()), ("local", alone)]:
        answer = ask(site, Message(verb, 7, {}, tensors))
        assert (answer.verb, answer.round) == (verb, 7), answer.body
    noted = [json.loads(line) for line in (tmp_path / "outbox.jsonl").read_text().splitlines()]
    assert [line["verb"] for line in noted] == ["contract", "fit", "train", "evaluate", "local"]


def test_an_unknown_verb_is_answered_with_what_to_do(tmp_path):
    """A task of a newer hub."""
    answer = ask(agent(tmp_path, rows()), Message("dream", 2))
    assert (answer.verb, answer.round) == ("error", 2)
    assert answer.body["reason"] == "this site knows no task 'dream': upgrade fedloom here"


@given(st.binary(max_size=200))
def test_garbage_is_answered(tmp_path_factory, data):
    """Whatever arrives, the agent answers with an error message."""
    answer = wire.decode(agent(tmp_path_factory.mktemp("a"), rows()).answer(data))
    assert answer.verb == "error"
    assert answer.body["reason"].startswith("message ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no file "),
        ("", "is empty"),
        ("age,kind,y\n30,p\n", "line 2 has 2 fields"),
    ],
)
def test_our_own_errors_leave_as_they_are(tmp_path, text, words):
    """They are written by us and hold names and counts."""
    answer = ask(agent(tmp_path, text), Message("contract", 0))
    assert answer.verb == "error"
    assert words in answer.body["reason"]


def test_of_a_foreign_exception_only_the_type_leaves(tmp_path):
    """A task whose tensors are missing raises inside: its text could be a value, so it stays."""
    answer = ask(agent(tmp_path, rows()), Message("train", 1))
    assert answer.body["reason"] == "KeyError in the site half of 'train'"
    wide = ask(agent(tmp_path, rows()), Message("evaluate", 1, {}, model(extra=2)))
    assert wide.verb == "error"
    assert "4711" not in wide.body["reason"]


def test_no_training_rows_are_said_so(tmp_path):
    """A site whose rows all lack a value has nothing to train on."""
    answer = ask(agent(tmp_path, "age,kind,y\n" + ",p,no\n" * 20), Message("train", 1, {}, model()))
    assert answer.body["reason"] == "no training rows are left: see `split` and `fit.missing` in the pipeline"


def test_checks_report_findings_by_count(tmp_path):
    """The contract reply holds rows, digests and findings; no cell."""
    answer = ask(agent(tmp_path, rows() + "CANARY-4711,p,no\n"), Message("contract", 0))
    assert float(answer.tensors["rows"]) == 41
    assert set(answer.body["digests"]) == {"adapter", "data"}
    (finding,) = answer.body["findings"]
    assert (finding["check"], finding["column"], finding["count"], finding["severity"]) == ("cells", "age", 1, "refuse")
    assert "CANARY" not in json.dumps(dict(answer.body))
