"""Every error a person can meet; each message says what to do next.

    FedloomError                    exit code
    ├── SpecError                   2  a file a person wrote is wrong: file, line, field, nearest spelling
    ├── PlanError                   3  the plan cannot work, or a site's data breaks the contract
    ├── LearnerError                1  a learner cannot be loaded, or misbehaves (NaN, shapes, dtype)
    ├── SiteDataError               3  a site's file is missing, empty or does not fit
    ├── RoundFailedError            1  a round did not get what the participation policy demands
    ├── GateError                   3  the gate refused the model
    ├── WireError                   1  a message is corrupt, truncated or of another version
    ├── EngineError                 1  the engine cannot start or has stopped
    └── VersionsError               1
        ├── NotFoundError           4  no such object, ref or run
        ├── ConflictError           5  somebody else moved the ref first
        ├── RefusedError            3  it cannot be done with what is there, unless somebody says how
        ├── CorruptObjectError      1  stored bytes do not match their id
        └── StorageError            1  the disk is full or not writable

Rule: a message never holds a value from a site's data; names, counts and positions only.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_NOT_FOUND = 4
EXIT_CONFLICT = 5
EXIT_PARTIAL = 6
EXIT_INTERRUPTED = 130


class FedloomError(Exception):
    """Base of every error that is meant to be read by a person."""

    exit_code: ClassVar[int] = EXIT_FAILED


class SpecError(FedloomError):
    """A file a person wrote is wrong; the message names file, line, field and what is allowed."""

    exit_code = EXIT_USAGE


class PlanError(FedloomError):
    """The plan cannot work as written; nothing has run."""

    exit_code = EXIT_REFUSED


class LearnerError(FedloomError):
    """A learner cannot be loaded, or broke the learner contract."""


class SiteDataError(FedloomError):
    """A site's data is missing or does not fit the contract; holds counts and names, never values."""

    exit_code = EXIT_REFUSED


class RoundFailedError(FedloomError):
    """A round did not get what the participation policy demands; nothing was committed for it."""


class GateError(FedloomError):
    """The gate refused the model; the model is committed on its run, but not registered."""

    exit_code = EXIT_REFUSED


class WireError(FedloomError):
    """A message is corrupt, truncated or of another version."""


class EngineError(FedloomError):
    """The engine cannot start, or has stopped."""


class VersionsError(FedloomError):
    """Base of what can go wrong in the version store."""


class NotFoundError(VersionsError):
    """No such object, ref or run."""

    exit_code = EXIT_NOT_FOUND


class ConflictError(VersionsError):
    """Another process moved the ref first; read it again and retry."""

    exit_code = EXIT_CONFLICT


class RefusedError(VersionsError):
    """It cannot be done with what is there, unless somebody says how; nothing was changed."""

    exit_code = EXIT_REFUSED


class CorruptObjectError(VersionsError):
    """Stored bytes do not match the id they are stored under."""


class StorageError(VersionsError):
    """The store cannot be written: no space, no permission, no such place."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Say which allowed words there are and which one was probably meant.

    >>> nearest("fedagv", ["fedavg", "fedprox"])
    "did you mean 'fedavg'? Allowed: fedavg, fedprox"
    """
    choices = sorted(allowed)
    close = get_close_matches(word, choices, n=1, cutoff=0.5)
    listed = "Allowed: " + ", ".join(choices)
    return f"did you mean '{close[0]}'? {listed}" if close else listed
