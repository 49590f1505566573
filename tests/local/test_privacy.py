"""No raw value of a site's data gets into any message, journal, commit, record, error or line on the screen."""

import re

import numpy as np
import pytest

from fedloom.engine.wire import Message, decode, encode
from fedloom.errors import FedloomError
from fedloom.local.federation import LocalSites, Workers, plan_local, run_local
from fedloom.pipeline.exchange import prefixed, taken
from fedloom.pipeline.features import feature_names, identity
from fedloom.pipeline.stages.catalog import ANSWERS
from fedloom.values import DTYPES
from fedloom.versions.objects import encode_tree, named
from tests.projects import allow, edit, everything_kept, in_fit, process, project

CANARY = "CANARY-4711"
NUMBER = "73.1415926"


@pytest.fixture
def home(tmp_path):
    """A project with canaries in cells of columns of the contract, and in one that no contract names."""
    home = project(tmp_path, rounds=2, gate=False)
    path = home / "data" / "north.csv"
    header, *lines = path.read_text().splitlines()
    lines[3] = f"{NUMBER},3,A,no"
    path.write_text("\n".join([header + ",patient", *(f"{line},{CANARY}-{n}" for n, line in enumerate(lines))]) + "\n")
    return home


def assert_clean(*texts):
    for text in texts:
        data = text if isinstance(text, bytes) else text.encode()
        assert CANARY.encode() not in data
        assert NUMBER.encode() not in data


def test_a_good_run_leaves_no_value(home):
    """Commits, journals, records, the exported model, and both streams of the command."""
    said = process(home, "run")
    assert said.code == 0, said.err
    shown = process(home, "log"), process(home, "show", "main"), process(home, "show", "main", "--json")
    assert len(everything_kept(home)) > 10_000
    assert_clean(everything_kept(home), said.out, said.err, *(s.out + s.err for s in shown))


@pytest.mark.parametrize(
    "cell",
    [f"{CANARY},3,A,no", f"60,{CANARY},A,no", f"60,3,{CANARY},no", f"60,3,A,{CANARY}", f"60,3,A,no,{CANARY},{CANARY}"],
)
def test_a_cell_that_does_not_fit_is_counted_not_shown(home, cell):
    """In each column, and in a line with a field too many: the refusal names column or line, never the cell."""
    with (home / "data" / "north.csv").open("a") as file:
        file.write(cell + ("" if cell.count(",") > 4 else ",x") + "\n")
    said = process(home, "run")
    said.refused(3, "site north: ")
    assert_clean(said.out, said.err, everything_kept(home))


def test_a_file_that_is_not_utf8_is_not_quoted(home):
    """Nor one that is no text at all."""
    (home / "data" / "north.csv").write_bytes(b"temperature,age,type,failed\n" + CANARY.encode() + b"\xff,1,A,no\n")
    said = process(home, "run")
    said.refused(3, "site north: ", "no readable UTF-8 CSV file")
    assert_clean(said.out, said.err, everything_kept(home))


# The code itself is committed and may be read: the canary is put together only when it runs.
RAISES = """raise ValueError(f"{examples.features.tolist()} {'-'.join(['CANARY', '4711'])}")"""


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_what_a_learner_raises_stays_at_the_site(home, kind):
    """The text of its exception holds rows: only its type and the place in the code leave."""
    in_fit(home, RAISES)
    plan, seen = plan_local(home), []
    with pytest.raises(FedloomError) as caught:
        run_local(plan, lambda event: seen.append(repr(event)), workers=Workers(2, kind))
    assert re.search(r"learner 'learner.py:Logistic' raised ValueError in fit at learner.py:\d+", str(caught.value))
    assert caught.value.__context__ is None or CANARY not in repr(caught.value.__context__)
    assert_clean(str(caught.value), "".join(seen), everything_kept(home))


def test_what_a_learner_raises_in_a_partial_run_is_in_no_commit(home):
    """One site's learner fails every round, the others go on: its reason is kept in each commit, without a value."""
    allow(home, "{min_sites: 2}")
    in_fit(home, "if len(examples) > 120:", f"    {RAISES}")
    said = process(home, "run")
    assert said.code == 6, said.err
    assert "raised ValueError in fit" in said.out
    assert b"raised ValueError in fit" in everything_kept(home)
    assert_clean(said.out, said.err, everything_kept(home))


def test_no_reply_holds_a_value(home):
    """The bytes of every reply to every verb, as they cross: real answers, and the refusal of an unknown verb."""
    edit(home / "pipeline.yaml", "seed: 1\n", "seed: 1\nkeep_updates: sites\n")
    plan = plan_local(home)
    handler = LocalSites(home, plan.spec)
    scaling = identity(len(feature_names(plan.contract)))
    model = {spec.name: np.zeros(spec.shape, DTYPES[spec.dtype]) for spec in plan.model}
    given = {**prefixed("model", model), **prefixed("scaling", scaling), "proximal_mu": np.array(0.0)}
    given["rounds"] = np.array(2)
    crossed = {}
    for verb in (*ANSWERS, "unknown"):
        crossed[verb] = bytes(handler.handle("north", encode(Message(verb, 1, {}, given))))
        if verb == "train":
            kept = encode_tree(named(taken("model", decode(crossed[verb]).tensors))).id
            given["update"] = np.frombuffer(bytes.fromhex(kept), np.uint8)
        assert decode(crossed[verb]).verb == ("error" if verb == "unknown" else verb)
    assert len(crossed) == 7
    assert_clean(*crossed.values())
