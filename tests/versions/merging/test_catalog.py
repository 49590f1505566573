"""The catalogue of merge strategies."""

from fedloom.versions.merging.catalog import STRATEGIES
from tests.suites.merge_strategy import BASE, contributions

OPTIONS = {"fedprox": {"proximal_mu": 0.1}}


def test_names():
    """These are the names a pipeline file may use."""
    assert list(STRATEGIES) == [
        "fedavg",
        "fedprox",
        "fedadam",
        "fedyogi",
        "fedadagrad",
        "median",
        "trimmed_mean",
        "krum",
        "multi_krum",
    ]


def test_each_can_be_made_and_merges():
    """Every entry is a strategy; all but FedProx work without options."""
    for name, make in STRATEGIES.items():
        strategy = make(**OPTIONS.get(name, {}))
        assert strategy.merge(BASE, iter(contributions()), {}).tensors.keys() == BASE.keys()


def test_only_fedprox_pulls_at_the_sites():
    """The proximal term is 0 everywhere else."""
    pulls = {name: make(**OPTIONS.get(name, {})).proximal_mu for name, make in STRATEGIES.items()}
    assert {name: mu for name, mu in pulls.items() if mu} == {"fedprox": 0.1}
