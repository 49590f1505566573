"""`fedloom key`, `sign`, `trust` and `verify`: what is signed, by whom, and whether it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from fedloom.cli.opening import chosen, open_repository
from fedloom.cli.output import bytes_text, console, counted, print_json
from fedloom.cli.tables import print_table
from fedloom.errors import EXIT_FAILED, EXIT_OK, SpecError, StorageError
from fedloom.versions.keys import create_key, read_private_key, read_public_key_file
from fedloom.versions.verify import Verdict

_WHY = {
    "promised": "kept by the sites",
    "opaque": "never kept, only named",
    "recipe": "computed by recipe",
    "sparse": "outside of what is fetched",
    "erased": "erased",
    "hearsay": "erased, as somebody else says",
}


@dataclass(frozen=True, slots=True)
class Demands:
    """How far to look and what signatures to ask for."""

    depth: int | None
    require: tuple[str, ...]
    signed: bool


def make_key(file: Path, public: Path, kind: str, *, as_json: bool) -> None:
    """Make a key pair and say what to do with each half."""
    if public.exists():
        raise SpecError(f"{public} exists already, and a key is never overwritten: choose another file")
    key = create_key(file, kind)
    try:
        public.write_text(key.pem, encoding="ascii")
    except OSError as error:
        raise StorageError(f"cannot write {public}: {error.strerror}") from None
    if as_json:
        print_json({"id": key.id, "algorithm": key.algorithm, "private": str(file), "public": str(public)})
        return
    out = console()
    out.print(f"private key: {file}, keep it to yourself")
    out.print(f"public key:  {public}, hand it out\n{key.pem.strip()}")
    out.print(f"key id: {key.id}")


def sign_commit(folder: Path, name: str | None, file: Path, who: str, *, as_json: bool) -> None:
    """Sign a commit."""
    key = read_private_key(file)
    repository = open_repository(folder)
    commit = chosen(repository, name)
    names = [known for known, public in repository.trusted().items() if public.id == key.public.id]
    attestation = repository.sign(commit, key, who or next(iter(names), ""))
    if as_json:
        print_json({"commit": commit, "key": key.public.id, "attestation": attestation})
        return
    console().print(f"signed {commit[:12]} with key {key.public.id[:12]}")


def add_trust(folder: Path, name: str, file: Path) -> None:
    """Trust a key as a name."""
    key = read_public_key_file(file)
    open_repository(folder).trust(name, key)
    console().print(f"'{name}' is trusted with key {key.id[:12]}")


def remove_trust(folder: Path, name: str) -> None:
    """Trust a name no longer."""
    open_repository(folder).distrust(name)
    console().print(f"'{name}' is trusted no longer")


def list_trust(folder: Path, *, as_json: bool) -> None:
    """Print who is trusted."""
    names = open_repository(folder).trusted()
    if as_json:
        print_json({name: {"id": key.id, "public": key.pem} for name, key in names.items()})
        return
    if not names:
        console().print("nobody is trusted here yet: `fedloom trust NAME PUBLIC.pem`")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("name", "key id"):
        table.add_column(heading)
    for name, key in names.items():
        table.add_row(name, key.id)
    print_table(console(), table)


def verify_commit(folder: Path, name: str | None, demands: Demands, *, as_json: bool) -> int:
    """Verify a commit and print what was checked and what was not; the exit code says whether anything is wrong."""
    verdict = verified(folder, name, demands)
    if as_json:
        print_json(verdict.as_json())
    else:
        print_verdict(console(), verdict)
    return EXIT_OK if verdict.ok else EXIT_FAILED


def verified(folder: Path, name: str | None, demands: Demands) -> Verdict:
    """Verify a commit; a terminal sees how far it is."""
    repository = open_repository(folder)
    commit = chosen(repository, name)
    with _bar() as bar:
        task = bar.add_task("commits", total=None)
        return repository.verify(
            commit,
            depth=demands.depth,
            require=demands.require,
            signed=demands.signed,
            progress=lambda done, known: bar.update(task, completed=done, total=known),
        )


def print_verdict(out: Console, verdict: Verdict) -> None:
    """Print what was checked and what was not."""
    for line in _lines(verdict):
        out.print(line)


def _bar() -> Progress:
    """Show progress on a terminal, on standard error, and leave nothing behind."""
    error = Console(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TextColumn("commits"))
    return Progress(*columns, console=error, transient=True, disable=not error.is_terminal)


def _lines(verdict: Verdict) -> Iterator[Text | str]:
    """Say in a few lines what was checked, how many, and what was not."""
    yield f"commit {verdict.commit}"
    older = f"; {verdict.shallow} older left out by --depth" if verdict.shallow else ""
    read = f"{counted(verdict.objects, 'object')} ({bytes_text(verdict.bytes)})"
    yield f"history: {counted(verdict.commits, 'commit')}, {read} read and held to their ids{older}"
    if verdict.absent:
        told = [f"{number} {_WHY[reason]}" for reason, number in verdict.absent.items()]
        yield f"not here, and need not be: {', '.join(told)}"
    if verdict.rounds:
        yield f"models: {_rounds(verdict)}"
    yield f"statements: {verdict.attestations}; signatures: {_signatures(verdict)}"
    if verdict.ok:
        yield Text("verified", style="bold green")
        return
    yield Text(counted(len(verdict.problems), "problem"), style="bold red")
    yield from (f"  {problem}" for problem in verdict.problems)


def _rounds(verdict: Verdict) -> str:
    done = sum(one.recomputed for one in verdict.rounds)
    left = Counter(one.why for one in verdict.rounds if not one.recomputed)
    told = [f"{number} not ({why})" for why, number in left.items()]
    return ", ".join([f"{done} of {len(verdict.rounds)} computed anew", *told])


def _signatures(verdict: Verdict) -> str:
    """Name the trusted who signed this commit, and count the rest."""
    if not verdict.signatures:
        return "none"
    here = [one.name for one in verdict.signatures if one.holds and one.commit == verdict.commit]
    older = sum(one.holds and one.commit != verdict.commit for one in verdict.signatures)
    unknown = sum(not one.name and not one.problem for one in verdict.signatures)
    broken = sum(bool(one.problem) for one in verdict.signatures)
    parts = [
        f"this commit by {', '.join(sorted(here))}" if here else "",
        f"{older} on older commits" if older else "",
        f"{unknown} by keys not trusted here" if unknown else "",
        f"{broken} that do not hold" if broken else "",
    ]
    return ", ".join(part for part in parts if part)
