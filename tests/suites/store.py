"""What every store must do; each kind of store subclasses this."""

import pytest

from fedloom.errors import NotFoundError
from fedloom.versions.store import Store


class StoreSuite:
    """Subclasses say how to make an empty store."""

    @pytest.fixture
    def store(self, tmp_path) -> Store:
        raise NotImplementedError

    def test_what_is_created_can_be_read(self, store):
        """Parts are written one after the other, and any byte may occur."""
        assert store.create("objects/ab/one", [b"head\n\x00", bytearray(b""), memoryview(b"\xff tail")])
        assert store.get("objects/ab/one") == b"head\n\x00\xff tail"
        assert store.exists("objects/ab/one")

    @pytest.mark.parametrize("later", [b"second", b"first", b""])
    def test_nothing_is_ever_overwritten(self, store, later):
        """A second create under a name says that it was not first and changes nothing."""
        assert store.create("a", [b"first"]) is True
        assert store.create("a", [later]) is False
        assert store.get("a") == b"first"

    def test_an_empty_value_is_a_value(self, store):
        """Zero bytes are stored like any others."""
        assert store.create("nothing", [])
        assert store.get("nothing") == b""
        assert store.create("nothing", [b"x"]) is False

    @pytest.mark.parametrize("path", ["absent", "folder", "folder/absent"])
    def test_a_missing_value_is_named(self, store, path):
        """Reading what is not there names it; a folder is not a value."""
        store.create("folder/value", [b"x"])
        assert not store.exists(path)
        with pytest.raises(NotFoundError, match=f"'{path}'"):
            store.get(path)

    def test_names_lists_one_folder(self, store):
        """Only values directly inside the folder are listed, sorted; a folder with a longer name is another."""
        for path in ("f/b", "f/a", "f/sub/c", "f2/d", "f.ref/e"):
            store.create(path, [b"x"])
        assert store.names("f") == ["a", "b"]
        assert store.names("f/sub") == ["c"]
        assert store.names("absent") == []

    def test_paths_lists_everything_below(self, store):
        """All values below the folder are listed by their full path, sorted."""
        for path in ("f/b", "f/a", "f/sub/c", "f2/d"):
            store.create(path, [b"x"])
        assert store.paths("f") == ["f/a", "f/b", "f/sub/c"]
        assert store.paths("absent") == []

    def test_a_large_value_comes_back_whole(self, store):
        """Values of several megabytes, larger than any buffer, are kept byte for byte."""
        data = bytes(range(256)) * 20_000
        store.create("large", [data[:1000], data[1000:]])
        assert store.get("large") == data
