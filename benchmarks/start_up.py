"""What a newcomer waits for: a whole `numbacnn train` of one epoch, with an empty kernel cache and with a full one.

    python benchmarks/start_up.py [--runs 5] [--cold-at-most 20] [--warm-at-most 2]

Both times run from the start of the process to its end: the first training step, and then the rest of an epoch of the
embedded digits, validation, evaluation and saving. Exit status 1 where a limit is passed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def train(cache: Path, out: Path) -> float:
    """Seconds of one run."""
    command = [sys.executable, "-m", "numbacnn", "train", "--epochs", "1", "--quiet", "--out", str(out)]
    start = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "NUMBACNN_CACHE_DIR": str(cache)}, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cold-at-most", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--warm-at-most", type=float, default=float("inf"), metavar="SECONDS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cold = train(work / "cache", work / "cold")
        warm = statistics.median(train(work / "cache", work / f"warm-{i}") for i in range(options.runs))
    print(f"cold {cold:.2f} s, warm {warm:.2f} s (median of {options.runs}), whole process, one epoch included")
    return int(cold > options.cold_at_most or warm > options.warm_at_most)


if __name__ == "__main__":
    sys.exit(main())
