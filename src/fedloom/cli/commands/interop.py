"""Commands that speak with other tools: export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli.commands.options import HERE, AsJson, Project
from fedloom.cli.commands.trust import Chosen

To = Annotated[Path | None, typer.Option("--to", help="Where to write.", show_default="models/NAME.*")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    exports = typer.Typer(no_args_is_help=True, help="Write a model for other tools.", rich_markup_mode=None)
    exports.callback()(_exports)
    for command in (safetensors, onnx, bundle, mlflow):
        exports.command()(command)
    app.add_typer(exports, name="export")
    app.command("import")(import_)


def _exports() -> None:
    """Write a model for other tools."""


def safetensors(name: Chosen = None, project: Project = HERE, to: To = None, *, json: AsJson = False) -> None:
    """Write the tensors as one file, with the preprocessing and the commit's id inside."""
    from fedloom.cli.interop import write_model

    write_model(project, name, "safetensors", to, as_json=json)


def onnx(name: Chosen = None, project: Project = HERE, to: To = None, *, json: AsJson = False) -> None:
    """Write an ONNX graph that takes raw features; learners linear and mlp (extra: onnx)."""
    from fedloom.cli.interop import write_model

    write_model(project, name, "onnx", to, as_json=json)


def bundle(
    name: Chosen = None,
    project: Project = HERE,
    to: To = None,
    key: Annotated[Path | None, typer.Option(help="Private key (ed25519 or p256) that signs the provenance.")] = None,
    model_signing: Annotated[
        Path | None, typer.Option(help="Private key (p256) that signs the folder for OpenSSF Model Signing.")
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Write a folder: tensors, data contract, model card, provenance, signatures."""
    from fedloom.cli.interop import write_bundle

    write_bundle(project, name, to, (key, model_signing), as_json=json)


def mlflow(
    name: Chosen = None,
    project: Project = HERE,
    tracking_uri: Annotated[str, typer.Option(help="The server, such as http://localhost:5000.")] = "",
    model: Annotated[
        str | None, typer.Option("--name", help="Registered model; the pipeline's name when absent.")
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Register the model as a version in MLflow, with its metrics and papers (extra: mlflow)."""
    from fedloom.cli.interop import register_in_mlflow

    register_in_mlflow(project, name, tracking_uri, model, as_json=json)


def import_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help="safetensors, npz or torch (a state dict).")],
    file: Annotated[Path, typer.Argument(help="File to read.")],
    project: Project = HERE,
    branch: Annotated[str | None, typer.Option(help="Branch to start; the current one when absent.")] = None,
    name: Annotated[str | None, typer.Option(help="Pipeline name; the file's name when absent.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="What to say about it.")] = None,
    *,
    json: AsJson = False,
) -> None:
    """Start a branch with the tensors of a file; nothing in the file is run."""
    from fedloom.cli.interop import import_model

    import_model(project, format_, file, (branch, name, message), as_json=json)
