"""Mutations that all formats share: of bytes, and of JSON."""

import json
import math
from copy import deepcopy
from random import Random

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
        found = list(entries(form))
        if not found:
            break
        holder, key = random.choice(found)
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


def entries(form):
    """Yield (holder, key) for every value in a form, below the top."""
    items = form.items() if isinstance(form, dict) else enumerate(form) if isinstance(form, list) else ()
    for key, value in items:
        yield form, key
        yield from entries(value)
