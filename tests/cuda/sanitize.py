"""Runs tests on a GPU under NVIDIA's checkers of memory and of races, which come with the CUDA toolkit.

    python tests/cuda/sanitize.py [--tool memcheck racecheck initcheck synccheck] [pytest's arguments]

Where the arguments name no tests, these are the table of calls, each launcher of which runs at small shapes, tensor
cores, and steps that the GPU drives itself: the checkers slow kernels down many times. memcheck finds accesses out of
bounds and misaligned, racecheck shared memory that threads of a block use without a barrier between them, initcheck
memory that is read before it is written, synccheck barriers that not all threads reach. The exit status is 1 where one
of them, or a test, complains.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
TESTS = [
    str(HERE / name) for name in ("test_twins.py", "test_product.py", "test_tensor_cores.py", "test_device_loop.py")
]
PLACES = ("/usr/local/cuda/bin", "/opt/cuda/bin")  # where toolkits are installed, if not on the path


def find_checker() -> str | None:
    """The command, or None where there is none."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *PLACES])
    return shutil.which("compute-sanitizer", path=path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", nargs="+", choices=TOOLS, default=["memcheck", "racecheck"])
    options, given = parser.parse_known_args()
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        sys.exit("the checkers look at a GPU, not at the simulator: leave out NUMBA_ENABLE_CUDASIM")
    checker = find_checker()
    if checker is None:
        sys.exit(
            "compute-sanitizer is not installed: it comes with the CUDA toolkit, "
            "https://developer.nvidia.com/cuda-downloads (package cuda-sanitizer), and is looked for on PATH "
            f"and in {', '.join(PLACES)}"
        )
    names_tests = any(Path(argument.split("::")[0]).exists() for argument in given)
    arguments = given if names_tests else [*given, *TESTS]
    failed = []
    for tool in options.tool:
        command = [checker, "--tool", tool, "--error-exitcode", "1", sys.executable, "-m", "pytest", "-q", "-x"]
        print(f"-- {tool}", flush=True)
        if subprocess.run([*command, *arguments], check=False).returncode:
            failed.append(tool)
    print(f"complaints of {', '.join(failed)}" if failed else f"no complaints of {', '.join(options.tool)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
