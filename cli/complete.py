"""Shell completion of names: of data sets, architectures, runs and recipes. Files and folders are the shell's."""

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from numbacnn.data import NAMES
from numbacnn.models import MODELS
from numbacnn.runs.folder import RunFolder

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completion(known: Callable[[], Iterable[str]], otherwise: str) -> Complete:
    """Complete names that start as the word does; if there are none, files ("file"), folders ("dir") or nothing."""

    def complete(_: click.Context, __: click.Parameter, word: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in known() if name.startswith(word)]
        return found or [CompletionItem(word, type=otherwise)] * bool(otherwise)

    return complete


def runs() -> list[str]:
    """Return the folders of runs in ``runs``, where they are by default."""
    return sorted(str(path) for path in Path("runs").glob("*") if RunFolder(path).config.is_file())


def names(known: Iterable[str]) -> Complete:
    """Complete names only."""
    return _completion(lambda: known, "")


data_sets = names(NAMES)
data = _completion(lambda: NAMES, "dir")
run = _completion(runs, "dir")
model = _completion(runs, "file")
model_or_name = _completion(lambda: [*MODELS, *runs()], "file")
