"""Image files of all formats."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

import numbacnn as nc
from fuzzing.mutations import edited
from numbacnn.data import read_image


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
