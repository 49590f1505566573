"""Remotes and clients that lie: what they may not make here, nor take from here."""

import json
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from fedloom.errors import ConflictError, CorruptObjectError, FedloomError, GateError, VersionsError
from fedloom.versions import objects, signing, tombstones
from fedloom.versions.keys import create_key, read_private_key
from fedloom.versions.objects import Attestation, Commit, Entry
from fedloom.versions.remotes import addresses, sync, wire
from fedloom.versions.remotes.http_client import HttpRemote
from fedloom.versions.remotes.http_server import Hub
from fedloom.versions.remotes.remote import Parcel, Want
from fedloom.versions.remotes.store_remote import StoreRemote
from fedloom.versions.remotes.sync import Pushing
from fedloom.versions.repository import Repository
from fedloom.versions.revisions import resolve
from fedloom.versions.upkeep.fsck import fsck
from tests.versions.remotes.histories import commit, everything, missing_from, model, repository, rounds
from tests.versions.remotes.places import hub

STONE = json.dumps({"who": "eve", "when": "2026-11-24", "why": "no reason"}).encode()


@pytest.fixture
def there(tmp_path):
    """A repository that is a remote, as a folder or behind HTTP."""
    (tmp_path / "there").mkdir()
    return repository(tmp_path / "there")


@pytest.fixture
def key(tmp_path):
    create_key(tmp_path / "key.pem")
    return read_private_key(tmp_path / "key.pem")


def member(url, name="origin"):
    content = repository()
    addresses.add(content, name, str(url))
    return content


def parcel(content, id_, like=None):
    return Parcel(id_, bytes(content.database.get(id_)), like)


def encoded(thing):
    return Parcel(thing.id, b"".join([thing.header, thing.payload]))


@contextmanager
def speaking(content, near):
    """Serve a repository and connect to it as a client that may send what it likes."""
    with hub(content) as url:
        remote = HttpRemote(url, near.database)
        try:
            yield remote
        finally:
            remote.close()


@pytest.mark.parametrize("behind", ["folder", "hub"])
def test_a_remote_makes_no_refs_but_those_asked_for(there, tmp_path, monkeypatch, behind):
    """Names that were not asked for, or are none, are dropped: no merge is under way, nothing but tags came."""
    ids = rounds(there, 1)
    evil = dict.fromkeys(
        ("merging/main", "heads/release", "runs/9", f"attestations/{ids[1]}/gate", "tags/../x"), ids[1]
    )

    def lying(honest):
        return lambda self, prefix: {**honest(self, prefix), **evil, "tags/v1": ids[0]}

    for kind in (StoreRemote, HttpRemote):
        monkeypatch.setattr(kind, "refs", lying(kind.refs))
    with hub(there) as url:
        here = member(url if behind == "hub" else tmp_path / "there")
        sync.fetch(here, "origin")
    assert here.refs.names("heads/") == here.refs.names("runs/") == here.refs.names("merging/") == []
    assert here.refs.names("attestations/") == []
    assert here.refs.names("tags/") == ["tags/v1"]


def test_a_branch_that_is_no_commit_is_refused(there, tmp_path):
    """A remote's branch that points to another kind of object which is here is an error, and no ref."""
    ids = rounds(there, 0)
    here = member(tmp_path / "there")
    sync.fetch(here, "origin")
    there.refs.compare_and_set("heads/odd", None, there.commit(ids[0]).tree, "evil")
    there.refs.compare_and_set("tags/odd", None, there.commit(ids[0]).tree, "evil")
    with pytest.raises(FedloomError):
        sync.fetch(here, "origin")
    assert here.refs.names("remotes/origin/heads/odd") == here.refs.names("tags/") == []


# gates and signatures


def merged(content):
    """Commit a merge of two branches, and name main before it."""
    root, first = rounds(content, 1)
    other = commit(content, model(2), root, branch="other")
    return first, commit(content, model(3), first, other, branch="trial", kind="merge")


