"""Alternate training and inference for a long time: memory and open files must stay constant.

    python tests/long/soak.py [--minutes 30]

The first third of the turns is a warm-up. After it, resident memory may grow by 4 MiB over all turns (least squares),
the noise of the allocator; open files may not grow at all. Linux only: it reads /proc.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import numbacnn as nc

GROWTH = 4.0  # MiB
MIN_TURNS = 60  # also on a busy machine


def turns(folder):
    """Behave like a service, forever: fit, predict batches of changing sizes, save and load, reject bad files."""
    train, test = nc.data.load("digits")
    rng = np.random.default_rng(0)
    model = nc.models.lenet5()
    part = train.subset(np.arange(480))
    (folder / "bad").write_bytes(b"no model")
    while True:
        model.fit(part, optimizer=nc.SGD(0.01), epochs=1, batch_size=32, checkpoint=folder / "checkpoint.safetensors")
        yield
        for n in rng.integers(1, 200, 4):
            model.predict(test.images[:n])
        model.evaluate(test)
        yield
        model.save(folder / "m.safetensors")
        model = nc.load(folder / "m.safetensors")
        try:
            nc.load(folder / "bad")
        except nc.ModelFileError:
            yield


def memory_mib():
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    seconds = 60 * parser.parse_args().minutes
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        turn = turns(Path(folder))
        for _ in range(6):
            next(turn)  # compiles
        start = time.monotonic()
        while time.monotonic() - start < seconds or len(measured) < MIN_TURNS:
            next(turn)
            measured.append((memory_mib(), open_files()))
    memory, files = np.array(measured[len(measured) // 3 :]).T
    growth = np.polyfit(np.arange(len(memory)), memory, 1)[0] * len(measured)
    print(
        f"{len(measured):,} turns in {(time.monotonic() - start) / 60:.1f} min: {memory.mean():.1f} MiB of memory, "
        f"growing by {growth:+.2f} MiB over that time; {files.min():.0f} to {files.max():.0f} open files"
    )
    assert growth < GROWTH, f"memory grows by {growth:.1f} MiB in {len(measured):,} turns"
    assert files.max() == files.min(), "the number of open files changes"


if __name__ == "__main__":
    main()
