"""A whole federation on this machine: how it is wired, and what crosses between its parts."""

import json
import pickle

import numpy as np
import pytest
from safetensors import safe_open

from fedloom.engine import wire
from fedloom.engine.scenario import Faults, Scenario
from fedloom.engine.wire import Message
from fedloom.errors import PlanError, SpecError
from fedloom.local.federation import LocalSites, plan_local
from fedloom.pipeline.stages.evaluate import POOLED
from fedloom.values import sha256
from fedloom.versions.repository import Repository
from tests.projects import everything_kept, history, journals, made_project, project, run


def test_the_journal_holds_every_message_of_every_site(tmp_path):
    """Asked directly, each site's reply is in its own journal: verb, round, bytes and digest."""
    home = project(tmp_path)
    handler = LocalSites(home, plan_local(home).spec)
    sent = []
    for number, verb in enumerate(["contract", "fit", "nonsense", "contract"]):
        sent.append(bytes(handler.handle("north", wire.encode(Message(verb, number)))))
    noted = journals(home)
    assert list(noted) == ["north"]
    assert [(line["bytes"], line["sha256"]) for line in noted["north"]] == [(len(data), sha256(data)) for data in sent]
    assert [line["verb"] for line in noted["north"]] == ["contract", "fit", "error", "contract"]


def test_sites_travel_to_a_worker_as_a_path(tmp_path):
    """Pickled, they are a folder and settings: no rows, however much was read before."""
    home = project(tmp_path)
    handler = LocalSites(home, plan_local(home).spec)
    before = pickle.dumps(handler)
    first = bytes(handler.handle("north", wire.encode(Message("contract", 0))))
    assert pickle.dumps(handler) == before
    again = pickle.loads(before)  # noqa: S301  our own bytes
    assert bytes(again.handle("north", wire.encode(Message("contract", 0)))) == first


def test_the_pooled_site_holds_the_rows_of_all(tmp_path):
    """Its moments are the sum of those of the sites, and it keeps no journal."""
    home = project(tmp_path)
    handler = LocalSites(home, plan_local(home).spec)

    def moments(site):
        return wire.decode(handler.handle(site, wire.encode(Message("fit", 0)))).tensors["moments"]

    alone = sum(moments(site) for site in ("harbour", "north", "south"))
    np.testing.assert_allclose(moments(POOLED), alone, rtol=1e-12)
    assert sorted(journals(home)) == ["harbour", "north", "south"]


def test_the_exported_model_is_that_of_the_commit(tmp_path):
    """The file holds the tensors of the commit it names, its scaling and the names of the features."""
    home = made_project(tmp_path, "multiclass")
    finished = run(home)
    repository = Repository.at(home)
    with safe_open(finished.model, framework="numpy") as file:
        assert file.metadata()["fedloom.commit"] == finished.commit == history(home)[-1]
        assert json.loads(file.metadata()["features"]) == ["x", "z", "kind=q", "kind=r"]
        for name, array in repository.model(finished.commit).items():
            np.testing.assert_array_equal(file.get_tensor(f"model.{name}"), array)
        assert file.get_tensor("preprocessing.mean").shape == (4,)


def test_a_refused_plan_does_not_run(tmp_path):
    """All reasons in one error; no folder is made."""
    home = project(tmp_path)
    (home / "data" / "south.csv").unlink()
    (home / "data" / "north.csv").unlink()
    with pytest.raises(PlanError) as caught:
        run(home)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["site north", "site south"]
    assert everything_kept(home) == b""


def test_faults_need_the_engine_that_can_inject_them(tmp_path):
    """A scenario on another engine is refused, not ignored."""
    home = project(tmp_path, rounds=1)
    faults = Scenario({1: Faults(drop=frozenset({"north"}))})
    with pytest.raises(SpecError, match="a scenario needs the in-process engine; 'flower-sim' cannot inject faults"):
        run(home, engine="flower-sim", scenario=faults)
