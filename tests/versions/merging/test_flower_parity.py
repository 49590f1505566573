"""Agreement with Flower's strategies of the same names, driven as a ServerApp drives them."""

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

import numpy as np
import pytest

from fedloom.values import Contribution, Tensors, generator
from fedloom.versions.merging.catalog import STRATEGIES

pytest.importorskip("flwr")

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower
from flwr.supercore.task_identity import TaskIdentity

ROUNDS = 4
SITES = 8
ADAM = {"eta": 0.03, "beta_1": 0.8, "beta_2": 0.95, "tau": 0.01}


class Nodes:
    """As much of a Grid as a strategy asks for when it configures a round."""

    def get_node_ids(self):
        return list(range(2, 2 + SITES))


@pytest.fixture(autouse=True)
def _inside_a_run(monkeypatch):
    """Messages can be made only in a process that knows its run, node and task."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def record(tensors: Tensors) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in tensors.items()})


def flower_round(strategy, number: int, base: Tensors, came: list[Contribution]) -> tuple[Tensors, ConfigRecord]:
    """One round of Flower: it sends the base, the nodes reply with what they trained, it aggregates."""
    sent = list(strategy.configure_train(number, record(base), ConfigRecord(), Nodes()))
    replies = []
    for message, one in zip(sorted(sent, key=lambda m: m.metadata.dst_node_id), came, strict=True):
        metrics = MetricRecord({"num-examples": one.weight})
        content = RecordDict({"arrays": record(one.tensors), "metrics": metrics})
        replies.append(Message(content, reply_to=message))
    arrays, _ = strategy.aggregate_train(number, replies)
    return {name: array.numpy() for name, array in arrays.items()}, sent[0].content["config"]


def trained(number: int, dtype: str) -> list[Contribution]:
    """Models of sites of different sizes, two of them odd, drifting from round to round."""
    came = []
    for n in range(SITES):
        random = generator("parity", number, n)
        scale = 5.0 if n in (2, 5) else 0.5
        tensors = {
            "weight": (number + scale * random.normal(size=(6, 5))).astype(dtype),
            "bias": (scale * random.normal(size=5)).astype(dtype),
        }
        came.append(Contribution(f"site-{n}", tensors, float(random.integers(20, 300))))
    return came


CASES = {
    "fedavg": ({}, flower.FedAvg, {}),
    "fedprox": ({"proximal_mu": 0.2}, flower.FedProx, {"proximal_mu": 0.2}),
    "fedadam": ({}, flower.FedAdam, {}),
    "fedadam/options": (ADAM, flower.FedAdam, ADAM),
    "fedyogi": ({}, flower.FedYogi, {}),
    "fedyogi/options": (ADAM, flower.FedYogi, ADAM),
    "fedadagrad": ({}, flower.FedAdagrad, {}),
    "median": ({}, flower.FedMedian, {}),
    "trimmed_mean": ({}, flower.FedTrimmedAvg, {}),
    "trimmed_mean/options": ({"beta": 0.4}, flower.FedTrimmedAvg, {"beta": 0.4}),
    "krum": ({"num_malicious": 2}, flower.Krum, {"num_malicious_nodes": 2}),
    "multi_krum": (
        {"num_malicious": 2, "num_selected": 3},
        flower.MultiKrum,
        {"num_malicious_nodes": 2, "num_nodes_to_select": 3},
    ),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_flower(case, dtype):
    """On the same inputs both stay within 1e-6 over several rounds, each from its own last model."""
    options, theirs, their_options = CASES[case]
    ours, theirs = STRATEGIES[case.partition("/")[0]](**options), theirs(**their_options)
    our_base: Tensors = {"weight": np.zeros((6, 5), dtype), "bias": np.zeros(5, dtype)}
    their_base, state = our_base, {}
    for number in range(1, ROUNDS + 1):
        came = trained(number, dtype)
        result = ours.merge(our_base, iter(came), state)
        our_base, state = result.tensors, result.state
        their_base, config = flower_round(theirs, number, their_base, came)
        for key, array in their_base.items():
            np.testing.assert_allclose(our_base[key], array, rtol=0, atol=1e-6)
        assert ours.proximal_mu == config.get("proximal-mu", 0.0)
