"""Fuzz the readers of files: each input is read correctly or rejected with one error, quickly and in little memory.

    python tests/long/fuzz.py [--count 200000] [--minutes M] [--seed 0] [--draw random|hypothesis] [FORMAT…]

Valid files are mutated: bytes are changed, removed, doubled and inserted. If checksums would hide the structure,
values inside it are changed and the checksums updated. Limits for each input: a second of processor time, and 256 MiB
of memory in addition to what the process had before.

``random`` draws the most inputs per second; ``hypothesis`` draws the same mutations, and minimizes one that fails.
``fuzz_guided.py`` lets atheris choose the inputs by the lines that they reach.
"""

import argparse
import base64
import gzip
import json
import math
import os
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load, save

import numbacnn as nc
from numbacnn.data import read_idx, read_image, write_idx
from numbacnn.runs.folder import RunFolder
from numbacnn.runs.settings import Settings, read_config
from numbacnn.saving.format import CHECKPOINT_FORMAT, FORMAT, VERSION, digest
from numbacnn.training.events import EpochEnd, EpochRecord, History
from numbacnn.training.trainer import Trainer

SECONDS, BYTES = 1.0, 256 << 20
CHUNK = 2_000  # inputs that hypothesis draws at once, because it remembers them


# -- mutations --------------------------------------------------------------------------------------------------------

SPECIAL = [0, 1, 7, 8, 127, 128, 255]
VALUES = [
    None, True, False, 0, 1, -1, 2, 3, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308, -0.0, math.nan, math.inf,
    "", "same", "valid", "relu", "numpy", "__main__", "os", "../../etc/passwd", "\x00\n", {}, [], [1], [2, -1],
    [2**40, 2**40], [0, 0, 0], [3, 3, 3, 3],
]  # fmt: skip


SIZES = [-(2**62), -2, -1, 0, 1, 2, 3, 5, 7, 64, 2**20, 2**31, 2**40, 2**62]


def edited(content: bytes, random: Random) -> bytes:
    """Return the bytes with a few edits, often near the start, where headers are."""
    edited = bytearray(content)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(edited) if random.random() < 0.5 else 64)
        kind = random.choice(["set", "flip", "insert", "cut", "double", "end"])
        if kind == "set":
            edited[at : at + 1] = bytes([random.choice(SPECIAL) if random.random() < 0.5 else random.randrange(256)])
        elif kind == "flip" and at < len(edited):
            edited[at] ^= 1 << random.randrange(8)
        elif kind == "insert":
            edited[at:at] = random.randbytes(random.randint(1, 8))
        elif kind == "cut":
            del edited[at : at + random.randint(1, 32)]
        elif kind == "double":
            edited[at:at] = edited[at : at + random.randint(1, 64)]
        elif kind == "end":
            del edited[at:]
    return bytes(edited)


def altered(form, random):
    """Return a JSON form with random values replaced, dropped, doubled or nested."""
    form = json.loads(json.dumps(form))
    for _ in range(random.randint(1, 3)):
        entries = list(_entries(form))
        if not entries:
            break
        holder, key = random.choice(entries)
        kind = random.choice(["replace", "replace", "drop", "double", "nest"])
        if kind == "replace":
            holder[key] = deepcopy(random.choice(VALUES))
        elif kind == "drop":
            del holder[key]
        elif kind == "double" and isinstance(holder, list):
            holder.append(deepcopy(holder[key]))
        elif kind == "nest":
            holder[key] = [holder[key]]
    return form


def _entries(form):
    """Yield (holder, key) for every value in a form, below the top."""
    items = form.items() if isinstance(form, dict) else enumerate(form) if isinstance(form, list) else ()
    for key, value in items:
        yield form, key
        yield from _entries(value)


# -- formats: valid files, how they are mutated, and what reading them must return -------------------------------------


class Idx:
    """Plain IDX files."""

    error = nc.DataError
    dtypes = (np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64)

    def __init__(self, folder):
        self.seeds = []
        for dtype in self.dtypes:
            write_idx(folder / "seed", np.arange(24).reshape(2, 3, 4).astype(dtype))
            self.seeds.append((folder / "seed").read_bytes())

    def mutate(self, content, random):
        return edited(content, random)

    def read(self, path):
        """Check that the bytes after the header are the array's, and no others."""
        self.check(read_idx(path), path.read_bytes())

    def check(self, array, content):
        assert content[4 + 4 * array.ndim :] == array.astype(array.dtype.newbyteorder(">")).tobytes()


class Gzip(Idx):
    """Compressed IDX files, with the compressed or the decompressed bytes damaged."""

    def __init__(self, folder):
        super().__init__(folder)
        self.plain = self.seeds
        self.seeds = [gzip.compress(content, mtime=0) for content in self.plain]

    def mutate(self, content, random):
        """Edit the bytes, or the decompressed content, sometimes followed by a mebibyte of zeros (a bomb)."""
        if random.random() < 0.5:
            return edited(content, random)
        try:
            inside = zlib.decompressobj(31).decompress(content, 4096)
        except zlib.error:
            inside = random.choice(self.plain)
        return gzip.compress(edited(inside, random) + bytes(random.choice([0, 0, 1 << 20])), 1, mtime=0)

    def read(self, path):
        array, content = read_idx(path), path.read_bytes()
        self.check(array, gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)


class ModelFile:
    """Model files: the whole file, its header of tensors, and its graph with a valid digest."""

    error = nc.ModelFileError

    def __init__(self, folder):
        x = nc.Input((6, 6, 2))
        h = nc.MaxPool2D(2)(nc.ReLU()(nc.BatchNorm()(nc.Conv2D(2, 3, padding="same")(x))))
        h = nc.Dropout(0.5)(nc.Add()([h, nc.Conv2D(2, 1)(h)]))
        model = nc.Model(x, nc.Dense(2)(nc.Flatten()(h)))
        model.classes, model.normalization = ("a", "b"), nc.data.normalization.Normalization((0.1, 0.2), (0.3, 0.4))
        model.save(folder / "seed")
        self.seeds = [(folder / "seed").read_bytes()]
        self.arrays = {name: np.array(array) for name, array in model.store.arrays().items()}
        self.head = self.head_of(self.seeds[0])

    def mutate(self, content, random):
        kind = random.choice(["bytes", "header", "graph", "graph", "text", "nested"])
        try:
            header, head = self.header_of(content), self.head_of(content)
        except (ValueError, TypeError, LookupError, RecursionError):
            header, head = self.header_of(self.seeds[0]), self.head
        if kind == "header":
            return self.with_header(content, altered(header, random))
        if kind == "graph":
            return self.sealed(json.dumps(altered(head, random)))
        if kind == "text":
            return self.sealed(edited(json.dumps(head).encode(), random).decode("utf-8", "replace"))
        if kind == "nested":
            return self.sealed("[" * int(2 ** random.uniform(0, 17)))
        return edited(content, random)

    def header_of(self, content):
        return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])

    def head_of(self, content):
        return json.loads(self.header_of(content)["__metadata__"]["head"])

    def with_header(self, content, header):
        """Return the tensors' bytes after another header, with its correct size."""
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + int.from_bytes(content[:8], "little") :]

    def sealed(self, head):
        """Return a file with this head and a valid digest."""
        metadata = {"format": FORMAT, "version": str(VERSION), "head": head}
        metadata["digest"] = digest(metadata, sorted(self.arrays.items()))
        return save(self.arrays, metadata)

    def read(self, path):
        """Check that the weights are those written, whatever the graph is."""
        for name, array in nc.load(path).store.arrays().items():
            np.testing.assert_array_equal(array, self.arrays[name], strict=True)


