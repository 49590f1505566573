"""The verdict on a round: complete only when nobody is missing; what the policy demands decides the rest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.pipeline.participation import Verdict, and_measured, judge
from fedloom.pipeline.spec import Participation

ROWS = {"a": 60.0, "b": 30.0, "c": 10.0}


def outcomes(**status):
    return [(site, status.get(site, "answered"), "" if site not in status else "why") for site in "abc"]


@pytest.mark.parametrize(
    ("policy", "missing", "status", "reason"),
    [
        ({}, {}, "complete", ""),
        ({}, {"c": "late"}, "failed", "1 of 3 sites did not answer, and the policy demands all"),
        ({"min_sites": 2}, {}, "complete", ""),
        ({"min_sites": 2}, {"c": "late"}, "partial-allowed", ""),
        ({"min_sites": 2}, {"c": "late", "b": "failed"}, "failed", "1 of 3 sites answered, and the policy demands 2"),
        ({"min_sites": 1}, {"a": "late", "b": "late", "c": "late"}, "failed", "no site answered"),
        ({"require": ["a"]}, {"b": "failed", "c": "late"}, "partial-allowed", ""),
        ({"require": ["a"]}, {"a": "failed"}, "failed", "the policy requires a"),
        ({"require": ["a", "b"], "min_sites": 1}, {"a": "late", "b": "late"}, "failed", "the policy requires a, b"),
        ({"min_weight": 0.6}, {"b": "failed", "c": "failed"}, "partial-allowed", ""),
        (
            {"min_weight": 0.6},
            {"a": "late"},
            "failed",
            "sites with 40% of the rows answered, and the policy demands 60%",
        ),
        ({"min_weight": 0.6, "min_sites": 2}, {"b": "late", "c": "late"}, "failed", "policy demands 2"),
        ({"deadline": 5.0}, {"c": "late"}, "failed", "the policy demands all"),
    ],
)
def test_what_a_policy_says(policy, missing, status, reason):
    """Each demand of a policy, kept and broken."""
    verdict = judge(Participation(**policy), outcomes(**missing), ROWS)
    assert verdict.status == status
    assert verdict.reason == reason or reason in verdict.reason
    assert {o.site: o.weight for o in verdict.sites} == {"a": 0.6, "b": 0.3, "c": 0.1}


def test_eight_of_ten_equal_sites_are_four_fifths():
    """A share is one division of rows, so that it does not fall short by rounding."""
    names = [f"s{n}" for n in range(10)]
    heard = [(name, "answered" if n < 8 else "late", "") for n, name in enumerate(names)]
    assert judge(Participation(min_weight=0.8), heard, dict.fromkeys(names, 7.0)).status == "partial-allowed"


@given(
    heard=st.lists(st.tuples(st.sampled_from(["answered", "late", "failed"]), st.floats(0, 1e6)), max_size=8),
    least=st.none() | st.integers(1, 8),
    weight=st.none() | st.floats(0.01, 1),
    require=st.sets(st.integers(0, 7), max_size=3),
)
def test_complete_means_nobody_is_missing(heard, least, weight, require):
    """Whatever the policy: complete if and only if all answered, and failed whenever a demand is broken."""
    told = [(f"s{n}", status, "") for n, (status, _) in enumerate(heard)]
    rows = {f"s{n}": rows for n, (_, rows) in enumerate(heard)}
    policy = Participation(min_sites=least, min_weight=weight, require=tuple(f"s{n}" for n in require))
    verdict = judge(policy, told, rows)
    assert (verdict.status == "complete") == (not verdict.missing)
    assert {o.site for o in verdict.missing} | set(verdict.answered) == {site for site, _, _ in told}
    if verdict.status == "partial-allowed":
        assert verdict.answered
        assert len(verdict.answered) >= (least or 1)
        assert not {o.site for o in verdict.missing} & set(policy.require)
    json.dumps(verdict.as_json())


def test_a_verdict_says_who_and_why():
    """Sites with the same fate are told together; beyond eight they are counted."""
    verdict = judge(Participation(), outcomes(b="late", c="late"), ROWS)
    assert verdict.describe().endswith("policy demands all: b, c late (why)")
    crowd = [(f"s{n}", "failed", "gone") for n in range(12)]
    assert judge(Participation(), crowd, {}).describe().endswith("s7 and 4 more failed (gone)")


def test_a_round_that_was_not_measured_everywhere_is_partial():
    """The evaluation counts too: a site that is missing from it makes the round partial, and is named."""
    whole = judge(Participation(min_sites=1), outcomes(), ROWS)
    less = judge(Participation(min_sites=1), outcomes(c="late"), ROWS)
    assert and_measured(whole, Verdict("complete", ())) is whole
    found = and_measured(whole, less)
    assert (found.status, found.missing) == ("partial-allowed", ())
    assert found.describe() == "not measured everywhere (c late (why))"
