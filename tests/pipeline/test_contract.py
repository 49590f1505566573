"""contract.yaml: what it may say, and what is refused about it."""

import pytest

from fedloom.errors import SpecError
from fedloom.pipeline.contract import read_contract
from fedloom.values import sha256

HEAD = """apiVersion: v3.1.0
kind: DataContract
id: heart
version: 1.0.0
status: draft
team: {name: anybody}
schema:
  - name: rows
    properties:
"""
AGE = "      - {name: age, logicalType: number, required: true, logicalTypeOptions: {minimum: 0, maximum: 120}}\n"
LABEL = (
    "      - {name: sick, logicalType: string, "
    "customProperties: [{property: role, value: label}, {property: codes, value: [a, b]}]}\n"
)


def write(tmp_path, *properties, head=HEAD):
    path = tmp_path / "contract.yaml"
    path.write_text(head + "".join(properties), encoding="utf-8")
    return path


def prop(name="x", kind="number", **custom):
    listed = ", ".join(f"{{property: {key}, value: {value}}}" for key, value in custom.items())
    return f"      - {{name: {name}, logicalType: {kind}, customProperties: [{listed}]}}\n"


def test_a_contract_is_read_whole(tmp_path):
    """Names, roles, ranges, codes and units; what else the standard allows may stand there; the digest is of bytes."""
    path = write(tmp_path, AGE, prop("n", "integer", unit="kg"), LABEL)
    read = read_contract(path)
    assert (read.id, read.version) == ("heart", "1.0.0")
    assert [c.name for c in read.features] == ["age", "n"]
    age, n = read.features
    assert (age.minimum, age.maximum, age.required, age.whole) == (0, 120, True, False)
    assert (n.unit, n.whole) == ("kg", True)
    assert (read.label.name, read.label.codes) == ("sick", ("a", "b"))
    assert read.digest == sha256(path.read_bytes())
    assert read.column("sick") is read.label
    assert read.column("nobody") is None


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ([AGE, prop("y")], ["schema: exactly one column must have role label; found none"]),
        ([AGE, LABEL, prop("y", role="label")], ["exactly one column must have role label", "'sick', 'y'"]),
        ([LABEL, prop("s", "string", role="split", codes="[train, test]")], ["at least one column must be a feature"]),
        ([AGE, AGE, LABEL], ["column 'age' is described twice"]),
        ([prop(role="lable"), LABEL], [":10: schema.0.properties.0: role 'lable' of 'x' is not allowed"]),
        ([prop(kind="string"), LABEL], ["text column 'x' needs `codes`"]),
        ([prop(kind="string", codes="[a]"), LABEL], ["codes of 'x' must be a list of two or more different codes"]),
        ([prop(kind="string", codes="[a, a]"), LABEL], ["two or more different codes"]),
        ([prop(kind="string", codes="ab"), LABEL], ["two or more different codes"]),
        ([prop(kind="string", codes="[yes, no]"), LABEL], ["codes of 'x' hold an unquoted yes, no or null"]),
        ([prop(kind="string", codes="[a, null]"), LABEL], ["unquoted"]),
        (
            [prop(kind="string", role="split", codes="[a, b]"), AGE, LABEL],
            ["split column 'x' needs the codes [train, test]"],
        ),
        ([prop(kind="flaot"), LABEL], [":10: schema.0.properties.0.logicalType: 'flaot' is not allowed", "number"]),
        ([AGE.replace("minimum: 0", "minimum: 200"), LABEL], [":10: ", "the minimum of 'age' is above its maximum"]),
        ([LABEL], ["schema.0.properties: 2 or more are needed, and there are 1"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path, properties, words):
    """A contract that cannot be learned by is refused in one sentence."""
    with pytest.raises(SpecError) as caught:
        read_contract(write(tmp_path, *properties))
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    for word in words:
        assert word in said


def test_complaints_about_the_frame_come_at_once(tmp_path):
    """Version, kind and status of the standard, all in one go."""
    head = HEAD.replace("v3.1.0", "v2.0").replace("DataContract", "Contract").replace("status: draft\n", "")
    with pytest.raises(SpecError) as caught:
        read_contract(write(tmp_path, AGE, LABEL, head=head))
    fields = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert fields == ["apiVersion", "kind", "status"]
