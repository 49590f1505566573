from fedloom.pipeline.checks.labels import labels
from fedloom.pipeline.spec import ContractStage
from tests.pipeline.tables import LABEL, NUMBER, Column, contract, read
from tests.suites.check import CANARY, CheckSuite

ONE = {"age": [CANARY, "1"], "y": ["yes", "yes"]}


class TestLabels(CheckSuite):
    check = labels
    contract = contract(NUMBER, LABEL)
    passing = {"age": ["1", "2"], "y": ["yes", "no"]}  # noqa: RUF012  a table
    failing = {  # noqa: RUF012  a table of cases
        "one class": (ONE, "refuse", "label 'y' has one class only of 2"),
        "one class and gaps": ({**ONE, "y": ["no", None]}, "refuse", "set `single_class: allow`"),
    }


def test_a_pipeline_may_allow_one_class():
    """`single_class: allow` turns the refusal into a note."""
    made = contract(NUMBER, LABEL)
    (found,) = labels(made, read(ONE, *made.columns), ContractStage(single_class="allow"))
    assert found.severity == "note"


def test_a_number_as_label_has_no_classes():
    """Nothing is asked of a regression's label, nor of one that is absent."""
    made = contract(NUMBER, Column("y", role="label"))
    assert list(labels(made, read({"y": ["1", "1"]}, *made.columns), ContractStage())) == []
    assert list(labels(contract(NUMBER, LABEL), read({"age": ["1"]}, NUMBER, LABEL), ContractStage())) == []
