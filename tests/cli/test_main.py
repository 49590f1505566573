"""Bad input through the real command: one sentence, the documented exit code, no traceback, nothing half-written."""

import json
import resource
import shutil
import subprocess

import pytest

from fedloom.versions.repository import Repository
from tests.projects import FEDLOOM, allow, as_root, edit, everything_kept, history, process, project, run

LEARNER = '{use: "learner.py:Logistic", l2: 0.001}'
START = '        weights, bias = parameters["weights"]'


def write(home, name, text):
    (home / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def pipeline(old, new):
    return lambda home: edit(home / "pipeline.yaml", old, new)


def learner(old, new):
    return lambda home: edit(home / "learner.py", old, new)


def rows(text):
    return lambda home: write(home, "data/south.csv", text)


HEADER = "temperature,age,type,failed\n"

REFUSED = {
    "no pipeline": (lambda home: (home / "pipeline.yaml").unlink(), 2, ["pipeline.yaml: no such file", "fedloom init"]),
    "empty pipeline": (lambda home: write(home, "pipeline.yaml", ""), 2, ["the file is empty"]),
    "malformed pipeline": (pipeline("rounds: ", "rounds: ["), 2, ["pipeline.yaml:", "malformed YAML"]),
    "binary pipeline": (lambda home: write(home, "pipeline.yaml", b"\xff\xfe\x00"), 2, ["cannot be read as UTF-8"]),
    "two slips": (
        pipeline("seed: 1\nsplit: {test: 0.3}", "seed: y\nsplit: {test: 3}"),
        2,
        ["2 errors:", "split.test: ", "seed: "],
    ),
    "unknown stage": (pipeline("  train: {", "  trian: {"), 2, ["stages.trian", "did you mean 'train'?"]),
    "unknown strategy": (pipeline("strategy: fedavg", "strategy: fedagv"), 2, ["did you mean 'fedavg'?"]),
    "unknown option": (pipeline("strategy: fedavg", "strategy: {use: fedadam, etta: 1}"), 2, ["did you mean 'eta'?"]),
    "unknown learner": (pipeline(LEARNER, "liner"), 1, ["no learner 'liner'; did you mean 'linear'?"]),
    "no learner file": (lambda home: (home / "learner.py").unlink(), 1, ["cannot be read: No such file"]),
    "learner does not import": (learner("import numpy as np", "import nmupy as np"), 1, ["cannot be loaded", "nmupy"]),
    "learner has a syntax error": (learner("def loss(", "def loss(("), 1, ["SyntaxError at learner.py:"]),
    "learner lacks a method": (learner("def loss(", "def lose("), 1, ["lacks loss"]),
    "no contract": (lambda home: (home / "contract.yaml").unlink(), 2, ["contract.yaml: no such file"]),
    "no adapter": (lambda home: (home / "sites/south.yaml").unlink(), 3, ["site south: ", "south.yaml: no such file"]),
    "wrong adapter": (lambda home: write(home, "sites/south.yaml", "sorce: x\n"), 3, ["did you mean 'source'?"]),
    "missing stage": (pipeline("  contract:", "  # contract:"), 3, ["add `contract:` to stages"]),
    "no site file": (lambda home: (home / "data/south.csv").unlink(), 3, ["site south: no file", "correct `source`"]),
    "empty site file": (rows(""), 3, ["site south: ", "south.csv is empty"]),
    "header only": (rows(HEADER), 3, ["site south: the file holds no rows"]),
    "too few rows": (rows(HEADER + "60,3,A,no\n60,3,A,yes\n"), 3, ["site south: 2 rows, fewer than min_rows 10"]),
    "one class only": (rows(HEADER + "60,3,A,no\n" * 20), 3, ["site south: label 'failed' has one class only of 2"]),
    "column absent": (
        rows("temperature,age,failed\n" + "60,3,no\n60,3,yes\n" * 9),
        3,
        ["column 'type' of contract machines is absent"],
    ),
    "ragged": (rows(HEADER + "60,3,A,no\n60,3,A\n"), 3, ["line 3 has 3 fields, and there are 4 columns"]),
    "not utf-8": (rows(HEADER.encode() + b"\xff,3,A,no\n"), 3, ["no readable UTF-8 CSV file"]),
    "binary": (rows(bytes(range(256)) * 4), 3, ["no readable UTF-8 CSV file"]),
    "wrong delimiter": (
        rows((HEADER + "60,3,A,no\n" * 12).replace(",", ";")),
        3,
        ["none of the 4 columns", "check `delimiter`"],
    ),
    "two sites at once": (
        lambda home: [write(home, f"data/{s}.csv", "") for s in ("south", "north")],
        3,
        ["2 errors:"],
    ),
    "learner gives NaN": (
        learner('{"weights": weights.astype(np.float32)', '{"weights": np.nan * weights.astype(np.float32)'),
        1,
        ["round 1 of runs/1 failed", "returned NaN in 'weights' from fit"],
    ),
    "learner gives a wrong shape": (
        learner('{"weights": weights.astype(np.float32)', '{"weights": weights[:1].astype(np.float32)'),
        1,
        ["of shape (1,) from fit: expected (3,)"],
    ),
    "learner changes the dtype": (
        learner('{"weights": weights.astype(np.float32)', '{"weights": weights'),
        1,
        ["'weights' as float64 from fit: expected float32"],
    ),
    "learner starts with nothing": (
        learner('return {"weights": np.zeros(features, np.float32), "bias": np.zeros(1, np.float32)}', "return None"),
        1,
        ["returned NoneType from initial_parameters"],
    ),
    "learner raises": (
        learner(START, "        1 / 0\n" + START),
        1,
        ["raised ZeroDivisionError in fit at learner.py:"],
    ),
    "the gate": (pipeline("auc >= 0.7", "auc >= 0.99"), 3, ["the gate refused the model: auc >= 0.99 (it is 0."]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence_and_one_code(tmp_path, cli, case):
    """Whatever is wrong with a project, `fedloom run` says it once and leaves whole history or none."""
    change, code, words = REFUSED[case]
    home = project(tmp_path, rounds=2)
    change(home)
    said = cli("run", "-C", home)
    said.refused(code, *words)
    assert "  \n" not in said.err
    if (home / ".fedloom" / "refs").exists():
        shown = cli("log", "-C", home)
        assert shown.code == 0, shown.err
        repository = Repository.at(home)
        for name in repository.refs.names():
            if not name.startswith("attestations/"):
                assert len(history(home, name)) >= 1
    else:
        cli("log", "-C", home).refused(4)
    assert not (home / "models").exists()


@pytest.mark.parametrize(
    "case", ["no pipeline", "learner does not import", "one class only", "learner gives NaN", "two sites at once"]
)
def test_the_same_as_a_process(tmp_path, case):
    """As a real process: exit code and stderr are what a shell sees."""
    change, code, words = REFUSED[case]
    home = project(tmp_path, rounds=2)
    change(home)
    process(home, "run").refused(code, *words)


@pytest.mark.parametrize("command", ["plan", "run"])
def test_plan_and_run_refuse_alike(tmp_path, cli, command):
    """A file that is wrong is wrong for both, with the same sentence."""
    home = project(tmp_path)
    edit(home / "pipeline.yaml", "rounds: 20", "ronds: 20")
    cli(command, "-C", home).refused(2, "did you mean 'rounds'?")


def test_a_plan_that_is_refused_lists_all_and_exits_3(tmp_path, cli):
    """`fedloom plan` prints the reasons among the plan; `--json` has them in a list."""
    home = project(tmp_path)
    allow(home, "{min_sites: 9, require: [nowhere]}")
    said = cli("plan", "-C", home)
    assert said.code == 3
    assert "9 sites are demanded" in said.out
    assert "no site 'nowhere'" in said.out
    as_json = cli("plan", "-C", home, "--json")
    assert as_json.code == 3
    assert len(json.loads(as_json.out)["refused"]) == 2
    assert everything_kept(home) == b""


def test_when_all_sites_are_dropped(tmp_path, cli):
    """The round fails with exit code 1; the log shows the rounds before it."""
    home = project(tmp_path, rounds=4)
    write(home, "faults.yaml", "rounds: {3: {drop: [north, south, harbour]}}")
    said = cli("run", "-C", home, "--scenario", home / "faults.yaml")
    said.refused(1, "round 3 of runs/1 failed: ", "harbour, north, south failed (connection lost)")
    assert len(history(home)) == 3
    assert "runs/1" in cli("log", "-C", home).out


def test_a_partial_run_exits_6(tmp_path, cli):
    """Done, but not by everybody: its own exit code, and a line that says PARTIAL."""
    home = project(tmp_path, rounds=4, gate=False)
    allow(home, "{min_sites: 2}")
    write(home, "faults.yaml", "rounds: {3: {drop: [north]}}")
    said = cli("run", "-C", home, "--scenario", home / "faults.yaml")
    assert said.code == 6
    assert "PARTIAL: 1 of 4 rounds went on without everybody: north missed 1 (connection lost)" in said.out
    assert "runs/1 ended partial-allowed" in said.out
    assert "complete" not in said.out
    assert cli("run", "-C", home, "--resume", "--rounds", 5).code == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rounds: {3: {drop: [nobody]}}", "no site 'nobody' in the pipeline"),
        ("rounds: {3: {dorp: [north]}}", "did you mean 'drop'?"),
        ("rounds: {x: {drop: [north]}}", "valid integer"),
        ("rounds: {3: {drop: north}}", "expected a list"),
        ("", "the file is empty"),
    ],
)
def test_a_wrong_scenario(tmp_path, cli, text, words):
    """A scenario file is complained about like any other."""
    home = project(tmp_path, rounds=2)
    write(home, "faults.yaml", text)
    cli("run", "-C", home, "--scenario", home / "faults.yaml").refused(2, "faults.yaml:", words)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["run", "--resume"], 4, "no run to resume"),
        (["run", "--engine", "inproces"], 2, "did you mean 'inprocess'?"),
        (["run", "--seed", 2**53], 2, "seed 9007199254740992 is not allowed"),
        (["log"], 4, "has no history yet"),
        (["show", "main"], 4, "has no history yet"),
        (["report"], 4, "has no history yet"),
    ],
)
def test_commands_before_there_is_anything(tmp_path, cli, words, code, told):
    """Nothing to show, nothing to resume, no such engine."""
    home = project(tmp_path)
    cli(words[0], "-C", home, *words[1:]).refused(code, told)


