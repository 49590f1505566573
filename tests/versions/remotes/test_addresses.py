"""Names, addresses and options of remotes: what is kept, what is refused, and that no secret is ever shown."""

import json
from contextlib import suppress

import pytest

from fedloom.errors import ConflictError, FedloomError, NotFoundError, SpecError, VersionsError
from fedloom.versions.remotes import addresses, sync
from fedloom.versions.remotes.addresses import connected, only_remote
from fedloom.versions.remotes.sync import Pushing
from tests.versions.remotes.histories import commit, model, repository, rounds

SECRET = "s3cr3t-value"  # noqa: S105  made up


def test_remotes_are_remembered_listed_and_forgotten(tmp_path):
    """A remote has a name and an address until it is removed; its refs and options go with it."""
    content = repository(tmp_path / "here")
    addresses.add(content, "origin", str(tmp_path / "there"))
    addresses.add(content, "hub", "https://host/models/", {"token": SECRET})
    assert addresses.listed(content) == {"hub": "https://host/models", "origin": str(tmp_path / "there")}
    rounds(content, 0)
    sync.push(content, "origin")
    tip = content.refs.get("heads/main")
    content.attest(tip, "gate", {"passed": True})
    sync.push(content, "origin")
    addresses.remove(content, "origin")
    addresses.remove(content, "hub")
    assert addresses.listed(content) == {}
    assert content.refs.names("remotes/") == content.refs.names("seen/") == []
    assert content.has(tip)
    left = b"".join(path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file())
    assert SECRET.encode() not in left


def test_secrets_stay_out_of_settings_and_listings(tmp_path):
    """Options lie apart: neither the settings nor a listing hold them."""
    content = repository(tmp_path)
    options = {
        "access_key_id": "id",
        "secret_access_key": SECRET,
        "endpoint": "http://127.0.0.1:1",
        "allow_http": "true",
    }
    addresses.add(content, "origin", "s3://bucket/path", options)
    assert SECRET not in json.dumps(dict(addresses.listed(content))) + str(content.settings.read())


@pytest.mark.parametrize(
    ("name", "url", "options", "told"),
    [
        ("Origin", "/x", {}, "is no name for a remote"),
        ("a/b", "/x", {}, "is no name for a remote"),
        ("", "/x", {}, "is no name for a remote"),
        ("x", "ftp://host/x", {}, "'ftp://' is not known: did you mean"),
        ("x", "https://", {}, "is no address"),
        ("x", "s3:///path", {}, "is no address"),
        ("x", "https://host/x?y=z", {}, "is no address"),
        ("x", f"https://me:{SECRET}@host/x", {}, "no user or password"),
        ("x", f"s3://key:{SECRET}@bucket/x", {}, "no user or password"),
        ("x", "/folder", {"token": SECRET}, "takes no option 'token': leave it out"),
        ("x", "https://host", {"tokn": SECRET}, "takes no option 'tokn': did you mean 'token'"),
        ("x", "s3://bucket/x", {"secret": SECRET}, "takes no option 'secret': "),
    ],
)
def test_an_unusable_remote_is_refused_at_once(name, url, options, told):
    """A wrong name, address or option is a sentence, which never holds a secret; nothing is remembered."""
    content = repository()
    with pytest.raises(SpecError) as caught:
        addresses.add(content, name, url, options)
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)
    assert addresses.listed(content) == {}


def test_a_name_is_taken_once():
    """Adding a remote does not replace one."""
    content = repository()
    addresses.add(content, "origin", "/one")
    with pytest.raises(ConflictError, match="`fedloom remote remove origin`"):
        addresses.add(content, "origin", "/two")
    assert addresses.listed(content) == {"origin": "/one"}


def test_an_unknown_remote_is_told_with_those_there_are():
    """A wrong name lists the right ones, or says how to add one."""
    content = repository()
    with pytest.raises(NotFoundError, match=r"no remote 'orign'. Remotes: none yet; add one with `fedloom remote add"):
        sync.fetch(content, "orign")
    addresses.add(content, "origin", "/x")
    with pytest.raises(NotFoundError, match=r"no remote 'orign'. Remotes: origin"):
        addresses.remove(content, "orign")


@pytest.mark.parametrize(
    ("names", "meant"), [([], "origin"), (["hub"], "hub"), (["hub", "b"], "origin"), (["a", "origin"], "origin")]
)
def test_the_remote_that_goes_without_saying(names, meant):
    """`origin`, or the only one there is."""
    content = repository()
    for name in names:
        addresses.add(content, name, "/x")
    assert only_remote(content) == meant


def test_a_folder_is_a_repository_or_becomes_one(tmp_path):
    """A project's folder means its `.fedloom`; a new or empty one is filled by a push; others are left alone."""
    content = repository()
    rounds(content, 0)
    (tmp_path / "project" / ".fedloom").mkdir(parents=True)
    (tmp_path / "project" / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo").write_text("mine")
    for name in ("project", "other", "fresh"):
        addresses.add(content, name, str(tmp_path / name))
    with pytest.raises(NotFoundError, match=r"there is no repository at .*fresh: check the path, or push there first"):
        sync.fetch(content, "fresh")
    with pytest.raises(VersionsError, match="holds other files and no repository"):
        sync.push(content, "other")
    sync.push(content, "project")
    sync.push(content, "fresh")
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["photo"]
    for folder in ("project/.fedloom", "fresh"):
        assert repository(tmp_path / folder).refs.get("heads/main") == content.refs.get("heads/main")


def test_a_token_file_that_cannot_be_read_is_told(tmp_path):
    """The token is read when it is needed, and its file may be put right."""
    content = repository()
    addresses.add(content, "hub", "http://127.0.0.1:9", {"token-file": str(tmp_path / "token")})
    with pytest.raises(NotFoundError, match=r"the token file .*token into it"):
        sync.fetch(content, "hub")


def test_s3_is_found_by_the_environment(s3, monkeypatch):
    """Without options the environment says where S3 is and who is asking."""
    for key, value in {
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(key, value)
    one, two = repository(), repository()
    for content in (one, two):
        addresses.add(content, "origin", "s3://models/by-environment")
    ids = rounds(one, 0)
    sync.push(one, "origin")
    sync.fetch(two, "origin")
    assert two.model(ids[0])


def test_a_bucket_that_is_not_there_is_one_sentence(s3):
    """A wrong bucket ends in a sentence without secrets."""
    content = repository()
    rounds(content, 0)
    addresses.add(content, "origin", "s3://no-such-bucket/x", {**s3.options, "secret_access_key": SECRET})
    with pytest.raises(FedloomError) as caught:
        sync.push(content, "origin", Pushing())
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_connections_end(tmp_path):
    """A remote that was opened is let go of, whatever happened meanwhile: no lease is left behind there."""
    content = repository()
    addresses.add(content, "origin", str(tmp_path / "there"))
    tip = commit(content, model())
    with suppress(RuntimeError), connected(content, "origin", create=True) as remote:
        remote.missing([tip])
        assert len(list((tmp_path / "there" / "leases").iterdir())) == 1
        raise RuntimeError
    assert not list((tmp_path / "there" / "leases").iterdir())
