"""Where remotes are: their names, addresses and options, and how one is opened.

Rules: an address is a folder, file://, a URL of an object store (s3://, gs://, az://), or http(s):// of a hub. Options
may be secrets: they lie apart from the settings, and are never shown. What the environment says about an object store
is read by obstore itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore import store as backends
from obstore.exceptions import BaseError

from fedloom.errors import ConflictError, NotFoundError, SpecError, VersionsError, nearest
from fedloom.versions.bucket import Bucket
from fedloom.versions.content import Content
from fedloom.versions.disk import Disk
from fedloom.versions.remotes.http_client import HttpRemote
from fedloom.versions.remotes.remote import Remote
from fedloom.versions.remotes.store_remote import StoreRemote
from fedloom.versions.remotes.tracking import SEEN, set_ref, tracking

ORIGIN = "origin"
_FOLDER = ".fedloom"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "http": ("token", "token-file"),
    "https": ("token", "token-file"),
    "s3": (
        *("access_key_id", "secret_access_key", "session_token", "endpoint", "region", "skip_signature"),
        *("virtual_hosted_style_request", "allow_http"),
    ),
    "gs": ("application_credentials", "service_account", "service_account_key", "skip_signature"),
    "az": ("account_name", "account_key", "sas_key", "endpoint", "tenant_id", "client_id", "client_secret"),
}
_OF_CLIENT = ("allow_http",)
_RETRY = {"max_retries": 5, "retry_timeout": timedelta(seconds=30)}


def add(content: Content, name: str, url: str, options: Mapping[str, str] | None = None) -> str:
    """Remember a remote under a name; gives its address as it is kept.

    Raises ConflictError where the name is taken, SpecError where name, address or an option is wrong.
    """
    if not _NAME.fullmatch(name):
        raise SpecError(f"'{name}' is no name for a remote: use lower-case letters, digits, '.', '_' and '-'")
    known = content.settings.read().remotes
    if name in known:
        raise ConflictError(f"there is a remote '{name}' already: remove it first with `fedloom remote remove {name}`")
    address = kept_form(url, options or {})
    content.store.replace(_options_path(name), [json.dumps(dict(options or {})).encode()])
    content.settings.change(lambda before: replace(before, remotes={**before.remotes, name: address}))
    return address


def listed(content: Content) -> Mapping[str, str]:
    """List remotes with their addresses, by name; options are not shown."""
    return dict(sorted(content.settings.read().remotes.items()))


def remove(content: Content, name: str) -> None:
    """Forget a remote, its options and where its branches were; what was fetched stays."""
    _address(content, name)
    content.store.delete(_options_path(name))
    content.settings.change(lambda before: replace(before, remotes=_without(before.remotes, name)))
    for ref in (*content.refs.names(tracking(name, "")), *content.refs.names(f"{SEEN}{name}/")):
        set_ref(content, ref, None, f"remote {name} removed")


@contextmanager
def connected(content: Content, name: str, *, create: bool = False) -> Iterator[Remote]:
    """Open a remote by name for a while; raises NotFoundError where nobody added it, or no repository is there.

    create: whether a new folder is made where there is none.
    """
    address = _address(content, name)
    with closing(_opened(content, address, _options(content, name), create=create)) as remote:
        yield remote


def only_remote(content: Content) -> str:
    """Choose the remote that is meant where none is named: `origin`, or the only one there is."""
    names = list(content.settings.read().remotes)
    if ORIGIN in names or len(names) != 1:
        return ORIGIN
    return names[0]


def is_folder(address: str) -> bool:
    """Whether an address is a folder on this machine."""
    return "://" not in address


def kept_form(url: str, options: Mapping[str, str]) -> str:
    """Bring an address to the form it is kept in: folders absolute, no secrets in it."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise SpecError("an address may hold no user or password: give them as options or in the environment")
    if parts.scheme == "file":
        url = url2pathname(parts.path)
    _check_options(parts.scheme, options)
    if is_folder(url):
        return str(Path(url).resolve())
    if not parts.netloc or parts.query or parts.fragment:
        raise SpecError(f"'{url}' is no address: give it as https://host/path or s3://bucket/path")
    return url.rstrip("/")


def _check_options(scheme: str, options: Mapping[str, str]) -> None:
    if scheme not in (*_OPTIONS, "", "file"):
        raise SpecError(f"'{scheme}://' is not known: {nearest(scheme, [*_OPTIONS, 'file'])}")
    allowed = _OPTIONS.get(scheme, ())
    for key in options:
        if key not in allowed:
            told = nearest(key, allowed) if allowed else "leave it out"
            raise SpecError(f"such a remote takes no option '{key}': {told}")


def _bucket(address: str, options: Mapping[str, str]) -> Any:
    """Open a bucket; the environment fills in what no option says."""
    config = {key: value for key, value in options.items() if key not in _OF_CLIENT}
    client = {"allow_http": options["allow_http"].lower() in ("1", "true", "yes")} if "allow_http" in options else None
    open_: Any = backends.from_url
    try:
        return open_(address, config=config or None, client_options=client, retry_config=_RETRY)
    except (BaseError, ValueError, TypeError) as error:
        told = str(error).partition("\n")[0]
        for value in options.values():
            told = told.replace(value, "…") if value else told
        raise VersionsError(f"{address} cannot be opened: {told}. Check the address and its options") from None


def _opened(content: Content, address: str, options: Mapping[str, str], *, create: bool) -> HttpRemote | StoreRemote:
    if _is_hub(address):
        return HttpRemote(address, content.database, _token(options))
    if is_folder(address):
        return StoreRemote(Disk(_repository_in(Path(address), create=create)), address, content.database)
    return StoreRemote(Bucket(_bucket(address, options)), address, content.database)


def _repository_in(folder: Path, *, create: bool) -> Path:
    """Find the repository of a folder: that of a project, or one that lies in the folder itself."""
    if (folder / _FOLDER).is_dir():
        return folder / _FOLDER
    if not (folder / "refs").is_dir():
        if not create:
            raise NotFoundError(f"there is no repository at {folder}: check the path, or push there first")
        if folder.exists() and any(folder.iterdir()):
            raise VersionsError(f"{folder} holds other files and no repository: push to a new or empty folder")
        (folder / "refs").mkdir(parents=True, exist_ok=True)  # marks it, so a push that is cut off can go on
    return folder


def _token(options: Mapping[str, str]) -> str | None:
    if "token-file" not in options:
        return options.get("token")
    try:
        return Path(options["token-file"]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise NotFoundError(f"the token file {options['token-file']} cannot be read: write the token into it") from None


def _options(content: Content, name: str) -> Mapping[str, str]:
    try:
        found = json.loads(content.store.get(_options_path(name)))
    except (NotFoundError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _address(content: Content, name: str) -> str:
    known = content.settings.read().remotes
    if name not in known:
        there = ", ".join(sorted(known)) or "none yet; add one with `fedloom remote add NAME URL`"
        raise NotFoundError(f"there is no remote '{name}'. Remotes: {there}")
    return known[name]


def _options_path(name: str) -> str:
    return f"remotes/{name}.json"


def _is_hub(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _without(remotes: Mapping[str, str], name: str) -> dict[str, str]:
    return {known: url for known, url in remotes.items() if known != name}
