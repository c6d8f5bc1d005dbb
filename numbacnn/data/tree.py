"""The folders and files of a data set, listed once, without those that systems and archives add."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from numbacnn.data.images import SUFFIXES
from numbacnn.data.text import readable

TRAIN, VALIDATION, TEST = "train", "validation", "test"
MAX_DEPTH = 10  # of folders in folders, so that links to a parent come to an end
_IGNORED = {"__macosx", "thumbs.db", "desktop.ini", "lost+found"}
_SPLITS = {"train": TRAIN, "training": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION}
_SPLIT = re.compile(rf"({'|'.join(_SPLITS)}|test|testing)(20\d\d|\d)?", re.IGNORECASE)  # train2017, test1
_SHOWN = 6  # groups of files in a description


@dataclass(frozen=True)
class Tree:
    """A folder, its subfolders and its files, sorted by name."""

    path: Path
    folders: tuple["Tree", ...]
    files: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path, depth: int = MAX_DEPTH) -> "Tree":
        """List a folder and, down to ``depth``, its subfolders."""
        entries = [entry for entry in sorted(path.iterdir()) if not _is_ignored(entry.name)]
        folders = [entry for entry in entries if entry.is_dir()]
        inner = tuple(cls.of(folder, depth - 1) for folder in folders) if depth else ()
        return cls(path, inner, tuple(entry for entry in entries if entry not in set(folders)))

    @property
    def name(self) -> str:
        """The folder's name as text."""
        return readable(self.path.name)

    @cached_property
    def images(self) -> list[Path]:
        """The image files in the folder itself."""
        return [file for file in self.files if file.suffix.lower() in SUFFIXES]

    @cached_property
    def all_images(self) -> list[Path]:
        """The image files in the folder and all its subfolders."""
        return [*self.images, *(file for folder in self.folders for file in folder.all_images)]

    @cached_property
    def all_files(self) -> list[Path]:
        """The files in the folder and all its subfolders."""
        return [*self.files, *(file for folder in self.folders for file in folder.all_files)]

    @cached_property
    def named(self) -> dict[str, Path]:
        """The image files by the names that tables use: path below the folder, or only its end, name, or stem."""
        found: dict[str, Path] = {}
        for image in self.all_images:
            parts = [readable(part) for part in image.relative_to(self.path).parts]
            ends = ["/".join(parts[start:]) for start in range(len(parts))]
            for name in (*ends, readable(image.stem)):
                found.setdefault(name, image)
        return found

    def find(self, *names: str) -> "Tree | None":
        """Return the subfolder with the first of the names that exists, in upper or lower case; "a/b" is b in a."""
        for name in names:
            first, _, rest = name.partition("/")
            folder = next((child for child in self.folders if child.name.lower() == first.lower()), None)
            if folder is not None and rest:
                folder = folder.find(rest)
            if folder is not None:
                return folder
        return None

    def file(self, *names: str) -> Path | None:
        """Return the file with the first of the names that exists."""
        known = {file.name.lower(): file for file in self.files}
        return next((known[name.lower()] for name in names if name.lower() in known), None)

    def ending(self, suffix: str) -> list[Path]:
        """Return the files in the folder itself with a suffix such as ".csv"."""
        return [file for file in self.files if file.suffix.lower() == suffix]

    @cached_property
    def splits(self) -> dict[str, "Tree"]:
        """The subfolders for training, validation and test, named as in torchvision, fastai, Keras or COCO."""
        found = {split_of(child.name): child for child in reversed(self.folders)}
        return {split: found[split] for split in (TRAIN, VALIDATION, TEST) if split in found}


def split_of(name: str) -> str | None:
    """Return the split, "train", "validation" or "test", that a folder of this name holds, or None."""
    match = _SPLIT.fullmatch(name)
    return _SPLITS.get(match[1].lower(), TEST) if match else None


def count_by_folder(root: Path, files: Iterable[Path]) -> str:
    """Describe files by folder and suffix: "40 .png in train/, 1 .csv"."""
    groups = Counter((_top(file.relative_to(root)), file.suffix.lower() or "without suffix") for file in files)
    phrases = [f"{count:,} {suffix}{f' in {folder}/' if folder else ''}" for (folder, suffix), count in groups.items()]
    more = [f"{len(phrases) - _SHOWN} other groups"] if len(phrases) > _SHOWN else []
    return ", ".join([*phrases[:_SHOWN], *more])


def _top(path: Path) -> str:
    """Return the first two folders of a path."""
    return "/".join(map(readable, path.parts[:-1][:2]))


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED
