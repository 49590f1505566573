"""Everything in a catalogue has a heading in the reference; every command and exit code is documented."""

import re
from pathlib import Path

import pytest
import typer

from fedloom import errors
from fedloom.cli.main import app
from fedloom.learners.catalog import LEARNERS
from fedloom.pipeline.checks.catalog import CHECKS
from fedloom.pipeline.spec import PipelineSpec
from fedloom.pipeline.stages.catalog import STAGES
from fedloom.telemetry.metrics import HIGHER_IS_BETTER
from fedloom.versions.merging.catalog import BRANCH_STRATEGIES, STRATEGIES

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
REFERENCE = ROOT / "docs" / "reference"
COMMANDS = [f"fedloom {name}" for name in typer.main.get_command(app).commands]


def headings(name):
    return re.findall(r"^##? (.+)$", (REFERENCE / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("learners.md", LEARNERS),
        ("strategies.md", [*STRATEGIES, *BRANCH_STRATEGIES]),
        ("pipeline.md", STAGES),
        ("contract.md", CHECKS),
        ("metrics.md", HIGHER_IS_BETTER),
        ("commands.md", COMMANDS),
    ],
)
def test_every_part_has_a_heading_and_no_heading_is_orphaned(page, names):
    """A reference page lists exactly what its catalogue holds."""
    title, *found = headings(page)
    assert set(found) - {"Checks"} == set(names), title


def test_every_pipeline_field_is_in_the_reference():
    """No field of pipeline.yaml is undocumented."""
    text = (REFERENCE / "pipeline.md").read_text()
    assert [name for name in PipelineSpec.model_fields if f"| `{name}` |" not in text] == []


def test_every_exit_code_is_documented():
    """The table of exit codes is complete."""
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    text = (REFERENCE / "commands.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == codes


def test_every_command_and_option_has_help():
    """Nothing on the command line is unexplained."""
    for name, command in typer.main.get_command(app).commands.items():
        assert command.help, name
        for option in command.params:
            assert getattr(option, "help", None), f"{name} {option.name}"


def test_links_between_documents_lead_somewhere():
    """No relative link in README, docs or examples is dead."""
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")]
    found = [(page, target) for page in pages for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [f"{page.name}: {target}" for page, target in found if not (page.parent / target).exists()] == []