class Graphs(ModelFile):
    """Model files without weights: random graphs, with sizes of any magnitude, which are summarized."""

    layers = (
        *(("max_pool2d", {"pool_size": [2, 2], "stride": [2, 2], "padding": "valid", "ceil_mode": False}),) * 2,
        ("adaptive_avg_pool2d", {"output_size": [3, 3]}),
        ("adaptive_max_pool2d", {"output_size": [2, 5]}),
        ("upsample2d", {"factor": [2, 2], "mode": "nearest"}),
        ("zero_pad2d", {"padding": [1, 1, 1, 1]}),
        ("resize2d", {"size": [7, 5], "mode": "bilinear", "scale": None}),
        ("slice", {"rows": [0, 3], "columns": None, "channels": None}),
        ("reshape", {"shape": [4, 9, 2]}),
        ("local_response_norm", {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}),
        ("power", {"exponent": 2.0}),
        *((op, {}) for op in ("flatten", "global_avg_pool2d", "softmax", "relu", "gelu", "add", "concat", "multiply")),
    )

    def __init__(self, folder):
        super().__init__(folder)
        self.arrays = {}

    def mutate(self, content, random):
        """Draw a graph; what it was before does not matter."""
        random = Random(random.getrandbits(64))  # one draw of hypothesis, whatever the graph's size
        count = random.choice([1, 2, 3, 5, 8, 30, 30, 300])
        sizes = [[random.choice([1, 6, 64, 2**10, 2**20])] * 2 + [random.choice([1, 2, 64])] for _ in range(2)]
        inputs = [{"name": f"x{i}", "shape": [6, 6, 2] if random.random() < 0.8 else s} for i, s in enumerate(sizes)]
        names, nodes = [part["name"] for part in inputs], []
        for number in range(count):
            op, attributes = deepcopy(random.choice(self.layers if random.random() < 0.6 else self.layers[-5:]))
            for holder, key in [*_entries(attributes)]:
                if isinstance(holder[key], int) and random.random() < 0.1:
                    holder[key] = random.choice(SIZES)
            read = 1 if op not in ("add", "concat", "multiply") else random.choice([2, 2, 3, 50])
            chosen = [random.choice(names[-3:]) for _ in range(read)]
            nodes.append({"name": f"n{number}", "op": op, "inputs": chosen, "attributes": attributes})
            names.append(f"n{number}")
        graph = {"version": 1, "inputs": inputs, "nodes": nodes, "outputs": [names[-1]], "auxiliary": []}
        form = {"graph": graph, "classes": None, "normalization": None, "lists": [True, False], "task": None}
        return self.sealed(json.dumps(form))

    def read(self, path):
        model = nc.load(path)
        str(model.summary(show=False))


class Images:
    """PNG, JPEG, GIF, TIFF, WebP and BMP files of many kinds, damaged, and with other sizes in their headers.

    Some PNG files have damaged chunks with valid checksums.
    """

    error = nc.DataError
    chunks = (b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"acTL")
    kinds = (
        *(("PNG", mode, {}) for mode in ("RGB", "L", "RGBA", "P", "1", "I;16", "LA")),
        *(("JPEG", mode, {"progressive": True, "quality": q}) for mode in ("RGB", "L", "CMYK") for q in (9, 95)),
        *(("JPEG", mode, {"subsampling": sampling}) for mode in ("RGB", "L", "CMYK") for sampling in (0, 2)),
        *(("TIFF", "RGB", {"compression": name}) for name in (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        *(("TIFF", mode, {}) for mode in ("RGBA", "L", "CMYK", "I;16", "F", "1", "P")),
        *(("WEBP", mode, {"lossless": lossless}) for mode in ("RGB", "RGBA") for lossless in (True, False)),
        *(("BMP", mode, {}) for mode in ("RGB", "L", "1", "P")),
        *(("GIF", mode, {}) for mode in ("RGB", "L", "P")),
    )  # fmt: skip
    sides = (0, 1, 3, 9, 255, 4096, 9000, 65535)

    def __init__(self, folder):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 8, 3), dtype=np.uint8))
        self.seeds = []
        for name, mode, options in self.kinds:
            stream = BytesIO()
            deep = mode in ("I;16", "F")
            image = noise.convert("L").convert("I" if mode != "F" else "F") if deep else noise.convert(mode)
            (image.convert(mode) if deep else image).save(stream, name, **options)
            self.seeds.append(stream.getvalue())

    def mutate(self, content, random):
        kind = random.choice(["edit", "edit", "sides", "chunks"])
        if kind == "sides":
            return self.resized(content, random)
        if kind == "edit" or content[:8] != self.seeds[0][:8]:
            return edited(content, random)
        head, body = content[:33], content[33:]
        for _ in range(random.randint(1, 3)):
            kind = random.choice(self.chunks)
            inside = random.choice([head[16:29], body[8:-16], random.randbytes(random.randint(0, 40))])
            payload = edited(inside, random)
            made = struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
            head = head[:8] + made if kind == b"IHDR" else head + made
        return head + body

    def resized(self, content, random):
        """Write other sides where the format has them."""
        sides = [random.choice(self.sides) for _ in range(2)]
        changed = bytearray(content)
        if content[:4] == b"\x89PNG":
            changed[16:24] = struct.pack(">II", *sides)
            changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
        elif content[:2] == b"\xff\xd8":
            at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
            changed[at + 5 : at + 9] = struct.pack(">HH", *sides)
        elif content[:2] == b"BM":
            changed[18:26] = struct.pack("<ii", *sides)
        elif content[:3] == b"GIF":
            changed[6:10] = struct.pack("<HH", *sides)
        elif content[:2] == b"II":
            for tag, value in zip((256, 257), sides, strict=True):
                at = content.find(struct.pack("<HH", tag, 3))
                if at >= 0:
                    changed[at + 8 : at + 12] = struct.pack("<I", value)
        elif content[8:12] == b"WEBP":
            changed[24:30] = struct.pack("<I", sides[0])[:3] + struct.pack("<I", sides[1])[:3]
        return bytes(changed)

    def read(self, path):
        image, _ = read_image(path, 9, 8, 3)
        assert (image.shape, image.dtype) == ((9, 8, 3), np.uint8)


