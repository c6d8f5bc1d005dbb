"""Python processes beside the tests' own: for other environments, thread counts and fresh imports."""

import os
import subprocess
import sys
from pathlib import Path

import numbacnn


def run_python(*arguments, **environment):
    """Standard output of a Python process beside this one."""
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
