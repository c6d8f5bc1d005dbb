"""Files that nobody wrote on purpose: each is read rightly, or refused by an error of ours, soon and in little memory.

    python tests/long/fuzz.py [--count 200000] [--seed 0] [FORMAT…]

Mutations of a sound file, drawn by hypothesis: bytes changed, cut out, doubled and inserted; and, where checksums would
hide what lies behind them, values of the structure inside, sealed again. Limits for each input: a second of processor
time, and 256 MiB of memory above what the process had before.
"""

import argparse
import gzip
import json
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

import numbacnn as nc
from numbacnn.checkpoint import FORMAT, VERSION, digest
from numbacnn.data import read_idx, read_image, write_idx
from numbacnn.runs import Settings, read_config

SECONDS, BYTES = 1.0, 256 << 20
CHUNK = 5_000  # inputs drawn at once: hypothesis remembers them
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
SPECIAL = [0, 1, 7, 8, 127, 128, 255]


# -- mutations --------------------------------------------------------------------------------------------------------


@st.composite
def mutated(draw, content):
    """The bytes with a few edits, often near the start, where headers are."""
    edited = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.one_of(st.integers(0, 64), st.integers(0, len(content))))
        kind = draw(st.sampled_from(["set", "flip", "insert", "cut", "double", "end"]))
        if kind == "set":
            edited[at : at + 1] = bytes([draw(st.one_of(st.sampled_from(SPECIAL), st.integers(0, 255)))])
        elif kind == "flip" and at < len(edited):
            edited[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            edited[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "cut":
            del edited[at : at + draw(st.integers(1, 32))]
        elif kind == "double":
            edited[at:at] = edited[at : at + draw(st.integers(1, 64))]
        elif kind == "end":
            del edited[at:]
    return bytes(edited)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 3, 2**31, 2**63, 2**64, -(2**63), 10**400]),
    st.floats(allow_nan=True),
    st.sampled_from(
        [1e308, -0.0, "", "same", "valid", "relu", "numpy", "__main__", "os", "../../etc/passwd", "\x00\n"]
    ),
    st.lists(st.integers(-2, 2**40), max_size=4),
    st.just({}),
)


@st.composite
def altered(draw, form):
    """A JSON form with some values replaced, dropped or doubled, at places drawn from all there are."""
    form = json.loads(json.dumps(form))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(form))
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(["replace", "replace", "drop", "double", "nest"]))
        if kind == "replace":
            holder[key] = draw(VALUES)
        elif kind == "drop":
            del holder[key]
        elif kind == "double" and isinstance(holder, list):
            holder.append(holder[key])
        elif kind == "nest":
            holder[key] = [holder[key]]
        if not list(_places(form)):
            break
    return form


def _places(form):
    """(holder, key) of every value in a form, below the top."""
    items = form.items() if isinstance(form, dict) else enumerate(form) if isinstance(form, list) else ()
    for key, value in items:
        yield form, key
        yield from _places(value)


# -- formats: how inputs are drawn, and what reading one must give ----------------------------------------------------


class Idx:
    """Plain IDX files."""

    error = nc.DataError

    def __init__(self, folder):
        write_idx(folder / "seed", PIXELS)
        self.content = (folder / "seed").read_bytes()

    def inputs(self):
        return mutated(self.content)

    def read(self, path):
        """An array whose bytes, and no others, are behind the header."""
        array, content = read_idx(path), path.read_bytes()
        assert content[4 + 4 * array.ndim :] == array.astype(array.dtype.newbyteorder(">")).tobytes()


class Gzip(Idx):
    """Compressed IDX files, damaged outside and inside."""

    def inputs(self):
        packed = st.sampled_from([lambda x: gzip.compress(x, 1, mtime=0), _bomb])
        inside = st.builds(lambda pack, content: pack(content), packed, mutated(self.content))
        return st.one_of(mutated(gzip.compress(self.content, mtime=0)), inside)

    def read(self, path):
        array, content = read_idx(path), path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        assert content[4 + 4 * array.ndim :] == array.astype(array.dtype.newbyteorder(">")).tobytes()


def _bomb(content):
    """The content, and a mebibyte of zeros in a kibibyte."""
    return gzip.compress(content + bytes(1 << 20), 1, mtime=0)


