"""Signatures of commits: whoever is not trusted, or signed something else, does not count."""

import base64
import json
from dataclasses import replace

import pytest

from fedloom.errors import ConflictError, NotFoundError, SpecError
from fedloom.versions import dsse, signing
from fedloom.versions.content import Content
from fedloom.versions.keys import create_key, read_private_key
from fedloom.versions.objects import Commit
from fedloom.versions.store import Store


@pytest.fixture
def content():
    return Content(Store.in_memory())


@pytest.fixture
def key(tmp_path):
    create_key(tmp_path / "key.pem")
    return read_private_key(tmp_path / "key.pem")


@pytest.fixture
def other(tmp_path):
    create_key(tmp_path / "other.pem")
    return read_private_key(tmp_path / "other.pem")


def commit(content, message="start", parents=()):
    return content.add_commit(Commit(content.add_tree({}).id, parents, "import", message))


def found(content, id_):
    return [(one.name, one.problem) for one in signing.signatures(content, id_)]


def replant(content, id_, key, body):
    """File a body as this key's signature of a commit, as somebody with access to the store could."""
    content.attest(id_, f"signature/{key.public.id}", body)


def test_a_trusted_key_signs_a_commit(content, key):
    """The signature holds under every name its key is trusted as, and names kind, tree, parents and signer."""
    first = commit(content)
    id_ = commit(content, "next", (first,))
    signing.sign(content, id_, key, "hub at noon")
    assert found(content, id_) == [("", "")], "nobody vouches for the key yet"
    signing.trust(content, "hub", key.public)
    signing.trust(content, "north", key.public)
    assert found(content, id_) == [("hub", ""), ("north", "")]
    assert all(one.holds for one in signing.signatures(content, id_))
    kept = content.attestation(id_, f"signature/{key.public.id}")
    said = json.loads(dsse.read_envelope(kept.body).payload)
    assert said["subject"] == [{"name": "fedloom:commit", "digest": {"sha256": id_}}]
    assert said["predicate"] == {
        "kind": "import",
        "tree": content.commit(id_).tree,
        "parents": [first],
        "who": "hub at noon",
    }


def test_signing_twice_changes_nothing(content, key):
    """Ed25519 is deterministic, so a second signature is the first."""
    id_ = commit(content)
    assert signing.sign(content, id_, key) == signing.sign(content, id_, key)
    assert len(content.refs.log(f"attestations/{id_}/signature/{key.public.id}")) == 1


def test_several_keys_sign_one_commit(content, key, other):
    """Each key has a signature of its own; only the trusted ones count."""
    id_ = commit(content)
    signing.sign(content, id_, key)
    signing.sign(content, id_, other)
    signing.trust(content, "north", other.public)
    assert sorted(found(content, id_)) == [("", ""), ("north", "")]


def test_a_signature_of_another_commit_does_not_count(content, key):
    """Replayed onto another commit, as attestation or as envelope, it is refused."""
    signing.trust(content, "hub", key.public)
    one, two = commit(content, "one"), commit(content, "two")
    attestation = signing.sign(content, one, key)
    kept = content.attestation(one, f"signature/{key.public.id}")
    replant(content, two, key, kept.body)
    assert found(content, two) == [("hub", "it was made for another commit")]
    name = f"attestations/{two}/signature/{key.public.id}"
    content.refs.compare_and_set(name, content.refs.get(name), attestation, "replay")
    assert found(content, two) == [("hub", "it was made for another commit or key")]
    assert found(content, one) == [("hub", "")]


def test_a_signature_by_another_key_does_not_count(content, key, other):
    """Who signs with another key and files it under a trusted key's id is found out."""
    signing.trust(content, "hub", key.public)
    id_ = commit(content)
    value = dsse.statement(
        [(signing.SUBJECT, id_)], signing.PREDICATE, {"kind": "import", "tree": "", "parents": [], "who": "hub"}
    )
    replant(content, id_, key, dsse.seal(value, key.public.id, other.sign).as_json())
    assert found(content, id_) == [("hub", "the key did not sign this: it was forged or changed")]


def resealed(content, id_, key, change):
    """Sign a changed statement with the trusted key itself."""
    envelope = dsse.read_envelope(content.attestation(id_, f"signature/{key.public.id}").body)
    value = json.loads(envelope.payload)
    change(value)
    return dsse.seal(value, key.public.id, key.sign).as_json()


def changed(content, id_, key, **fields):
    envelope = dsse.read_envelope(content.attestation(id_, f"signature/{key.public.id}").body)
    return replace(envelope, **fields).as_json()


