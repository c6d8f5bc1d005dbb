"""Separate Python processes: for other environments, other numbers of threads and new imports."""

import os
import subprocess
import sys
from pathlib import Path

import numbacnn


def run_python(*arguments, **environment):
    """Run Python in a process of its own, and return its standard output."""
    paths = os.pathsep.join([str(Path(numbacnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, (
        f"{arguments} ended with {done.returncode}:\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout
