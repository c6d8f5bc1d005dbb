"""The documentation against what is there."""

import re
from pathlib import Path

import pytest
from processes import run_python

import numbacnn as nc
from numbacnn.layers import REGISTRY, is_custom

DOCS = Path(__file__).parents[1] / "docs"
LAYERS = [layer for layer in REGISTRY.values() if not is_custom(layer)]


def words(name):
    return set(re.findall(r"\w+", (DOCS / name).read_text("utf-8")))


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_every_layer_is_public_and_in_the_documentation(layer):
    assert getattr(nc, layer.__name__) is layer
    assert layer.__name__ in words("layers.md")
    assert {layer.__name__, layer.op} <= words("model-file.md")


def test_the_code_about_own_layers_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "custom-layers.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "page.py").write_text("\n".join([*blocks, "print(nc.check_gradients(Scale(), (5, 6, 3)))"]))
    assert re.fullmatch(r"\{'x': \d\.\d+e-07, 'weight': \d\.\d+e-07\}\n", run_python(tmp_path / "page.py"))


def test_the_code_about_looking_inside_runs(tmp_path):
    """On an untrained model whose layers have the names of the page."""
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "plots.md").read_text("utf-8"), re.DOTALL)
    before = "import numbacnn as nc\n_, test = nc.data.load('digits')\nmodel = nc.models.lenet5()\n"
    after = "print(*outputs, maps.shape, heat.shape, len(norms), len(wrong.indices), *report.top_k)"
    (tmp_path / "page.py").write_text(before + block + after)
    assert run_python(tmp_path / "page.py") == "conv2d_1 relu_2 (8, 10, 10, 16) (8, 10, 10) 5 10 1 5\n"
