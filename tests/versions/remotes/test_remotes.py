"""The shared suite of remotes: a folder, memory, S3 over HTTP, and a hub."""

from contextlib import closing, nullcontext
from itertools import count

import pytest

from fedloom.versions.bucket import Bucket
from fedloom.versions.content import Content
from fedloom.versions.disk import Disk
from fedloom.versions.remotes.http_client import HttpRemote
from fedloom.versions.remotes.store_remote import StoreRemote
from fedloom.versions.store import Store
from tests.suites.remote import RemoteSuite, Side
from tests.versions.remotes.places import hub

NUMBERS = count()


def in_store(backend) -> Side:
    """Make a side that is only a store."""
    content = Content(Store(backend, "the other side"))
    return Side(content, lambda near: nullcontext(StoreRemote(backend, "the other side", near.database)))


class TestFolder(RemoteSuite):
    @pytest.fixture
    def side(self, tmp_path):
        (tmp_path / "there").mkdir()
        return in_store(Disk(tmp_path / "there"))


class TestMemory(RemoteSuite):
    @pytest.fixture
    def side(self):
        from obstore import store as backends

        return in_store(Bucket(backends.MemoryStore()))


class TestS3(RemoteSuite):
    @pytest.fixture
    def side(self, s3):
        return in_store(s3.backend(f"suite/{next(NUMBERS)}"))


class TestHub(RemoteSuite):
    @pytest.fixture
    def side(self, tmp_path):
        content = Content(Store.on_disk(tmp_path / "hub"))
        with hub(content) as url:
            yield Side(content, lambda near: closing(HttpRemote(url, near.database)))
