"""What a round costs in plain Flower: FedAvg in flwr's Ray simulation, with nothing of fedloom around it.

Rules: every client trains in every round, one CPU each; the training itself is fedloom's `Linear`, so that a
benchmark of fedloom's own engines can do the very same work by calling `shard` and `train`.

    python benchmarks/ray_baseline.py --clients 10 --rounds 6
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from functools import cache
from tempfile import TemporaryDirectory

import numpy as np

from fedloom.learners.learner import Examples, Training
from fedloom.learners.linear import Linear
from fedloom.values import Tensors, generator

LEARNER = Linear(kind="softmax")
TRAINING = Training(epochs=1, batch_size=32, learning_rate=0.1)


def start() -> Tensors:
    """Make the parameters of round 0: weights (64, 10) and bias (10,), 650 floats."""
    return LEARNER.initial_parameters(64, 10, generator(0))


@cache
def shard(client: int, clients: int) -> Examples:
    """Cut one client's rows from scikit-learn's digits, pixels scaled to 0..1; loaded once in a process."""
    features, labels = _digits()
    return Examples(features[client::clients], labels[client::clients])


def train(parameters: Tensors, examples: Examples, *words: object) -> Tensors:
    """Train one epoch; `words` (round, client) seed the order of the rows."""
    return LEARNER.fit(parameters, examples, TRAINING, generator(*words))


def measure(clients: int, rounds: int) -> list[float]:
    """Run `rounds` rounds and return the seconds of each but the first, which starts Ray."""
    with TemporaryDirectory(prefix="flwr-") as home:
        os.environ.update(
            FLWR_TELEMETRY_ENABLED="0",
            FLWR_DISABLE_UPDATE_CHECK="1",
            FLWR_HOME=home,
            RAY_USAGE_STATS_ENABLED="0",
            RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        )
        from flwr.simulation import run_simulation

        moments: list[float] = []
        options = {
            "init_args": {
                "address": "local",
                "log_to_driver": False,
                "logging_level": "ERROR",
                "_temp_dir": home,
            },
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        }
        run_simulation(_server(rounds, moments), _client(clients), clients, backend_config=options)
    return [float(seconds) for seconds in np.diff(moments)[1:]]


def _server(rounds: int, moments: list[float]):
    from flwr.app import ArrayRecord, Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg

    app = ServerApp()

    def note(_round: int, _arrays: ArrayRecord) -> None:
        moments.append(time.perf_counter())

    @app.main()
    def main(grid: Grid, _: Context) -> None:
        parameters = ArrayRecord({name: _array(value) for name, value in start().items()})
        FedAvg(fraction_evaluate=0.0).start(grid, parameters, num_rounds=rounds, evaluate_fn=note)

    return app


def _client(clients: int):
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        examples = shard(client, clients)
        parameters = {name: array.numpy() for name, array in message.content["arrays"].items()}
        trained = train(parameters, examples, message.content["config"]["server-round"], client)
        arrays = ArrayRecord({name: _array(value) for name, value in trained.items()})
        metrics = MetricRecord({"num-examples": len(examples)})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def _array(value: np.ndarray):
    from flwr.app import Array

    return Array(np.ascontiguousarray(value))


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    return features / 16.0, labels.astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=6)
    chosen = parser.parse_args()
    # By its module name: what lives in __main__ is pickled whole with every message, and caches nothing.
    from ray_baseline import measure as measure_by_name

    seconds = measure_by_name(chosen.clients, chosen.rounds)
    median = statistics.median(seconds)
    print(json.dumps({"clients": chosen.clients, "round_s": seconds, "median_s": median}))


if __name__ == "__main__":
    main()
