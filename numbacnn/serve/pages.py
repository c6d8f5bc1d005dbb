"""The HTML pages: one file each, with style, scripts and the parts that several pages share inside."""

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

FOLDER = files("numbacnn.serve") / "page"


@cache
def _part(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def page(body: str, scripts: Sequence[str], data: object = None) -> str:
    """Return a page of the body's file, the common style, the scripts, and ``data``, which they find in ``DATA``."""
    code = ["'use strict';", *([f"const DATA = {as_script(data)};"] if data is not None else []), *map(_part, scripts)]
    whole = re.sub("<!-- (.*) -->", lambda found: _part(found[1]).rstrip(), _part(body))
    filled = whole.replace("<style></style>", f"<style>{_part('style.css')}</style>")
    return filled.replace("<script></script>", "<script>" + "\n".join(code) + "</script>")


def dumps(value: object) -> str:
    """Return a value as JSON, in ASCII, with null for NaN and infinities, which JSON lacks."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_with_nulls(value), separators=(",", ":"), allow_nan=False)


def _with_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {name: _with_nulls(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_script(data: object) -> str:
    """Return JSON for the inside of a script, which it cannot end."""
    return dumps(data).replace("<", "\\u003c")
