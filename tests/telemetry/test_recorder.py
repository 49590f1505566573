"""Records: the first stays, a missing one is empty, and no commit's id depends on them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.errors import CorruptObjectError
from fedloom.telemetry.recorder import Recorder
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
from fedloom.versions.store import Store

ID = "ab" * 32

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    return Store.on_disk(tmp_path) if request.param == "disk" else Store.in_memory()


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_a_record_comes_back(facts):
    """Any plain JSON is read as it was recorded."""
    recorder = Recorder(Store.in_memory())
    recorder.record(ID, facts)
    assert recorder.read(ID) == facts


def test_the_first_record_stays(store):
    """What happened happened: a second record about the same commit changes nothing and is no error."""
    Recorder(store).record(ID, {"seconds": 1.5})
    Recorder(store).record(ID, {"seconds": 9.0})
    assert Recorder(store).read(ID) == {"seconds": 1.5}


def test_a_missing_record_is_empty(store):
    """A commit that came from elsewhere has no record here."""
    assert Recorder(store).read(ID) == {}


def test_records_of_subjects_are_apart(store):
    """A failed round has its own record beside its base's."""
    recorder = Recorder(store)
    recorder.record(f"failed/{ID}-2", {"verdict": "failed"})
    assert recorder.read(ID) == {}
    recorder.record(ID, {"seconds": 1})
    assert recorder.read(f"failed/{ID}-2") == {"verdict": "failed"}
    assert recorder.read(f"failed/{ID}-3") == {}


@pytest.mark.parametrize("written", [b"", b"{", b"\xff\xfe"])
def test_a_corrupt_record_is_named(store, written):
    """A record that cannot be read - a power cut can leave it empty - says which file to restore or delete."""
    store.create(f"telemetry/{ID}.json", [written])
    with pytest.raises(CorruptObjectError, match=f"telemetry/{ID}.json is not JSON: restore it .* or delete it"):
        Recorder(store).read(ID)


def test_records_lie_outside_every_id(tmp_path):
    """Recording adds no object and moves no ref: the same work has the same id, however long it took."""
    repository = Repository.at(tmp_path)
    tip = repository.add_commit(Commit(repository.add_tree({}).id, (), "import", "m"))
    before = repository.store.paths("objects") + repository.store.paths("refs")
    Recorder(repository.store).record(tip, {"seconds": 3.0})
    assert repository.store.paths("objects") + repository.store.paths("refs") == before
    assert repository.resolve(tip) == tip
