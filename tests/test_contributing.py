"""CONTRIBUTING.md: its examples, applied to a copy of the repository, change few files, work, and pass their tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"`([\w/.]+)`:\n\n```(python|diff)\n(.*?)```", re.DOTALL)
COPIED = ("numbacnn", "cli", "docs", "tests", "examples", "benchmarks", "README.md", "CONTRIBUTING.md", "CHANGELOG.md",
          "pyproject.toml")  # fmt: skip


def example(name):
    """[(path, kind, text)] of the blocks of a section, each named in the line before it."""
    (section,) = re.findall(
        rf"^## Example: {name}\n(.*?)^## ", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M | re.S
    )
    assert section.count("```") == 2 * len(BLOCK.findall(section)), "a block without a path in the line before it"
    return BLOCK.findall(section)


def patched(text, diff):
    """The text with the lines of a diff changed, which has neither header nor numbers of lines."""
    lines = [line or " " for line in diff.splitlines()]
    old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
    new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
    assert text.count(old) == 1, f"not once in the file:\n{old}"
    return text.replace(old, new)


def apply(blocks, folder):
    """Make the changes of blocks of Python, which are appended, and diffs; return the paths of changed files."""
    for path, kind, text in blocks:
        file = folder / path
        before = file.read_text("utf-8") + "\n\n" if file.exists() else ""
        file.write_text(before + text if kind == "python" else patched(before.removesuffix("\n\n"), text), "utf-8")
    return {path for path, _, _ in blocks}


@pytest.fixture(params=["a layer", "an optimizer"])
def copy(request, tmp_path):
    """(the example's name, a copy of the repository with it, the files that it changed)."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return request.param, tmp_path, apply(example(request.param), tmp_path)


def run(folder, *arguments):
    """Runs Python in the copy, whose package goes before the installed one."""
    environment = os.environ | {"PYTHONPATH": str(folder), "NUMBACNN_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


USES = {
    "a layer": """
import numpy as np, numbacnn as nc
model = nc.Sequential([nc.Softsign()], (3,), device="reference")
x = np.array([[-2, 1, np.inf]], np.float32)
y = model.forward(x, training=True)
print(nc.__file__, *y[0].round(4).tolist(), *model.backward(np.ones((1, 3)))[0].round(4).tolist())
""",
    "an optimizer": """
import numpy as np, numbacnn as nc
model = nc.Sequential([nc.Dense(1, bias=False, initializer="zeros")], (2,), device="reference")
optimizer = nc.optimizers.OPTIMIZERS["adamax"](0.5)
for x in ([[1.0, -2.0]], [[-3.0, 1.0]]):
    model.forward(x, training=True)
    model.backward(np.ones((1, 1)))
    optimizer.step(model)
print(nc.__file__, *model.parameters["dense_1.weight"].ravel().round(4).tolist())
""",
}
NUMBERS = {
    "a layer": [-2 / 3, 1 / 2, 1, 1 / 9, 1 / 4, 0],
    "an optimizer": [-0.5 + 0.5 / 0.19 * 0.21 / 3, 0.5 + 0.5 / 0.19 * 0.08 / 1.998],
}
MAX_FILES = {"a layer": 8, "an optimizer": 5}
TESTS = {
    "a layer": ("softsign", "ops", "test_layers.py", "test_guards.py", "test_placement.py", "test_functional.py",
                "test_special_values.py", "test_gradient_check.py", "test_docs.py", "test_reference.py",
                "test_imports.py", "peers/test_torch.py"),
    "an optimizer": ("adamax", "optimizers", "test_optimizers.py", "test_averages.py", "test_memory.py",
                     "test_cli_transfer.py", "test_reference.py", "test_imports.py", "peers/test_torch_training.py"),
}  # fmt: skip


def test_an_example_changes_few_files_and_works_on_the_reference_device(copy):
    name, folder, changed = copy
    assert len(changed) <= MAX_FILES[name]
    package, *numbers = run(folder, "-c", USES[name]).split()
    assert Path(package) == folder / "numbacnn" / "__init__.py"
    assert list(map(float, numbers)) == pytest.approx(NUMBERS[name], abs=1e-4)


@pytest.mark.long
def test_the_tests_that_an_example_gains_pass(copy):
    name, folder, _ = copy
    word, *files = TESTS[name]
    paths = [str(folder / "tests" / file) for file in files]
    selected = f"{word} or has_the_launchers"
    printed = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", selected, *paths)
    assert int(re.search(r"(\d+) passed", printed)[1]) > 20
