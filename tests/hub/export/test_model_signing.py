"""model.sig: the form that the OpenSSF Model Signing tools accept, and, where they are installed, their own verdict."""

import base64
import json
from importlib.util import find_spec

import pytest

from fedloom.errors import SpecError
from fedloom.hub.export.bundle import BundleKeys, export_bundle
from fedloom.hub.export.model_signing import manifest, model_signature
from fedloom.values import Digest, sha256
from fedloom.versions import dsse
from fedloom.versions.keys import create_key, read_private_key


@pytest.fixture
def key(tmp_path):
    create_key(tmp_path / "ec.pem", "p256")
    return read_private_key(tmp_path / "ec.pem")


def test_the_manifest_has_the_form_of_the_format():
    """Golden: what model-signing 1.1.1 wrote for the same two files, but for the git paths it ignores as well."""
    files = {"model.bin": sha256(b"m"), "a/card.md": sha256(b"c")}
    assert manifest("model", files) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {
                "name": "model",
                "digest": {"sha256": "59578bb28774cd3542d2ee25a77071416a8f4bfb4d988a8abaa1753ed12670e7"},
            }
        ],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": ["model.sig"],
            },
            "resources": [
                {"name": "a/card.md", "algorithm": "sha256", "digest": sha256(b"c")},
                {"name": "model.bin", "algorithm": "sha256", "digest": sha256(b"m")},
            ],
        },
    }


def test_the_bundle_is_a_sigstore_bundle_that_the_key_holds(key):
    """Media type, key hint and envelope are where verifiers look, and the signature holds over the PAE."""
    found = json.loads(model_signature("model", {"f": Digest("ab" * 32)}, key))
    assert found["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert found["verificationMaterial"] == {
        "publicKey": {"hint": sha256(key.public.pem.encode())},
        "tlogEntries": [],
    }
    envelope = dsse.read_envelope(found["dsseEnvelope"])
    assert (envelope.payload_type, envelope.signatures[0].key) == ("application/vnd.in-toto+json", "")
    assert key.public.holds(envelope.signatures[0].value, dsse.pae(envelope.payload_type, envelope.payload))
    assert json.loads(base64.b64decode(found["dsseEnvelope"]["payload"])) == manifest("model", {"f": "ab" * 32})


def test_other_keys_are_refused_before_anything_is_written(tmp_path, runs):
    """An Ed25519 key is told which kind is needed."""
    create_key(tmp_path / "ed.pem")
    keys = BundleKeys(model_signing=read_private_key(tmp_path / "ed.pem"))
    with pytest.raises(SpecError, match="--kind p256"):
        export_bundle(*runs("logistic"), tmp_path / "out", keys)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(
    find_spec("model_signing") is None or find_spec("OpenSSL") is None,
    reason="needs the packages model-signing and pyopenssl",
)
def test_model_signing_accepts_the_bundle_and_finds_every_change(tmp_path, runs, key):
    """The reference implementation verifies our folder; a flipped byte, a new file, another key are refused."""
    from model_signing.verifying import Config

    (tmp_path / "ec.pub").write_text(key.public.pem)
    create_key(tmp_path / "other.pem", "p256")
    (tmp_path / "other.pub").write_text(read_private_key(tmp_path / "other.pem").public.pem)
    export_bundle(*runs("logistic"), tmp_path / "out", BundleKeys(model_signing=key))

    def verify(public="ec.pub"):
        Config().use_elliptic_key_verifier(public_key=tmp_path / public).verify(
            tmp_path / "out", tmp_path / "out" / "model.sig"
        )

    verify()
    with pytest.raises(ValueError, match="Key mismatch"):
        verify("other.pub")
    for path in sorted((tmp_path / "out").iterdir()):
        whole = path.read_bytes()
        place = len(whole) // 2
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(Exception):  # noqa: B017, PT011  each kind of file is refused in its own way
            verify()
        path.write_bytes(whole)
    verify()
    (tmp_path / "out" / "extra").write_text("")
    with pytest.raises(ValueError, match="Extra files"):
        verify()
