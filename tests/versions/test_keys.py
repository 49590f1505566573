"""Key files: private to their owner, never overwritten, and everything else refused in a sentence."""

import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from fedloom.errors import FedloomError, SpecError, StorageError
from fedloom.values import sha256
from fedloom.versions.keys import create_key, read_private_key, read_public_key, read_public_key_file

PEM, PKCS8, PLAIN = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_a_new_key_signs_and_only_its_owner_can_read_it(tmp_path, kind):
    """The file has mode 0600 whatever the umask; what it signs, its public half accepts, and nothing else."""
    public = create_key(tmp_path / "key.pem", kind)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    key = read_private_key(tmp_path / "key.pem")
    assert (key.public.id, key.public.pem, key.public.algorithm) == (public.id, public.pem, kind)
    signature = key.sign(b"message")
    assert public.holds(signature, b"message")
    assert not public.holds(signature, b"massage")
    assert not public.holds(signature[:-1], b"message")
    assert not public.holds(b"", b"message")


def test_a_key_id_is_the_digest_of_the_raw_public_key():
    """RFC 8032, section 7.1, test 1: the id is the SHA-256 of its 32 public bytes."""
    raw = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    public = ed25519.Ed25519PublicKey.from_public_bytes(raw)
    pem = public.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    assert read_public_key(pem, "here").id == sha256(raw)


def test_a_key_is_never_overwritten(tmp_path):
    """An existing file stays as it is."""
    (tmp_path / "key.pem").write_text("precious")
    with pytest.raises(SpecError, match="never overwritten"):
        create_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_text() == "precious"


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    """A missing folder is a sentence."""
    with pytest.raises(StorageError, match="cannot write"):
        create_key(tmp_path / "no" / "key.pem")
    with pytest.raises(SpecError, match="no kind of key 'rsa'"):
        create_key(tmp_path / "key.pem", "rsa")


def foreign(kind):
    made = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }[kind]()
    return made.private_bytes(PEM, PKCS8, PLAIN), made.public_key().public_bytes(
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize("kind", ["rsa", "p384"])
def test_other_kinds_of_keys_are_refused(tmp_path, kind):
    """Keys that are neither Ed25519 nor P-256 are refused by name."""
    private, public = foreign(kind)
    (tmp_path / "private.pem").write_bytes(private)
    (tmp_path / "public.pem").write_bytes(public)
    with pytest.raises(SpecError, match="neither Ed25519 nor P-256"):
        read_private_key(tmp_path / "private.pem")
    with pytest.raises(SpecError, match="no public key"):
        read_public_key_file(tmp_path / "public.pem")


def test_files_that_hold_no_key_are_refused(tmp_path):
    """Nothing, noise, a passphrase, the wrong half: one sentence each, and no byte of the file in it."""
    file = tmp_path / "key.pem"
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        PEM, PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    for content, problem in [(b"", "no private key"), (b"\x00\xffnoise", "no private key"), (locked, "passphrase")]:
        file.write_bytes(content)
        with pytest.raises(SpecError, match=problem) as refusal:
            read_private_key(file)
        assert "noise" not in str(refusal.value)
    with pytest.raises(SpecError, match="cannot read"):
        read_private_key(tmp_path / "absent.pem")


def test_a_private_key_given_as_a_public_one_is_not_kept(tmp_path):
    """Whoever hands over a private key is told to keep it."""
    create_key(tmp_path / "key.pem")
    with pytest.raises(FedloomError, match="holds a private key: keep it"):
        read_public_key_file(tmp_path / "key.pem")
