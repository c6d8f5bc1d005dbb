"""The peers of ``numbacnn bench`` compute what we compute."""

import inspect
import os
from functools import partial

import numpy as np
import pytest
from architectures import each_architecture
from command_line import numbacnn
from engine import assert_close, generator_of, randomize

import numbacnn as nc
from numbacnn.bench import cases, measure, processes, timing
from numbacnn.bench.peers import Peers, find_peers
from numbacnn.bench.work import graph_of
from numbacnn.saving.pretrained import state_dict, state_dict_shapes

if not os.environ.get("NUMBACNN_REQUIRE_PEERS"):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")

import torch

from numbacnn.bench import onnxruntime_peer, openvino_peer, torch_peer, torch_twin

CPU, GPU = torch_peer.PEERS["cpu"], torch_peer.PEERS["cuda"]
ONNX, OPENVINO = onnxruntime_peer.PEERS["cpu"], openvino_peer.PEERS["cpu"]

SMALL = {"lenet5": (28, 28, 1), "simple_cnn": (28, 28, 1), "alexnet": (63, 63, 3), "unet": (16, 16, 1)}
TRAINED = (
    *("lenet5", "unet"),
    *(pytest.param(name, marks=pytest.mark.long) for name in ("resnet20", "vgg11_bn", "googlenet")),
)
TOLERANCE = 1e-4


def small(name, batch=2, **options):
    """A model of the zoo for small images, with weights that preserve the scale of values, and images."""
    model = nc.models.make(name, input_shape=SMALL.get(name, (32, 32, 3)), classes=5, **options)
    randomize(model, generator_of(name))
    images = generator_of(name).standard_normal((batch, *model.input_shape)).astype(np.float32)
    return model, images


def channels_last(y):
    y = np.asarray(y)
    return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y


@each_architecture(SMALL)
def test_inference_of_peers_agrees(name):
    model, images = small(name)
    expected = model.forward(images)
    arrays = state_dict(model.graph, model.store)
    for mode, work in CPU.inference(model.graph, arrays, [images]).items():
        assert_close(channels_last(work()[0]), expected, f"{name}, PyTorch {mode}", TOLERANCE)
    (work,) = ONNX.inference(model.graph, arrays, [images]).values()
    assert_close(channels_last(work()[0]), expected, f"{name}, onnxruntime", TOLERANCE)
    OPENVINO.configure(2, "fp32")
    found = OPENVINO.inference(model.graph, arrays, [images])
    assert list(found) == ["latency", "throughput"]
    for mode, work in found.items():
        assert_close(channels_last(work()[0]), expected, f"{name}, OpenVINO {mode}", TOLERANCE)


def test_openvino_divides_a_batch_among_threads():
    model, images = small("lenet5", 6)
    arrays = state_dict(model.graph, model.store)
    for threads, batch, modes in ((1, 6, 1), (3, 6, 2), (4, 6, 1), (2, 1, 1)):
        OPENVINO.configure(threads, "fp32")
        found = OPENVINO.inference(model.graph, arrays, [images[:batch]])
        assert list(found) == ["latency", "throughput"][:modes]
        for mode, work in found.items():
            assert_close(work()[0], model.forward(images[:batch]), f"{threads} threads, {mode}", TOLERANCE)


@pytest.mark.parametrize("name", TRAINED)
def test_training_of_pytorch_agrees(name):
    """The losses of three steps, which depend on the updates before."""
    off = {p: 0.0 for p in inspect.signature(nc.models.MODELS[name]).parameters if "dropout" in p}
    model, images = small(name, 16, **off)  # batch statistics of two values would amplify rounding errors
    labels, optimizer = measure.random_labels(model, 16), nc.SGD(1e-3, momentum=0.9)
    arrays = state_dict(model.graph, model.store)
    steps = CPU.training_step(model.graph, arrays, [images], labels, model.auxiliary_weight)
    ours = [model.train_step(images, labels, optimizer) for _ in range(3)]
    for mode, step in steps.items():
        assert [step() for _ in range(3)] == pytest.approx(ours, rel=1e-3), mode