class Toml:
    """Configuration files."""

    error = nc.ArgumentError
    values = (
        "-1", "0", "1e999", "nan", "-inf", "true", '""', '"a"', "'''a\nb'''", "[1]", "{a = 1}", "1979-05-27",
        "0x" + "f" * 99, "9" * 5000, '"\\u0000"',
    )  # fmt: skip

    def __init__(self, folder):
        table = Settings.resolve({"data": "digits", "clip_norm": 1.5, "nesterov": True}).table()
        self.seeds = ["".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()).encode()]

    def mutate(self, content, random):
        """Edit the bytes; or replace the value of a line, or nest it deeply."""
        kind = random.choice(["bytes", "bytes", "value", "value", "nested", "dotted"])
        depth = int(2 ** random.uniform(0, 14.5))
        lines = content.split(b"\n")
        at = random.randrange(len(lines))
        key = lines[at].partition(b"=")[0] or b"a"
        if kind == "value":
            lines[at] = key + b"= " + random.choice(self.values).encode()
        elif kind == "nested":
            lines[at] = key + b"= " + b"[" * depth + b"]" * random.choice([0, depth])
        elif kind == "dotted":
            lines[at] = key.strip() + b".a" * depth + b" = 1"
        else:
            return edited(content, random)
        return b"\n".join(lines)

    def read(self, path):
        known = {field.replace("-", "_") for field in Settings.__dataclass_fields__}
        for name, value in read_config(path).items():
            assert name in known
            assert isinstance(value, str | int | float)


class Onnx:
    """ONNX files, with bytes damaged, or numbers, names and operators replaced."""

    error = nc.ModelFileError

    def __init__(self, folder):
        x = nc.Input((6, 5, 4))
        h = nc.GroupNorm(2)(nc.MaxPool2D(2)(nc.GELU()(nc.BatchNorm()(nc.Conv2D(4, 3, padding=1)(x)))))
        h = nc.Multiply()([h, nc.Sigmoid()(nc.Dense(4)(nc.GlobalAvgPool2D()(h)))])
        h = nc.Concat()([nc.Upsample2D(2)(h), nc.Conv2DTranspose(3, 2, stride=2)(nc.AdaptiveAvgPool2D((3, 2))(h))])
        h = nc.Reshape((4, 7, -1))(nc.Slice(rows=(1, 5), columns=(0, 3))(nc.ZeroPad2D(1)(h)))
        h = nc.Maximum()([nc.Clip(-1, 2)(nc.Resize2D((3, 5))(h)), nc.Power(2)(nc.Resize2D((3, 5), "nearest")(h))])
        model = nc.Model(x, nc.LogSoftmax()(nc.Dense(2)(nc.PReLU()(nc.Flatten()(h)))))
        model.classes = ("a", "b")
        self.seeds = []
        for options in ({}, {"opset": 22, "layout": "nhwc", "raw_images": True}):
            nc.onnx.save(model, folder / "seed", **options)
            self.seeds.append((folder / "seed").read_bytes())

    def mutate(self, content, random):
        import onnx

        from numbacnn.onnx.folding import FOLDED
        from numbacnn.onnx.imports import ROWS

        random = Random(random.getrandbits(64))  # one draw of hypothesis, whatever protobuf does
        if random.random() < 0.5:
            return edited(content, random)
        try:
            proto = onnx.load_model_from_string(content)
            graph = proto.graph
            kind = random.choice(["dims", "numbers", "attribute", "operator", "input", "shape", "drop"])
            if kind in ("dims", "numbers"):
                tensor = random.choice(graph.initializer)
                if kind == "dims":
                    tensor.dims[random.randrange(len(tensor.dims))] = random.choice(SIZES)
                else:
                    width = len(tensor.raw_data) // 8 or 1
                    words = [random.choice(SIZES).to_bytes(8, "little", signed=True) for _ in range(width)]
                    tensor.raw_data = b"".join(words)[: len(tensor.raw_data)]
            node = random.choice(graph.node)
            if kind == "attribute":
                attribute = random.choice(node.attribute)
                attribute.i = random.choice(SIZES)
                for i in range(len(attribute.ints)):
                    attribute.ints[i] = random.choice(SIZES)
            elif kind == "operator":
                node.op_type = random.choice([*ROWS, *FOLDED])
            elif kind == "input":
                node.input[random.randrange(len(node.input))] = random.choice(random.choice(graph.node).input)
            elif kind == "shape":
                random.choice(graph.input[0].type.tensor_type.shape.dim).dim_value = random.choice(SIZES)
            elif kind == "drop":
                graph.node.remove(node)
            return proto.SerializeToString()
        except Exception:  # it is damaged already
            return edited(content, random)

    def read(self, path):
        nc.onnx.load(path)


