"""The documentation matches the code: its programs run, and its names, options, links and paths exist."""

import re
import runpy
import shlex
from pathlib import Path

import click
import pytest
from cases import PICKED
from numbacnn.cli import commands
from processes import run_python
from test_imports import ROWS

import numbacnn as nc
from numbacnn.layers import REGISTRY, is_custom

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("lessons/*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
]
LAYERS = [layer for layer in REGISTRY.values() if not is_custom(layer)]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(page):
    """The page, without the examples of CONTRIBUTING.md, which ``test_contributing.py`` applies to a copy."""
    return re.sub(r"^## Example: .*?(?=^## )", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def words(name):
    return set(re.findall(r"\w+", (DOCS / name).read_text("utf-8")))


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_every_layer_is_public_and_in_the_documentation(layer):
    assert getattr(nc, layer.__name__) is layer
    assert layer.__name__ in words("layers.md")
    assert layer.op.replace("_", "") == layer.__name__.lower()  # as model-file.md says


def test_layers_with_arrays_are_on_the_page_about_model_files():
    with_arrays = {}
    for layer, shapes in ((case.layer(), case.shapes) for case in PICKED):
        if names := {*layer.parameters(shapes), *layer.state(shapes)}:
            with_arrays.setdefault(layer.op, set()).update(names)
    rows = re.findall(r"^\| (`\w+`.*?) \| (.*) \|$", (DOCS / "model-file.md").read_text("utf-8"), re.MULTILINE)
    found = {op: set(re.findall(r"\w+", arrays)) for ops, arrays in rows for op in re.findall(r"\w+", ops)}
    assert {op: found.get(op) for op in with_arrays} == with_arrays


def test_every_page_is_in_the_contents_of_the_site():
    index = (DOCS / "index.md").read_text("utf-8")
    contents = set(
        re.findall(r"^([\w-]+)$", "".join(re.findall(r"```{toctree}(.*?)```", index, re.DOTALL)), re.MULTILINE)
    )
    assert {path.stem for path in DOCS.glob("*.md")} - {"index"} <= contents


# -- programs ---------------------------------------------------------------------------------------------------------

START = "import numpy as np\nimport numbacnn as nc\n"
DIGITS = "train, test = (split.subset(np.arange(64)) for split in nc.data.load('digits'))\nmodel = nc.models.lenet5()\n"
SMALL_MODEL = """
images, labels = np.zeros((8, 4, 4, 1), np.float32), np.arange(8) % 3
model = nc.Sequential([nc.Flatten(), nc.Dense(3)], (4, 4, 1))
train = nc.data.Dataset.from_arrays(images, labels)
logits = model.forward(images)
"""
BEFORE = {  # page → number of a block → code that the page leaves out before it
    "augmentation.md": {0: DIGITS},
    "library.md": {
        3: "images, labels = np.zeros((8, 28, 28, 1), np.uint8), np.arange(8)\nrows = np.zeros((8, 3), np.float32)\n"
    },
    "losses.md": {
        0: SMALL_MODEL,
        3: "features, years = np.zeros((8, 16), np.float32), np.zeros((8, 1), np.float32)\n",
        5: SMALL_MODEL
        + "optimizer, x = nc.SGD(0.05), model.forward(images, training=True)\n"
        + "loss, dy = nc.losses.cross_entropy(x, labels)\n",
    },
    "training.md": {
        0: DIGITS + "held_out = test\n",
        3: "nc.models.lenet5().save('digits.safetensors')\n"
        "few = nc.data.Dataset.from_arrays(train.images, train.labels % 5)\n",
    },
    "pretrained.md": {0: "nc.models.resnet18().save('resnet18.safetensors')\n"},
}
NOT_EVERYWHERE = ("import torchvision", 'device="cuda"')


NEEDS = {
    "scikit-learn.md": "sklearn",
    "logs.md": "tensorboardX",
    "onnx.md": "onnx",
    "distributed.md": "mpi4py",
    "serve.md": "starlette",
}  # page → the extra that its code needs
TESTED_ELSEWHERE = {"plots.md", "custom-layers.md", "CONTRIBUTING.md"}
WITH_CODE = [  # without lessons, which the build of the site runs
    page
    for page in PAGES
    if blocks(page, "python") and page.name not in TESTED_ELSEWHERE and page.parent.name != "lessons"
]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    if extra := NEEDS.get(page.name):
        pytest.importorskip(extra, reason=f"{extra} is not installed")
    before = BEFORE.get(page.name, {})
    code = [
        before.get(number, "") + block
        for number, block in enumerate(blocks(page, "python"))
        if not any(word in block for word in NOT_EVERYWHERE)
    ]
    monkeypatch.chdir(tmp_path)
    Path("page.py").write_text(START + "\n".join(code))
    runpy.run_path("page.py")


def test_the_code_about_custom_layers_runs(tmp_path):
    code = blocks(DOCS / "custom-layers.md", "python")
    (tmp_path / "page.py").write_text("\n".join([*code, "print(nc.check_gradients(Scale(), (5, 6, 3)))"]))
    assert re.fullmatch(r"\{'x': \d\.\d+e-07, 'weight': \d\.\d+e-07\}\n", run_python(tmp_path / "page.py"))


def test_the_code_about_inspection_runs(tmp_path):
    """The code runs on an untrained model whose layers have the names of the page."""
    (block,) = blocks(DOCS / "plots.md", "python")
    before = "import numbacnn as nc\n_, test = nc.data.load('digits')\nmodel = nc.models.lenet5()\n"
    after = "print(*outputs, maps.shape, heat.shape, len(norms), len(wrong.indices), *report.top_k)"
    (tmp_path / "page.py").write_text(before + block + after)
    assert run_python(tmp_path / "page.py") == "conv2d_1 relu_2 (8, 10, 10, 16) (8, 10, 10) 5 10 1 5\n"


# -- names ------------------------------------------------------------------------------------------------------------


@every_page
def test_public_names_exist(page):
    for name in set(re.findall(r"\bnc\.([A-Za-z_][\w.]*\w)", text_of(page))):
        found = nc
        for part in name.removesuffix(".NAME").split("."):
            found = getattr(found, part)


@every_page
def test_commands_and_their_options_exist(page):
    text = page.read_text("utf-8")
    lines = [line.partition("#")[0] for block in blocks(page, "sh") for line in block.splitlines()]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines += [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]*)`", prose)]
    for line in lines:
        if line.startswith("numbacnn "):
            _, *arguments = shlex.split(line)
            parse(arguments)


def parse(arguments):
    """Look up the command, and parse its options without converting their values."""
    command, context = commands, click.Context(commands)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        if name.isupper():  # a placeholder
            return
        assert name in command.commands, f"no command {name!r}"
        command = command.commands[name]
        context = click.Context(command, parent=context)
    command.make_parser(context).parse_args(arguments)


@every_page
def test_files_and_tests_exist(page):
    text = text_of(page)
    for path in set(re.findall(r"[\w./]*\w/[\w./]*\w\.py\b", text)):
        folders = [page.parent, ROOT, ROOT / "numbacnn", ROOT / "numbacnn" / "kernels" / "cpu"]
        assert any((folder / path).exists() for folder in folders), f"there is no {path}"
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    missing = [name for name in set(re.findall(r"`(test_\w+)`", text)) if not re.search(rf"def {name}\b", tests)]
    assert not missing, f"there are no tests {missing}"


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, _, name = link.partition("#")
        if link.startswith(("http://", "https://")):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"there is no {path}"
        headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE) if name else []
        assert not name or name in map(anchor, headings), f"{path} has no heading #{name}"


ARCHITECTURE = (DOCS / "architecture.md").read_text("utf-8")


def test_the_order_of_imports_is_the_tested_one():
    (order,) = re.findall(r"```\n(cli →.*?)```", ARCHITECTURE, re.DOTALL)
    rows = [set(re.findall(r"\w+", row)) for row in order.split("→")]
    assert rows == [row for row in ROWS if not row & {"__main__", "numbacnn"}]


def test_files_that_emit_llvm_ir_are_listed():
    folder = ROOT / "numbacnn" / "kernels" / "cpu"
    emitting = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if re.search(
            "^from llvmlite import|^from numba.extending import intrinsic", path.read_text("utf-8"), re.MULTILINE
        )
    }
    (section,) = re.findall(r"### LLVM IR\n(.*?)\n#", ARCHITECTURE, re.DOTALL)
    assert set(re.findall(r"^\| `(.*?)` \|", section, re.MULTILINE)) == emitting


def test_examples_in_help_texts_have_the_options_that_they_use():
    lines = [line.strip() for command in commands.commands.values() for line in (command.help or "").splitlines()]
    examples = [line for line in lines if line.startswith("numbacnn ")]
    assert len(examples) >= 8
    for example in examples:
        parse(shlex.split(example)[1:])
