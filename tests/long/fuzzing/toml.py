"""Configuration files."""

import json

import numbacnn as nc
from fuzzing.mutations import edited
from numbacnn.runs.settings import Settings, read_config


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
