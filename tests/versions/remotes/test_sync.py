"""Clone, fetch, pull and push: branches, tags and statements, over a folder, S3 and a hub."""

from itertools import count

import numpy as np
import pytest

from fedloom.errors import ConflictError, GateError, NotFoundError, SpecError
from fedloom.versions import signing
from fedloom.versions.content import Content
from fedloom.versions.keys import create_key, read_private_key
from fedloom.versions.objects import Commit, Conflict
from fedloom.versions.remotes import addresses, sync
from fedloom.versions.remotes.addresses import kept_form
from fedloom.versions.remotes.sync import Pushing
from fedloom.versions.repository import Repository
from fedloom.versions.store import Store
from tests.versions.remotes.histories import commit, everything, missing_from, model, not_whole, repository, rounds
from tests.versions.remotes.places import hub

NUMBERS = count()


@pytest.fixture(params=["folder", "s3", "hub"])
def place(request, tmp_path):
    """An address, its options, and what lies there."""
    if request.param == "folder":
        yield str(tmp_path / "there"), {}
    elif request.param == "s3":
        server = request.getfixturevalue("s3")
        yield f"s3://models/sync/{next(NUMBERS)}", server.options
    else:
        (tmp_path / "token").write_text("a secret\n")
        with hub(repository(tmp_path / "hub"), token="a secret") as url:  # noqa: S106  of a server on loopback
            yield url, {"token-file": str(tmp_path / "token")}


@pytest.fixture
def folder(tmp_path):
    """A folder to push to."""
    return tmp_path / "there"


def member(url, options=None) -> Content:
    """Make a repository that has the address as its origin."""
    content = repository()
    addresses.add(content, "origin", str(url), options)
    return content


def vouch(content: Content, id_, folder) -> None:
    """Sign a commit with a key that the hub in this folder trusts, if there is one."""
    create_key(folder / "vouching.pem")
    key = read_private_key(folder / "vouching.pem")
    signing.sign(content, id_, key)
    if (folder / "hub").exists():
        signing.trust(Content(Store.on_disk(folder / "hub")), "ada", key.public)


def branch_at(content: Content, remote: str = "origin"):
    return content.refs.get(f"remotes/{remote}/heads/main")


def test_two_people_work_over_a_remote(place):
    """What one pushes the other clones, works on and pushes; the first pulls: both end with the same objects."""
    url, options = place
    ada, ben = member(url, options), repository()
    ids = rounds(ada, 2, frozen=2)
    ada.attest(ids[2], "gate", {"passed": True})
    pushed = sync.push(ada, "origin")
    assert (pushed.refs, pushed.notes) == ((sync.RefMove("heads/main", None, ids[2]),), ())
    assert pushed.moved.objects == len(everything(ada))
    assert branch_at(ada) == ids[2]
    cloned = sync.clone(ben, url, options=options)
    assert cloned.moved.objects == pushed.moved.objects
    assert ben.refs.get("heads/main") == branch_at(ben) == ids[2]
    assert ben.attestation(ids[2], "gate").body == {"passed": True}
    new = commit(ben, model(3, 2), ids[2])
    assert sync.push(ben, "origin").refs == (sync.RefMove("heads/main", ids[2], new),)
    pulled = sync.pull(ada, "origin")
    assert ada.refs.get("heads/main") == new
    assert pulled.moved.objects == 4 + 1 + 2 + 1
    assert everything(ada) == everything(ben)
    for again in (sync.push(ada, "origin"), sync.pull(ben, "origin"), sync.fetch(ada, "origin")):
        assert (again.moved.objects, again.refs, again.notes) == (0, (), ())


def test_a_diverged_push_is_refused_and_pull_says_merge(place, tmp_path):
    """Where the remote went elsewhere nothing is sent; pull fetches and moves nothing; both say what to do."""
    url, options = place
    ada, ben = member(url, options), repository()
    ids = rounds(ada, 1)
    sync.push(ada, "origin")
    sync.clone(ben, url, options=options)
    theirs = commit(ada, model(2), ids[1])
    sync.push(ada, "origin")
    ours = commit(ben, model(3), ids[1])
    with pytest.raises(ConflictError, match=r"`fedloom fetch origin`, then `fedloom merge origin/main`, then push"):
        sync.push(ben, "origin")
    with pytest.raises(ConflictError, match=r"gone apart: merge with `fedloom merge origin/main`"):
        sync.pull(ben, "origin")
    assert (ben.refs.get("heads/main"), branch_at(ben)) == (ours, theirs)
    assert sync.fetch(ada, "origin").moved.objects == 0
    assert not ada.has(ours)
    with pytest.raises(ConflictError):
        sync.push(ben, "origin")
    joined = commit(ben, model(4), ours, theirs)
    ben.attest(joined, "gate", {"passed": True})
    vouch(ben, joined, tmp_path)
    assert sync.push(ben, "origin").refs == (sync.RefMove("heads/main", theirs, joined),)


