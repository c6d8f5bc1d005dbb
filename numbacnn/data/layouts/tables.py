"""Layouts with a CSV file of labels, as in many Kaggle contests: a class, tags or numbers for each image."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from numbacnn.data.labels import CLASSES, TAGS, VALUES
from numbacnn.data.layouts.base import Layout
from numbacnn.data.layouts.label_files import (
    Table,
    Tables,
    has_fraction,
    have_usual_names,
    is_number,
    list_tags,
    tables_of,
)
from numbacnn.data.listing import Listing, Sample, by_number
from numbacnn.data.tree import TEST, TRAIN, VALIDATION, Tree, split_of
from numbacnn.errors import DataError

_YES = ("1", "true", "yes")
_LARGEST = float(np.finfo(np.float32).max)
_SHOWN = 8  # columns that a message names


class _Use(NamedTuple):
    """The line that an image is used with."""

    sample: Sample
    split: str
    table: Table
    line: int


class _TableLayout(Layout):
    """A CSV file with the names of images, with suffix or without, and their labels."""

    def accepts(self, tables: Tables) -> bool:
        """Return whether the cells of tables are labels of this kind."""
        raise NotImplementedError

    def classes(self, groups: Sequence[Tables]) -> list[str]:
        """Return the names of the classes, tags or numbers in tables. Raises DataError if tables contradict."""
        raise NotImplementedError

    def sample(self, tables: Tables, table: Table, line: int, row: list[str], classes: Sequence[str]) -> Sample:
        """Return a sample with the label of a line, but no image. Raises DataError if a cell is not a label."""
        raise NotImplementedError

    def matches(self, folder: Tree) -> bool:
        """Match if a CSV file has a column with names of images, columns of labels, and no boxes."""
        return any(self.accepts(tables) for tables in tables_of(folder))

    def read(self, folder: Tree) -> Listing:
        """List the labeled images; the split follows from the folder or the name of the CSV file, or from the image.

        An image is used once: if it is listed for several splits, in the test or the validation set.
        """
        found = [(tables, self.accepts(tables)) for tables in tables_of(folder)]
        groups = [tables for tables, accepted in found if accepted]
        others = [tables for tables, accepted in found if not accepted]
        for table in (table for tables in groups for table in tables.tables):
            _check_head(table)
            _check_lines(table)
        listing = Listing({}, self.classes(groups))
        uses: dict[Path, _Use] = {}
        for tables in groups:
            for table in tables.tables:
                listing.notes += self._add(uses, tables, table, folder, listing.classes)
        for table in (table for tables in others for table in tables.tables):
            columns = ", ".join(table.columns[:_SHOWN])
            listing.notes.append(f"{_name(table, folder)}: left out, as its labels ({columns}) are not {self.kind}")
        for use in uses.values():
            listing.splits.setdefault(use.split, []).append(use.sample)
        for samples in listing.splits.values():
            samples.sort()
        return listing

    def _add(
        self, uses: dict[Path, _Use], tables: Tables, table: Table, folder: Tree, classes: Sequence[str]
    ) -> list[str]:
        """Add the lines of a table, and return notes on those that are left out."""
        missing, repeated = dict[str, None](), list[str]()
        for line, row in table.body:
            name = row[table.names]
            image = _image(name, table.file, folder)
            if image is None:
                missing[name] = None
                continue
            split = _split_of_row(table, row) or _split_of_image(image, table.file, folder)
            sample = self.sample(tables, table, line, row, classes)._replace(image=image)
            use = _Use(sample, split, table, line)
            if image in uses:
                repeated.append(name)
                use = _reconciled(uses[image], use)
            uses[image] = use
        notes = []
        if missing:
            count = len({row[table.names] for _, row in table.body})
            notes.append(
                f"{len(missing):,} of {count:,} lines name no image, the first of them {next(iter(missing))!r}"
            )
        if repeated:
            lines = f"{len(repeated):,} of {len(table.body):,} lines"
            notes.append(f"{lines} name an image again, the first of them {repeated[0]!r}; each image is used once")
        return [f"{_name(table, folder)}: {note}" for note in notes]


class TableOfLabels(_TableLayout):
    """A CSV file with a class for each image, or with a column of 0 and 1 for each class."""

    name, kind = "images and a CSV file of labels", CLASSES

    def accepts(self, tables: Tables) -> bool:
        """Accept what is neither tags nor numbers."""
        return not TableOfTags().accepts(tables) and not TableOfNumbers().accepts(tables)

    def classes(self, groups: Sequence[Tables]) -> list[str]:
        """Return the labels that occur, or the columns of the classes."""
        found = set[str]()
        for tables in groups:
            file = tables.tables[0].file
            if tables.are_indicators and len(tables.columns) > 1:
                found |= set(tables.columns)
            elif len(tables.columns) > 1 and not have_usual_names(tables):
                columns = ", ".join(tables.tables[0].head[:_SHOWN])
                remedy = "call the one with the classes 'label'; to learn numbers, pass --task regress"
                raise DataError(f"{file}: its columns are {columns}; {remedy}")
            else:
                labels = {row[0] for row in tables.rows()}
                if fractions := sorted(filter(has_fraction, labels)):
                    raise DataError(
                        f"{file}: {fractions[0]!r} in the column {tables.columns[0]} is a number, not a class; to "
                        "learn numbers, pass --task regress, which names the cells that are none"
                    )
                found |= labels
        return sorted(found, key=by_number)

    def sample(self, tables: Tables, table: Table, line: int, row: list[str], classes: Sequence[str]) -> Sample:
        """Take the label, or the column with 1."""
        if tables.are_indicators and len(table.labels) > 1:
            return Sample(Path(), next(table.head[column] for column in table.labels if row[column] == "1"))
        return Sample(Path(), row[table.labels[0]])


class TableOfTags(_TableLayout):
    """A CSV file with tags for each image: a column of 0 and 1 for each, or one column that lists them."""

    name, kind = "images and a CSV file of tags", TAGS

    def accepts(self, tables: Tables) -> bool:
        """Accept lists of tags, and columns of 0 and 1 if not every line has exactly one 1."""
        if tables.are_indicators:
            return len(tables.columns) > 1 and not all(row.count("1") == 1 for row in tables.rows())
        return list_tags(tables)

    def classes(self, groups: Sequence[Tables]) -> list[str]:
        """Return the columns of the tags, or the tags in lists."""
        if any(tables.are_indicators for tables in groups):
            return _common_columns(groups)
        for tables in groups:
            if len(tables.columns) > 1:
                columns = ", ".join(tables.tables[0].head[:_SHOWN])
                raise DataError(
                    f"{tables.tables[0].file}: its columns are {columns}; tags are a column of 0 and 1 for each, or "
                    "one column 'tags' that lists them"
                )
        found = {tag for tables in groups for tags in tables.lists.values() for tag in tags}
        return sorted(found, key=by_number)

    def sample(self, tables: Tables, table: Table, line: int, row: list[str], classes: Sequence[str]) -> Sample:
        """Take 0 and 1 from the columns of the tags, or 1 for those in the list."""
        if tables.are_indicators:
            return Sample(Path(), numbers=tuple(float(row[column]) for column in table.labels))
        present = tables.lists[row[table.labels[0]]]
        return Sample(Path(), numbers=tuple(float(tag in present) for tag in classes))


class TableOfNumbers(_TableLayout):
    """A CSV file with numbers to regress for each image: a column, or several."""

    name, kind = "images and a CSV file of numbers", VALUES

    def accepts(self, tables: Tables) -> bool:
        """Accept numbers of which at least one has a fraction."""
        return all(map(is_number, tables.cells())) and any(map(has_fraction, tables.cells()))

    def classes(self, groups: Sequence[Tables]) -> list[str]:
        """Return the columns of the numbers."""
        return _common_columns(groups)

    def sample(self, tables: Tables, table: Table, line: int, row: list[str], classes: Sequence[str]) -> Sample:
        """Take the numbers."""
        for column in table.labels:
            cell, where = row[column], f"{table.file}, line {line}, column {table.head[column]}"
            if not is_number(cell):
                raise DataError(f"{where}: {cell!r} is not a number; mend or drop the line")
            if abs(float(cell)) > _LARGEST:
                raise DataError(f"{where}: {cell} is too large for float32; divide the numbers, or drop the line")
        return Sample(Path(), numbers=tuple(float(row[column]) for column in table.labels))


class AnyTags(TableOfTags):
    """A table whose labels may be tags, if tags are required: each line may list one."""

    if_required = True

    def accepts(self, tables: Tables) -> bool:
        """Accept every table but one of numbers."""
        return not TableOfNumbers().accepts(tables)


class AnyNumbers(TableOfNumbers):
    """A table whose labels are numbers, if numbers are required: they may be whole."""

    if_required = True

    def accepts(self, tables: Tables) -> bool:
        """Accept columns with mostly numbers, so that what is not a number is named."""
        cells = list(tables.cells())
        return 2 * sum(map(is_number, cells)) > len(cells)


def is_table_of_labels(folder: Tree) -> bool:
    """Return whether a folder has a CSV file of classes, tags or numbers."""
    return bool(tables_of(folder))


# -- tables -----------------------------------------------------------------------------------------------------------


def _check_lines(table: Table) -> None:
    for number, row in table.body:
        if len(row) != len(table.head):
            raise DataError(f"{table.file}, line {number}: {len(row)} cells; expected {','.join(table.head)}")


def _check_head(table: Table) -> None:
    """Raise DataError if two columns of labels have one name."""
    name, count = Counter(table.columns).most_common(1)[0]
    if count > 1:
        raise DataError(f"{table.file}: {count} columns are called {name!r}; rename or drop all but one")


def _name(table: Table, folder: Tree) -> str:
    return table.file.relative_to(folder.path).as_posix()


def _reconciled(first: _Use, second: _Use) -> _Use:
    """Return which of two lines for an image is used: that of the test set, else of the validation set, else the first.

    Raises:
        DataError: their labels differ.
    """
    if first.sample != second.sample:
        lines = [f"{use.table.file}, line {use.line}" for use in (second, first)]
        raise DataError(f"{lines[0]}: another label for {first.sample.image} than in {lines[1]}; keep one of them")
    return max(first, second, key=lambda use: (TRAIN, VALIDATION, TEST).index(use.split))


def _common_columns(groups: Sequence[Tables]) -> list[str]:
    """Return the names of the columns with labels. Raises DataError if tables differ in them, or in their order."""
    first, *others = (table for tables in groups for table in tables.tables)
    for table in others:
        if table.columns != first.columns:
            both = f"{', '.join(table.columns)}, and those of {first.file} {', '.join(first.columns)}"
            raise DataError(f"{table.file}: its columns are {both}; they must be the same")
    return first.columns


def _image(name: str, table: Path, folder: Tree) -> Path | None:
    """Return the image of a name: by its path, or in the split that the table is for, or in the training set."""
    split = _split_of_table(table, folder)
    child = folder.splits.get(split or TRAIN, folder)
    return folder.named.get(name) if "/" in name else child.named.get(name)


def _split_of_row(table: Table, row: Sequence[str]) -> str | None:
    """Return the split that a line names: train, valid, test, or 1 in a column is_valid or is_test."""
    if table.split is None:
        return None
    name, cell = table.head[table.split].lower(), row[table.split].lower()
    if name.startswith("is_"):
        return (VALIDATION if name == "is_valid" else TEST) if cell in _YES else None
    return split_of(cell)


def _split_of_image(image: Path, table: Path, folder: Tree) -> str:
    """Return the split that an image's folder is for, or its table."""
    return split_of(image.relative_to(folder.path).parts[0]) or _split_of_table(table, folder) or TRAIN


def _split_of_table(file: Path, folder: Tree) -> str | None:
    """Return the split that a table is in or is named after: train/x.csv, train.csv, test_labels.csv."""
    if file.parent != folder.path:
        return split_of(file.parent.name)
    return split_of(re.split(r"[\W_]", file.stem)[0])