def test_a_client_does_not_pass_its_own_merge(there, key):
    """At a hub a gate counts only where somebody trusted there signed the commit; a branch that is free takes it."""
    near = repository()
    first, merge = merged(near)
    with hub(there) as url:
        addresses.add(near, "origin", url)
        sync.push(near, "origin", Pushing(refs=("main",)))
        near.attest(merge, "gate", {"passed": True})
        sync.push(near, "origin", Pushing(refs=("trial",)))
        assert there.attestation(merge, "gate").body == {"passed": True}, "it is stored"
        near.refs.compare_and_set("heads/main", first, merge, "fast-forward")
        with pytest.raises(GateError, match="nobody who is trusted there signed") as caught:
            sync.push(near, "origin")
        assert "\n" not in str(caught.value)
        signing.sign(near, merge, key)
        with pytest.raises(GateError, match="nobody who is trusted there signed"):
            sync.push(near, "origin")
        assert there.refs.get("heads/main") == first
        signing.trust(there, "ada", key.public)
        sync.push(near, "origin")
        assert there.refs.get("heads/main") == merge


def test_a_round_on_top_does_not_carry_a_merge_past_the_gate(there):
    """The hub judges what is new behind the tip as well."""
    near = repository()
    first, merge = merged(near)
    with hub(there) as url:
        addresses.add(near, "origin", url)
        sync.push(near, "origin", Pushing(refs=("main",)))
        near.attest(merge, "gate", {"passed": True})
        near.refs.compare_and_set("heads/main", first, commit(near, model(5), merge, branch=None), "round")
        with pytest.raises(GateError, match=f"signed {merge[:12]}"):
            sync.push(near, "origin")


def test_nobody_replaces_what_was_stated(there, key):
    """A signature that holds is not replaced, junk is not taken for one, and a verdict of the hub's own stays."""
    (tip,) = rounds(there, 0)
    signing.trust(there, "hub", key.public)
    near = repository()
    signature, name = signing.sign(there, tip, key), f"attestations/{tip}/signature/{key.public.id}"
    junk = objects.encode_attestation(Attestation(tip, f"signature/{key.public.id}", {"x": 1}))
    stranger = objects.encode_attestation(Attestation(tip, "signature/" + "a" * 64, {"x": 1}))
    other = there.add_commit(Commit(there.add_tree({}).id, (), "import", "other"))
    verdict = there.attest(other, "gate", {"passed": False})
    better = objects.encode_attestation(Attestation(other, "gate", {"passed": True}))
    with speaking(there, near) as remote:
        remote.put([encoded(junk), encoded(stranger), encoded(better)])
        for ref, old, new in (
            (name, signature, junk.id),
            (f"attestations/{tip}/signature/{'a' * 64}", None, stranger.id),
            (f"attestations/{other}/gate", verdict, better.id),
            (f"attestations/{'b' * 64}/gate", None, better.id),
            ("attestations/x", None, better.id),
        ):
            with pytest.raises(VersionsError):
                remote.move(ref, old, new, "push")
    assert there.refs.get(name) == signature
    assert there.attestation(other, "gate").body == {"passed": False}


def test_a_well_formed_signature_is_not_replaced_by_another(there, key):
    """Also where the key is not trusted here: whoever trusts it elsewhere would lose it."""
    (tip,) = rounds(there, 0)
    signature = signing.sign(there, tip, key, "ada")
    near = repository(None)
    forged = objects.encode_attestation(
        Attestation(
            tip,
            f"signature/{key.public.id}",
            {"payload": "", "payloadType": "application/vnd.in-toto+json", "signatures": []},
        )
    )
    with speaking(there, near) as remote:
        remote.put([encoded(forged)])
        with pytest.raises(ConflictError, match="not replaced"):
            remote.move(f"attestations/{tip}/signature/{key.public.id}", signature, forged.id, "push")