def test_tags_go_with_their_commits_and_never_move(place):
    """Tags are pushed when asked for and fetched with what they point to; a different tag of that name is refused."""
    url, options = place
    ada, ben = member(url, options), member(url, options)
    ids = rounds(ada, 2)
    ada.refs.compare_and_set("tags/v1", None, ids[1], "tag")
    ada.refs.compare_and_set("tags/other", None, commit(ada, model(9), branch=None), "tag")
    sync.push(ada, "origin", Pushing(tags=True))
    sync.fetch(ben, "origin")
    assert ben.refs.names("tags/") == ["tags/v1"]
    ben.refs.compare_and_set("tags/v2", None, ids[0], "tag")
    sync.push(ben, "origin", Pushing(refs=("v2",)))
    ada.refs.compare_and_set("tags/v2", None, ids[2], "tag")
    with pytest.raises(ConflictError, match="tag 'v2' is elsewhere at origin"):
        sync.push(ada, "origin", Pushing(refs=("main",), tags=True))
    commit(ada, model(3), ids[2])
    sync.push(ada, "origin")
    fresh = member(url, options)
    fresh.refs.compare_and_set("tags/v1", None, commit(fresh, model(1), branch=None), "tag")
    with pytest.raises(ConflictError, match=r"tags/v1 are elsewhere here than at origin"):
        sync.fetch(fresh, "origin")
    assert fresh.refs.get("tags/v2") == ids[0]
    assert branch_at(fresh) == ada.refs.get("heads/main")


def test_statements_of_both_sides_meet(place, tmp_path):
    """Later statements about old commits travel; of two different ones each side keeps its own, and both are told."""
    url, options = place
    ada, ben = member(url, options), member(url, options)
    ids = rounds(ada, 2)
    sync.push(ada, "origin")
    sync.fetch(ben, "origin")
    ada.attest(ids[0], "note/ada", {"by": "ada"})
    ben.refs.compare_and_set("heads/main", None, ids[2], "mine")
    ben.attest(ids[1], "note/ben", {"by": "ben"})
    assert sync.push(ada, "origin").moved.objects == 1
    assert sync.push(ben, "origin").moved.objects == 1
    assert sync.fetch(ada, "origin").moved.objects == sync.fetch(ben, "origin").moved.objects == 1
    vouch(ada, ids[0], tmp_path)
    sync.push(ada, "origin")
    ada.attest(ids[0], "note/ada", {"by": "ada", "again": True})
    sync.push(ada, "origin")
    sync.fetch(ben, "origin")
    assert ben.attestation(ids[0], "note/ada").body == {"by": "ada", "again": True}
    assert ada.attestation(ids[1], "note/ben").body == {"by": "ben"}
    other = commit(ada, model(8), branch="other")
    ada.attest(other, "gate", {"passed": True})
    assert sync.push(ada, "origin").moved.objects == 0
    for one, verdict in ((ada, True), (ben, False)):
        one.attest(ids[2], "gate", {"passed": verdict})
    assert sync.push(ada, "origin").notes == ()
    told = (f"'gate' about {ids[2][:12]} differs here and at origin: each side keeps its own",)
    assert sync.push(ben, "origin").notes == sync.fetch(ben, "origin").notes == told
    assert ben.attestation(ids[2], "gate").body == {"passed": False}


def test_some_tensors_are_cloned_and_the_rest_is_told(place):
    """With --only the matching tensors come; reading another says how to fetch it; work on the whole goes on."""
    url, options = place
    ada, ben = member(url, options), Repository(repository().store)
    ids = rounds(ada, 1)
    sync.push(ada, "origin")
    sync.clone(ben, url, only=("encoder.*",), options=options)
    assert ben.settings.read().only == ("encoder.*",)
    with pytest.raises(
        NotFoundError, match=r"'head.2.b' and 3 more was not fetched: `fedloom fetch --only 'head.2.b'`"
    ):
        ben.model(ids[1])
    tensors = ben.tree(ben.part(ids[1], "model").id)
    changed = ben.add_tensors({"encoder.0.w": model(7)["encoder.0.w"]})
    mixed = ben.add_tree({**tensors, **ben.tree(changed.id)})
    new = commit(ben, mixed, ids[1])
    sync.push(ben, "origin")
    sync.pull(ada, "origin")
    assert np.array_equal(ada.model(new)["encoder.0.w"], model(7)["encoder.0.w"])
    sync.fetch(ben, "origin", only=("head.2.*",))
    assert ben.settings.read().only == ("encoder.*", "head.2.*")
    with pytest.raises(NotFoundError, match=r"tensor 'head.3.b' and 1 more was not fetched"):
        ben.model(new)
    sync.fetch(ben, "origin", only=("*",))
    assert ben.settings.read().only == ()
    assert {name: a.tobytes() for name, a in ben.model(new).items()} == {
        n: a.tobytes() for n, a in ada.model(new).items()
    }


