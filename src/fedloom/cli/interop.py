"""`fedloom export` and `fedloom import`: models to and from other tools."""

from __future__ import annotations

from pathlib import Path

from fedloom.cli.opening import chosen, open_repository
from fedloom.cli.output import console, print_json
from fedloom.hub.export.bundle import BundleKeys, export_bundle
from fedloom.hub.export.mlflow import register_version
from fedloom.hub.export.model_file import export_model, told
from fedloom.hub.export.onnx import export_onnx
from fedloom.hub.imports import Labels, import_file
from fedloom.values import Digest
from fedloom.versions.keys import read_private_key
from fedloom.versions.repository import Repository

_WRITERS = {"safetensors": export_model, "onnx": export_onnx}


def write_model(folder: Path, name: str | None, format_: str, to: Path | None, *, as_json: bool) -> None:
    """Write a model as one file."""
    repository = open_repository(folder)
    commit = chosen(repository, name)
    path = _WRITERS[format_](repository, commit, to or _home(folder, repository, commit, f".{format_}"))
    _say(commit, path, [path.name], as_json=as_json)


def write_bundle(
    folder: Path, name: str | None, to: Path | None, keys: tuple[Path | None, Path | None], *, as_json: bool
) -> None:
    """Write a model with its papers as a folder; `keys` sign the provenance and the folder."""
    provenance, model_signing = (read_private_key(key) if key else None for key in keys)
    repository = open_repository(folder)
    commit = chosen(repository, name)
    path = to or _home(folder, repository, commit, "")
    files = export_bundle(repository, commit, path, BundleKeys(provenance, model_signing))
    _say(commit, path, files, as_json=as_json)


def register_in_mlflow(folder: Path, name: str | None, uri: str, model: str | None, *, as_json: bool) -> None:
    """Register a model in MLflow."""
    repository = open_repository(folder)
    commit = chosen(repository, name)
    version = register_version(repository, commit, uri, model)
    if as_json:
        told_ = {"name": version.name, "version": version.version, "run": version.run, "new": version.new}
        print_json({"commit": commit, **told_})
        return
    was = "is" if version.new else "was already"
    console().print(f"{commit[:12]} {was} version {version.version} of '{version.name}' in MLflow")


def import_model(
    folder: Path, format_: str, file: Path, labels: tuple[str | None, str | None, str | None], *, as_json: bool
) -> None:
    """Commit the tensors of a file; `labels` are branch, name and message."""
    repository = Repository.at(folder)
    ref, commit = import_file(repository, format_, file, Labels(*labels))
    if as_json:
        print_json({"ref": ref, "commit": commit})
        return
    count = len(repository.model(commit))
    console().print(f"{ref} is now {commit[:12]}: {count} tensors of {file.name}")


def _home(folder: Path, repository: Repository, commit: Digest, suffix: str) -> Path:
    """Say where a model goes when nobody says: under `models/`, by its pipeline's name."""
    return folder / "models" / f"{told(repository, commit).get('pipeline', 'model')}{suffix}"


def _say(commit: Digest, path: Path, files: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"commit": commit, "path": str(path), "files": files})
        return
    inside = f" ({', '.join(files)})" if path.is_dir() else ""
    console().print(f"{commit[:12]} is written to {path}{inside}")
