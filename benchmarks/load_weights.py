"""Time and peak memory of loading a state dict: ``python benchmarks/load_weights.py FILE [MODEL]`` (default vgg16).

The peak is that of the whole process, including the pages of the mapped file.
"""

import sys
import time
from pathlib import Path

import numbacnn as nc
from numbacnn.bench.processes import resident_peak


def main(path, name="vgg16"):
    before = resident_peak()
    start = time.perf_counter()
    model = nc.models.make(name, weights=path)
    seconds = time.perf_counter() - start
    peak, size = resident_peak(), Path(path).stat().st_size
    print(f"{name}: {model.store.count:,} parameters, {size / 1e6:.0f} MB in {seconds:.2f} s")
    print(f"peak {peak / 1e6:.0f} MB, {peak / size:.2f} times the file size ({before / 1e6:.0f} MB before loading)")


if __name__ == "__main__":
    main(*sys.argv[1:])