class Checkpoint:
    """Checkpoints of a training that is then resumed: the file, or its state in a file with a valid digest."""

    error = nc.NumbacnnError

    def __init__(self, folder):
        images = np.random.default_rng(0).integers(0, 255, (16, 4, 4, 1), dtype=np.uint8)
        self.data = nc.data.Dataset.from_arrays(images, np.arange(16) % 2, ("a", "b"))
        events = self.trainer(folder / "seed").run()
        next(event for event in events if isinstance(event, EpochEnd))
        events.close()
        self.seeds = [(folder / "seed").read_bytes()]
        self.arrays = load(self.seeds[0])
        header = json.loads(self.seeds[0][8 : 8 + int.from_bytes(self.seeds[0][:8], "little")])
        self.state = json.loads(header["__metadata__"]["head"])

    def trainer(self, path):
        model = nc.Sequential([nc.Flatten(), nc.Dense(2)], (4, 4, 1))
        options = {"optimizer": nc.Adam(0.01), "epochs": 2, "batch_size": 8, "seed": 0}
        return Trainer(model, self.data, validation=self.data, checkpoint=path, **options)

    def mutate(self, content, random):
        kind = random.choice(["bytes", "state", "state", "state", "text"])
        if kind == "state":
            return self.sealed(json.dumps(altered(self.state, random)))
        if kind == "text":
            return self.sealed(edited(json.dumps(self.state).encode(), random).decode("utf-8", "replace"))
        return edited(content, random)

    def sealed(self, head):
        metadata = {"format": CHECKPOINT_FORMAT, "version": str(VERSION), "head": head}
        metadata["digest"] = digest(metadata, sorted(self.arrays.items()))
        return save(self.arrays, metadata)

    def read(self, path):
        """Resume, and train to the end without saving."""
        trainer = self.trainer(path)
        trainer.resume()
        trainer.checkpoints = None
        for _ in trainer.run():
            pass


class MetricsTable:
    """``metrics.csv`` of a run's folder."""

    error = nc.ModelFileError

    def __init__(self, folder):
        numbers = (1, 0.5, 0.9, 0.4, 0.8, 0.01, 2.0, 100.0)
        records = [EpochRecord(epoch, *numbers[1:], metrics={"f1": 0.5}) for epoch in (1, 2, 3)]
        self.folder = RunFolder(folder)
        self.folder.config.write_text("epochs = 3\n")
        self.folder.write_metrics(History(records))
        self.seeds = [self.folder.metrics.read_bytes()]

    def mutate(self, content, random):
        if random.random() < 0.5:
            return edited(content, random)
        cells = content.split(b",")
        for _ in range(random.randint(1, 3)):
            cells[random.randrange(len(cells))] = random.choice(
                [b"", b"nan", b"inf", b"1e400", b"9" * 5000, b"-1", b"1,", b'"', b'"\n"', b"\x00", b"epoch", b"\n"]
            )
        return b",".join(cells)

    def read(self, path):
        self.folder.metrics = path
        for record in self.folder.read_metrics().epochs:
            assert isinstance(record.epoch, int)
            assert all(isinstance(value, float) for value in record.metrics.values())


FORMATS = {"idx": Idx, "gzip": Gzip, "model": ModelFile, "graph": Graphs, "image": Images, "toml": Toml, "onnx": Onnx}
FORMATS |= {"checkpoint": Checkpoint, "metrics": MetricsTable}


# -- running ----------------------------------------------------------------------------------------------------------


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