def test_a_remote_replaces_no_signature_here(there, tmp_path, key):
    """Fetching takes no junk in the place of a signature, nor a statement about another commit; it says so."""
    ids = rounds(there, 1)
    signature = signing.sign(there, ids[1], key)
    here = member(tmp_path / "there")
    sync.fetch(here, "origin")
    name = f"attestations/{ids[1]}/signature/{key.public.id}"
    assert here.refs.get(name) == signature
    there.attest(ids[1], f"signature/{key.public.id}", {"x": 1})
    astray = there.attest(ids[0], "gate", {"passed": True})
    there.refs.compare_and_set(f"attestations/{ids[1]}/gate", None, astray, "evil")
    notes = sync.fetch(here, "origin").notes
    assert here.refs.get(name) == signature
    assert here.attestation(ids[1], "gate") is None
    assert len([note for note in notes if "was left there" in note]) == 2


# tombstones


def burying(monkeypatch, ids, data=STONE):
    """Make every remote say that some objects were erased."""
    get = StoreRemote._get

    def lying(self, want):
        return Parcel(want.id, data, erased=True) if want.id in ids else get(self, want)

    monkeypatch.setattr(StoreRemote, "_get", lying)
    return lambda: monkeypatch.setattr(StoreRemote, "_get", get)


def test_what_a_remote_says_is_erased_comes_from_another(there, tmp_path, monkeypatch):
    """It is told as that remote's word, and ends when somebody has the bytes."""
    (tip,) = rounds(there, 0)
    tensor = there.tree(there.part(tip, "model").id)["head.3.w"].id
    honest = burying(monkeypatch, {tensor})
    here = member(tmp_path / "there", "evil")
    sync.fetch(here, "evil")
    assert "erased, says evil, by eve" in next(one.reason for one in fsck(here).absences)
    honest()
    addresses.add(here, "honest", str(tmp_path / "there"))
    assert sync.fetch(here, "honest").moved.objects == 1
    assert not missing_from(here, [tip])
    assert here.has(tensor)
    assert (fsck(here).ok, fsck(here).absent, tombstones.all_of(here.store)) == (True, {}, {})


def test_our_own_erasure_stays(there, tmp_path):
    """What this side erased does not come back, and nobody's word takes its place."""
    (tip,) = rounds(there, 0)
    tensor = there.tree(there.part(tip, "model").id)["head.3.w"].id
    here = member(tmp_path / "there")
    tombstones.hear(here.store, tensor, STONE, "evil")
    tombstones.bury(here.store, tensor, "ada", "asked to")
    sync.fetch(here, "origin")
    assert not here.has(tensor)
    assert tombstones.find(here.store, tensor).who == "ada"


@pytest.mark.parametrize("data", [b"junk" * 100, b"[]", b"{}", b'{"who": 3}', STONE + b" " * 5000, b"[" * 4000])
def test_what_is_no_tombstone_is_refused(there, tmp_path, monkeypatch, data):
    """Junk excuses nothing: the fetch ends, and keeps no commit."""
    (tip,) = rounds(there, 0)
    burying(monkeypatch, {there.tree(there.part(tip, "model").id)["head.3.w"].id}, data)
    here = member(tmp_path / "there")
    with pytest.raises(CorruptObjectError, match="tombstone"):
        sync.fetch(here, "origin")
    here.database.flush()
    assert not here.has(tip)


def test_trees_are_never_erased(there, tmp_path, monkeypatch):
    """Without its trees nothing of a commit can be checked."""
    (tip,) = rounds(there, 0)
    burying(monkeypatch, {there.commit(tip).tree})
    with pytest.raises(CorruptObjectError, match="a tree never is"):
        sync.fetch(member(tmp_path / "there"), "origin")


