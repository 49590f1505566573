"""Complaints about files people wrote: file, line, field, what is allowed, and which spelling was probably meant."""

import pytest

from fedloom.errors import SpecError
from fedloom.pipeline.source import read_yaml
from fedloom.pipeline.spec import read_scenario, read_spec
from tests.projects import edit, project


def complaint(path, read=read_spec):
    with pytest.raises(SpecError) as caught:
        read(path)
    return str(caught.value)


def line_of(path, text):
    before, found, _ = path.read_text(encoding="utf-8").partition(text)
    assert found
    return before.count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rounds: 20", "ronds: 20", ["ronds: unknown field", "did you mean 'rounds'?", "participation"]),
        ("rounds: 20", "rounds: many", ["rounds:", "valid integer"]),
        ("rounds: 20", "rounds: 0", ["rounds:", "greater than or equal to 1"]),
        ("rounds: 20", "rounds: 9007199254740992", ["rounds:", "less than or equal to 9007199254740991"]),
        ("name: machines", "name: My Machines", ["name: 'My Machines' is not allowed", "lower-case"]),
        ("name: machines", "name: 3", ["name: expected text: put it in quotes"]),
        ("standardize: global", "standardise: global", ["stages.fit.standardise", "did you mean 'standardize'?"]),
        ("standardize: global", "standardize: globl", ["stages.fit.standardize", "'globl'", "did you mean 'global'?"]),
        ("  train: {", "  trian: {", ["stages.trian", "did you mean 'train'?", "Allowed: contract, evaluate, fit"]),
        ("  register: {}", "  register: {reff: main}", ["stages.register.reff", "did you mean 'ref'?"]),
        ("  register: {}", "  register: {ref: Main!}", ["stages.register.ref", "lower-case"]),
        ("[local]", "[lokal]", ["stages.evaluate.baselines.0", "did you mean 'local'?", "Allowed: local, pooled"]),
        ("[local]", "local", ["stages.evaluate.baselines", "expected a list"]),
        ("auc >= 0.7", "auk >= 0.7", ["stages.gate.require", "no figure 'auk'", "did you mean 'auc'?"]),
        ("{test: 0.3}", "{test: 0.3, column: s}", ["split:", "give either"]),
        ("{test: 0.3}", "0.3", ["split:", "expected fields and values"]),
        ("learning_rate: 0.1", "learning_rate: .inf", ["stages.train.learning_rate", "finite number"]),
        ("{epochs: 1", "{epochs: -1", ["stages.train.epochs"]),
        ("l2: 0.001", "l2: .nan", ["learner", "option 'l2' cannot be kept in a commit"]),
    ],
)
def test_a_complaint_names_file_line_field_and_what_is_allowed(tmp_path, old, new, words):
    """Whatever is wrong, one sentence says where and what would be right."""
    path = project(tmp_path) / "pipeline.yaml"
    line = line_of(path, old)
    edit(path, old, new)
    said = complaint(path)
    assert said.splitlines()[0].startswith(f"{path}:{line}: "), said
    assert len(said.splitlines()) == 1
    for word in words:
        assert word in said


def test_all_complaints_come_at_once(tmp_path):
    """Four mistakes give four lines, each with its own line number."""
    path = project(tmp_path) / "pipeline.yaml"
    wrong = [("test: 0.3", "test: 3"), ("rounds: 20", "rounds: 0"), ("seed: 1", "seed: -1"), ("epochs: 1", "epoch: 1")]
    for old, new in wrong:
        edit(path, old, new)
    lines = complaint(path).splitlines()
    assert [line.split(":")[1] for line in lines] == [str(line_of(path, new)) for _, new in wrong]
    assert [line.split(": ")[1] for line in lines] == ["split.test", "rounds", "seed", "stages.train.epoch"]


def test_what_is_missing_is_named(tmp_path):
    """A field that must be there and is not."""
    path = project(tmp_path) / "pipeline.yaml"
    edit(path, "name: machines\n", "")
    assert complaint(path) == f"{path}:2: name: this field is required"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["the file is empty"]),
        ("# nothing\n", ["the file is empty"]),
        ("- a\n- b\n", [":1: expected fields and values"]),
        ("hello", [":1: expected fields and values"]),
        ("a: 1\nb: 2\na: 3\n", [":3: 'a' stands here twice"]),
        ("a: {b: 1,\n  b: 2}\n", [":2: 'b' stands here twice"]),
        ("a: [1\nb: 2\n", [":2: malformed YAML"]),
        ("a: 1\n b: 2\n", [":2: malformed YAML"]),
        ("a: 1\n\tb: 2\n", [":2: malformed YAML"]),
        ("a: 1\n---\nb: 2\n", [":2: malformed YAML"]),
        ("a: !!python/object:os.system 1\n", [":1: malformed YAML"]),
        ("a: 1\nb: \x00\n", [":2: this is no text file"]),
        ("a: 2024-13-45\n", ["malformed YAML", "month"]),
        ("[" * 5000, ["malformed YAML"]),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_in_one_sentence(tmp_path, text, words):
    """Empty, a list, a word, a field twice, broken YAML: one sentence each, whatever the parser raised."""
    path = tmp_path / "pipeline.yaml"
    path.write_text(text, encoding="utf-8")
    said = complaint(path)
    assert said.startswith(str(path))
    for word in words:
        assert word in said


def test_bytes_that_are_no_utf8_are_refused(tmp_path):
    """Latin-1 and binary files are refused by name."""
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    assert complaint(path) == f"{path}: cannot be read as UTF-8 text (UnicodeDecodeError)"


def test_a_missing_file_says_how_to_get_one(tmp_path):
    """No file: the sentence names the command that writes a project."""
    assert "`fedloom init FOLDER`" in complaint(tmp_path / "pipeline.yaml")
    assert "cannot be read" in complaint(tmp_path)  # a folder in its place


def test_aliases_are_read_once_and_circles_end(tmp_path):
    """A YAML alias of itself, and aliases that double forty times, cost nothing."""
    path = tmp_path / "a.yaml"
    path.write_text("a: &a [*a]\n", encoding="utf-8")
    assert read_yaml(path).where(("a", 0)) == f"{path}:1"
    doubling = "x0: &x0 [1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 40))
    path.write_text(doubling, encoding="utf-8")
    assert read_yaml(path).where(("x39",)) == f"{path}:40"


def test_numbers_as_keys_have_their_own_lines(tmp_path):
    """A round of a scenario file is found by its number."""
    path = tmp_path / "faults.yaml"
    path.write_text("rounds:\n  1: {drop: [a]}\n  2: {drop: [nobody]}\n", encoding="utf-8")
    said = complaint(path, lambda p: read_scenario(p, frozenset({"a"})))
    assert said == f"{path}:3: rounds.2: no site 'nobody' in the pipeline: a"
    path.write_text("rounds:\n  1: {drop: [a]}\n  2: {dorp: [a]}\n", encoding="utf-8")
    said = complaint(path, lambda p: read_scenario(p, frozenset({"a"})))
    assert said.startswith(f"{path}:3: rounds.2.dorp: unknown field; did you mean 'drop'?")
