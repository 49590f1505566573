"""Gate rules: what parses, what is refused, and when they hold."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.pipeline.rules import FIGURES, Rule


@pytest.mark.parametrize(
    ("text", "figures", "holds"),
    [
        ("auc >= 0.8", {"auc": 0.8}, True),
        ("auc > 0.8", {"auc": 0.8}, False),
        ("auc >= 0.8", {"auc": None}, False),
        ("auc >= 0.8", {}, False),
        ("loss < 1e-1", {"loss": 0.09}, True),
        ("r2>=-0.5", {"r2": -0.4}, True),
        ("worst.accuracy >= 0.6", {"worst.accuracy": 0.5, "accuracy": 0.9}, False),
        ("unweighted.brier <= 0.2", {"unweighted.brier": 0.2}, True),
        ("worse_off == 0", {"worse_off": 0.0}, True),
        ("worse_off <= 1", {"worse_off": 2.0}, False),
        ("participation == complete", {"participation": "complete"}, True),
        ("participation == complete", {"participation": "partial-allowed"}, False),
        ("participation == partial-allowed", {"participation": "partial-allowed"}, True),
        ("participation == partial-allowed", {"participation": "complete"}, True),
        ("participation == complete", {}, False),
    ],
)
def test_when_a_rule_holds(text, figures, holds):
    """A rule holds only on a figure that is there; a complete run keeps every rule on participation."""
    assert Rule.parse(text).holds(figures) is holds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auc", "is no rule; write FIGURE >= NUMBER"),
        ("auc => 0.8", "is no rule"),
        ("auc >= ", "is no rule"),
        ("acuracy >= 0.8", "no figure 'acuracy'; did you mean 'accuracy'?"),
        ("best.auc >= 0.8", "no figure 'best.auc'"),
        ("auc >= high", "'high' is no number"),
        ("auc >= nan", "'nan' is no number"),
        ("loss <= inf", "'inf' is no number"),
        ("participation >= complete", "write `participation == complete`"),
        ("participation == failed", "write `participation == complete`"),
    ],
)
def test_what_is_no_rule(text, words):
    """What does not parse says what is allowed."""
    with pytest.raises(ValueError, match=re.escape(words)):
        Rule.parse(text)


@given(
    figure=st.sampled_from([f for f in FIGURES if f != "participation"]),
    sign=st.sampled_from([">=", "<=", ">", "<", "=="]),
    bound=st.integers(-1000, 1000),
)
def test_a_rule_reads_back_as_it_was_written(figure, sign, bound):
    """Writing and parsing are inverse."""
    rule = Rule(figure, sign, float(bound))
    assert Rule.parse(str(rule)) == rule
