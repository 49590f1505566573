"""The plan: the order of stages, every refusal at once, no look at rows, and what leaves each site to the byte."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.engine import wire
from fedloom.engine.wire import Message
from fedloom.errors import FedloomError, LearnerError, PlanError, SpecError
from fedloom.local.federation import plan_local
from fedloom.pipeline.plan import make_plan
from fedloom.pipeline.stages.catalog import STAGES
from fedloom.pipeline.stages.stage import Leaving
from fedloom.values import TensorSpec
from tests.projects import allow, edit, everything_kept, left, made_project, project, run

STAGE_LINES = (
    "  contract:                     # each site checks its own table\n",
    "  fit: {standardize: global}    # mean and standard deviation from sums over all sites\n",
    "  train: {epochs: 1, batch_size: 16, learning_rate: 0.1}\n",
    "  evaluate: {baselines: [local]}\n",
    "  gate: {require: [auc >= 0.7, participation == complete]}\n",
    "  register: {}\n",
)


def refusals(home, **how):
    return plan_local(home, **how).refusals


@pytest.mark.parametrize("order", [(5, 4, 3, 2, 1, 0), (2, 0, 4, 1, 5, 3)])
def test_stages_are_ordered_by_what_they_need(tmp_path, order):
    """Whatever the order in the file, each stage comes after those that make what it needs or uses."""
    home = project(tmp_path)
    text = (home / "pipeline.yaml").read_text(encoding="utf-8")
    assert "".join(STAGE_LINES) in text
    (home / "pipeline.yaml").write_text(text.replace("".join(STAGE_LINES), "".join(STAGE_LINES[i] for i in order)))
    assert [stage.name for stage in plan_local(home).order] == list(STAGES)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (0, ["stages.train: stage needs 'data', which `contract` makes: add `contract:` to stages", "stages.fit"]),
        (
            2,
            [
                "stage needs 'model', which `train` makes: add `train:` to stages",
                "nothing to do without a `train:` stage",
            ],
        ),
        (3, ["stages.gate: stage needs 'metrics', which `evaluate` makes: add `evaluate:` to stages"]),
    ],
)
def test_a_missing_stage_is_a_refusal_that_names_what_to_add(tmp_path, gone, words):
    """A stage whose input nobody makes is refused; the sentence says which stage to add, at its line."""
    home = project(tmp_path)
    edit(home / "pipeline.yaml", STAGE_LINES[gone], "")
    found = "\n".join(refusals(home))
    for word in words:
        assert word in found
    with pytest.raises(PlanError):
        run(home)
    assert everything_kept(home) == b""


def test_fit_and_evaluate_may_be_left_out(tmp_path):
    """What a stage only uses need not be there: no scaling, no metrics, and it still runs."""
    home = project(tmp_path, rounds=2, gate=False)
    edit(home / "pipeline.yaml", STAGE_LINES[1], "")
    edit(home / "pipeline.yaml", STAGE_LINES[3], "")
    assert refusals(home) == ()
    assert run(home).status == "complete"
    assert {verb for verb, _ in left(home)["north"]} == {"contract", "train"}


def test_all_refusals_come_at_once(tmp_path):
    """Six reasons, each with its place."""
    home = project(tmp_path)
    allow(home, "{min_sites: 9, require: [nowhere]}")
    path = home / "pipeline.yaml"
    edit(path, "strategy: fedavg", "strategy: {use: fedprox, proximal_mu: 0.1}")
    edit(path, "fit: {standardize: global}", "fit: {standardize: none, missing: mean}")
    edit(path, "auc >= 0.7", "rmse <= 0.7, worse_off <= 0")
    edit(path, "baselines: [local]", "baselines: []")
    edit(path, "{test: 0.3}", "{column: age}")
    (home / "data" / "south.csv").unlink()
    found = refusals(home)
    places = ["strategy", "participation.require", "participation.min_sites", "split.column", "stages.fit.missing"]
    places += ["stages.gate.require.0", "stages.gate.require.1"]
    assert [line.split(": ")[1] for line in found[:-1]] == places
    assert found[-1].startswith("site south: no file ")
    assert "correct `source` in" in found[-1]
    assert plan_local(home).leaving == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "strategy: fedavg",
            "strategy: {use: krum, num_malicious: 1}",
            "'krum' needs 5 contributions, and a round may have 3",
        ),
        ('{use: "learner.py:Logistic", l2: 0.001}', "{use: linear, kind: softmax}", "does multiclass here, and label"),
        (
            '{use: "learner.py:Logistic", l2: 0.001}',
            "{use: linear, kind: ridge}",
            "'failed' of the contract has 2 classes",
        ),
        ("[local]", "[pooled]", "only a simulation has"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, old, new, words):
    """Strategy against sites, learner against label, baseline against where rows lie."""
    home = project(tmp_path)
    edit(home / "pipeline.yaml", old, new)
    found = make_plan(home, pools_rows=False).refusals
    assert len(found) == 1 + ("ridge" in new) or len(found) == 1
    assert words in "\n".join(found)


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("strategy: fedavg", "strategy: fedagv", SpecError, "strategy: no strategy 'fedagv'; did you mean 'fedavg'?"),
        (
            "strategy: fedavg",
            "strategy: {use: fedadam, etta: 1}",
            SpecError,
            "has no option 'etta'; did you mean 'eta'?",
        ),
        ("strategy: fedavg", "strategy: {use: fedadam, eta: much}", SpecError, "strategy.eta: "),
        ("strategy: fedavg", "strategy: {use: fedadam, eta: -1}", SpecError, "eta must be a positive, finite number"),
        ("strategy: fedavg", "strategy: {use: fedavg, eta: 1}", SpecError, "it has no options"),
        ("l2: 0.001", "l3: 0.001", SpecError, "has no option 'l3'; did you mean 'l2'?"),
        ("learner.py:Logistic", "lerner.py:Logistic", LearnerError, "cannot be read"),
        ("learner.py:Logistic", "learner.py:Logit", LearnerError, "did you mean 'Logistic'?"),
        ('"learner.py:Logistic"', "liner", LearnerError, "no learner 'liner'; did you mean 'linear'?"),
        ("contract: contract.yaml", "contract: kontract.yaml", SpecError, "kontract.yaml: no such file"),
    ],
)
def test_what_cannot_even_be_read_is_an_error(tmp_path, old, new, error, words):
    """Unknown parts and options are complaints about the file."""
    home = project(tmp_path)
    edit(home / "pipeline.yaml", old, new)
    with pytest.raises(error) as caught:
        plan_local(home)
    assert words in str(caught.value)


@pytest.mark.parametrize("chosen", [{"seed": 2**53}, {"seed": -1}, {"rounds": 0}])
def test_numbers_a_commit_cannot_hold_are_refused(tmp_path, chosen):
    """Rounds and seed given beside the file are held to what the file may say."""
    with pytest.raises(SpecError, match="is not allowed: give a whole number from"):
        plan_local(project(tmp_path), **chosen)


def test_planning_reads_no_rows(tmp_path):
    """Files that hold anything at all still plan: nobody looks into them before they run."""
    home = project(tmp_path)
    whole = plan_local(home)
    (home / "data" / "north.csv").write_bytes(b"\xff\x00 no table at all")
    plan = plan_local(home)
    assert (plan.refusals, plan.leaving) == ((), whole.leaving)
    assert everything_kept(home) == b""


def promised(plan):
    verbs = {"contract": "contract", "fit": "fit", "train": "train", "evaluate": "evaluate"}
    total = Counter()
    for line in plan.leaving:
        verb = "local" if "trained alone" in line.what else verbs[line.stage]
        total[verb, line.nbytes] += line.times
    return total


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("scaled", ["global", "site", "none"])
def test_the_plan_keeps_its_promise_to_the_byte(tmp_path, task, scaled):
    """What the outbox of every site notes is what the plan said: each verb, its bytes, how often."""
    home = made_project(tmp_path, task)
    edit(home / "pipeline.yaml", "  fit: {}", f"  fit: {{standardize: {scaled}}}")
    plan = plan_local(home)
    run(home)
    found = left(home)
    assert sorted(found) == sorted(plan.spec.sites)
    for site, counts in found.items():
        assert counts == promised(plan), site
    assert promised(plan).total() > 12 * 2


def test_the_scaffolds_promise_to_the_byte(tmp_path):
    """The same for the project `fedloom init` writes, with rounds of one, two and three digits."""
    home = project(tmp_path)
    plan = plan_local(home, rounds=101)
    run(home, rounds=101)
    assert all(counts == promised(plan) for counts in left(home).values())


def test_notes_are_the_stated_exception(tmp_path):
    """A finding makes the contract reply longer; all else stays as promised."""
    home = project(tmp_path, rounds=2)
    lines = (home / "data" / "north.csv").read_text().splitlines()
    (home / "data" / "north.csv").write_text("\n".join([*lines, ",3,A,no"]) + "\n")
    plan = plan_local(home)
    run(home)
    north, south = left(home)["north"], left(home)["south"]
    assert south == promised(plan)
    (stated,) = [line for line in plan.leaving if line.stage == "contract"]
    assert "findings" in stated.what
    more = north - promised(plan)
    assert [verb for verb, _ in more] == ["contract"]
    assert all(size > stated.nbytes for _, size in more)


@given(rounds=st.integers(1, 1200), width=st.integers(0, 9), name=st.text("ab", min_size=1, max_size=9))
def test_long_round_numbers_are_counted(rounds, width, name):
    """A reply's header holds the round's number: the plan says a line more where that makes it longer."""
    specs = (TensorSpec(name, "F64", (width,)),)
    planned = Counter()
    for line in Leaving.each_round("train", "x", "train", specs, rounds):
        planned[line.nbytes] += line.times
    tensors = {name: np.zeros(width)}
    sizes = {n: len(wire.encode(Message("train", n, {}, tensors))) for n in (1, 10, 100, 1000)}
    actual = Counter(sizes[10 ** (len(str(n)) - 1)] for n in range(1, rounds + 1))
    assert planned == actual


def test_no_row_is_touched_by_a_refused_plan(tmp_path):
    """A refused plan raises before any site is asked."""
    home = project(tmp_path)
    allow(home, "{min_sites: 9}")
    with pytest.raises(FedloomError, match="9 sites are demanded and only 3 are listed"):
        run(home)
    assert everything_kept(home) == b""
