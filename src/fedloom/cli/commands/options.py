"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Project = Annotated[Path, typer.Option("--project", "-C", help="Folder of the project.", show_default="here")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines, and nothing else.")]
NameOrNewest = Annotated[
    str | None,
    typer.Argument(help="A ref (main, v1, runs/3, HEAD~2) or first digits of an id; the newest run when absent."),
]
Rounds = Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds, instead of the file's.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed, instead of the file's.")]
Sites = Annotated[str | None, typer.Option("--sites", help="Only these sites: names or globs, by comma.")]
HERE = Path()
