"""Places that a remote can be at, real ones: an S3 server and a hub behind HTTP, both on loopback."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from obstore import store as backends

from fedloom.versions.bucket import Bucket
from fedloom.versions.content import Content
from fedloom.versions.remotes.http_server import Hub

_MOTO = """
import logging, sys
from moto.server import ThreadedMotoServer
import boto3
logging.disable()
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
host, port = server.get_host_and_port()
boto3.client("s3", endpoint_url=f"http://{host}:{port}", aws_access_key_id="key", aws_secret_access_key="secret",
    region_name="us-east-1").create_bucket(Bucket="models")
print(port, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Bucketeer:
    """An S3 server with the bucket `models`."""

    endpoint: str

    @property
    def options(self) -> dict[str, str]:
        """What `fedloom remote add` needs to be told of it."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": "key",
            "secret_access_key": "secret",
            "region": "us-east-1",
            "allow_http": "true",
        }

    def backend(self, path: str) -> Bucket:
        """Open a part of the bucket."""
        config: dict[str, Any] = {key: value for key, value in self.options.items() if key != "allow_http"}
        return Bucket(backends.from_url(f"s3://models/{path}", config=config, client_options={"allow_http": True}))


@contextmanager
def moto() -> Iterator[Bucketeer]:
    """Run moto's S3 server in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-c", _MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        lines = iter(server.stdout.readline, "")
        port = next(line.strip() for line in lines if line.strip().isdecimal())
        yield Bucketeer(f"http://127.0.0.1:{port}")
    finally:
        server.stdin.close()
        server.terminate()
        server.wait(10)
        server.stdout.close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of its request is no news."""


class _Handler(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def hub(content: Content, **how: Any) -> Iterator[str]:
    """Serve a repository over HTTP; gives its address."""
    with make_server("127.0.0.1", 0, Hub(content, **how), _Server, _Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)
