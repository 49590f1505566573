"""Signatures of commits, and whose keys are trusted.

Rules: a signature is a DSSE envelope over an in-toto statement whose subject is the commit's id, kept as an
attestation `signature/<key id>`, so it travels with the commit and several keys can sign one. Because an id covers
the whole history below it, one signature does too. A name (a person, a hub, a site) is trusted for the key that this
repository's settings hold under it, and for no other: what a signature says about its signer is not believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedloom.errors import ConflictError, FedloomError, NotFoundError, SpecError
from fedloom.values import Digest
from fedloom.versions import dsse
from fedloom.versions.content import Content
from fedloom.versions.keys import PublicKey, SigningKey, read_public_key
from fedloom.versions.objects import Attestation, Commit
from fedloom.versions.settings import Settings

TYPE = "signature"
PREDICATE = "fedloom:commit/v1"
SUBJECT = "fedloom:commit"


@dataclass(frozen=True, slots=True)
class Signed:
    """What became of one signature of a commit.

    name: whom its key is trusted as; empty for a key that nobody vouched for, whose signature cannot be checked.
    problem: why it does not hold; empty where it holds, or where nothing could be checked.
    """

    commit: Digest
    key: str
    name: str
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether a trusted key signed this commit."""
        return bool(self.name) and not self.problem


def sign(content: Content, commit: Digest, key: SigningKey, who: str = "") -> Digest:
    """Sign a commit and keep the signature beside it; gives the attestation's id. The key must be an Ed25519 key.

    who: a name for readers; nobody's trust rests on it.
    """
    if key.public.algorithm != "ed25519":
        raise SpecError("commits are signed with an Ed25519 key: make one with `fedloom key create FILE`")
    value = dsse.statement([(SUBJECT, commit)], PREDICATE, _predicate(content.commit(commit), who))
    envelope = dsse.seal(value, key.public.id, key.sign)
    return content.attest(commit, f"{TYPE}/{key.public.id}", envelope.as_json())


def trust(content: Content, name: str, key: PublicKey) -> None:
    """Trust a key as a name from now on; raises ConflictError when another key is trusted under that name already."""
    if key.algorithm != "ed25519":
        raise SpecError("commits are signed with Ed25519 keys: this one cannot be trusted for them")
    if not name.strip() or not name.isprintable():
        raise SpecError("a trusted name is one line of text that is not empty")

    def edit(before: Settings) -> Settings:
        known = before.trusted.get(name)
        if known not in (None, key.pem):
            todo = f"if it really changed, `fedloom trust --remove {name}` first"
            raise ConflictError(f"'{name}' is trusted with another key: {todo}")
        return replace(before, trusted={**before.trusted, name: key.pem})

    content.settings.change(edit)


def distrust(content: Content, name: str) -> None:
    """Trust a name no longer; raises NotFoundError when it is not trusted."""

    def edit(before: Settings) -> Settings:
        if name not in before.trusted:
            known = ", ".join(sorted(before.trusted)) or "nobody"
            raise NotFoundError(f"'{name}' is not trusted here; trusted: {known}")
        return replace(before, trusted={other: pem for other, pem in before.trusted.items() if other != name})

    content.settings.change(edit)


def trusted(content: Content) -> dict[str, PublicKey]:
    """List whom this repository trusts, by name."""
    found = content.settings.read().trusted
    return {name: read_public_key(found[name], f"the trusted key of '{name}'") for name in sorted(found)}


def signatures(content: Content, commit: Digest, keys: Mapping[str, PublicKey] | None = None) -> list[Signed]:
    """Check every signature of a commit against the trusted keys (`keys`, read from the settings when None)."""
    names = trusted(content) if keys is None else keys
    return [found for key in _key_ids(content, commit) for found in _check(content, commit, key, names)]


def _key_ids(content: Content, commit: Digest) -> list[str]:
    folder = f"attestations/{commit}/{TYPE}/"
    return [name[len(folder) :] for name in content.refs.names(folder)]


def _check(content: Content, commit: Digest, key: str, names: Mapping[str, PublicKey]) -> Iterator[Signed]:
    """Check one key's signature once for every name the key is trusted under, or once for nobody."""
    try:
        kept = content.filed(commit, f"{TYPE}/{key}")
        known = content.commit(commit)
    except FedloomError as error:
        yield Signed(commit, key, "", str(error))
        return
    if kept is None:
        return  # withdrawn while we looked
    owners = [(name, public) for name, public in names.items() if public.id == key]
    for name, public in owners:
        yield Signed(commit, key, name, problem_of(kept, commit, known, public))
    if not owners:
        yield Signed(commit, key, "", next(_misfiled(kept, commit, key), ""))


def problem_of(kept: Attestation, id_: Digest, commit: Commit, public: PublicKey) -> str:
    """Say why a kept signature is not this key's signature of this commit, or nothing: pure."""
    return next(_problems(kept, id_, commit, public), "")


def _misfiled(kept: Attestation, id_: Digest, key: str) -> Iterator[str]:
    """Find what is wrong with a signature whose key nobody vouched for: all that can be seen from outside."""
    if (kept.subject, kept.type) != (id_, f"{TYPE}/{key}"):  # (1) the attestation is about this commit
        yield "it was made for another commit or key"
    try:
        envelope = dsse.read_envelope(kept.body)  # (2) the envelope has its form
    except ValueError as error:
        yield str(error)
        return
    if envelope.payload_type != dsse.IN_TOTO:  # (3) the payload is of a kind we know
        yield f"its payload type '{envelope.payload_type[:60]}' is unknown"


def _problems(kept: Attestation, id_: Digest, commit: Commit, public: PublicKey) -> Iterator[str]:
    """Go through the steps of DSSE's "verify" with ours around them; what is signed is read after (4) only."""
    yield from _misfiled(kept, id_, public.id)
    envelope = dsse.read_envelope(kept.body)
    signed = dsse.pae(envelope.payload_type, envelope.payload)
    if not any(public.holds(one.value, signed) for one in envelope.signatures):  # (4) the key signed type and payload
        yield "the key did not sign this: it was forged or changed"
    try:
        value = dsse.read_statement(envelope, PREDICATE)  # (5) the payload is a statement of ours
    except ValueError as error:
        yield str(error)
        return
    if value["subject"] != [{"name": SUBJECT, "digest": {"sha256": id_}}]:  # (6) it is about this commit alone
        yield "it was made for another commit"
    if value["predicate"] != _predicate(commit, value["predicate"].get("who", "")):  # (7) and says what the commit is
        yield "what it says about the commit is not so"


def _predicate(commit: Commit, who: Any) -> dict[str, Any]:
    return {"kind": commit.kind, "tree": commit.tree, "parents": list(commit.parents), "who": who}
