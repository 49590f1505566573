"""What a report says in sentences, and how it writes numbers, pure.

Rules: a run that went on without somebody is told as partial, never as a success; silence is told as silence.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from fedloom.hub.report.evidence import Report
from fedloom.hub.report.tables import BETTER_ALONE, CHANCE, NOT_COMPARED, SiteRow

NAMED = 6
"""How many missing sites the verdict names; the participation table names all."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One line of the verdict: a word, what it means here, and how it is coloured."""

    tone: Literal["good", "warn", "bad", "plain"]
    word: str
    text: str


def statements(report: Report) -> list[Statement]:
    """Say what the verdict is: who took part, whether the run was finished, and what the gate found."""
    return [*_unfinished(report), *_participation(report), _gate(report)]


def policy(found: Mapping[str, Any] | None) -> str:
    """Say in a sentence what a round needed to count."""
    if found is None:
        return "The commit names no participation policy."
    parts = [
        f"at least {found['min_sites']} sites answer" if found.get("min_sites") else "",
        f"sites with {found['min_weight']:.0%} of the rows answer" if found.get("min_weight") else "",
        f"{listed(found['require'])} must be among them" if found.get("require") else "",
    ]
    asked = ", ".join(part for part in parts if part) or "every invited site answers"
    deadline = f" A site had {found['deadline']:g} seconds to answer." if found.get("deadline") else ""
    return f"A round counts when {asked}.{deadline}"


def privacy(found: Mapping[str, Any] | None) -> str:
    """Say what protects the rows, and plainly when nothing does."""
    if not found:
        return "The commit does not say whether noise was added: assume that none was."
    if found.get("mechanism") == "none":
        return "No noise was added: epsilon is unbounded. Differential privacy protects nobody's row here."
    spent = found.get("epsilon")
    bound = "epsilon is unbounded" if spent is None else f"epsilon is {spent:g}"
    others = {name: value for name, value in found.items() if name not in ("mechanism", "epsilon")}
    return f"Mechanism {found.get('mechanism')}: {bound}. {settings(others)}".strip()


def codec(found: Any) -> str:
    """Say how updates were compressed."""
    if found is None:
        return "The commit names no codec."
    if found == "exact":
        return "Codec exact: updates are sent as they are, and nothing is lost on the way."
    return f"Codec {found if isinstance(found, str) else json.dumps(found, sort_keys=True)}."


def better_alone(rows: Sequence[SiteRow], figure: str) -> str:
    """Say in a sentence which sites are better off alone, and for how many chance may explain it."""
    figure = figure if figure.isupper() else figure.lower()
    worse = [row for row in rows if row.judgement == BETTER_ALONE]
    unknown = [row.name for row in rows if row.judgement == NOT_COMPARED]
    without = f" Not compared: {listed(unknown)}, which did not train or was not measured alone." if unknown else ""
    if not worse:
        return f"By {figure}, no {'other ' if unknown else ''}site is better off alone.{without}"
    names = listed([row.name for row in worse])
    told = f"By {figure}, {len(worse)} of {count(len(rows), 'site')} {_be(len(worse))} better off alone: {names}."
    told += without
    chance = sum(CHANCE in row.cautions for row in worse)
    if not chance:
        return told
    whom = "The" if len(worse) == 1 else f"For {'all' if chance == len(worse) else chance} of them the"
    return f"{told} {whom} difference is {CHANCE}."


def _participation(report: Report) -> list[Statement]:
    total = len(report.rounds)
    if not total:
        return [Statement("plain", "No rounds", "this commit is not the result of federated rounds.")]
    unknown = sum(one.verdict is None for one in report.rounds)
    if unknown:
        told = f"{unknown} of {count(total, 'round')} do not say who took part."
        return [*_partial(report), Statement("warn", "Unknown", told)]
    if partial := _partial(report):
        return partial
    sites = count(len({outcome.site for outcome in report.outcomes}), "site")
    told = f"{sites} answered in {'the only round' if total == 1 else f'all {total} rounds'}."
    return [Statement("good", "Complete", told) if _finished(report) else Statement("plain", "So far", told)]


