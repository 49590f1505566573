"""`fedloom init` and `fedloom schema`."""

from __future__ import annotations

import json
from pathlib import Path

from fedloom.cli.output import console
from fedloom.local.scaffold import write_project
from fedloom.pipeline.spec import json_schema


def init_project(folder: Path) -> None:
    """Write a project and say what to do with it."""
    written = write_project(folder)
    out = console()
    out.print(
        f"wrote {len(written)} files to {folder}/: {', '.join(str(path) for path in written[:4])}, …",
    )
    out.print(f"next: cd {folder} && fedloom plan && fedloom run")


def print_schema() -> None:
    """Print the JSON Schema of pipeline.yaml."""
    print(json.dumps(json_schema(), indent=2))  # noqa: T201  the command's output