def test_unknown_names(tmp_path, cli):
    """A ref or a commit that is not there: exit code 4, and which there are."""
    home = project(tmp_path, rounds=1, gate=False)
    run(home)
    cli("show", "nothing", "-C", home).refused(4, "no commit or ref 'nothing'. Refs: heads/main, runs/1")
    cli("log", "0000", "-C", home).refused(4, "no commit starts with '0000'")
    cli("run", "-C", home, "--resume").refused(2, "runs/1 has 1 rounds")


def test_wrong_usage_exits_2(cli):
    """Options and commands that do not exist, numbers out of range."""
    for words in (["run", "--round", "3"], ["runn"], ["run", "--rounds", "0"], ["run", "--rounds", "x"], ["init"]):
        said = cli(*words)
        assert said.code == 2, words
        assert "Traceback" not in said.err


def test_init_writes_into_new_folders_only(tmp_path, cli):
    """A folder with something in it is left alone."""
    assert cli("init", tmp_path / "new").code == 0
    cli("init", tmp_path / "new").refused(2, "is there already and not empty")
    (tmp_path / "file").write_text("x")
    cli("init", tmp_path / "file").refused(2, "is there already")
    cli("init", tmp_path / "file" / "below").refused(1, "cannot write")


def test_a_store_that_cannot_be_made(tmp_path, cli):
    """A file where `.fedloom` should be: one sentence, exit code 1, and nothing moved."""
    home = project(tmp_path, rounds=2)
    (home / ".fedloom").write_text("no folder")
    cli("run", "-C", home).refused(1, "cannot use the version store at ")
    assert (home / ".fedloom").read_text() == "no folder"