def _partial(report: Report) -> list[Statement]:
    told = " ".join(_wanting(report))
    return [Statement("warn", "Partial", f"{told} The participation policy allowed it.")] if told else []


def _wanting(report: Report) -> Iterator[str]:
    total = count(len(report.rounds), "round")
    verdicts = [one.verdict for one in report.partial if one.verdict]
    short = sum(bool(verdict.missing) for verdict in verdicts)
    if short:
        yield f"{short} of {total} went on without {_missing(report)}."
    unmeasured = sum(bool(verdict.reason) or not verdict.missing for verdict in verdicts)
    if unmeasured:
        yield f"The model of {unmeasured} of {total} was not measured at every site."
    if report.fitted:
        yield f"The preprocessing was fitted without {listed([one.site for one in report.fitted.missing])}."
    closed = (report.closing or {}).get("status", "complete")
    if closed != "complete" and not verdicts and not report.fitted:
        yield f"The statement that closes the run says {closed}."


def _missing(report: Report) -> str:
    missed = Counter(outcome.site for outcome in report.outcomes if outcome.status != "answered").most_common()
    names = [f"{site} ({count(rounds, 'round')})" for site, rounds in missed[:NAMED]]
    others = [count(len(missed) - NAMED, "more site")] if len(missed) > NAMED else []
    return listed([*names, *others], "or")


def _unfinished(report: Report) -> list[Statement]:
    if _finished(report) or not report.rounds:
        return []
    told = "no statement closes the run at this commit: it was interrupted, or this is not its last round."
    return [Statement("warn", "Unfinished", told)]


def _finished(report: Report) -> bool:
    """Whether the run went to its end; one that the gate refused did, though no statement closes it."""
    return report.closing is not None or (report.gate is not None and not report.gate["passed"])


def _gate(report: Report) -> Statement:
    if report.gate is None:
        asked = report.settings.get("stages", {}).get("gate")
        told = "the pipeline has a gate, but it has not judged this commit." if asked else "the pipeline has no gate."
        return Statement("warn" if asked else "plain", "No gate result", told)
    rules = report.gate["rules"]
    broken = sum(not rule["holds"] for rule in rules)
    if report.gate["passed"]:
        told = "the only rule holds." if len(rules) == 1 else f"all {len(rules)} rules hold."
        return Statement("good", "Gate passed", told)
    told = f"{broken} of {count(len(rules), 'rule')} {_be(broken)} broken; the model was not registered."
    return Statement("bad", "Gate refused", told)


def _be(number: int) -> str:
    return "is" if number == 1 else "are"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Write words as a list in a sentence."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def count(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def settings(found: Mapping[str, Any]) -> str:
    """Write settings in a line: what is used first, its options behind."""
    options = ", ".join(f"{name} {value}" for name, value in sorted(found.items()) if name != "use")
    if "use" not in found:
        return options
    return f"{found['use']} ({options})" if options else str(found["use"])


def figure(value: float | str | None, undefined: str = "undefined") -> str:
    """Write a figure with three places."""
    if value is None:
        return undefined
    if isinstance(value, str):
        return value
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def signed(value: float | None) -> str:
    """Write a difference with its sign; nothing where there is none."""
    return "" if value is None else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def byte_size(size: float) -> str:
    """Write bytes in decimal units."""
    if size < 1000:
        return f"{size:.0f} B"
    unit, divisor = next(((u, d) for u, d in (("kB", 1e3), ("MB", 1e6)) if size < 999.5 * d), ("GB", 1e9))
    return f"{size / divisor:,.1f} {unit}"


def clock(moment: datetime) -> str:
    """Write a moment, which the recorder keeps in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
