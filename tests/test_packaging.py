"""The package configuration in pyproject.toml lists every package and every data file.

``.ci/run`` builds both distributions, compares them with the repository, builds the wheel a second time over the files
of an earlier build, compares the bytes, and trains with the installed wheel elsewhere.
"""

import tomllib
from importlib.machinery import PathFinder
from pathlib import Path, PurePosixPath

import pytest

import numbacnn

ROOT = Path(__file__).parents[1]
PACKAGE = Path(numbacnn.__file__).parent


def settings():
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["tool"]["setuptools"]


def files():
    """(package, file name) of every file that an installation needs."""
    for folder, prefix in [(PACKAGE, "numbacnn"), (ROOT / "cli", "numbacnn.cli")]:
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield ".".join([prefix, *path.relative_to(folder).parent.parts]), path.name


def test_every_package_is_listed():
    assert settings()["packages"] == sorted({package for package, _ in files()})


def test_every_data_file_matches_a_pattern_of_package_data():
    patterns = settings()["package-data"]
    left_out = [
        f"{package}: {name}"
        for package, name in files()
        if not name.endswith(".py")
        and not any(PurePosixPath(name).match(pattern) for pattern in patterns.get(package, []))
    ]
    assert left_out == []


@pytest.mark.parametrize("folder", ["numbacnn", "cli"])
def test_every_folder_of_modules_is_a_package(folder):
    modules = (path for path in (ROOT / folder).rglob("*.py"))
    assert not {module.parent for module in modules if not (module.parent / "__init__.py").exists()}


def test_the_command_line_is_a_package_of_numbacnn_in_a_checkout_too():
    spec = PathFinder.find_spec("numbacnn.cli", numbacnn.__path__)
    assert spec is not None
    assert Path(spec.origin) == ROOT / "cli" / "__init__.py"
