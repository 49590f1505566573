"""Docs that run: every `console` block of tutorial and how-to is typed into a shell, and its output compared."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser

PROMPT = "$ "
EXIT = re.compile(r"\[exit code (\d+)\]")


class ConsoleParser(CodeBlockParser):
    """Runs `$ command` lines in one folder per document; `...` stands for anything, `[exit code N]` for the code."""

    language = "console"

    def evaluate(self, example):
        """Run the block's commands in turn."""
        for block in ("\n" + example.parsed.rstrip()).split(f"\n{PROMPT}")[1:]:
            command, _, expected = block.partition("\n")
            example.namespace["shell"].check(command, expected)


class Shell:
    """A folder that remembers `cd` between commands."""

    def __init__(self):
        self._home = tempfile.TemporaryDirectory()
        self._folder = Path(self._home.name)
        tools = Path(sys.executable).parent
        self._environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "120", "NO_COLOR": "1"}

    def close(self):
        """Remove the folder."""
        self._home.cleanup()

    def check(self, command, expected):
        """Run one command and compare what it prints."""
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
