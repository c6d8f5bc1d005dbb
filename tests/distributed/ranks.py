"""Runs of several ranks with the mpiexec of the environment's MPI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import numbacnn

pytest.importorskip("mpi4py", reason="needs the extra mpi, and an MPI library")

JOB = Path(__file__).with_name("job.py")
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
if MPIEXEC is None:
    pytest.skip("needs mpiexec", allow_module_level=True)

IS_MPICH = "HYDRA" in subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True, check=False).stdout


def environment(**changes):
    folders = [Path(numbacnn.__file__).parents[1], JOB.parents[1], JOB.parent]
    openmpi = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    oversubscribed = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "PYTHONFAULTHANDLER": "1"}
    return os.environ | openmpi | oversubscribed | {"PYTHONPATH": os.pathsep.join(map(str, folders))} | changes


def start(ranks, *arguments, launcher=(), **changes):
    """Start Python on several ranks; one rank runs without mpiexec, whose options are ``launcher``."""
    prefix = [MPIEXEC, *launcher, "-n", str(ranks)] if ranks > 1 else []
    return subprocess.Popen(
        [*prefix, sys.executable, *map(str, arguments)],
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, timeout=240):
    """Wait for ranks that were started; return exit code, standard output and standard error."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        out, err = process.communicate(timeout=20)
        raise AssertionError(f"no end after {timeout} s:\n{out[-2000:]}\n{err[-2000:]}") from None
    return process.returncode, out, err


def run(ranks, *arguments, **changes):
    """Run Python on several ranks; return standard output."""
    code, out, err = finish(start(ranks, *arguments, **changes))
    assert code == 0, f"{arguments} on {ranks} ranks ended with {code}:\n{out[-3000:]}\n{err[-3000:]}"
    return out


def hash_of(ranks, case, steps=6, threads=1):
    """Train a case of ``job.py`` on several ranks; return the hash of its result."""
    return run(ranks, JOB, case, steps, threads).strip()