def test_a_pushed_tombstone_excuses_no_tree_and_stops_no_bytes(there):
    """The hub refuses a commit whose tree was 'erased', and takes bytes that somebody called erased before."""
    near = repository()
    (tip,) = rounds(near, 0)
    tensor = near.tree(near.part(tip, "model").id)["head.3.w"].id
    with speaking(there, near) as remote:
        leaves = [id_ for id_, data in everything(near).items() if objects.kind_of(data) in ("tensor", "blob")]
        remote.put(parcel(near, id_) for id_ in leaves if id_ != tensor)
        remote.put([Parcel(near.commit(tip).tree, STONE, erased=True), Parcel(tensor, STONE, erased=True)])
        with pytest.raises(VersionsError, match="not here"):
            remote.put([parcel(near, tip)])
        assert tensor in remote.missing([tensor])
        (told,) = remote.get([Want(tensor)])
        assert told.erased
        with pytest.raises(FedloomError):
            remote.put([Parcel(tensor, b"x" * 5000, erased=True)])
        remote.put([parcel(near, tensor)])
        (told,) = remote.get([Want(tensor)])
        assert not told.erased
    assert tombstones.find(there.store, tensor) is None


# kinds


def odd_commits(content):
    """Make commits that take a blob for a parent, for a tensor, and for a tree."""
    blob = content.add_blob(b"hi").id
    empty = content.add_tree({}).id
    taken = content.add_tree({"model": content.add_tree({"w": Entry("tensor", blob)})}).id
    below = content.add_tree({"model": Entry("tree", blob)}).id
    made = [Commit(empty, (blob,), "train", "m"), Commit(taken, (), "import", "m"), Commit(below, (), "import", "m")]
    return [content.add_commit(one) for one in made]


@pytest.mark.parametrize("which", range(3))
def test_a_hub_keeps_no_commit_that_takes_one_thing_for_another(there, which):
    """Everything it names is there, and of another kind."""
    near = repository()
    odd = odd_commits(near)[which]
    with speaking(there, near) as remote:
        remote.put(parcel(near, id_) for id_, data in everything(near).items() if objects.kind_of(data) != "commit")
        with pytest.raises(CorruptObjectError):
            remote.put([parcel(near, odd)])
    assert not there.has(odd)


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("known", [False, True])
def test_no_such_commit_is_fetched(there, tmp_path, which, known):
    """Nor is it kept by who fetches it, whether or not the blob is there before."""
    odd = odd_commits(there)[which]
    there.refs.compare_and_set("heads/main", None, odd, "evil")
    here = member(tmp_path / "there")
    if known:
        here.add_blob(b"hi")
        here.database.flush()
    with pytest.raises(FedloomError):
        sync.fetch(here, "origin")
    here.database.flush()
    assert not here.has(odd)


# what sites keep


def with_receipts(content):
    """Commit a round with an update that a site keeps, though its bytes are here."""
    held = content.add_tensors({"w": np.arange(40_000, dtype=np.float32)})
    receipts = content.add_tree({"north": Entry("tree", held.id, "promised")})
    return commit(content, model(), parts={"receipts": receipts}), held.id, content.tree(held.id)["w"].id


def test_a_hub_gives_nothing_away_that_sites_keep(there):
    """Not when asked, not as the base of a difference, and not to who pushes a commit that names it as stored."""
    _, tree, tensor = with_receipts(there)
    near, evil = repository(), repository()
    stored = evil.add_tree({"model": Entry("tree", tree)})
    thief = evil.add_commit(Commit(stored.id, (), "import", "give it to me"))
    close = there.tensor(tensor) + np.float32(0)
    close[0] = 7
    near.database.put(objects.encode_tensor(there.tensor(tensor)))  # or it could not read the difference
    near.database.flush()
    with speaking(there, near) as remote:
        assert list(remote.get([Want(tree), Want(tensor)])) == []
        assert remote.missing([tree, tensor]) == {tree, tensor}
        remote.put([encoded(objects.encode_tensor(close))])
        (whole,) = remote.get([Want(objects.encode_tensor(close).id, tensor)])
        assert whole.like is None
        with pytest.raises(VersionsError, match="not here"):
            remote.put([parcel(evil, stored.id), parcel(evil, thief)])
        there.refs.compare_and_set("heads/x", None, there.refs.get("heads/main"), "still")
        assert list(remote.get([Want(tensor)])) == []


