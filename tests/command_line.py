"""Run the command line in tests: in this process, or in another one."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from numbacnn.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Terminal(io.StringIO):
    def isatty(self):
        return True


COMPILING = "compiling kernels (first run only) …\n"


def numbacnn(*arguments, terminal=False):
    """Run a command in this process. Drops the line on compilation, which depends on earlier tests."""
    out, err = io.StringIO(), Terminal() if terminal else io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue().replace(COMPILING, ""))


def process(*arguments, **variables):
    """Start a command in a process that captures its output as text."""
    return subprocess.Popen(
        [sys.executable, "-m", "numbacnn", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NUMBA_NUM_THREADS": "1"} | variables,
    )


def finished(*arguments, **variables):
    child = process(*arguments, **variables)
    out, err = child.communicate(timeout=600)  # long: the machine may be busy with other work
    return Outcome(child.returncode, out, err)


def contents(folder):
    """Map every file below a folder to its content."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def rejected(fragment, *arguments, code=1):
    """Check that a command fails with one line that contains ``fragment``, and does not change the working folder."""
    before = contents("."), sorted(Path().rglob("*"))
    outcome = numbacnn(*arguments)
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert fragment in outcome.err
    assert (contents("."), sorted(Path().rglob("*"))) == before
