"""Start two trainings together on one empty kernel cache, repeatedly: none may fail, and both give the same model.

python tests/long/cold_starts.py [--count 20]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors import safe_open


def together(folder):
    """Train twice at once; return the digests of the two models."""
    command = [sys.executable, "-m", "numbacnn", "train", "--epochs", "1", "--quiet", "--threads", "2", "--out"]
    environment = os.environ | {"NUMBACNN_CACHE_DIR": str(folder / "cache")}
    trainings = [
        subprocess.Popen(
            [*command, str(folder / name)], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in ("a", "b")
    ]
    for training in trainings:
        _, errors = training.communicate(timeout=3600)
        assert (training.returncode, errors) == (0, b""), f"ended with {training.returncode}: {errors.decode()}"
    return [_digest(folder / name / "model.safetensors") for name in ("a", "b")]


def _digest(path):
    with safe_open(path, framework="numpy") as file:
        return file.metadata()["digest"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20)
    count = parser.parse_args().count
    for number in range(count):
        with tempfile.TemporaryDirectory() as folder:
            first, second = together(Path(folder))
            assert first == second, f"round {number + 1}: two different models"
        print(f"round {number + 1}: no failure", file=sys.stderr, flush=True)
    print(f"{count} rounds, no failure")


if __name__ == "__main__":
    main()
