"""The participation verdict, pure: who was invited, who answered, and whether that is enough.

Rules: `complete` means everybody answered in time; `partial-allowed` means somebody did not, and the policy said
that is enough; anything else is `failed`. A verdict is part of the commit, so it holds no clock time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fedloom.engine.port import Status
from fedloom.pipeline.spec import Participation

_NAMED = 8
"""Sites named one by one in a sentence; the rest are counted."""

VerdictStatus = Literal["complete", "partial-allowed", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one invited site; `weight` is its share of all invited rows."""

    site: str
    status: Status
    weight: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement on one round, and why."""

    status: VerdictStatus
    sites: tuple[Outcome, ...]
    reason: str = ""

    @property
    def answered(self) -> tuple[str, ...]:
        """Sites whose contribution counts."""
        return tuple(outcome.site for outcome in self.sites if outcome.status == "answered")

    @property
    def missing(self) -> tuple[Outcome, ...]:
        """Sites that did not answer in time."""
        return tuple(outcome for outcome in self.sites if outcome.status != "answered")

    def describe(self) -> str:
        """Say in one sentence what is wrong, with every missing site and why."""
        causes: dict[tuple[str, str], list[str]] = {}
        for outcome in self.missing:
            causes.setdefault((outcome.status, outcome.reason), []).append(outcome.site)
        missing = "; ".join(f"{listed(sites)} {status} ({why})" for (status, why), sites in causes.items())
        return ": ".join(part for part in (self.reason, missing) if part)

    def as_json(self) -> dict[str, Any]:
        """Turn into plain JSON, for a commit."""
        return {**asdict(self), "sites": [asdict(outcome) for outcome in self.sites]}


def judge(policy: Participation, outcomes: Sequence[tuple[str, Status, str]], rows: Mapping[str, float]) -> Verdict:
    """Judge one round from (site, status, reason) and the rows each site holds."""
    total = sum(rows.get(site, 0.0) for site, _, _ in outcomes) or 1.0
    sites = tuple(Outcome(site, status, rows.get(site, 0.0) / total, reason) for site, status, reason in outcomes)
    verdict = Verdict("complete", sites)
    if not verdict.missing:
        return verdict
    share = sum(rows.get(site, 0.0) for site in verdict.answered) / total  # one division: 8 of 10 equal sites are 0.8
    short = _shortfall(policy, verdict, share)
    return Verdict("failed", sites, short) if short else Verdict("partial-allowed", sites)


def and_measured(merged: Verdict, measured: Verdict) -> Verdict:
    """Judge a round by its evaluation too: every contribution counts, and still somebody was missing."""
    if not measured.missing:
        return merged
    return Verdict("partial-allowed", merged.sites, f"not measured everywhere ({measured.describe()})")


def listed(sites: Sequence[str]) -> str:
    """Name up to eight sites, and count the rest."""
    more = len(sites) - _NAMED
    return ", ".join(sites[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shortfall(policy: Participation, verdict: Verdict, share: float) -> str:
    answered = verdict.answered
    absent = [outcome.site for outcome in verdict.missing if outcome.site in policy.require]
    if not answered:
        return "no site answered"
    if not policy.partial_allowed:
        return f"{len(verdict.missing)} of {len(verdict.sites)} sites did not answer, and the policy demands all"
    if absent:
        return f"the policy requires {', '.join(absent)}"
    if policy.min_sites is not None and len(answered) < policy.min_sites:
        return f"{len(answered)} of {len(verdict.sites)} sites answered, and the policy demands {policy.min_sites}"
    if policy.min_weight is not None and share < policy.min_weight:
        return f"sites with {share:.0%} of the rows answered, and the policy demands {policy.min_weight:.0%}"
    return ""
