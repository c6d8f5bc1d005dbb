"""Coverage-guided fuzzing of ``fuzz.py`` by atheris: inputs that reach new lines of numbacnn are mutated further.

    pip install atheris
    python tests/long/fuzz_guided.py [--count 20000] [--minutes M] [--seed 1] [FORMAT…]

Each format runs in its own process, which libFuzzer ends.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import atheris

# Kernels are not instrumented, because Numba could not compile them; nor are other packages, which would be slow.
with atheris.instrument_imports(include=["numbacnn"], exclude=["numbacnn.kernels", "numbacnn.geometry"]):
    import fuzz


def guided(name, count, seed, minutes):
    """Read ``count`` inputs of a format under libFuzzer, or as many as it can in a time, and end the process."""
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part in ("files", "corpus"):
            (folder / part).mkdir()
        reader = fuzz.Reader(name, folder / "files")
        for number, content in enumerate(reader.form.seeds):
            (folder / "corpus" / str(number)).write_bytes(content)

        def mutate(content, max_size, seed):
            return reader.form.mutate(content, Random(seed))[:max_size]

        def read(content):
            reader.read(content)
            if reader.found.total() == count or time.monotonic() > end:
                print(f"{name}: {reader.outcomes()}, guided by atheris", flush=True)
                shutil.rmtree(folder)
                os._exit(0)  # libFuzzer looks at the clock only now and then

        options = [f"-runs={count}", f"-seed={seed}", "-max_len=65536", "-timeout=600", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], read, custom_mutator=mutate)
        atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"{', '.join(fuzz.FORMATS)}; by default all")
    parser.add_argument("--count", type=int, default=20_000, help="inputs of each format, by default 20,000")
    parser.add_argument("--minutes", type=float, default=math.inf, help="the longest time for each format")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    formats = given.formats or list(fuzz.FORMATS)
    if len(formats) == 1:
        guided(formats[0], given.count, given.seed, given.minutes)
    options = [f"--count={given.count}", f"--seed={given.seed}", f"--minutes={given.minutes}"]
    for name in formats:
        subprocess.run([sys.executable, __file__, name, *options], check=True)


if __name__ == "__main__":
    main()
