"""Run tests on a GPU under NVIDIA's compute-sanitizer, which comes with the CUDA toolkit.

    python tests/cuda/sanitize.py [--tool memcheck racecheck initcheck synccheck] [pytest's arguments]

Without test files among the arguments, every launcher runs at small shapes, and tensor cores and the device loop: the
checkers slow kernels down many times. memcheck finds accesses that are out of bounds or misaligned, racecheck accesses
to shared memory without a barrier between them, initcheck reads of uninitialized memory, synccheck barriers that not
all threads reach. The exit status is 1 if a checker or a test fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
TESTS = [str(HERE / name) for name in ("test_twins.py", "test_gemm.py", "test_tensor_cores.py", "test_device_loop.py")]
FOLDERS = ("/usr/local/cuda/bin", "/opt/cuda/bin")  # of toolkits that are not on the path


def find_checker() -> str | None:
    """Return the path of the command, or None."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *FOLDERS])
    return shutil.which("compute-sanitizer", path=path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", nargs="+", choices=TOOLS, default=["memcheck", "racecheck"])
    options, given = parser.parse_known_args()
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        sys.exit("the checkers need a GPU, not the simulator: unset NUMBA_ENABLE_CUDASIM")
    checker = find_checker()
    if checker is None:
        sys.exit(
            "compute-sanitizer is not installed: it comes with the CUDA toolkit, "
            "https://developer.nvidia.com/cuda-downloads (package cuda-sanitizer), and is searched for on PATH "
            f"and in {', '.join(FOLDERS)}"
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
