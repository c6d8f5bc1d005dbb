"""Files that name the classes of a folder: classes.txt, data.yaml of YOLO, class_dict.csv of CamVid and others."""

import json
import re
from pathlib import Path

from numbacnn.data.listing import Color
from numbacnn.data.text import read_rows, read_text
from numbacnn.data.tree import Tree
from numbacnn.errors import DataError

_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt", "names.txt")
_COLORS = ("class_dict.csv", "label_colors.txt", "labelmap.txt", "color_map.csv", "colors.csv")
_MAX_BYTES = 1 << 20
_COLOR_LINE = re.compile(
    r"\s*(?P<before>[^\d:,;]*)[\s:,;]*(?P<rgb>\d{1,3}[\s,;]+\d{1,3}[\s,;]+\d{1,3})(?P<after>[^\n]*)"
)


def class_names(folder: Tree, *subfolders: Tree) -> list[str]:
    """Return the names of the classes in the order of their numbers, from the first file that lists them, or none."""
    for child in (folder, *subfolders):
        if file := child.file(*_LISTS):
            return _unique(file, [line.strip() for line in read_text(file, _MAX_BYTES).splitlines() if line.strip()])
        for file in (*child.ending(".yaml"), *child.ending(".yml")):
            if names := _yaml_names(read_text(file, _MAX_BYTES)):
                return _unique(file, names)
    return []


def value_names(folder: Tree) -> list[str]:
    """Return the names in Roboflow's _classes.csv, which has lines of a pixel value and a class, or none."""
    file = folder.file("_classes.csv")
    rows = [cells for _, cells in read_rows(file)[1:]] if file else []
    named = {int(cells[0]): cells[1] for cells in rows if len(cells) == 2 and cells[0].isdecimal()}
    return [named.get(number, str(number)) for number in range(max(named, default=-1) + 1)]


def color_names(folder: Tree) -> dict[Color, str]:
    """Return the names of the colors of masks, from lines such as "Car,64,0,128" or "64 0 128 Car", or none."""
    file = folder.file(*_COLORS)
    names: dict[Color, str] = {}
    for line in read_text(file, _MAX_BYTES).splitlines() if file else ():
        if match := _COLOR_LINE.match(line):
            red, green, blue = map(int, re.findall(r"\d+", match["rgb"]))
            names[red, green, blue] = match["before"].strip() or match["after"].strip(" \t,;:")
    return names


def _unique(file: Path, names: list[str]) -> list[str]:
    if not names or len(set(names)) != len(names):
        raise DataError(f"{file}: list the name of each class once, one per line")
    return names


def _yaml_names(text: str) -> list[str]:
    """Return ``names`` of a YAML file: a list in brackets, or indented lines "- cat" or "0: cat"."""
    match = re.search(r"^names:[ \t]*(\[[^\]]*\]|\{[^}]*\})?((?:\s*\n[ \t]*(?:-|\d+:)[^\n]*)*)", text, re.MULTILINE)
    if not match:
        return []
    inline = match[1].strip("[]{}").split(",") if match[1] else []
    lines = [re.sub(r"\s#.*", "", line) for line in match[2].splitlines()]
    entries = [re.sub(r"^\s*(-|\d+\s*:)\s*", "", entry).strip() for entry in inline or lines]
    return [_unquoted(entry) for entry in entries if entry]


def _unquoted(text: str) -> str:
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            pass
    return text.strip("\"'")
