"""key, sign, trust and verify on the command line: what a person types and reads."""

import json
import stat

import pytest

from fedloom.versions.repository import Repository
from tests.projects import history, project, run


@pytest.fixture
def home(tmp_path):
    """A run of two rounds, registered as main."""
    folder = project(tmp_path, rounds=2, gate=False)
    run(folder)
    return folder


@pytest.fixture
def signed(cli, home, tmp_path):
    """The same, signed by the hub, whom it trusts."""
    cli("key", "create", tmp_path / "hub.pem")
    cli("trust", "hub", tmp_path / "hub.pem.pub", "-C", home)
    assert cli("sign", "--key", tmp_path / "hub.pem", "-C", home).code == 0
    return home


def test_a_key_is_made_once(cli, tmp_path):
    """The private half is for its owner only; neither half is ever overwritten."""
    said = cli("key", "create", tmp_path / "k.pem")
    assert said.code == 0
    assert "keep it to yourself" in said.out
    assert (tmp_path / "k.pem.pub").read_text().strip() in said.out
    assert "PRIVATE" not in said.out
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    cli("key", "create", tmp_path / "k.pem").refused(2, "never overwritten")
    (tmp_path / "k.pem.pub").unlink()
    cli("key", "create", tmp_path / "k.pem").refused(2, "never overwritten")
    (tmp_path / "other.pub").write_text("precious")
    cli("key", "create", tmp_path / "new.pem", "--public", tmp_path / "other.pub").refused(2, "never overwritten")
    assert not (tmp_path / "new.pem").exists()
    said = cli("key", "create", tmp_path / "ec.pem", "--kind", "p256", "--json")
    assert json.loads(said.out)["algorithm"] == "p256"
    cli("key", "create", tmp_path / "x.pem", "--kind", "rsa").refused(2, "no kind of key 'rsa'")


def test_a_signed_commit_verifies(cli, signed):
    """What was checked stands in a few lines; the signer is named; the exit code is 0."""
    tip = history(signed)[-1]
    said = cli("verify", "-C", signed)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == f"commit {tip}"
    assert lines[1].startswith("history: 3 commits, ")
    assert "models: 0 of 3 computed anew, 1 not (a start), 2 not (updates were not kept)" in lines
    assert lines[-2].endswith("signatures: this commit by hub")
    assert lines[-1] == "verified"
    assert cli("verify", "-C", signed, "--require", "hub", "--signed").code == 0
    told = json.loads(cli("verify", "-C", signed, "--json").out)
    assert (told["ok"], told["signers"], told["commit"]) == (True, ["hub"], tip)
    assert Repository.at(signed).attestation(tip, f"signature/{told['signatures'][0]['key']}")


def test_what_is_demanded_and_missing_is_listed(cli, signed):
    """Exit code 1 and every problem in a line of its own."""
    said = cli("verify", "HEAD~1", "-C", signed, "--signed", "--require", "hub", "--require", "north")
    assert said.code == 1
    older = history(signed)[-2][:12]
    assert said.out.splitlines()[-4:] == [
        "3 problems",
        f"  commit {older} is not signed by 'hub'",
        "  'north' is not trusted here: `fedloom trust north PUBLIC.pem`",
        f"  commit {older} is signed by nobody who is trusted here",
    ]


def test_depth_and_unknown_signers_are_told(cli, signed):
    """Who is not trusted is counted, not believed; commits beyond the depth are said to be left out."""
    cli("trust", "hub", "--remove", "-C", signed)
    said = cli("verify", "-C", signed, "--depth", 1)
    assert said.code == 0
    assert "history: 1 commit, " in said.out
    assert "; 1 older left out by --depth" in said.out
    assert "signatures: 1 by keys not trusted here" in said.out
    assert cli("verify", "-C", signed, "--signed").code == 1