def test_some_tensors_are_pushed_and_the_branch_waits(folder):
    """With --only a branch stays until the rest is there; a full push then sends only that."""
    ada = member(folder)
    rounds(ada, 0)
    part = sync.push(ada, "origin", Pushing(only=("encoder.*",)))
    assert part.refs == ()
    assert part.notes == ("heads/main was not moved: tensors that were left out are not at origin yet",)
    assert repository(folder).refs.names("heads/") == []
    full = sync.push(ada, "origin")
    assert full.moved.objects == len(everything(ada)) - part.moved.objects
    assert not missing_from(repository(folder), [ada.refs.get("heads/main")])


def merged_history(content: Content):
    """Commit two branches and their merge."""
    ids = rounds(content, 1)
    side = commit(content, model(2), ids[0], branch="side")
    return ids, side, commit(content, model(3), ids[1], side, kind="merge")


def test_a_protected_branch_takes_a_merge_only_with_its_gate(place, tmp_path):
    """The other side refuses a merge that was not measured; with the verdict the same push goes through."""
    url, options = place
    ada = member(url, options)
    _, _, merge = merged_history(ada)
    with pytest.raises(GateError, match="never measured"):
        sync.push(ada, "origin")
    vouch(ada, merge, tmp_path)
    ada.attest(merge, "gate", {"passed": False})
    with pytest.raises(GateError, match="did not pass its gate"):
        sync.push(ada, "origin")
    ada.attest(merge, "gate", {"passed": True})
    assert sync.push(ada, "origin").moved.objects == 1


def test_open_conflicts_go_to_other_branches_only(folder):
    """A commit with open conflicts is pushed to a branch where somebody can settle it, not to a protected one."""
    ada, ben = member(folder), member(folder)
    tensor = ada.tree(ada.add_tensors({"w": np.ones(3)}).id)["w"]
    conflict = ada.add_conflict(Conflict("model/w", "contested", None, (tensor, tensor)))
    tip = commit(ada, ada.add_tree({"w": conflict}), branch="main")
    with pytest.raises(ConflictError, match="open conflicts"):
        sync.push(ada, "origin")
    ada.refs.compare_and_set("heads/wip", None, tip, "wip")
    ada.refs.compare_and_set("merging/main", None, tip, "merge")
    sync.push(ada, "origin", Pushing(refs=("wip", "merging/main")))
    sync.fetch(ben, "origin")
    assert ben.refs.get("remotes/origin/heads/wip") == ben.refs.get("remotes/origin/merging/main") == tip
    assert ben.conflict(conflict.id).problem == "contested"


def test_several_branches_are_named_by_short_or_full_names(folder):
    """Branches and tags are pushed by name; a run is not, and what is not there is told with what is."""
    ada = member(folder)
    ids = rounds(ada, 1)
    ada.refs.compare_and_set("heads/exp/one", None, ids[0], "b")
    ada.refs.compare_and_set("runs/1", None, ids[1], "run")
    moved = sync.push(ada, "origin", Pushing(refs=("exp/one", "heads/main")))
    assert [move.name for move in moved.refs] == ["heads/exp/one", "heads/main"]
    with pytest.raises(SpecError, match=r"a run is pushed as a branch: `fedloom branch NAME runs/1`"):
        sync.push(ada, "origin", Pushing(refs=("runs/1",)))
    with pytest.raises(NotFoundError, match=r"no branch or tag 'mian' to push. There are: exp/one, main"):
        sync.push(ada, "origin", Pushing(refs=("mian",)))


def test_a_branch_that_is_gone_there_is_forgotten(folder):
    """What a remote no longer has is no longer remembered as being there."""
    ada, ben = member(folder), member(folder)
    ids = rounds(ada, 0)
    ada.refs.compare_and_set("heads/old", None, ids[0], "b")
    sync.push(ada, "origin", Pushing(refs=("main", "old")))
    sync.fetch(ben, "origin")
    repository(folder).refs.compare_and_set("heads/old", ids[0], None, "deleted")
    sync.fetch(ben, "origin")
    assert ben.refs.names("remotes/") == ["remotes/origin/heads/main"]


