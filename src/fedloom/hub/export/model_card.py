"""A model card: what a model is for, what it was made from, how well it does, and what it must not be trusted with.

Rules: pure, and says only what the commit and the statements about it hold; what is unknown is said to be. No clock
times, so the same commit gives the same card. After Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedloom._version import __version__
from fedloom.hub.report.evidence import Report
from fedloom.values import Digest

_FIGURES = ("accuracy", "auc", "loss", "rmse", "r2")
_NAMED = 12


@dataclass(frozen=True, slots=True)
class Papers:
    """What a card says beside the report: the data contract as read, the features in order, the files with digests."""

    contract: Mapping[str, Any]
    features: Sequence[str]
    files: Mapping[str, Digest]


def model_card(report: Report, papers: Papers) -> str:
    """Write the card as Markdown."""
    name = report.facts.get("pipeline", "model")
    parts = [
        f"# {_text(name)}",
        f"Commit `{report.commit}`, written by fedloom {__version__}.",
        *_section("Purpose", [_text(report.settings.get("purpose", "Not recorded."))]),
        *_section("Data", _data(report, papers)),
        *_section("Training", _training(report)),
        *_section("Metrics", _metrics(report)),
        *_section("Participation", _participation(report)),
        *_section("Privacy", _privacy(report)),
        *_section("Limits", [f"- {limit}" for limit in _limits(report)]),
        *_section("Files", [_table(("file", "SHA-256"), [(f"`{n}`", f"`{d}`") for n, d in papers.files.items()])]),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, blocks: Sequence[str]) -> list[str]:
    lines = "\n".join(blocks) if all(block.startswith("- ") for block in blocks) else "\n\n".join(blocks)
    return [f"## {title}", lines]


def _data(report: Report, papers: Papers) -> list[str]:
    if not report.lineage.contract:
        return ["Not recorded."]
    contract = papers.contract
    told = f"Data contract `{_text(contract.get('id', ''))}` version {_text(contract.get('version', ''))}"
    features = [_code(name) for name in papers.features]
    more = f" and {len(features) - _NAMED} more" if len(features) > _NAMED else ""
    scaling = (report.settings.get("stages", {}).get("fit") or {}).get("standardize", "none")
    how = {
        "global": "standardised by mean and scale over all sites",
        "site": "standardised by each site with its own mean and scale: new data must be too",
        "none": "taken as they are",
    }
    sites = [(_text(site), _code(parts.get("data", ""))) for site, parts in sorted(report.lineage.sites.items())]
    return [
        f"{told} (SHA-256 `{report.lineage.contract}`).",
        f"{len(features)} features, {how[scaling]}: {', '.join(features[:_NAMED])}{more}.",
        _table(("site", "SHA-256 of its data file"), sites),
    ]


def _training(report: Report) -> list[str]:
    facts = report.facts
    rows = [(name, _code(facts[name])) for name in ("learner", "strategy", "seed", "codec") if name in facts]
    rows += [("rounds", str(len(report.rounds)))] if report.rounds else []
    rows += [(f"code: {name}", _code(value)) for name, value in sorted(report.lineage.code.items())]
    rows += [(f"environment: {name}", _code(value)) for name, value in sorted(report.lineage.environment.items())]
    return [_table(("", ""), [(_text(name), value) for name, value in rows])] if rows else ["Not recorded."]


def _metrics(report: Report) -> list[str]:
    """Lay the model beside its baselines, on rows that were held out at every site."""
    evaluation = report.evaluation or {}
    names = [name for name in _FIGURES if name in report.pooled]
    if not names:
        return ["Not measured."]
    pooled, local = evaluation.get("pooled", {}), evaluation.get("local", {}).get("sites", {})
    columns = [("federated", report.pooled, report.measured)]
    if local:
        columns.append(("alone", evaluation.get("local_everywhere", {}).get("mean", {}), local))
    if pooled:
        columns.append(("pooled", pooled["pooled"], pooled["sites"]))
    heads = ["held-out rows of", "rows", *(f"{name}, {who}" for name in names for who, *_ in columns)]
    rows = [
        [
            _text(site),
            f"{found['rows']:.0f}",
            *(_figure(by.get(site, {}).get(name)) for name in names for *_, by in columns),
        ]
        for site, found in sorted(report.measured.items())
    ]
    total = [_figure(all_rows.get(name)) for name in names for _, all_rows, _ in columns]
    rows.append(["all sites", f"{report.pooled['rows']:.0f}", *total])
    said = ["Federated is this model."]
    said += ["Alone: each site's own model, trained as long."] if local else []
    said += ["Pooled: one model trained on all rows, which a real federation cannot have."] if pooled else []
    said += [] if local or pooled else ["There are no baselines to compare with."]
    return [_table(heads, rows), " ".join(said), *_gate(report)]


def _gate(report: Report) -> list[str]:
    if report.gate is None:
        return []
    rules = ", ".join(
        f"{_code(rule['rule'])} {'holds' if rule['holds'] else 'is BROKEN'}" for rule in report.gate["rules"]
    )
    return [f"Gate: {'passed' if report.gate['passed'] else 'REFUSED'}; {rules}."]


def _participation(report: Report) -> list[str]:
    if not report.rounds:
        return ["Not recorded."]
    said = [f"{len(report.rounds)} rounds with {len(report.sites)} sites: {', '.join(map(_text, report.sites))}."]
    missed: dict[str, int] = {}
    for outcome in report.outcomes:
        if outcome.status != "answered":
            missed[outcome.site] = missed.get(outcome.site, 0) + 1
    if not report.partial:
        return [*said, "Every round was complete."]
    told = ", ".join(f"{_text(site)} missed {count}" for site, count in sorted(missed.items()))
    return [*said, f"PARTIAL rounds: {len(report.partial)}" + (f"; {told}." if told else ".")]


def _privacy(report: Report) -> list[str]:
    privacy = report.facts.get("privacy", {})
    keeps = {
        "none": "The hub saw every site's update and kept none.",
        "sites": "The hub saw every site's update; each site keeps its own.",
        "hub": "The hub saw and keeps every site's update.",
    }
    said = [keeps.get(str(report.settings.get("keep_updates")), "What became of the sites' updates is not recorded.")]
    if privacy.get("mechanism", "none") == "none":
        return [
            *said,
            "No noise was added: there is no bound on what the model reveals about a row (epsilon unbounded).",
        ]
    return [*said, f"Mechanism {_text(privacy['mechanism'])}, epsilon {privacy.get('epsilon')}."]


def _limits(report: Report) -> Iterator[str]:
    yield "Measured on held-out rows of the sites above only; nothing is known about anybody else's data."
    if report.partial or report.fitted:
        yield "Some rounds, or the fit of the preprocessing, lacked a site: see participation."
    if worse := (report.evaluation or {}).get("worse_off"):
        yield f"Better off with a model of their own: {', '.join(map(_text, worse))}."
    if report.gate is None:
        yield "No gate was asked whether the model is good enough."
    if not report.pooled:
        yield "The model was never measured."
    if report.facts.get("source"):
        yield "The model was imported: how it was trained is not recorded here."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _code(value: Any) -> str:
    """Write a value as it is, without what would end a cell or a code span."""
    plain = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return "`" + " ".join(plain.replace("`", "'").replace("|", "¦").split()) + "`"


def _text(value: Any) -> str:
    """Keep a person's text from being read as a table, markup or several lines."""
    plain = " ".join(str(value).split())
    return "".join(f"\\{character}" if character in "|<>[]`*_#\\" else character for character in plain)
