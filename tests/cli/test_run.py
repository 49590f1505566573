"""`fedloom run` as people and machines see it: interrupted, killed, resumed, watched."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.projects import FEDLOOM, allow, everything_kept, history, in_fit, journals, left, process, project, run, slow

ROUNDS = 25


def slow_project(folder):
    home = project(folder, rounds=ROUNDS)
    slow(home, 0.03)
    return home


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The commits of a run that nobody stopped."""
    home = slow_project(tmp_path_factory.mktemp("whole"))
    run(home)
    return history(home)


def stopped(home, sign, after, delay, *words):
    """Start a run as a process, send it a signal some time after it told of a round; gives code, stdout, stderr."""
    command = [*FEDLOOM, "run", "--json", *words]
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        out = []
        for line in running.stdout:
            out.append(line)
            if json.loads(line).get("round") == after:
                break
        time.sleep(delay)
        running.send_signal(sign)
        rest, err = running.communicate(timeout=30)
        return running.returncode, "".join(out) + rest, err


@pytest.mark.parametrize(
    ("sign", "after"),
    [*((signal.SIGKILL, after) for after in (1, 4, 9, 15, 20)), (signal.SIGINT, 2), (signal.SIGINT, 18)],
)
def test_killed_anywhere_and_resumed(tmp_path, cli, whole, sign, after):
    """Ctrl-C or `kill -9` at any moment: whole rounds are kept, and resumed they end with the same digest."""
    home = slow_project(tmp_path)
    code, _, err = stopped(home, sign, after, random.uniform(0, 0.03))  # noqa: S311  any moment will do
    assert code == (130 if sign == signal.SIGINT else -signal.SIGKILL), err
    assert "Traceback" not in err
    kept = history(home)
    assert after < len(kept) < len(whole), "the signal came too late to show anything"
    assert kept == whole[: len(kept)]
    shown = cli("log", "-C", home, "--json")
    assert shown.code == 0
    assert [json.loads(line)["commit"] for line in shown.out.splitlines()] == kept[::-1]
    run(home, resume=True)
    assert history(home) == whole


@pytest.mark.parametrize("kind", [[], ["--processes"]])
def test_stopped_and_resumed_by_new_processes(tmp_path, whole, kind):
    """Nothing of the interrupted process is needed: another one, with threads or worker processes, goes on."""
    home = slow_project(tmp_path)
    code, _, err = stopped(home, signal.SIGTERM, 5, 0.0, *kind)
    assert (code, "Traceback" in err) == (130, False), err
    said = process(home, "run", "--resume", *kind)
    assert (said.code, said.err) == (0, "")
    assert "going on after round" in said.out
    assert history(home) == whole


