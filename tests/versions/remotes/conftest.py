from collections.abc import Iterator

import pytest

from tests.versions.remotes.places import Bucketeer, moto


@pytest.fixture(scope="session")
def s3() -> Iterator[Bucketeer]:
    """An S3 server on loopback, in a process of its own."""
    with moto() as server:
        yield server
