"""CSV files of labels: which files of a folder are such, which of their columns hold labels, and what the cells are."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from numbacnn.data.layouts.boxes import box_columns
from numbacnn.data.text import FileTooLargeError, read_rows
from numbacnn.data.tree import Tree
from numbacnn.errors import DataError

_LABEL_COLUMNS = (
    *("label", "labels", "class", "class_name", "category", "target"),
    *("species", "breed", "diagnosis", "y", "tags"),
)
_NUMBER_COLUMNS = ("value", "values", "score")  # next to a column of labels, they are not its labels
_ROW_NUMBERS = ("", "unnamed: 0")  # such as pandas writes
_OTHER_COLUMNS = (*_ROW_NUMBERS, "id", "index")  # without labels
_SPLIT_COLUMNS = ("split", "subset", "set", "partition", "fold", "is_valid", "is_test")
_SEPARATORS = "|", ";", ","  # of tags in a cell; if no cell has one, they are separated by spaces


@dataclass(frozen=True)
class Table:
    """A CSV file with names of images.

    Attributes:
        names: the column with these names.
        split: the column that says to which split an image belongs, if there is one.
        labels: the columns that may hold labels: those with usual names, or else all others.
        body: the lines below the header: their numbers and their cells.
    """

    file: Path
    head: list[str]
    names: int
    split: int | None
    labels: list[int]
    body: list[tuple[int, list[str]]]

    @property
    def columns(self) -> list[str]:
        """The names of the columns with labels."""
        return [self.head[column] for column in self.labels]


@dataclass(frozen=True)
class Tables:
    """The CSV files with the same columns of labels, such as those of the splits.

    They are judged together: the few lines of a test set may have one tag each, or only whole numbers.
    """

    tables: Sequence[Table]

    def rows(self) -> Iterator[list[str]]:
        """Return the cells with labels of each line, without the lines that are too short or too long."""
        for table in self.tables:
            for _, row in table.body:
                if len(row) == len(table.head):
                    yield [row[column] for column in table.labels]

    def cells(self) -> Iterator[str]:
        """Return the cells with labels."""
        return (cell for row in self.rows() for cell in row)

    @cached_property
    def columns(self) -> list[str]:
        """The names of the columns with labels."""
        return self.tables[0].columns

    @cached_property
    def are_indicators(self) -> bool:
        """Whether each cell is 0 or 1."""
        return all(cell in ("0", "1") for cell in self.cells())

    @cached_property
    def lists(self) -> dict[str, list[str]]:
        """The tags in each cell, if each lists tags."""
        cells = set(self.cells())
        separator = next((each for each in _SEPARATORS if any(each in cell for cell in cells)), None)
        return {cell: [tag for tag in map(str.strip, cell.split(separator)) if tag] for cell in cells}


def _tables(folder: Tree) -> Iterator[Table]:
    """Return the tables of labels in the folder and in those of its splits."""
    for child in (folder, *folder.splits.values()):
        for file in child.ending(".csv"):
            if "submission" not in file.name.lower() and (table := _table(file, folder)) is not None:
                yield table


def tables_of(folder: Tree) -> list[Tables]:
    """Return the tables of labels, those with the same columns of labels together, in whatever order they are."""
    found: dict[frozenset[str], list[Table]] = {}
    for table in _tables(folder):
        found.setdefault(frozenset(map(str.lower, table.columns)), []).append(table)
    return [Tables(tables) for tables in found.values()]


def _table(file: Path, folder: Tree) -> Table | None:
    """Read a table of labels; None if the file is another one.

    At least half of the cells of a column name images of the folder, and the table has other columns.
    """
    try:
        rows = read_rows(file)
    except FileTooLargeError:
        raise
    except DataError:  # some other file
        return None
    if len(rows) < 2 or len(rows[0][1]) < 2 or box_columns(rows[0][1]):
        return None
    (_, head), *body = rows
    full = [row for _, row in body if len(row) == len(head)]
    matches = [sum(row[column] in folder.named for row in full) for column in range(len(head))]
    best = max(matches)
    if not best or 2 * best < len(full):
        return None
    lower = [name.lower() for name in head]
    names = max(range(len(head)), key=lambda column: (matches[column], lower[column] not in _ROW_NUMBERS))
    split = next((column for column, name in enumerate(lower) if name in _SPLIT_COLUMNS and column != names), None)
    others = [c for c, name in enumerate(lower) if c not in (names, split) and name not in _OTHER_COLUMNS]
    usual = set(_LABEL_COLUMNS) - ({"y"} if "x" in lower else set())  # then they are coordinates
    named = [[column for column in others if lower[column] in usual_names] for usual_names in (usual, _NUMBER_COLUMNS)]
    labels = named[0] or named[1] or others
    return Table(file, head, names, split, labels, body) if labels else None


def have_usual_names(tables: Tables) -> bool:
    """Return whether the columns of labels are such by their names, not only because there are no others."""
    return all(column.lower() in (*_LABEL_COLUMNS, *_NUMBER_COLUMNS) for column in tables.columns)


def is_number(cell: str) -> bool:
    """Return whether a cell is a finite number."""
    try:
        return math.isfinite(float(cell)) and "_" not in cell
    except ValueError:
        return False


def has_fraction(cell: str) -> bool:
    """Return whether a cell is a number that is not whole."""
    return is_number(cell) and float(cell) % 1 != 0


def list_tags(tables: Tables) -> bool:
    """Return whether a column lists tags: it is called so, separates them by |, or combines few words."""
    if len(tables.columns) != 1:
        return False
    lists = tables.lists
    if not any(len(tags) > 1 for tags in lists.values()):
        return False
    name, words = tables.columns[0].lower(), {tag for tags in lists.values() for tag in tags}
    return name == "tags" or any("|" in cell for cell in lists) or (name == "labels" and len(words) < len(lists))
