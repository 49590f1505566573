"""The adapter file: what a steward may write, and what is said about a slip."""

import pytest

from fedloom.errors import SpecError
from fedloom.site.adapter import read_adapter
from tests.pipeline.tables import contract


def read(tmp_path, text):
    path = tmp_path / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return read_adapter(path, contract())


def test_what_a_steward_may_write(tmp_path):
    """Codes and words may be written as numbers; the rest has defaults."""
    found = read(tmp_path, "source: a.csv\nmissing: [-9]\ncolumns: {y: {from: sick, codes: {0: 'no', 1: 'yes'}}}\n")
    assert (found.delimiter, found.header, found.missing) == (",", None, ("-9",))
    assert found.columns["y"].codes == {"0": "no", "1": "yes"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("delimiter: ','\n", ["site.yaml:1: source: this field is required"]),
        ("source: a\nsorce: b\n", ["site.yaml:2: sorce: unknown field; did you mean 'source'?"]),
        ("source: a\ndelimiter: ';;'\n", ["site.yaml:2: delimiter: "]),
        ("source: a\ncolumns:\n  agee: {}\n", ["site.yaml:3: columns.agee: no column 'agee'", "did you mean 'age'?"]),
        (
            "source: a\ncolumns:\n  age: {form: x}\n",
            ["site.yaml:3: columns.age.form: unknown field; did you mean 'from'?"],
        ),
        (
            "source: a\ncolumns: {y: {codes: {1: yes}}}\n",
            ["site.yaml:2: columns.y.codes.1: expected text: put it in quotes"],
        ),
        ("source: a\nmissing: NA\n", ["site.yaml:2: missing: expected a list, such as [a, b]"]),
    ],
)
def test_a_slip_is_named_with_line_and_field(tmp_path, text, words):
    """File, line, field, and the nearest spelling."""
    with pytest.raises(SpecError) as caught:
        read(tmp_path, text)
    for word in words:
        assert word in str(caught.value)