def test_a_damaged_repository_does_not_verify(cli, signed):
    """Files lost from the store are problems with the place they belong to."""
    lost = sorted(path for path in (signed / ".fedloom").rglob("*") if {"bundles", "objects"} & set(path.parts))
    for path in lost:
        if path.is_file():
            path.unlink()
    said = cli("verify", "main", "-C", signed)
    assert said.code != 0
    assert "Traceback" not in said.out + said.err
    assert "verified" not in said.out.splitlines()


def test_trust_is_listed_and_guarded(cli, home, tmp_path):
    """A name keeps its key until it is removed; odd combinations are usage errors."""
    assert "nobody is trusted here yet" in cli("trust", "-C", home).out
    for name in ("a", "b"):
        cli("key", "create", tmp_path / f"{name}.pem")
    assert cli("trust", "north", tmp_path / "a.pem.pub", "-C", home).code == 0
    cli("trust", "north", tmp_path / "b.pem.pub", "-C", home).refused(5, "'north' is trusted with another key")
    cli("trust", "south", tmp_path / "b.pem", "-C", home).refused(2, "holds a private key")
    listed = json.loads(cli("trust", "--list", "--json", "-C", home).out)
    assert list(listed) == ["north"]
    assert listed["north"]["id"] in cli("trust", "--list", "-C", home).out
    cli("trust", "south", "--remove", "-C", home).refused(4, "'south' is not trusted here; trusted: north")
    assert cli("trust", "north", "--remove", "-C", home).code == 0
    for words in (("north",), ("--remove",), ("north", tmp_path / "a.pem.pub", "--remove")):
        said = cli("trust", *words, "-C", home)
        assert (said.code, "Traceback" in said.err) == (2, False)


def test_signing_needs_a_history_and_a_fitting_key(cli, home, tmp_path):
    """No repository, no commit, the wrong kind of key: one sentence each."""
    cli("key", "create", tmp_path / "ec.pem", "--kind", "p256")
    cli("sign", "--key", tmp_path / "ec.pem", "-C", home).refused(2, "Ed25519")
    cli("key", "create", tmp_path / "k.pem")
    cli("sign", "--key", tmp_path / "k.pem", "-C", tmp_path).refused(4, "has no history yet")
    cli("sign", "nowhere", "--key", tmp_path / "k.pem", "-C", home).refused(4, "nowhere")
    cli("sign", "--key", tmp_path / "absent.pem", "-C", home).refused(2, "cannot read")
    (home / "empty" / ".fedloom").mkdir(parents=True)
    cli("sign", "--key", tmp_path / "k.pem", "-C", home / "empty").refused(4, "no commit yet")
    said = cli("sign", "--key", tmp_path / "k.pem", "-C", home, "--as", "me", "--json")
    assert json.loads(said.out)["commit"] == history(home)[-1]


def test_verify_replays_a_round(cli, signed):
    """`--replay` verifies, then trains the round again; `--whole-run` alone means nothing."""
    said = cli("verify", "--replay", "-C", signed)
    assert said.code == 0
    assert "replayed round 2: the same commit" in said.out
    assert cli("verify", "--whole-run", "-C", signed).code == 2
    said = cli("verify", "--replay", "--require", "nobody", "-C", signed)
    assert said.code == 1
    assert "replayed" not in said.out


def test_verify_and_replay_are_one_json_value(cli, signed):
    """What was verified and what was replayed; where nothing was replayed, null."""
    said = cli("verify", "--replay", "--json", "-C", signed)
    told = json.loads(said.out)
    assert (said.code, set(told)) == (0, {"verify", "replay"})
    assert told["verify"] == json.loads(cli("verify", "--json", "-C", signed).out)
    assert told["replay"]["same"] is True
    assert [one["round"] for one in told["replay"]["rounds"]] == [2]
    said = cli("verify", "--replay", "--json", "--require", "nobody", "-C", signed)
    assert (said.code, json.loads(said.out)["replay"]) == (1, None)
