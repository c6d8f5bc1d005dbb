"""Time a whole ``numbacnn train`` of one epoch, with an empty and with a full kernel cache.

    python benchmarks/start_up.py [--runs 5] [--cold-at-most 20] [--warm-at-most 2]

Both times are of the whole process: imports, compilation, an epoch of the bundled digits, validation, evaluation and
saving. Python keeps its bytecode from the first run to the others, as in an installed package, whatever
PYTHONDONTWRITEBYTECODE says. The exit status is 1 if a limit is exceeded.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def train(work: Path, out: str) -> float:
    """Return the seconds of one run."""
    command = [sys.executable, "-m", "numbacnn", "train", "--epochs", "1", "--quiet", "--out", str(work / out)]
    settings = {"NUMBACNN_CACHE_DIR": str(work / "cache"), "PYTHONPYCACHEPREFIX": str(work / "bytecode")}
    environment = {**os.environ, **settings}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cold-at-most", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--warm-at-most", type=float, default=float("inf"), metavar="SECONDS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cold = train(work, "cold")
        warm = statistics.median(train(work, f"warm-{i}") for i in range(options.runs))
    print(f"cold {cold:.2f} s, warm {warm:.2f} s (median of {options.runs} runs), whole process with one epoch")
    return int(cold > options.cold_at_most or warm > options.warm_at_most)


if __name__ == "__main__":
    sys.exit(main())
