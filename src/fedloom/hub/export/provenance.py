"""Where a model comes from, as SLSA provenance: an in-toto statement that other tools read.

Rules: everything in it follows from the commit, so the same commit gives the same statement; no clock times. The
format is slsa.dev/provenance/v1; what is built is a model, and its materials are contract, code, environment and data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fedloom.hub.report.evidence import Report
from fedloom.values import Digest
from fedloom.versions import dsse

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "fedloom:pipeline/v1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def provenance(report: Report, files: Mapping[str, Digest]) -> dict[str, Any]:
    """State how files (name → SHA-256) came to be from what a commit names."""
    predicate = {
        "buildDefinition": {
            "buildType": BUILD,
            "externalParameters": {
                "commit": report.commit,
                "root": report.lineage.root,
                **{
                    name: report.facts[name]
                    for name in ("pipeline", "learner", "strategy", "seed")
                    if name in report.facts
                },
            },
            "internalParameters": {
                "settings": report.settings,
                "environment": dict(report.lineage.environment),
                **{name: report.facts[name] for name in ("codec", "privacy", "participation") if name in report.facts},
            },
            "resolvedDependencies": list(_materials(report)),
        },
        "runDetails": {
            "builder": {"id": "fedloom", "version": {"fedloom": report.lineage.code.get("fedloom", "unknown")}},
            "metadata": {"invocationId": report.commit},
        },
    }
    return dsse.statement(sorted(files.items()), PREDICATE, predicate)


def _materials(report: Report) -> Iterator[dict[str, Any]]:
    """List everything the model is made from that has a digest."""
    lineage = report.lineage
    for parent in lineage.parents:
        yield _material("fedloom:commit", parent)
    if lineage.contract:
        yield _material("contract", lineage.contract)
    for name, digest in sorted(lineage.code.items()):
        if _SHA256.fullmatch(digest):
            yield _material(f"code/{name}", Digest(digest))
    for site, parts in sorted(lineage.sites.items()):
        for name, digest in sorted(parts.items()):
            yield _material(f"sites/{site}/{name}", Digest(digest))


def _material(name: str, digest: Digest) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest}}
