"""Small model files that ask for much time or memory are rejected; large graphs are planned in linear time."""

import json
import random
from itertools import pairwise

import numpy as np
import pytest
from command_line import numbacnn
from safetensors.numpy import save_file

import numbacnn as nc
from numbacnn.engine import limits
from numbacnn.engine.device import get_device
from numbacnn.engine.graph import Graph
from numbacnn.engine.graph_format import from_dict
from numbacnn.engine.plan import arena, make_plan
from numbacnn.errors import ModelFileError
from numbacnn.inspection.summary import summarize
from numbacnn.models.unet import _unet


def node(name, op, *inputs, **attributes):
    return {"name": name, "op": op, "inputs": inputs or ["x"], "attributes": attributes}


def graph(*nodes, shape=(4, 4, 2)):
    inputs = [{"name": "x", "shape": list(shape)}]
    return {"version": 1, "inputs": inputs, "nodes": list(nodes), "outputs": [nodes[-1]["name"]], "auxiliary": []}


def chain(op, count, **attributes):
    names = ["x", *(f"n{i}" for i in range(count))]
    return [node(name, op, before, **attributes) for before, name in pairwise(names)]


def saved(path, form):
    head = {"graph": form, "classes": None, "normalization": None, "lists": [False, False]}
    save_file({}, path, {"format": "numbacnn", "version": "1", "head": json.dumps(head)})
    return path


TOO_LARGE = {
    "upsampling": (graph(node("a", "upsample2d", factor=[9999, 9999])), "3,199,360,0"),
    "padding": (graph(node("a", "zero_pad2d", padding=100_000)), "numbers for one image, more than 134,217,728"),
    "adaptive": (graph(node("a", "adaptive_avg_pool2d", output_size=[99999, 99999])), "numbers for one image"),
    "dilation": (
        graph(node("a", "avg_pool2d", pool_size=[60001, 60001], stride=[1, 1], padding=60000)),
        'the layers up to "a" need',
    ),
    "input": (graph(node("a", "softmax"), shape=(99999, 99999, 2)), "numbers for one image"),
    "time": (
        graph(*chain("avg_pool2d", 600, pool_size=[2047, 2047], stride=[1, 1], padding=1023), shape=(33, 33, 2)),
        "floating-point operations for one image",
    ),
    "integer": (graph(node("a", "upsample2d", factor=[10**4200, 2])), 'node "a" has an integer above 2,147,483,647'),
    "shape": (graph(node("a", "relu"), shape=(10**18, 4, 2)), "the graph has an integer above 2,147,483,647"),
    "nodes": (graph(*chain("relu", 20_001)), "20,001 nodes, more than 20,000; if the file is your own, load it with"),
    "inputs": (graph(node("a", "relu"), node("b", "add", *["x"] * 1025)), 'node "b" has 1,025 inputs, more than 1,024'),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_small_files_that_need_much_are_rejected_in_one_line(tmp_path, case):
    form, message = TOO_LARGE[case]
    with pytest.raises(ModelFileError, match=r"m\.safetensors: ") as error:
        nc.load(saved(tmp_path / "m.safetensors", form))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_limits_can_be_waived(tmp_path, monkeypatch):
    path = saved(tmp_path / "m.safetensors", graph(node("a", "relu")))
    monkeypatch.setattr(limits, "MAX_VALUES", 50)
    outcome = numbacnn("summary", path)
    assert outcome.code == 1
    assert 'the layers up to "a" need 64 numbers for one image, more than 50; if the file is your own' in outcome.err
    assert numbacnn("summary", path, "--no-limits").code == 0
    assert nc.load(path, limits=False).output_shape == (4, 4, 2)


def test_limits_grow_with_the_weights():
    """Architectures of ``nc.models`` are loaded."""
    for name in ("resnet18", "mobilenet_v2", "unet", "grid_detector"):
        model = nc.models.make(name)
        limits.check_graph(model.graph, 4 * model.store.count)


@pytest.mark.parametrize(("size", "flops"), [(512, 3.86e11), (1024, 1.543e12)])
def test_unet_on_large_images_is_below_the_limits(size, flops):
    x = nc.Input((size, size, 3))
    unet = Graph([x], [_unet(x, 2, depth=4, width=64)])  # no weights or buffers
    found = sum(node.layer.flops(node.geometry, node.shape) for node in unet.nodes)
    assert found == pytest.approx(flops, rel=0.02)
    limits.check_graph(unet, 4 * 31_000_000)


def test_a_window_beyond_all_channels_is_cut_off():
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 5)).astype(np.float32)
    layers = [nc.LocalResponseNorm(10, alpha=1.0), nc.LocalResponseNorm(10**18, alpha=1e17)]
    small, large = (nc.Sequential([layer], (3, 3, 5)).forward(x) for layer in layers)
    np.testing.assert_allclose(large, small, rtol=1e-6)


@pytest.mark.parametrize("op", ["relu", "tanh", "dropout", "flatten"])
def test_a_long_chain_is_planned_without_recursion(op):
    built = from_dict(graph(*chain(op, 6_000)))
    assert len(summarize(built, get_device("cpu").sizes).rows) == 6_000


def sums(count):
    """Many values that are all alive at once: a tree of sums."""
    nodes = [node(f"n{i}", "relu") for i in range(count)]
    parts = [[f"n{i}" for i in range(start, min(start + 1000, count))] for start in range(0, count, 1000)]
    nodes += [node(f"s{i}", "add", *part) for i, part in enumerate(parts)]
    return graph(*nodes, node("y", "add", *(f"s{i}" for i in range(len(parts)))))


def test_buffers_of_a_large_graph_share_memory_only_at_different_times():
    for form in (sums(4_200), graph(*chain("relu", 4_200))):
        plan = make_plan(from_dict(form), get_device("cpu").sizes, 2, training=False)
        assert len(plan.buffers) > arena.MANY
        check_disjoint(plan.buffers, plan.bytes, random.Random(0).sample(plan.buffers, 300))


def check_disjoint(buffers, size, chosen):
    for one in chosen:
        assert one.offset % arena.ALIGNMENT == 0
        assert one.offset + one.bytes <= size
        for other in buffers:
            overlaps = one.offset < other.offset + other.bytes and other.offset < one.offset + one.bytes
            if one is not other and overlaps:
                assert one.last < other.first or other.last < one.first
                assert one.shared
                assert other.shared


@pytest.mark.parametrize("allocate", [arena._pack, arena._reuse])
def test_buffers_of_random_lifetimes_are_disjoint(allocate):
    draw = random.Random(0)
    for _ in range(50):
        starts = [draw.randrange(40) for _ in range(draw.randrange(1, 80))]
        sizes = [draw.choice([0, 1, 5, 30, 30, 1000]) for _ in starts]
        buffers = [
            arena.Buffer(str(i), arena.scratch_layout({"": (size, 7)}), start, start + draw.randrange(20))
            for i, (start, size) in enumerate(zip(starts, sizes, strict=True))
        ]
        check_disjoint(buffers, allocate(buffers), buffers)
