"""ONNX graphs: raw features in, the learner's own predictions out."""

import sys

import numpy as np
import pytest

from fedloom.errors import LearnerError, PlanError, SpecError
from fedloom.hub.export import onnx as module
from fedloom.hub.export.model_file import preprocessing, told
from fedloom.hub.export.onnx import export_onnx, onnx_model
from fedloom.learners.catalog import load_class
from fedloom.learners.learner import Examples
from fedloom.pipeline.features import standardize
from fedloom.versions.repository import Repository
from tests.hub.export.conftest import LEARNERS
from tests.projects import project, run

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")


def predictions(data, rows):
    from onnx.reference import ReferenceEvaluator

    (found,) = ReferenceEvaluator(onnx.load_from_string(data)).run(None, {"features": rows})
    return found


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_the_graph_predicts_what_the_learner_predicts(runs, name):
    """For every kind of learner that has a graph: 200 raw rows, some values missing, equal to 1e-5."""
    repository, commit = runs(name)
    names, scaling = preprocessing(repository, commit)
    settings = dict(told(repository, commit)["learner"])
    learner = load_class(settings.pop("use"), None)(**settings)
    rng = np.random.default_rng(1)
    rows = rng.normal([1.0, 1000.0, 0.5, 0.5], [2.0, 5.0, 1.0, 1.0], (200, 4))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    wanted = learner.predict(repository.model(commit), standardize(Examples(rows, np.zeros(200)), scaling).features)
    found = predictions(onnx_model(repository, commit), rows)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert np.ptp(found) > 0.01, "a model that says something"
    assert len(names) == 4


def test_the_file_says_what_it_is(tmp_path, runs):
    """Commit, features in order and whose scaling it is stand in the metadata; the form is checked by onnx itself."""
    repository, commit = runs("softmax")
    path = export_onnx(repository, commit, tmp_path / "m.onnx")
    made = onnx.load(path)
    onnx.checker.check_model(made, full_check=True)
    assert {prop.key: prop.value for prop in made.metadata_props} == {
        "fedloom.commit": commit,
        "pipeline": "made",
        "features": '["x", "z", "kind=q", "kind=r"]',
        "scaled_by": "global",
    }
    assert (made.ir_version, made.opset_import[0].version) == (8, 17)


def test_the_same_commit_gives_the_same_file(runs):
    """No clock, no counter: equal bytes."""
    assert onnx_model(*runs("mlp-relu")) == onnx_model(*runs("mlp-relu"))


def test_a_graph_that_predicts_otherwise_is_not_handed_out(runs, monkeypatch):
    """A fault in a builder is found before the file is written."""

    def wrong(graph, model, settings):
        graph.layer(model["weights"].reshape(-1, 1), model["bias"] + 0.001)

    monkeypatch.setattr(module, "_SCORES", {"linear": wrong})
    with pytest.raises(LearnerError, match="does not predict what the learner predicts"):
        onnx_model(*runs("logistic"))


def test_learners_without_a_graph_are_told_which_have_one(tmp_path):
    """A learner file cannot be translated."""
    home = project(tmp_path, rounds=1, gate=False)
    finished = run(home)
    with pytest.raises(PlanError, match=r"'learner.py:Logistic' has no ONNX form; linear and mlp have one"):
        onnx_model(Repository.at(home), finished.commit)


def test_without_the_package_one_is_told_what_to_install(runs, monkeypatch):
    """No traceback where the extra is missing."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SpecError, match=r"pip install 'fedloom\[onnx\]'"):
        onnx_model(*runs("logistic"))
