"""What every store must do; each kind of store subclasses this."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

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

    def test_a_value_can_be_replaced_and_removed(self, store):
        """A replacement is there at once, whether there was a value or not; a removal says whether there was one."""
        for value in (b"first, and longer", b"second"):
            store.replace("f/a", [value[:3], value[3:]])
            assert store.get("f/a") == value
        assert store.delete("f/a") is True
        assert store.delete("f/a") is False
        assert not store.exists("f/a")
        assert store.create("f/a", [b"third"])

    @pytest.mark.parametrize(
        ("start", "length", "expected"), [(0, 3, b"abc"), (2, 2, b"cd"), (4, 100, b"e"), (1, 0, b"")]
    )
    def test_a_part_can_be_read(self, store, start, length, expected):
        """A range is given as far as the value goes."""
        store.create("f/a", [b"abcde"])
        assert store.get_range("f/a", start, length) == expected

    @pytest.mark.parametrize("value", [b"", b"ab", b"abcdef"])
    def test_a_peek_gives_the_beginning_and_the_size(self, store, value):
        """However short the value is, an empty one included."""
        store.create("f/a", [value])
        assert store.peek("f/a", 4) == (value[:4], len(value))

    def test_what_is_missing_is_named_however_it_is_read(self, store):
        """Ranges and peeks of what is not there name it."""
        for read in (lambda: store.get_range("f/a", 0, 4), lambda: store.peek("f/a", 4)):
            with pytest.raises(NotFoundError, match="'f/a'"):
                read()

    def test_listing_says_size_and_time(self, store):
        """Everything below the folder, sorted, with a time that knows its zone."""
        store.create("f/b", [b"123"])
        store.create("f/sub/a", [b""])
        store.create("g", [b"x"])
        listed = store.listing("f")
        assert [(stat.path, stat.size) for stat in listed] == [("f/b", 3), ("f/sub/a", 0)]
        assert all(abs((datetime.now(UTC) - stat.modified).total_seconds()) < 60 for stat in listed)

    def test_a_touch_says_whether_there_is_a_value(self, store):
        """It changes nothing of the value."""
        store.create("a", [b"x"])
        assert store.touch("a") is True
        assert store.touch("b") is False
        assert (store.get("a"), store.paths("")) == (b"x", ["a"])

    def test_what_is_not_durable_yet_can_be_read(self, store):
        """It is a value like others before and after the flush; a second flush has nothing to do."""
        assert store.create("a", [b"x"], durable=False) is True
        assert store.create("a", [b"y"], durable=False) is False
        for _ in range(2):
            assert store.get("a") == b"x"
            store.flush()

    def test_many_write_one_name_and_one_is_first(self, store):
        """Of many creates at once exactly one says that it was first, and its value is there."""
        with ThreadPoolExecutor(8) as threads:
            first = list(threads.map(lambda n: store.create("one", [bytes([n]) * 1000]), range(32)))
        assert sum(first) == 1
        assert store.get("one") == bytes([first.index(True)]) * 1000
        assert store.paths("") == ["one"]