def test_a_model_file_that_cannot_be_written(tmp_path, cli):
    """A file where `models` should be: the run is kept, the branch points to it, the sentence says so."""
    home = project(tmp_path, rounds=2, gate=False)
    (home / "models").write_text("no folder")
    cli("run", "-C", home).refused(1, "cannot write ", "The model itself is safe in the repository")
    assert len(history(home)) == 3
    (home / "models").unlink()
    assert cli("run", "-C", home, "--resume").code == 0


def test_an_unwritable_folder(tmp_path):
    """A folder this user may not write to: one sentence that says to make it writable."""
    home = project(tmp_path, rounds=2)
    home.chmod(0o555)
    bound = ("setpriv", "--bounding-set", "-dac_override") if as_root() else ()  # the superuser asks nobody
    if bound and not shutil.which("setpriv"):
        pytest.skip("permissions do not bind the superuser, and there is no setpriv to give that up")
    said = process(home, "run", before=bound)
    said.refused(1, "permission denied: make the folder writable for this user")
    assert not (home / ".fedloom").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The commits of twelve rounds on a disk with space."""
    home = project(tmp_path_factory.mktemp("whole"), rounds=12)
    run(home)
    return history(home)


@pytest.mark.parametrize("size", [0, 150, 1500, 3000])
def test_a_full_disk_stops_the_run_and_leaves_it_whole(tmp_path, cli, whole, size):
    """Wherever the disk fills up: a sentence that says so, whole history; with space it resumes to the same end.

    A limit on the size of files stands in for the disk: the journals grow into it, or the objects do not fit.
    """
    home = project(tmp_path, rounds=12)
    said = process(home, "run", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    said.refused(1 if size > 300 else 3)  # up to there not even the contract check fits into a journal
    assert "free space there" in said.err or "raise the file-size limit" in said.err, said.err
    started = (home / ".fedloom" / "refs").exists()
    if started:
        assert cli("log", "-C", home).code == 0
        assert history(home) == whole[: len(history(home))]
    run(home, resume=started)
    assert history(home) == whole
    for journal in (home / ".fedloom" / "sites").glob("*/outbox.jsonl"):
        assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_help_and_version(cli):
    """They answer, and the exit codes are documented."""
    helped = cli("--help")
    assert helped.code == 0
    assert "Exit codes: 0 done" in helped.out
    assert cli("--version").out.count(".") >= 2
    assert json.loads(cli("schema").out)["title"] == "PipelineSpec"


def test_output_into_a_closed_pipe(tmp_path):
    """`fedloom log | head -1` ends quietly."""
    home = project(tmp_path, rounds=40, gate=False)
    run(home)
    with subprocess.Popen(
        [*FEDLOOM, "log"], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as shown:
        shown.stdout.close()
        err = shown.stderr.read()
        shown.wait(timeout=30)
    assert "Traceback" not in err


def test_words_in_brackets_are_printed_as_they_stand(tmp_path, cli):
    """A purpose or a reason that looks like Rich's markup is text."""
    home = project(tmp_path, rounds=2, gate=False)
    edit(home / "pipeline.yaml", "purpose: Tell", "purpose: '[/b] [red]Tell")
    edit(home / "pipeline.yaml", "within a month.", "within a month.'")
    said = cli("plan", "-C", home)
    assert said.code == 0, said.err
    assert "[/b] [red]Tell from routine readings" in said.out


def test_partial_for_another_reason_says_so(tmp_path, cli):
    """Not measured everywhere, or fitted without a site: partial, exit code 6, and the reason is told."""
    home = project(tmp_path, rounds=2, gate=False)
    allow(home, "{min_sites: 2}")
    write(home, "faults.yaml", "verbs: [evaluate]\nrounds: {2: {drop: [north]}}")
    said = cli("run", "-C", home, "--scenario", home / "faults.yaml")
    assert said.code == 6
    assert "not measured everywhere (north failed (connection lost))" in said.out
    assert "not measured everywhere" in cli("show", "runs/1", "-C", home).out
    write(home, "faults.yaml", "verbs: [fit]\nrounds: {0: {drop: [north]}}")
    said = cli("run", "-C", home, "--scenario", home / "faults.yaml")
    assert said.code == 6
    assert "PARTIAL: the fit or an earlier part of this run lacked a site" in said.out
