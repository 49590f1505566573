"""The bundle: a folder whose papers say what the commit says, covered by digests and signatures."""

import json

import pytest
from safetensors import safe_open

from fedloom.engine.scenario import Faults, Scenario
from fedloom.errors import SpecError
from fedloom.hub.export.bundle import BundleKeys, export_bundle
from fedloom.hub.export.provenance import PREDICATE
from fedloom.values import sha256
from fedloom.versions import dsse
from fedloom.versions.keys import create_key, read_private_key
from fedloom.versions.repository import Repository
from tests.projects import allow, edit, project, run

FILES = ["contract.yaml", "model-card.md", "model.safetensors", "provenance.intoto.jsonl"]


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """A run with a gate, baselines, and a site that is away."""
    home = project(tmp_path_factory.mktemp("machines"), rounds=4, gate=False)
    allow(home, "{min_sites: 2}")
    edit(home / "pipeline.yaml", "purpose: ", "purpose: A | B. ")
    return home, run(home, scenario=Scenario({2: Faults(drop=frozenset({"north"}))})).commit


@pytest.fixture
def keys(tmp_path):
    create_key(tmp_path / "ed.pem")
    create_key(tmp_path / "ec.pem", "p256")
    return BundleKeys(read_private_key(tmp_path / "ed.pem"), read_private_key(tmp_path / "ec.pem"))


def statement(folder):
    (line,) = (folder / "provenance.intoto.jsonl").read_text().splitlines()
    return json.loads(line)


def test_the_folder_is_whole_and_deterministic(tmp_path, machines):
    """Two exports of one commit are equal byte by byte."""
    home, commit = machines
    repository = Repository.at(home)
    for name in ("one", "two"):
        assert export_bundle(repository, commit, tmp_path / name) == FILES
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    assert (tmp_path / "one" / "contract.yaml").read_bytes() == (home / "contract.yaml").read_bytes()
    with safe_open(tmp_path / "one" / "model.safetensors", framework="np") as file:
        assert file.metadata()["fedloom.commit"] == commit


def test_provenance_names_every_material_by_its_digest(tmp_path, machines):
    """Subjects are the files as they are; materials are contract, code and each site's data as they were."""
    home, commit = machines
    repository = Repository.at(home)
    export_bundle(repository, commit, tmp_path / "out")
    said = statement(tmp_path / "out")
    assert (said["_type"], said["predicateType"]) == (dsse.STATEMENT, PREDICATE)
    assert {one["name"]: one["digest"]["sha256"] for one in said["subject"]} == {
        name: sha256((tmp_path / "out" / name).read_bytes()) for name in FILES[:3]
    }
    build, details = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    assert build["externalParameters"]["commit"] == details["metadata"]["invocationId"] == commit
    materials = {one["name"]: one["digest"]["sha256"] for one in build["resolvedDependencies"]}
    assert materials["fedloom:commit"] == repository.commit(commit).parents[0]
    assert materials["contract"] == sha256((home / "contract.yaml").read_bytes())
    assert materials["code/learner"] == sha256((home / "learner.py").read_bytes())
    for site in ("harbour", "north", "south"):
        assert materials[f"sites/{site}/adapter"] == sha256((home / "sites" / f"{site}.yaml").read_bytes())
        assert f"sites/{site}/data" in materials


def test_signed_provenance_is_an_envelope_that_its_key_holds(tmp_path, machines, keys):
    """With a key the line is a DSSE envelope; a changed payload does not hold."""
    home, commit = machines
    export_bundle(Repository.at(home), commit, tmp_path / "out", BundleKeys(keys.provenance))
    envelope = dsse.read_envelope(statement(tmp_path / "out"))
    said = dsse.read_statement(envelope, PREDICATE)
    assert said["subject"][0]["name"] == "contract.yaml"
    signed = dsse.pae(envelope.payload_type, envelope.payload)
    assert keys.provenance.public.holds(envelope.signatures[0].value, signed)
    assert not keys.provenance.public.holds(envelope.signatures[0].value, signed + b" ")
    assert envelope.signatures[0].key == keys.provenance.public.id


def test_a_bundle_replaces_a_bundle_and_nothing_else(tmp_path, machines, keys):
    """Export again, without signatures, and none are left over; a folder with other files is left alone."""
    home, commit = machines
    repository = Repository.at(home)
    assert "model.sig" in export_bundle(repository, commit, tmp_path / "out", keys)
    assert export_bundle(repository, commit, tmp_path / "out") == FILES
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(SpecError, match=r"holds 'thesis.txt', which is no part of a bundle"):
        export_bundle(repository, commit, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").exists()
    with pytest.raises(SpecError, match="is no folder"):
        export_bundle(repository, commit, tmp_path / "out" / "thesis.txt")


def test_the_card_says_what_the_commit_says(tmp_path, machines):
    """Purpose, data, figures beside baselines, participation, privacy and limits; text cannot break the tables."""
    home, commit = machines
    repository = Repository.at(home)
    export_bundle(repository, commit, tmp_path / "out")
    card = (tmp_path / "out" / "model-card.md").read_text()
    headings = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert headings == ["Purpose", "Data", "Training", "Metrics", "Participation", "Privacy", "Limits", "Files"]
    assert f"Commit `{commit}`" in card
    assert "A \\| B. Tell from routine readings" in card
    measured = repository.commit(commit).facts["metrics"]
    for site, figures in measured["sites"].items():
        assert f"| {site} | {figures['rows']:.0f} | {figures['accuracy']:.3f} |" in card
    assert f"| all sites | {measured['pooled']['rows']:.0f} | {measured['pooled']['accuracy']:.3f} |" in card
    assert "4 rounds with 3 sites: harbour, north, south.\n\nPARTIAL rounds: 1; north missed 1." in card
    assert "- Some rounds, or the fit of the preprocessing, lacked a site: see participation." in card
    assert "epsilon unbounded" in card
    assert "- No gate was asked whether the model is good enough." in card
    assert f"| `model.safetensors` | `{sha256((tmp_path / 'out' / 'model.safetensors').read_bytes())}` |" in card


def test_the_card_of_an_import_says_what_is_unknown(tmp_path):
    """A commit without inputs has a card that invents nothing."""
    import numpy as np

    from fedloom.hub.imports import import_file

    repository = Repository.at(tmp_path)
    np.savez(tmp_path / "in.npz", w=np.zeros(3))
    _, commit = import_file(repository, "npz", tmp_path / "in.npz")
    assert export_bundle(repository, commit, tmp_path / "out") == FILES[1:]
    card = (tmp_path / "out" / "model-card.md").read_text()
    assert "## Purpose\n\nNot recorded." in card
    assert "## Metrics\n\nNot measured." in card
    assert "- The model was imported: how it was trained is not recorded here." in card