@pytest.fixture
def _gpu_on_the_cpu(monkeypatch):
    """Let the CPU stand in for the GPU of ``TorchGpuPeer``: without capture, and with a compiler that only traces."""
    monkeypatch.setattr(torch_peer.TorchGpuPeer, "device", "cpu")
    monkeypatch.setattr(torch_peer, "capture", lambda run: run)
    monkeypatch.setattr(torch_peer, "pinned", lambda tensor: tensor.clone())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


@pytest.mark.usefixtures("_gpu_on_the_cpu")
def test_gpu_modes_agree():
    model, images = small("lenet5", 4)
    labels, arrays = measure.random_labels(model, 4), state_dict(model.graph, model.store)
    expected = model.forward(images)
    for mode, work in GPU.inference(model.graph, arrays, [images]).items():
        assert_close(work()[0].numpy(), expected, mode, TOLERANCE)
    steps = GPU.training_step(model.graph, arrays, [images], labels, 0.0)
    optimizer = nc.SGD(1e-3, momentum=0.9)
    ours = [model.train_step(images, labels, optimizer) for _ in range(2)]
    assert tuple(steps) == GPU.training_modes
    for mode, step in steps.items():
        assert [step() for _ in range(2)] == pytest.approx(ours, rel=1e-3), mode
    for direction in cases.DIRECTIONS[:3]:
        works = GPU.kernel(cases.custom_case("conv2d", "6x6x3->4/3", 2), direction)
        assert set(works) == {f"{layout}, {form}" for layout in torch_twin.FORMATS for form in ("eager", "graph")}
        for work in works.values():
            work()
    updates = GPU.kernel(cases.custom_case("update", "10", 1), "update")
    assert set(updates) == {"fused, eager", "fused, graph"}
    for work in updates.values():
        work()


@pytest.mark.usefixtures("_gpu_on_the_cpu")
@pytest.mark.parametrize("op", ["relu", "batch_norm"])
def test_captured_kernels_are_made_on_the_stream_of_the_capture(op, monkeypatch):
    """Autograd runs backward on the stream of the forward pass."""
    made, capturing = [], []
    kernel_work = torch_peer.kernel_work
    monkeypatch.setattr(torch_peer, "kernel_work", lambda *args: (made.append(bool(capturing)), kernel_work(*args))[1])

    def capture(run):
        capturing.append(True)
        run()
        capturing.clear()
        return run

    monkeypatch.setattr(torch_peer, "capture", capture)
    for work in GPU.kernel(cases.custom_case(op, "6x6x3", 2), "input-gradient").values():
        work()
        work()
    assert made == [False, False, True, True]  # two memory formats, eager and captured


@pytest.mark.usefixtures("_gpu_on_the_cpu")
@pytest.mark.parametrize("training", [True, False])
def test_failing_capture_is_noted_and_the_other_modes_remain(training, monkeypatch):
    def fail(run):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch_peer, "capture", fail)
    x = nc.Input((4,))
    peers = Peers({"PyTorch": GPU})
    found = measure.measure_model(nc.Model(x, nc.Dense(3)(x)), 2, training, timing.QUICK, peers).measurement
    assert found.peers["PyTorch"].mode in GPU.training_modes
    assert found.notes == tuple(
        f"PyTorch, {mode}, is left out: operation not permitted when stream is capturing"
        for mode in GPU.training_modes
        if mode.endswith("graph")
    )


@pytest.mark.usefixtures("_gpu_on_the_cpu")
def test_every_batch_size_is_compiled_separately(monkeypatch):
    compiled = []  # per compilation: whether sizes are symbolic

    def backend(traced, inputs):
        compiled.append(any(isinstance(size, torch.SymInt) for x in inputs for size in getattr(x, "shape", [x])))
        return traced.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    x = nc.Input((4,))
    model = nc.Model(x, nc.Dense(3)(x))
    arrays = state_dict(model.graph, model.store)
    for batch in range(2, 12):  # more than PyTorch compiles per function
        labels, images = np.zeros(batch, np.int64), np.zeros((batch, 4), np.float32)
        compiled.clear()
        for mode, step in GPU.training_step(model.graph, arrays, [images], labels, 0.0).items():
            if mode.endswith("compiled"):
                step()
        assert set(compiled) == {False}, f"batch {batch}"
        compiled.clear()
        for mode, infer in GPU.inference(model.graph, arrays, [images]).items():
            if mode.endswith("compiled"):
                infer()
        assert set(compiled) == {False}, f"batch {batch}"