def test_who_has_the_bytes_may_publish_them(there):
    """A site that pushes its own update as a model does so; from then on the hub gives it."""
    tip, _, tensor = with_receipts(there)
    site = repository()
    own = commit(site, {"w": there.tensor(tensor)})
    with hub(there) as url:
        addresses.add(site, "origin", url)
        site.refs.compare_and_set("heads/mine", None, own, "mine")
        sync.push(site, "origin", Pushing(refs=("mine",)))
        remote = HttpRemote(url, repository().database)
        assert [one.id for one in remote.get([Want(tensor)])] == [tensor]
        remote.close()
    assert there.refs.get("heads/main") == tip


# cut off


def test_a_narrow_fetch_that_was_killed_is_known(there, tmp_path, monkeypatch):
    """The choice is remembered before anything is left out; `*` brings what is not there, whatever was remembered."""
    (tip,) = rounds(there, 0)
    here = member(tmp_path / "there")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sync.statements, "bring", killed)
    with pytest.raises(KeyboardInterrupt):
        sync.fetch(here, "origin", only=["encoder.*"])
    monkeypatch.undo()
    assert here.settings.read().only == ("encoder.*",)
    assert fsck(here).ok
    here.settings.change(lambda before: type(before)(remotes=before.remotes))  # as an older version left it
    sync.fetch(here, "origin", only=["*"])
    assert not missing_from(here, [tip])


def test_a_narrow_fetch_that_dies_in_the_transfer_is_known(there, tmp_path, monkeypatch):
    """Also where it dies right after the objects came."""
    rounds(there, 0)
    here, receive = member(tmp_path / "there"), sync.receive

    def dying(*given):
        receive(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(sync, "receive", dying)
    with pytest.raises(KeyboardInterrupt):
        sync.fetch(here, "origin", only=["encoder.*"])
    monkeypatch.undo()
    assert here.settings.read().only == ("encoder.*",)
    sync.fetch(here, "origin")
    assert fsck(here).ok


# requests


@pytest.mark.parametrize(
    ("body", "length"),
    [(b"[" * 200_000, None), (b'{"ids":' + b"[" * 200_000, None), (b"{}", "9" * 5000), (b"{}", "-1")],
)
def test_a_request_that_is_made_to_break_the_hub_is_answered(there, body, length):
    """Deep nesting and lengths of thousands of digits end in 400 and a sentence."""
    from io import BytesIO

    request = {"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/missing", "wsgi.input": BytesIO(body)}
    heard = []
    answer = Hub(there)(
        {**request, "CONTENT_LENGTH": length or str(len(body))}, lambda status, headers: heard.append(status)
    )
    assert heard == ["400 Bad Request"]
    assert "\n" not in json.loads(b"".join(answer))["error"]


def test_objects_unfold_to_a_gibibyte_at_most_unless_the_hub_is_told_otherwise(there):
    """The bound is the hub's to set."""
    frame = wire._HEAD.pack(0, bytes(32), (1 << 30) + 1)
    for how, status, told in (({}, 400, "1073741824"), ({"limits": wire.Limits(object=4 << 30)}, 400, "cut off")):
        with hub(there, **how) as url:
            answer = httpx.post(f"{url}/v1/objects/put", content=frame)
        assert (answer.status_code, told in answer.json()["error"]) == (status, True)


def test_a_merge_under_way_elsewhere_has_a_short_name():
    """`origin/merging/main` means what was fetched, like `origin/main`."""
    content = Repository(repository().store)
    (tip,) = rounds(content, 0, branch="other")
    content.refs.compare_and_set("remotes/origin/merging/main", None, tip, "fetch")
    assert resolve(content, "origin/merging/main") == tip
