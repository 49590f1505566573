"""What a pipeline file may say, its short forms, and the JSON Schema editors check it by."""

import json

import pytest
import yaml

from fedloom.errors import SpecError
from fedloom.pipeline.spec import json_schema, read_scenario, read_spec
from tests.projects import allow, edit, project

SCHEMA = json_schema()


def spec_of(tmp_path, *edits):
    path = project(tmp_path) / "pipeline.yaml"
    for old, new in edits:
        edit(path, old, new)
    return read_spec(path)[0]


def test_the_short_form_is_the_long_form(tmp_path):
    """`strategy: fedavg` and `strategy: {use: fedavg}` are the same; options stand beside the name."""
    short = spec_of(tmp_path / "a").strategy
    long = spec_of(tmp_path / "b", ("strategy: fedavg", "strategy: {use: fedavg}")).strategy
    assert short == long
    adam = spec_of(tmp_path / "c", ("strategy: fedavg", "strategy: {use: fedadam, eta: 0.5}")).strategy
    assert (adam.use, adam.options) == ("fedadam", {"eta": 0.5})


def test_a_bare_stage_runs_with_its_defaults(tmp_path):
    """`contract:` with nothing behind it runs; a stage that is not named does not."""
    stages = spec_of(tmp_path, ("  evaluate: {baselines: [local]}\n", "")).stages
    assert stages.contract is not None
    assert stages.contract.min_rows == 10
    assert stages.evaluate is None
    assert stages.present() == ("contract", "fit", "train", "gate", "register")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("30s", 30), ("1.5m", 90), ("5min", 300), ("2h", 7200), ("250ms", 0.25), ("90", 90), ("0.5", 0.5)],
)
def test_durations(tmp_path, written, seconds):
    """A deadline is written with a unit, or as a bare number of seconds."""
    home = project(tmp_path)
    allow(home, f"{{deadline: {written}}}")
    assert read_spec(home / "pipeline.yaml")[0].participation.deadline == seconds


@pytest.mark.parametrize("written", ["soon", "1.2.3s", "5 days", "0s", "-3", "'30'", ".inf"])
def test_wrong_durations(tmp_path, written):
    """What is no positive, finite duration is refused at its line."""
    home = project(tmp_path)
    allow(home, f"{{deadline: {written}}}")
    with pytest.raises(SpecError, match=r"pipeline.yaml:18: participation.deadline: "):
        read_spec(home / "pipeline.yaml")


def test_a_scenario_file(tmp_path):
    """Rounds by number, faults by kind, verbs when they are not `train` alone."""
    path = tmp_path / "faults.yaml"
    path.write_text("rounds: {2: {drop: [a], delay: {b: 5m}}}\nverbs: [train, evaluate]\n", encoding="utf-8")
    scenario = read_scenario(path, frozenset("ab"))
    assert scenario.faults("train", 2).drop == {"a"}
    assert scenario.faults("evaluate", 2).delay == {"b": 300.0}
    assert scenario.faults("fit", 2) == scenario.faults("train", 1)


def described(schema, where=""):
    for name, field in schema.get("properties", {}).items():
        yield f"{where}{name}", field
    for name, model in schema.get("$defs", {}).items():
        yield from described(model, f"{name}.")


def test_the_schema_is_valid_and_every_field_is_described():
    """An editor can load it, and shows a sentence at every field."""
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    silent = {where for where, field in described(SCHEMA) if not field.get("description")}
    assert silent <= {"Use.options"}, silent
    assert len(list(described(SCHEMA))) > 25
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_takes_what_the_reader_takes(tmp_path):
    """The scaffold's file, a duration with its unit, and the short form are valid to an editor; a typo is not."""
    jsonschema = pytest.importorskip("jsonschema")
    home = project(tmp_path)
    allow(home, "{min_sites: 2, require: [north], deadline: 30s}")
    data = yaml.safe_load((home / "pipeline.yaml").read_text(encoding="utf-8"))
    checker = jsonschema.Draft202012Validator(SCHEMA)
    assert list(checker.iter_errors(data)) == []
    data["strategy"] = {"use": "fedadam", "eta": 0.1}
    assert list(checker.iter_errors(data)) == []
    for field, value in [("strategy", 3), ("ronds", 3), ("rounds", 0), ("sites", {})]:
        assert list(checker.iter_errors({**data, field: value})), field
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
