"""Rules: read with clear errors; the first that fits decides."""

import pytest

from fedloom.errors import SpecError
from fedloom.versions.merging.averaging import WeightedMean
from fedloom.versions.merging.changing import Dare, Ties
from fedloom.versions.merging.rules import Rules, parse_rule, parse_rules, parse_strategy
from fedloom.versions.merging.selecting import Ours, Theirs


def test_the_first_rule_that_fits_decides():
    """In the order given; a name inside the model or a whole path; else the strategy for all else."""
    rules = parse_rules(["head.bias=theirs", "head.*=ours", "preprocessing/*=ours"], "weighted_mean")
    assert rules.strategy("model/head.bias") == Theirs()
    assert rules.strategy("model/head.weight") == Ours()
    assert rules.strategy("preprocessing/scaling/mean") == Ours()
    assert rules.strategy("model/encoder.weight") == WeightedMean()
    assert rules.strategy("optimizer/head.weight") == WeightedMean()


def test_a_whole_path_fits_too():
    """`model/` may be written; outside the model it must be."""
    rules = parse_rules(["model/head.*=ours", "optimizer/*=theirs"])
    assert rules.strategy("model/head.w") == Ours()
    assert rules.strategy("optimizer/m/head.w") == Theirs()
    assert rules.strategy("model/encoder.w") is None


def test_case_matters():
    """Names are names."""
    assert parse_rules(["Head.*=ours"]).strategy("model/head.w") is None


def test_options():
    """Numbers, several of them, with spaces where a person puts some."""
    assert parse_rule("head.*=ties:density=0.5,scaling=1").strategy == Ties(0.5, 1)
    assert parse_rule(" a = dare : drop = 0.25 , seed = 7 ").strategy == Dare(0.25, 7)
    assert parse_strategy("regmean:axis=null").axis is None
    assert parse_strategy("ties:") == Ties()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head.*", "rule 'head.*' must be GLOB=STRATEGY"),
        ("=ours", "must be GLOB=STRATEGY"),
        ("head.*=", "must be GLOB=STRATEGY"),
        ("head.*=our", r"rule 'head.\*=our': no strategy 'our' .*did you mean 'ours'\?"),
        ("a=fedavg", "no strategy 'fedavg' to merge branches with; .*Allowed: dare"),
        ("a=ties:densty=0.2", r"'ties' has no option 'densty'; did you mean 'density'\?"),
        ("a=mean:x=1", "'mean' has no option 'x'; it has no options"),
        ("a=ties:density", "option 'density' must be NAME=VALUE"),
        ("a=ties:density=", "option 'density=' must be NAME=VALUE"),
        ("a=ties:density=lots", "option 'density' of 'ties' must be a number"),
        ("a=ties:density=true", "must be a number"),
        ("a=dare:seed=1.5", "option 'seed' of 'dare' must be a whole number"),
        ("a=regmean:axis=first", "option 'axis' of 'regmean' must be a whole number or null"),
        ("a=ties:density=2", "'ties': density must be above 0 and at most 1, got 2"),
        ("a=ties:density=NaN", "'ties': density must be above 0"),
    ],
)
def test_errors_say_what_is_wrong(text, message):
    """Every mistake names the rule, the word, and what is allowed."""
    with pytest.raises(SpecError, match=message):
        parse_rule(text)


def test_globs_that_fit_nothing_are_listed():
    """They are probably misspelt."""
    rules = parse_rules(["head.*=ours", "haed.*=ours"])
    assert rules.unused(iter(["model/head.w", "model/encoder.w"])) == ["haed.*"]
    assert Rules().unused(["model/head.w"]) == []