def test_pull_knows_what_is_ahead_and_what_is_not_there(folder):
    """A branch that is ahead stays, with a word; one that the remote lacks is named."""
    ada = member(folder)
    ids = rounds(ada, 0)
    sync.push(ada, "origin")
    new = commit(ada, model(1), ids[0])
    assert sync.pull(ada, "origin").notes == ("main is ahead of origin: `fedloom push origin` sends it",)
    assert ada.refs.get("heads/main") == new
    ben = member(folder)
    ben.settings.change(lambda before: type(before)(branch="exp", remotes=before.remotes))
    with pytest.raises(NotFoundError, match="origin has no branch 'exp'"):
        sync.pull(ben, "origin")


def test_a_clone_goes_on_and_never_overwrites(folder, tmp_path):
    """Cloning again into what a cut clone left goes on; into a history of its own it is refused."""
    ada, ben = member(folder), member(folder)
    ids = rounds(ada, 1)
    sync.push(ada, "origin")
    sync.clone(ben, str(folder))
    assert ben.refs.get("heads/main") == ids[1]
    for content, url in ((ben, folder), (ada, folder), (member(tmp_path), folder)):
        with pytest.raises(ConflictError, match="another history is here already"):
            sync.clone(content, str(url))


def test_a_clone_takes_the_branch_there_is(folder):
    """Without a main the first branch is the current one; an empty remote can be cloned as well."""
    ada, ben = member(folder), repository()
    folder.joinpath("refs").mkdir(parents=True)
    assert sync.clone(ben, str(folder)).notes == ("origin has no branches yet",)
    ids = rounds(ada, 0, branch="trunk")
    sync.push(ada, "origin", Pushing(refs=("trunk",)))
    ben = repository()
    sync.clone(ben, str(folder))
    assert (ben.settings.read().branch, ben.refs.get("heads/trunk")) == ("trunk", ids[0])


def test_who_is_overtaken_while_pushing_is_told(folder, monkeypatch):
    """A branch that moves between the look and the move is a conflict that says what to do; nothing is lost."""
    ada, ben = member(folder), repository()
    ids = rounds(ada, 0)
    sync.push(ada, "origin")
    sync.clone(ben, str(folder))
    theirs = commit(ben, model(1), ids[0])
    commit(ada, model(2), ids[0])
    send = sync.send

    def overtaken(*given):
        monkeypatch.setattr(sync, "send", send)
        sync.push(ben, "origin")
        return send(*given)

    monkeypatch.setattr(sync, "send", overtaken)
    with pytest.raises(ConflictError, match=r"somebody moved heads/main at origin meanwhile: `fedloom fetch origin`"):
        sync.push(ada, "origin")
    assert repository(folder).refs.get("heads/main") == theirs
    assert not_whole(repository(folder)) == []


def test_an_answer_that_was_lost_is_no_conflict(folder, monkeypatch):
    """Where a move arrived and its answer did not, trying again finds the ref where it should be."""
    from fedloom.versions.remotes.store_remote import StoreRemote

    ada = member(folder)
    rounds(ada, 0)
    move = StoreRemote.move

    def unheard(self, *given):
        move(self, *given)
        raise ConflictError("precondition failed")

    monkeypatch.setattr(StoreRemote, "move", unheard)
    assert len(sync.push(ada, "origin").refs) == 1


def test_nothing_is_pushed_of_nothing(folder):
    """Without a commit there is nothing to push, and no folder is made there."""
    with pytest.raises(NotFoundError, match="'main' has no commits yet"):
        sync.push(member(folder), "origin")
    assert not folder.exists()


def test_a_root_of_its_own_is_no_forward_move(folder):
    """Unrelated histories do not replace each other."""
    ada, ben = member(folder), member(folder)
    rounds(ada, 0)
    sync.push(ada, "origin")
    tree = ben.add_tree({"model": ben.add_tensors({"other": np.ones(2)})})
    root = ben.add_commit(Commit(tree.id, (), "import", "another root"))
    ben.refs.compare_and_set("heads/main", None, root, "root")
    sync.fetch(ben, "origin")
    with pytest.raises(ConflictError, match="has commits on main that yours do not build on"):
        sync.push(ben, "origin")


def test_kept_form_is_absolute(tmp_path, monkeypatch):
    """A relative folder means the same from everywhere."""
    monkeypatch.chdir(tmp_path)
    assert kept_form("x/../there", {}) == str(tmp_path / "there")
    assert kept_form((tmp_path / "a b").as_uri(), {}) == str(tmp_path / "a b")