def test_ctrl_c_does_not_wait_for_a_long_fit(tmp_path):
    """A learner in a long step cannot be stopped; the command ends all the same, and tells how to go on."""
    home = project(tmp_path, rounds=3)
    in_fit(home, 'from pathlib import Path; Path(__file__).with_name("fitting").touch()')
    slow(home, 15)
    began = time.monotonic()
    with subprocess.Popen(
        [*FEDLOOM, "run"], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        while not (home / "fitting").exists():
            assert time.monotonic() - began < 20
            time.sleep(0.02)
        asked = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert time.monotonic() - asked < 5
    assert "Go on with `fedloom run --resume`" in err
    assert "Traceback" not in err


# what is printed


def test_plain_output_is_short(tmp_path, cli):
    """Fifty rounds into a file or a pipe: at most 15 lines, the commit and the model among them."""
    home = project(tmp_path, rounds=50)
    said = cli("run", "-C", home)
    lines = said.out.splitlines()
    assert said.code == 0
    assert len(lines) <= 15, said.out
    assert said.err == ""
    assert [line for line in lines if line.startswith("round ")][-1].startswith("round 50  sites 3/3")
    assert history(home)[-1] in lines[-2]
    assert lines[-1] == f"model: {home / 'models' / 'machines.safetensors'}"


@pytest.mark.parametrize("rounds", [1, 2, 6, 7, 11, 13, 49, 50, 99])
def test_partial_output_is_short_too(tmp_path, cli, rounds):
    """Whatever the number of rounds, faults or resumption, the same bound; what is missing is on one line."""
    home = project(tmp_path, rounds=rounds, gate=False)
    allow(home, "{min_sites: 1}")
    (home / "faults.yaml").write_text("rounds: {1: {drop: [north, south]}, 7: {corrupt: [south]}}")
    said = cli("run", "-C", home, "--scenario", home / "faults.yaml")
    assert said.code == 6
    assert len(said.out.splitlines()) <= 15, said.out
    assert said.out.count("PARTIAL: ") == 1
    assert f"round {rounds}  sites" in said.out
    again = cli("run", "-C", home, "--resume", "--rounds", rounds + 3)
    assert again.code == 6
    assert len(again.out.splitlines()) <= 15


def test_json_lines(tmp_path, cli):
    """Every line is one JSON object that names its event; the last holds the exit code, and so it is."""
    home = project(tmp_path, rounds=3, gate=False)
    allow(home, "{min_sites: 2}")
    (home / "faults.yaml").write_text("rounds: {2: {drop: [north]}}")
    for more, code in (([], 0), (["--scenario", home / "faults.yaml"], 6)):
        said = cli("run", "-C", home, "--json", *more)
        events = [json.loads(line) for line in said.out.splitlines()]
        names = [event["event"] for event in events]
        assert names[2] == "run_started"
        assert names.count("round_finished") == 3
        assert {name for name in names if name != "round_finished"} == {"stage_finished", "run_started", "run_finished"}
        assert names[-1] == "run_finished"
        assert (events[-1]["exit_code"], said.code) == (code, code)
        assert events[-1]["commit"] == history(home, events[-1]["run"])[-1]
        assert said.err == ""


def test_the_plan_as_json_is_what_leaves(tmp_path, cli):
    """`fedloom plan --json` states bytes and times; a run's journals hold exactly so many bytes."""
    home = project(tmp_path, rounds=12)
    plan = json.loads(cli("plan", "-C", home, "--json").out)
    assert plan["refused"] == []
    assert everything_kept(home) == b""
    cli("run", "-C", home)
    stated = sum(line["nbytes"] * line["times"] for line in plan["leaves_each_site"])
    for site, lines in journals(home).items():
        assert sum(line["bytes"] for line in lines) == stated, site
    assert len(left(home)) == 3


def test_overrides_win_over_the_file(tmp_path, cli):
    """`--rounds` and `--seed`; the same seed from file or option is the same run."""
    home = project(tmp_path, rounds=9, gate=False)
    assert cli("run", "-C", home, "--rounds", 2, "--seed", 1).code == 0
    assert cli("run", "-C", home, "--rounds", 2).code == 0
    assert cli("run", "-C", home, "--rounds", 2, "--seed", 7).code == 0
    assert history(home, "runs/1") == history(home, "runs/2")
    assert history(home, "runs/3") != history(home, "runs/1")


def children(parent):
    """List the processes below one, by what the kernel says."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, above = stat.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if int(above) == parent and state != "Z":
            found += [int(stat.parent.name), *children(int(stat.parent.name))]
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_workers_end_with_the_process_that_started_them(tmp_path):
    """`kill -9` of a run with worker processes leaves none behind."""
    home = slow_project(tmp_path)
    command = [*FEDLOOM, "run", "--json", "--processes"]
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        while json.loads(running.stdout.readline()).get("round") != 1:
            pass
        workers = children(running.pid)
        running.kill()
    assert len(workers) >= 2
    end = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    left_over = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    for pid in left_over:
        os.kill(pid, signal.SIGKILL)
    assert left_over == []
