"""Docs that run: every `console` block of tutorial and how-to is typed into a shell, and its output compared.

`$EXAMPLES` is the folder of the examples. A block after the comment SKIP decides whether the rest of its document can
run at all: where one of its commands fails, a data set is absent and the document is skipped with what it said.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser

settings.register_profile("any-machine", deadline=None)  # a busy machine is no failure
settings.load_profile("any-machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would the commands that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

PROMPT = "$ "
SKIP = "<!-- skip the rest where this fails -->"
EXIT = re.compile(r"\[exit code (\d+)\]")


class ConsoleParser(CodeBlockParser):
    """Runs `$ command` lines in one folder per document; `...` stands for anything, `[exit code N]` for the code."""

    language = "console"

    def evaluate(self, example):
        """Run the block's commands in turn."""
        shell = example.namespace["shell"]
        if shell.skipped:
            pytest.skip(shell.skipped)
        optional = example.document.text[: example.start].rstrip().endswith(SKIP)
        for block in ("\n" + example.parsed.rstrip()).split(f"\n{PROMPT}")[1:]:
            command, _, expected = block.partition("\n")
            shell.check(command, expected, optional=optional)


class Shell:
    """A folder that remembers `cd` between commands."""

    def __init__(self):
        self._home = tempfile.TemporaryDirectory()
        self._folder = Path(self._home.name)
        tools = Path(sys.executable).parent
        self.skipped = ""
        told = {"COLUMNS": "120", "NO_COLOR": "1", "EXAMPLES": str(Path(__file__).parent / "examples")}
        self._environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", **told}

    def close(self):
        """Remove the folder."""
        self._home.cleanup()

    def check(self, command, expected, *, optional=False):
        """Run one command and compare what it prints; an optional one that fails ends the document."""
        if command.startswith("cd "):
            self._folder = self._folder / command[3:]
            return
        done = subprocess.run(  # noqa: S602  the documents are ours
            command,
            shell=True,
            cwd=self._folder,
            env=self._environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if optional and done.returncode:
            self.skipped = done.stdout.strip()
            pytest.skip(self.skipped)
        code = EXIT.search(expected)
        wanted = EXIT.sub("", expected).strip()
        assert done.returncode == (int(code.group(1)) if code else 0), f"{command}: {done.stdout}"
        pattern = ".*".join(re.escape(part) for part in re.sub(r"(?m)^\.\.\.$\n?", "...", wanted).split("..."))
        found = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        assert re.fullmatch(pattern, found, re.DOTALL), f"{command} printed:\n{found}\n\nthe document says:\n{wanted}"


pytest_collect_file = Sybil(
    parsers=[ConsoleParser()],
    patterns=["docs/tutorial/*.md", "docs/how-to/*.md", "README.md"],
    setup=lambda namespace: namespace.update(shell=Shell()),
    teardown=lambda namespace: namespace["shell"].close(),
).pytest()
