"""Small files that need much time or memory to decode: each function returns the bytes of one."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image


def png(width: int, height: int, bits: int = 8, color: int = 2, extra: bytes = b"") -> bytes:
    """A PNG of zeros: color 0 is gray, 2 RGB, 3 a palette, 4 gray with alpha, 6 RGBA."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    packer, row = zlib.compressobj(1), bytes(1 + (width * samples * bits + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    palette = _chunk(b"PLTE", bytes(768)) if color == 3 else b""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + palette + extra + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def rotated() -> bytes:
    """A PNG chunk that says that the image is to be rotated."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))


def jpeg(width: int, height: int, scans: int = 1, mode: str = "RGB", **options: object) -> bytes:
    """A JPEG whose frame is larger than its content, whose last scan is repeated; ``options`` are Pillow's."""
    stream = BytesIO()
    Image.new(mode, (16, 16)).save(stream, "JPEG", **options)
    content = bytearray(stream.getvalue())
    frame = next(content.index(b"\xff" + bytes([kind])) for kind in (0xC0, 0xC2) if b"\xff" + bytes([kind]) in content)
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    last = content.rindex(b"\xff\xda")
    return bytes(content[:last] + content[last:-2] * scans + content[-2:])


def fill_bytes(count: int) -> bytes:
    """A progressive JPEG, followed by a run of fill bytes that ends in a zero and is therefore no marker."""
    return jpeg(16, 16, progressive=True)[:-2] + b"\xff" * count + b"\x00\xff\xd9"


def saved(name: str, mode: str, size: tuple[int, int], **options: object) -> bytes:
    """A file of a black image, written by Pillow."""
    stream = BytesIO()
    Image.new(mode, size).save(stream, name, **options)
    return stream.getvalue()


def wide_tiff() -> bytes:
    """A TIFF of floats."""
    stream = BytesIO()
    Image.fromarray(np.zeros((4096, 4096), np.float32)).save(stream, "TIFF", compression="tiff_adobe_deflate")
    return stream.getvalue()


CASES: dict[str, Callable[[], bytes]] = {
    "progressive": lambda: jpeg(9400, 9400, progressive=True),
    "progressive of four components": lambda: jpeg(9400, 9400, mode="CMYK", progressive=True),
    "progressive at the limit": lambda: jpeg(4096, 4096, progressive=True, subsampling=0),
    "many scans": lambda: jpeg(4096, 4096, 200, progressive=True),
    "very many scans": lambda: jpeg(4096, 4096, 8000, progressive=True),
    "many scans of a small image": lambda: jpeg(512, 512, 20000, progressive=True),
    "baseline": lambda: jpeg(9400, 9400),
    "baseline at half size": lambda: jpeg(8000, 8000),
    "baseline at an eighth": lambda: jpeg(9400, 9400, mode="CMYK"),
    "baseline at the limit": lambda: jpeg(4096, 4096, mode="CMYK"),
    "tall": lambda: png(1, 1 << 24),
    "wide": lambda: png(1 << 24, 1),
    "wide deep RGBA": lambda: png(1 << 22, 4, 16, 6),
    "tall edge": lambda: png(256, 65535),
    "deep RGBA, rotated": lambda: png(4096, 4096, 16, 6, rotated()),
    "RGBA, rotated": lambda: png(4096, 4096, 8, 6, rotated()),
    "gray with alpha, rotated": lambda: png(4096, 4096, 8, 4, rotated()),
    "deep gray with alpha, rotated": lambda: png(4096, 4096, 16, 4, rotated()),
    "RGB, rotated": lambda: png(4096, 4096, 8, 2, rotated()),
    "deep RGB, rotated": lambda: png(4096, 4096, 16, 2, rotated()),
    "deep gray, rotated": lambda: png(4096, 4096, 16, 0, rotated()),
    "palette": lambda: png(4096, 4096, 8, 3, _chunk(b"tRNS", bytes(256)) + rotated()),
    "bits": lambda: png(4096, 4096, 1, 0, _chunk(b"tRNS", bytes(2)) + rotated()),
    "TIFF RGBA": lambda: saved("TIFF", "RGBA", (4096, 4096), compression="tiff_adobe_deflate"),
    "TIFF RGBA LZW": lambda: saved("TIFF", "RGBA", (4096, 4096), compression="tiff_lzw"),
    "TIFF CMYK": lambda: saved("TIFF", "CMYK", (4096, 4096), compression="tiff_adobe_deflate"),
    "TIFF LAB": lambda: saved("TIFF", "LAB", (4096, 4096), compression="tiff_adobe_deflate"),
    "TIFF floats": wide_tiff,
    "TIFF zstd": lambda: saved("TIFF", "RGB", (4096, 4096), compression="zstd"),
    "TIFF LZMA": lambda: saved("TIFF", "RGB", (4096, 4096), compression="lzma"),
    "TIFF JPEG": lambda: saved("TIFF", "RGB", (4096, 4096), compression="jpeg"),
    "TIFF bits": lambda: saved("TIFF", "1", (4096, 4096), compression="group4"),
    "GIF": lambda: saved("GIF", "P", (4096, 4096), transparency=0),
    "WebP RGBA": lambda: saved("WEBP", "RGBA", (4096, 3072), lossless=True),
    "WebP": lambda: saved("WEBP", "RGB", (4096, 3072)),
    "TIFF tile": lambda: tiff_tile(1 << 14),
    "BMP RLE": lambda: bmp_runs(4096, 4096),
}


def bmp_runs(width: int, height: int) -> bytes:
    """A BMP with a palette, compressed in runs."""
    row = b"".join(struct.pack("BB", min(255, width - x), 0) for x in range(0, width, 255)) + b"\0\0"
    start, data = 14 + 40 + 1024, row * height + b"\0\1"
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + bytes(1024) + data


def tiff_tile(side: int) -> bytes:
    """A TIFF of one pixel in a tile of side×side pixels, which are zeros."""
    tags = {256: 1, 257: 1, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 0, 325: 0}
    packer, row = zlib.compressobj(1), bytes(side)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    tags |= {324: 10 + 12 * len(tags) + 4, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data
