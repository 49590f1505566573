"""One HTML file about one commit: an engineer reads the figures, an approver finds the evidence.

Rules: pure, and the same report gives the same bytes. The file loads nothing and runs nothing, and its own content
security policy says so. A run that went on without somebody is told as partial, never as a success. What is missing
is said in a sentence. Every text from outside is escaped by the template.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

from fedloom.hub.report import charts, tables, words
from fedloom.hub.report.evidence import Report, collect

__all__ = ["Report", "collect", "render"]


def render(report: Report) -> str:
    """Turn a report into one self-contained HTML document."""
    primary, rows = tables.primary_of(report.pooled), tables.site_rows(report)
    return _template().render(
        report=report,
        statements=words.statements(report),
        figures=[(name, *tables.FIGURES[name]) for name in tables.figures_of(report)],
        columns=tables.columns(report),
        auc_error=report.pooled.get("auc_error"),
        unmeasured=[site for site in report.sites if site not in report.measured],
        curves=tables.curves(report),
        site_rows=rows,
        better_alone=words.better_alone(rows, tables.FIGURES[primary][0]),
        primary=primary,
        policy=words.policy(report.settings.get("participation")),
        grid=tables.participation_grid(report),
        crowded=len(report.sites) > charts.NAMED_SITES,
        span=charts.grid_span(len(report.rounds)),
        attendance=tables.attendance(report),
        absences=tables.absences(report),
        reservations=tables.reservations(report),
        recorded=[one for one in report.rounds if one.record],
        traffic=tables.traffic(report),
        privacy=words.privacy(report.facts.get("privacy")),
        codec=words.codec(report.facts.get("codec")),
    )


def _policy_hash(text: str) -> str:
    """Hash an inline style sheet as a content security policy names it (CSP level 3, section 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "figure": words.figure,
        "signed": words.signed,
        "bytes": words.byte_size,
        "time": words.clock,
        "settings": words.settings,
        "policy_hash": _policy_hash,
        "ranges": charts.ranges,
        "count": words.count,
    }
    environment.globals["swatch"] = charts.swatch
    return environment.from_string(files(__package__).joinpath("report.html.j2").read_text("utf-8"))
