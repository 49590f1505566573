"""A repository as the walks see it: what cannot be read is absent and its reason is kept, refs with all their moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from fedloom.errors import FedloomError, NotFoundError
from fedloom.values import Digest
from fedloom.versions import objects
from fedloom.versions.content import Content
from fedloom.versions.generations import Generations
from fedloom.versions.objects import Commit, Conflict, Entry, Kind
from fedloom.versions.refs import Move

LONG_AGO = datetime.min.replace(tzinfo=UTC)
_EXPIRED = "collected"

_Value = TypeVar("_Value")


class Reading:
    """Reads trees once, and remembers what could not be read and why; a missing object is no failure."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._trees: dict[Digest, Mapping[str, Entry] | None] = {}
        self.failed: dict[Digest, str] = {}

    def commit(self, id_: Digest) -> Commit | None:
        """Read a commit."""
        return self._tried(id_, self._content.commit)

    def tree(self, id_: Digest) -> Mapping[str, Entry] | None:
        """Read a tree's entries."""
        if id_ not in self._trees:
            self._trees[id_] = self._tried(id_, self._content.tree)
        return self._trees[id_]

    def conflict(self, id_: Digest) -> Conflict | None:
        """Read a conflict."""
        return self._tried(id_, self._content.conflict)

    def kind(self, id_: Digest) -> Kind | None:
        """Say what an object is."""
        return self._tried(id_, lambda one: objects.kind_of(self._content.database.get(one)))

    def _tried(self, id_: Digest, read: Callable[[Digest], _Value]) -> _Value | None:
        try:
            return read(id_)
        except NotFoundError:
            return None
        except FedloomError as error:
            self.failed[id_] = str(error)
            return None


def logs(content: Content) -> tuple[dict[str, list[Move]], list[str]]:
    """Read all moves of all refs, deleted ones too; and tell of each move that cannot be read or is not there."""
    paths = content.store.paths("refs")
    names = sorted({path[len("refs/") :].rsplit(".ref/", 1)[0] for path in paths if ".ref/" in path})
    found: dict[str, list[Move]] = {}
    problems: list[str] = []
    for name in names:
        folder, noun = f"refs/{name}.ref", f"ref '{name}'"
        generations = Generations(content.store, folder, noun)
        problems += gaps(generations, folder, noun)
        found[name] = []
        for number in generations.numbers():
            try:
                found[name].append(_move(generations, number))
            except FedloomError as error:
                problems.append(str(error))
    return found, problems


def _move(generations: Generations, number: int) -> Move:
    value = generations.read(number)
    try:
        datetime.fromisoformat(value["when"])
        return Move(value["target"], value["when"], value["why"])
    except (KeyError, TypeError, ValueError):
        raise generations.corrupt(number) from None


def gaps(generations: Generations, folder: str, noun: str) -> list[str]:
    """Tell which moves of a value are missing between the first and the last."""
    numbers = generations.numbers()
    missing = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))
    return [f"move {number} of {noun} is missing: restore {folder}/{number:08d} from a copy" for number in missing]


def reflog_since(content: Content) -> datetime:
    """Find from when on old moves of refs hold what they point to; `gc` has let go of what they left before."""
    generations = Generations(content.store, _EXPIRED, "what was collected")
    number = generations.latest()
    return datetime.fromisoformat(generations.read(number)["reflog_since"]) if number else LONG_AGO


def let_go(content: Content, since: datetime) -> None:
    """Remember that moves before a moment hold nothing any more; written before anything is removed for it."""
    if since > reflog_since(content):
        generations = Generations(content.store, _EXPIRED, "what was collected")
        generations.create(generations.latest() + 1, {"reflog_since": since.isoformat()})