@pytest.mark.parametrize(
    ("op", "spec"),
    [
        ("conv2d", "9x8x4->6/3/2/1"),
        ("depthwise_conv2d", "8x8x6/3/1/1"),
        ("dense", "20->7"),
        ("max_pool2d", "8x8x6/2/2"),
        ("avg_pool2d", "8x8x6/3/2/1"),
        ("batch_norm", "8x8x6"),
        ("relu", "8x8x6"),
    ],
)
def test_kernels_of_pytorch_have_our_shapes(op, spec):
    case = cases.custom_case(op, spec, 3)
    c, *image = torch_twin.channels_first(case.shape)
    for direction in case.directions:
        for work in CPU.kernel(case, direction).values():
            shapes = [tuple(tensor.shape) for tensor in work() if tensor is not None]
            if direction == "input-gradient":
                assert shapes[0] == (3, c, *image)
                assert len(shapes) == (3 if op == "batch_norm" else 1)
            elif direction == "weight-gradient":
                assert shapes == list(state_dict_shapes(graph_of(case)).values())


def test_convolution_gradients_agree_with_autograd():
    case = cases.custom_case("conv2d", "9x8x4->6/3/2/1", 3)
    graph = graph_of(case)
    for layout in torch_twin.FORMATS.values():
        twin = torch_twin.Twin(graph, None, layout, True)
        x = torch.randn(3, 4, 9, 8).contiguous(memory_format=layout)
        torch.manual_seed(0)
        work = torch_peer.convolution_gradient(twin, graph.nodes[0], x, False)
        torch.manual_seed(0)
        (y,) = twin(x)
        expected = torch.autograd.grad(y, twin.parameters, torch.randn_like(y))
        assert torch.allclose(work()[1], expected[0], rtol=1e-4, atol=1e-4)


def test_unsupported_op_is_noted():
    x = nc.Input((6, 6, 4))
    model = nc.Model(x, nc.Dense(3)(nc.Flatten()(nc.GroupNorm(2, name="g")(x))))
    peers = find_peers()
    result = measure.measure_model(model, 2, True, timing.QUICK, peers)
    assert result.measurement.peers == {}
    assert result.measurement.notes == ('PyTorch is left out: no PyTorch twin of group_norm "g"',)
    result = measure.measure_model(model, 2, False, timing.QUICK, peers)
    assert [note.split(" is left out")[0] for note in result.measurement.notes] == ["PyTorch"]
    assert list(result.measurement.peers) == ["onnxruntime", "OpenVINO"]


def test_peak_memory_of_pytorch():
    x = nc.Input((6, 6, 2))
    model = nc.Model(x, nc.Dense(1000)(nc.Flatten()(nc.Conv2D(64, 3, padding=1)(x))))
    needed = 3 * 4 * model.store.count
    assert needed < processes.peak_memory(model, 2, "PyTorch", "contiguous") < needed + 300e6


def test_tables_have_columns_and_summaries_of_peers():
    out = numbacnn("bench", "kernels", "--op", "conv2d", "--filter", "lenet-5", "--quick", "--threads", 1).out
    assert " PyTorch " in out.splitlines()[1]
    assert out.splitlines()[1].endswith("OpenVINO")
    assert "\ntime of PyTorch over ours, 6 compared:\n  geometric mean, forward " in out
    for peer in ("onnxruntime", "OpenVINO", "the better of onnxruntime and OpenVINO"):
        assert f"\ntime of {peer} over ours, 2 compared:\n" in out
    arguments = ("--batch-size", 1, "--quick", "--threads", 1)
    out = numbacnn("bench", "train", "--inference", *arguments).out
    assert out.splitlines()[2].split()[-3:] == ["PyTorch", "onnxruntime", "OpenVINO"]
    assert out.splitlines()[-1].startswith("time of the better of onnxruntime and OpenVINO over ours: ")
    assert out.count("×") >= 2