def test_a_changed_envelope_does_not_count(content, key):
    """A changed payload, type, signature or form is refused, and so is a statement that says something else."""
    signing.trust(content, "hub", key.public)
    id_ = commit(content)
    signing.sign(content, id_, key)
    envelope = dsse.read_envelope(content.attestation(id_, f"signature/{key.public.id}").body)
    flipped = bytes([envelope.payload[0] ^ 1]) + envelope.payload[1:]
    lie = envelope.payload.replace(b'"kind":"import"', b'"kind":"merge"')
    assert lie != envelope.payload
    forged, about = "the key did not sign this: it was forged or changed", "what it says about the commit is not so"
    cases = [
        (changed(content, id_, key, payload=flipped), forged),
        (changed(content, id_, key, payload=lie), forged),
        (changed(content, id_, key, signatures=()), forged),
        (changed(content, id_, key, signatures=(dsse.Signature(key.public.id, bytes(64)),)), forged),
        (changed(content, id_, key, payload_type="text/plain"), "its payload type 'text/plain' is unknown"),
        ({"payload": "?"}, "it is no DSSE envelope"),
        ({}, "it is no DSSE envelope"),
        (resealed(content, id_, key, lambda v: v["predicate"].update(kind="merge")), about),
        (resealed(content, id_, key, lambda v: v["predicate"].update(parents=[id_])), about),
        (resealed(content, id_, key, lambda v: v["predicate"].update(more=1)), about),
        (resealed(content, id_, key, lambda v: v["subject"].append(v["subject"][0])), "it was made for another commit"),
        (
            resealed(content, id_, key, lambda v: v["subject"][0].update(name="file")),
            "it was made for another commit",
        ),
        (
            resealed(content, id_, key, lambda v: v.update(predicateType="x/v1")),
            f"its statement is no '{signing.PREDICATE}'",
        ),
    ]
    for body, problem in cases:
        replant(content, id_, key, body)
        assert found(content, id_) == [("hub", problem)]
    seal = dsse.seal(json.loads(envelope.payload), key.public.id, key.sign, "text/plain").as_json()
    replant(content, id_, key, seal)
    assert found(content, id_) == [("hub", "its payload type 'text/plain' is unknown")], "even when well signed"


def test_a_key_id_in_the_envelope_proves_nothing(content, key, other):
    """The envelope's own key id is a hint: a wrong hint harms nothing, a right one helps nobody."""
    signing.trust(content, "hub", key.public)
    id_ = commit(content)
    signing.sign(content, id_, key)
    envelope = dsse.read_envelope(content.attestation(id_, f"signature/{key.public.id}").body)
    misnamed = replace(envelope, signatures=(dsse.Signature("somebody", envelope.signatures[0].value),))
    replant(content, id_, key, misnamed.as_json())
    assert found(content, id_) == [("hub", "")]


def test_a_broken_signature_by_an_unknown_key_is_told(content, key):
    """What can be seen without the key is said even where nobody vouches for it."""
    id_ = commit(content)
    replant(content, id_, key, {"payload": base64.b64encode(b"x").decode()})
    assert found(content, id_) == [("", "it is no DSSE envelope")]


def test_a_trusted_name_keeps_its_key(content, key, other):
    """Trusting another key under a known name needs a removal first; removing what is not there is told."""
    signing.trust(content, "hub", key.public)
    signing.trust(content, "hub", key.public)
    with pytest.raises(ConflictError, match="'hub' is trusted with another key"):
        signing.trust(content, "hub", other.public)
    assert signing.trusted(content)["hub"].id == key.public.id
    signing.distrust(content, "hub")
    signing.trust(content, "hub", other.public)
    with pytest.raises(NotFoundError, match="'south' is not trusted here; trusted: hub"):
        signing.distrust(content, "south")


def test_only_ed25519_signs_commits(content, tmp_path):
    """A P-256 key is refused on both sides."""
    create_key(tmp_path / "ec.pem", "p256")
    key = read_private_key(tmp_path / "ec.pem")
    with pytest.raises(SpecError, match="Ed25519"):
        signing.sign(content, commit(content), key)
    with pytest.raises(SpecError, match="Ed25519"):
        signing.trust(content, "hub", key.public)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[31mb"])
def test_a_trusted_name_is_one_line(content, key, name):
    """No name is empty or plays tricks on a terminal."""
    with pytest.raises(SpecError, match="one line"):
        signing.trust(content, name, key.public)


def test_the_statement_is_a_value_of_its_own(content, key):
    """Golden: the canonical payload of a known commit, byte for byte."""
    id_ = commit(content)
    signing.sign(content, id_, key, "hub")
    payload = dsse.read_envelope(content.attestation(id_, f"signature/{key.public.id}").body).payload
    tree = content.commit(id_).tree
    assert (
        payload
        == (
            '{"_type":"https://in-toto.io/Statement/v1","predicate":{"kind":"import","parents":[],"tree":"'
            + tree
            + '","who":"hub"},"predicateType":"fedloom:commit/v1","subject":[{"digest":{"sha256":"'
            + id_
            + '"},"name":"fedloom:commit"}]}'
        ).encode()
    )
