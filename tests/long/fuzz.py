"""Fuzz the readers of files: each input is read correctly or rejected with one error, quickly and in little memory.

    python tests/long/fuzz.py [--count 200000] [--minutes M] [--seed 0] [--draw random|hypothesis] [FORMAT…]

Valid files are mutated: bytes are changed, removed, doubled and inserted. If checksums would hide the structure,
values inside it are changed and the checksums updated. Limits for each input: a second of processor time, and 256 MiB
of memory in addition to what the process had before.

The formats are in the package ``fuzzing``. ``random`` draws the most inputs per second; ``hypothesis`` draws the same
mutations, and minimizes one that fails. ``fuzz_guided.py`` lets atheris choose the inputs by the lines that they reach.
"""

import argparse
import base64
import math
import os
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from random import Random

from fuzzing import FORMATS
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import numbacnn as nc

SECONDS, BYTES = 1.0, 256 << 20
CHUNK = 2_000  # inputs that hypothesis draws at once, because it remembers them


class Memory:
    """The memory of this process, now and at its peak since then; Linux only.

    An earlier peak would hide later ones, so the kernel is asked to forget it: 5 to /proc/self/clear_refs.
    """

    def __init__(self):
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._forget = os.open("/proc/self/clear_refs", os.O_WRONLY)

    def now(self):
        os.pwrite(self._forget, b"5", 0)
        return self.peak()

    def peak(self):
        text = os.pread(self._status, 8192, 0)
        at = text.index(b"VmHWM:") + 6
        return 1024 * int(text[at : text.index(b"kB", at)])


class Reader:
    """Reads inputs of one format within the limits, and counts the outcomes."""

    def __init__(self, name, folder):
        self.folder = Path(folder)
        self.form = FORMATS[name](self.folder)
        self.found = Counter()
        self.memory = Memory()
        for content in (*self.form.seeds, b""):
            self.read(content)  # imports what reading needs
        self.found.clear()

    def mutated(self, random):
        """Return a new input; one in four is mutated three times."""
        content = random.choice(self.form.seeds)
        for _ in range(random.choice([1, 1, 1, 3])):
            content = self.form.mutate(content, random)
        return content

    def read(self, content):
        """Read one input; an error has the input in its note."""
        # A new file each time: truncating a written one takes ext4 a millisecond.
        path = self.folder / f"{self.found.total()}"
        path.write_bytes(content)
        before, start = self.memory.now(), time.process_time()
        try:
            self.found[self._outcome(path)] += 1
            seconds, taken = time.process_time() - start, self.memory.peak() - before
            assert seconds < SECONDS, f"{seconds:.1f} s of processor time"
            assert taken < BYTES, f"{taken:,} bytes more"
        except BaseException as error:
            packed = base64.b64encode(zlib.compress(content)).decode()
            error.add_note(f"zlib.decompress(base64.b64decode({packed!r}))")
            raise
        path.unlink()
        if self.found.total() % 20_000 == 0:
            print(f"{self.found.total():,} inputs so far", file=sys.stderr, flush=True)

    def outcomes(self):
        """Return the counts as text."""
        read, rejected = self.found["read"], self.found["rejected"]
        return f"{read + rejected:,} inputs, {read:,} read, {rejected:,} rejected"

    def _outcome(self, path):
        """Return "read" or "rejected"; other errors, and messages of two lines, are failures."""
        try:
            self.form.read(path)
            return "read"
        except self.form.error as error:
            message = str(error)
        assert "\n" not in message, f"two lines: {message}"
        assert len(message) < 2000, f"a long message: {message}"
        return "rejected"


def by_random(reader, count, first_seed, end):
    """Draw inputs from one generator, until there are ``count`` or it is ``end`` of ``time.monotonic``."""
    random = Random(first_seed)
    while reader.found.total() < count and time.monotonic() < end:
        reader.read(reader.mutated(random))


def by_hypothesis(reader, count, first_seed, end):
    """Draw the same mutations by hypothesis, which minimizes a failing one; look at the clock between chunks."""

    def check(random):
        reader.read(reader.mutated(random))

    for number, start in enumerate(range(0, count, CHUNK)):
        if time.monotonic() > end:
            break
        examples = settings(
            max_examples=min(CHUNK, count - start),
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        seed(first_seed + number)(examples(given(st.randoms(use_true_random=False))(check)))()


def main():
    draws = {"random": by_random, "hypothesis": by_hypothesis}
    parser = argparse.ArgumentParser(description="Read damaged files of every format.")
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"{', '.join(FORMATS)}; by default all")
    parser.add_argument("--count", type=int, default=200_000, help="inputs of each format, by default 200,000")
    parser.add_argument("--minutes", type=float, default=math.inf, help="the longest time for each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw", choices=draws, default="random")
    given_arguments = parser.parse_args()
    nc.set_num_threads(1)  # processor time is then that of the work, not of threads that wait
    for name in given_arguments.formats or FORMATS:
        start, end = time.process_time(), time.monotonic() + 60 * given_arguments.minutes
        with tempfile.TemporaryDirectory() as folder:
            reader = Reader(name, folder)
            draws[given_arguments.draw](reader, given_arguments.count, given_arguments.seed, end)
        print(f"{name}: {reader.outcomes()}, {time.process_time() - start:.0f} s of processor time", flush=True)


if __name__ == "__main__":
    main()