class ModelFile:
    """Model files: the whole file, and the graph in it under a sound digest."""

    error = nc.ModelFileError

    def __init__(self, folder):
        x = nc.Input((6, 6, 2))
        h = nc.MaxPool2D(2)(nc.ReLU()(nc.BatchNorm()(nc.Conv2D(2, 3, padding="same")(x))))
        h = nc.Dropout(0.5)(nc.Add()([h, nc.Conv2D(2, 1)(h)]))
        model = nc.Model(x, nc.Dense(2)(nc.Flatten()(h)))
        model.classes, model.normalization = ("a", "b"), nc.normalization.Normalization((0.1, 0.2), (0.3, 0.4))
        model.save(folder / "seed")
        self.content = (folder / "seed").read_bytes()
        self.arrays = {name: np.array(array) for name, array in model.store.arrays().items()}
        self.head = json.loads(
            json.loads(self.content[8 : 8 + int.from_bytes(self.content[:8], "little")])["__metadata__"]["head"]
        )

    def inputs(self):
        texts = mutated(json.dumps(self.head).encode()).map(lambda text: text.decode("utf-8", "replace"))
        nested = st.integers(1, 200_000).map(lambda depth: "[" * depth)
        heads = st.one_of(altered(self.head).map(json.dumps), texts, nested)
        return st.one_of(mutated(self.content), heads.map(self.sealed))

    def sealed(self, head):
        """A file of this head, with a digest that fits."""
        metadata = {"format": FORMAT, "version": str(VERSION), "head": head}
        metadata["digest"] = digest(metadata, sorted(self.arrays.items()))
        return save(self.arrays, metadata)

    def read(self, path):
        """The weights that were written, whatever became of the graph."""
        for name, array in nc.load(path).store.arrays().items():
            np.testing.assert_array_equal(array, self.arrays[name], strict=True)


class Images:
    """PNG, JPEG, GIF, TIFF, WebP and BMP files; and PNG files whose chunks are damaged under sound checksums."""

    error = nc.DataError

    def __init__(self, folder):
        noise = np.random.default_rng(0).integers(0, 255, (9, 8, 3), dtype=np.uint8)
        self.contents = []
        for name in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
            for mode in ("RGB", "L", "RGBA") if name == "PNG" else ("RGB",):
                stream = BytesIO()
                Image.fromarray(noise).convert(mode).save(stream, name)
                self.contents.append(stream.getvalue())

    def inputs(self):
        chunk = st.sampled_from([b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"acTL"])
        payload = st.one_of(st.binary(max_size=40), mutated(self.contents[0][16:29]), mutated(self.contents[0][41:-16]))
        sealed = st.builds(self.with_chunks, st.lists(st.tuples(chunk, payload), min_size=1, max_size=3))
        return st.one_of(st.sampled_from(self.contents).flatmap(mutated), sealed)

    def with_chunks(self, chunks):
        """The PNG with its chunks replaced by these, or these added before its pixels."""
        head, body = self.contents[0][:33], self.contents[0][33:]
        for kind, payload in chunks:
            made = struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
            head = head[:8] + made if kind == b"IHDR" else head + made
        return head + body

    def read(self, path):
        image, _ = read_image(path, 9, 8, 3)
        assert (image.shape, image.dtype) == ((9, 8, 3), np.uint8)


class Toml:
    """Configuration files."""

    error = nc.ArgumentError

    def __init__(self, folder):
        table = Settings.resolve({"data": "digits", "clip_norm": 1.5, "nesterov": True}).table()
        self.content = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()).encode()

    def inputs(self):
        deep = st.integers(1, 20_000).map(lambda n: b"epochs = " + b"[" * n)
        dotted = st.integers(1, 20_000).map(lambda n: b"epochs." * n + b"a = 1")
        return st.one_of(mutated(self.content), mutated(self.content), st.one_of(deep, dotted))

    def read(self, path):
        known = {field.replace("-", "_") for field in Settings.__dataclass_fields__}
        for name, value in read_config(path).items():
            assert name in known
            assert isinstance(value, str | int | float)


FORMATS = {"idx": Idx, "gzip": Gzip, "model": ModelFile, "image": Images, "toml": Toml}


# -- running ----------------------------------------------------------------------------------------------------------


def fuzz(name, count, first_seed):
    """Reads ``count`` inputs of a format; how many were read and how many refused. The first wrong one is raised."""
    found = Counter()
    with tempfile.TemporaryDirectory() as place:
        form = FORMATS[name](Path(place))
        path = Path(place) / "input"
        path.write_bytes(b"")
        _outcome(form, path)  # imports what reading needs
        before = _peak_bytes()

        def check(content):
            path.write_bytes(content)
            start = time.process_time()
            found[_outcome(form, path)] += 1
            assert time.process_time() - start < SECONDS, f"{time.process_time() - start:.1f} s for {content[:200]!r}"
            assert _peak_bytes() - before < BYTES, f"{_peak_bytes() - before:,} bytes for {content[:200]!r}"

        for number, start in enumerate(range(0, count, CHUNK)):
            examples = settings(
                max_examples=min(CHUNK, count - start),
                database=None,
                deadline=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            )
            seed(first_seed + number)(examples(given(form.inputs())(check)))()
    return found


def _outcome(form, path):
    """ "read" or "refused"; anything else that reading raises passes through, and so does a message of two lines."""
    try:
        form.read(path)
        return "read"
    except form.error as error:
        message = str(error)
    assert "\n" not in message, f"two lines: {message}"
    assert len(message) < 2000, f"a long message: {message}"
    return "refused"


def _peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main():
    parser = argparse.ArgumentParser(description="Reads damaged files of every format.")
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"{', '.join(FORMATS)}; by default all")
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    given_arguments = parser.parse_args()
    for name in given_arguments.formats or FORMATS:
        start = time.monotonic()
        found = fuzz(name, given_arguments.count, given_arguments.seed)
        print(
            f"{name}: {found.total():,} inputs, {found['read']:,} read, {found['refused']:,} refused, "
            f"{time.monotonic() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
