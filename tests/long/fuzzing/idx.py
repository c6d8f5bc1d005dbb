"""IDX files, plain and compressed."""

import gzip
import zlib

import numpy as np

import numbacnn as nc
from fuzzing.mutations import edited
from numbacnn.data import read_idx, write_idx


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
