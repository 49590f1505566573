"""Imports: a file's tensors become a root commit bit for bit; hostile and wrong files end in a sentence."""

import io
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from fedloom.errors import ConflictError, SpecError
from fedloom.hub.export import export_model
from fedloom.hub.formats import safetensors
from fedloom.hub.imports import Labels, import_file
from fedloom.values import sha256
from fedloom.versions.content import Content
from fedloom.versions.objects import Commit
from fedloom.versions.store import Store

TORCH = Path(__file__).parent / "formats" / "files"


@pytest.fixture
def content():
    return Content(Store.in_memory())


def bits(tensors):
    return {name: (a.dtype, a.shape, a.tobytes()) for name, a in tensors.items()}


def write(path, tensors, metadata=None):
    path.write_bytes(b"".join(safetensors.encode(tensors, metadata or {})))
    return path


def test_a_bf16_file_is_committed_bit_for_bit(tmp_path, content):
    """NaN payloads and all: the store gives back the bytes of the file; the commit names the file's digest."""
    payload = np.array([0x7FC1, 0x8000, 0xFF81, 0x3F80], np.uint16).view(ml_dtypes.bfloat16)
    tensors = {"w": payload.reshape(2, 2), "f8": np.array([0xFF, 0x80], np.uint8).view(ml_dtypes.float8_e4m3fn)}
    file = write(tmp_path / "in.safetensors", tensors)
    ref, id_ = import_file(content, "safetensors", file, Labels(name="made-there", message="from afar"))
    assert ref == "heads/main"
    assert content.refs.get(ref) == id_
    assert bits(content.model(id_)) == bits(tensors)
    commit = content.commit(id_)
    assert (commit.kind, commit.parents, commit.message) == ("import", (), "from afar")
    source = {"format": "safetensors", "file": "in.safetensors", "sha256": sha256(file.read_bytes())}
    assert commit.facts == {"pipeline": "made-there", "round": 0, "source": source}


def test_every_format_comes_in(tmp_path, content):
    """Files of npz and torch give their arrays; the pipeline is called like the file when nobody says otherwise."""
    np.savez(tmp_path / "arrays.npz", w=np.arange(3.0), b=np.array(True))
    _, one = import_file(content, "npz", tmp_path / "arrays.npz", Labels(branch="one"))
    _, two = import_file(content, "torch", TORCH / "plain.pt", Labels(branch="two"))
    assert bits(content.model(one)) == bits({"w": np.arange(3.0), "b": np.array(True)})
    assert content.model(two)["0.weight"].shape == (2, 3)
    assert content.commit(one).message == "arrays: imported from arrays.npz"


def test_what_was_exported_comes_back_as_it_was(tmp_path, content):
    """Export and import give the same trees of model and preprocessing, and remember the commit."""
    parts = {
        "model": content.add_tensors({"weights": np.arange(2, dtype=np.float32), "model.x": np.zeros(())}),
        "preprocessing": content.add_tree(
            {
                "features": content.add_json(["age", "cp=a"]),
                "scaling": content.add_tensors({"mean": np.array([1.0, 2.0]), "scale": np.array([3.0, 1.0])}),
            }
        ),
    }
    facts = {"pipeline": "heart", "learner": {"use": "linear", "kind": "logistic"}, "metrics": {"pooled": {"auc": 0.5}}}
    original = content.add_commit(Commit(content.add_tree(parts).id, (), "round", "r", facts))
    file = export_model(content, original, tmp_path / "out.safetensors")
    _, id_ = import_file(content, "safetensors", file)
    assert content.part(id_, "model") == parts["model"]
    assert content.part(id_, "preprocessing") == parts["preprocessing"]
    found = content.commit(id_).facts
    assert (found["pipeline"], found["learner"], found["source"]["commit"]) == ("heart", facts["learner"], original)


def test_an_import_starts_a_branch_and_moves_none(tmp_path, content):
    """A branch that is there stays where it is, and nothing is written for it."""
    file = write(tmp_path / "a.safetensors", {"w": np.zeros(1)})
    _, first = import_file(content, "safetensors", file)
    with pytest.raises(ConflictError, match="branch 'main' is there already: give a new one with --branch"):
        import_file(content, "safetensors", write(tmp_path / "b.safetensors", {"w": np.ones(1)}))
    assert content.refs.get("heads/main") == first
    with pytest.raises(SpecError, match="no branch name"):
        import_file(content, "safetensors", file, Labels(branch="Not A Name"))


def pickled():
    file = io.BytesIO()
    np.savez(file, w=np.array([{"a": 1}], dtype=object))
    return file.getvalue()


@pytest.mark.parametrize(
    ("format_", "data", "problem"),
    [
        ("npz", pickled(), "cannot be imported as npz: 'w.npy' holds Python objects, which are never unpickled"),
        ("npz", b"PK\x03\x04", "cannot be imported as npz: it is no whole zip archive"),
        ("torch", (TORCH / "module.pt").read_bytes(), "cannot be imported as torch: it holds more than tensors"),
        ("torch", (TORCH / "legacy.pt").read_bytes(), "cannot be imported as torch"),
        ("safetensors", save({"w": np.zeros(9)})[:-1], "cannot be imported as safetensors: 'w' does not lie"),
        ("safetensors", save({}), "it holds no tensors"),
        ("onnx", b"", "no format 'onnx'"),
        ("safetensors", save({"w": np.zeros(1)}, {"fedloom.commit": "x"}), "it was changed since"),
        (
            "safetensors",
            save({"model.w": np.zeros(1), "preprocessing.mean": np.zeros(1)}, {"fedloom.commit": "x", "features": "{"}),
            "its 'features' is broken",
        ),
        (
            "safetensors",
            save({"model.w": np.zeros(1)}, {"fedloom.commit": "x", "learner": "[" * 100_000}),
            "its 'learner' is broken",
        ),
        ("safetensors", save({"a\nb": np.zeros(1)}), "cannot hold the name"),
    ],
)
def test_wrong_and_hostile_files_are_refused(tmp_path, content, format_, data, problem):
    """One sentence each, no branch, no commit."""
    file = tmp_path / "in.file"
    file.write_bytes(data)
    with pytest.raises(Exception, match=problem) as refusal:
        import_file(content, format_, file)
    assert refusal.type.__module__ == "fedloom.errors"
    assert "\n" not in str(refusal.value)
    assert content.refs.names() == []


def test_a_file_that_cannot_be_read_is_told(tmp_path, content):
    """A missing file is a sentence."""
    with pytest.raises(SpecError, match=r"cannot read .*absent"):
        import_file(content, "npz", tmp_path / "absent.npz")
    assert json.dumps(content.refs.names()) == "[]"
