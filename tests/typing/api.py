"""The public API as a user types it: this file only has to type-check."""

from __future__ import annotations

from pathlib import Path

from fedloom import FedloomError, Repository, __version__
from fedloom.learners.learner import Examples, Learner, Training
from fedloom.learners.linear import Linear
from fedloom.values import Contribution, Digest, Tensors
from fedloom.versions.keys import SigningKey, read_private_key
from fedloom.versions.merge import How, MergeOutcome
from fedloom.versions.merging.fedavg import FedAvg
from fedloom.versions.merging.strategy import MergeStrategy
from fedloom.versions.objects import Conflict
from fedloom.versions.verify import Verdict

version: str = __version__
repository: Repository = Repository.at(Path("project"))
tip: Digest = repository.resolve("main")
model: Tensors = repository.model(tip)
for _, commit in repository.log(tip):
    parents: tuple[Digest, ...] = commit.parents

key: SigningKey = read_private_key(Path("key.pem"))
repository.trust("hub", key.public)
repository.sign(tip, key)
verdict: Verdict = repository.verify(tip, require=("hub",))
problems: tuple[str, ...] = verdict.problems

outcome: MergeOutcome = repository.merge("north", how=How("weighted_mean", rules=["head.*=ours"], weights=[1, 3]))
open_conflicts: dict[str, Conflict] = repository.conflicts(outcome.commit)
settled: Digest = repository.settle("head.*", "theirs")
moved: Digest = repository.continue_merge()
picked: MergeOutcome = repository.cherry_pick("north", mainline=1)

learner: Learner = Linear(kind="logistic")
strategy: MergeStrategy = FedAvg()


def train(examples: Examples) -> Tensors:
    """Train one round at one site and merge it alone."""
    import numpy as np

    rng = np.random.default_rng(0)
    start = learner.initial_parameters(examples.features.shape[1], 1, rng)
    fitted = learner.fit(start, examples, Training(epochs=2), rng)
    return strategy.merge(start, [Contribution("here", fitted, len(examples))], {}).tensors


try:
    repository.resolve("nowhere")
except FedloomError as error:
    code: int = error.exit_code
