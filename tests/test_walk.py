"""The walk of one update (ARCHITECTURE.md): from a site's rows to the history, one step after the other."""

import json

import numpy as np

from fedloom.engine import wire
from fedloom.engine.inprocess import InProcessEngine
from fedloom.engine.wire import Message
from fedloom.learners.learner import Training
from fedloom.local.federation import LocalSites, plan_local
from fedloom.pipeline.exchange import Exchange, prefixed, taken, task
from fedloom.pipeline.features import identity
from fedloom.pipeline.participation import judge
from fedloom.telemetry.recorder import Recorder
from fedloom.values import Contribution, generator, layout, sha256
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
from tests.projects import journals, project


def test_one_update_walks_from_a_site_into_the_history(tmp_path):
    """Eleven steps, each seen at its own place; those of later rooms (privacy, codec) are named in their place."""
    home = project(tmp_path)
    plan = plan_local(home)
    spec, learner, sites = plan.spec, plan.learner, ("harbour", "north", "south")
    handler = LocalSites(home, spec)
    base = learner.initial_parameters(3, 1, generator(spec.seed, "initial"))
    asked = {**prefixed("model", base), **prefixed("scaling", identity(3)), "proximal_mu": np.array(0.0)}

    # 1 the train stage at a site trains from the task's base commit
    reply = bytes(handler.handle("north", wire.encode(Message("train", 1, {}, asked))))
    context = handler._agents["north"].context
    rows = context.examples("train", identity(3))
    stage = spec.stages.train
    training = Training(stage.epochs, stage.batch_size, stage.learning_rate)
    expected = learner.fit(base, rows, training, generator(spec.seed, "train", 1, "north"))
    update = taken("model", wire.decode(reply).tensors)
    assert all((update[name] == expected[name]).all() for name in base)

    # 2 the agent hands it to the outbox; 3 privacy, 4 codec: later rooms, the update leaves exact and in the clear
    # 5 the journal noted what left, and the engine carries exactly those bytes
    (noted,) = journals(home)["north"]
    assert (noted["verb"], noted["bytes"], noted["sha256"]) == ("train", len(reply), sha256(reply))
    assert noted["tensors"] == {"model/bias": [1], "model/weights": [3], "rows": []}

    # 6 the engine takes the task to every site and brings one reply each, in their order
    engine = InProcessEngine(handler, workers=2)
    expects = layout({**prefixed("model", base), "rows": np.array(1.0)})
    exchange = Exchange(engine, task(Message("train", 1, {}, dict(asked))), sites, expects)
    replies = engine.run(lambda: list(exchange))
    assert [site for site, _ in replies] == list(sites)
    again = taken("model", dict(replies)["north"].tensors)
    assert all((again[name] == update[name]).all() for name in base)

    # 7 the train stage at the hub decodes each, and the verdict says who took part
    weights = {site: float(message.tensors["rows"]) for site, message in replies}
    verdict = judge(spec.participation, exchange.outcomes, weights)
    assert (verdict.status, verdict.answered) == ("complete", sites)

    # 8 the accountant: a later room; 9 contributions are merged into new tensors
    contributions = [Contribution(site, taken("model", m.tensors), weights[site]) for site, m in replies]
    merged = plan.strategy.merge(base, contributions, {})
    total = sum(weights.values())
    mean = sum(c.tensors["weights"].astype(float) * c.weight for c in contributions) / total
    np.testing.assert_allclose(merged.tensors["weights"], mean, rtol=1e-6)

    # 10 objects are written first, the ref moves last
    repository = Repository.at(home)
    root = repository.add_commit(
        Commit(repository.add_tree({"model": repository.add_tensors(base)}).id, (), "import", "base")
    )
    repository.refs.compare_and_set("runs/1", None, root, "start")
    tree = repository.add_tree({"model": repository.add_tensors(merged.tensors)})
    commit = repository.add_commit(Commit(tree.id, (root,), "round", "round 1", {"participation": verdict.as_json()}))
    assert repository.refs.get("runs/1") == root
    repository.refs.compare_and_set("runs/1", root, commit, "round 1")
    assert [id_ for id_, _ in repository.log(repository.resolve("runs/1"))] == [commit, root]
    assert (repository.model(commit)["weights"] == merged.tensors["weights"]).all()

    # 11 what happened is recorded under the commit's id, outside of it
    recorder = Recorder(repository.store)
    recorder.record(commit, {"seconds": 0.1, "bytes_up": exchange.total_up})
    assert recorder.read(commit)["bytes_up"] == sum(len(wire.encode(message)) for _, message in replies)
    assert "seconds" not in json.dumps(dict(repository.commit(commit).facts))
