"""``numbacnn bench`` on the command line, and its parts. No test asserts a time."""

import builtins
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import numbacnn, rejected
from numbacnn.cli import bench as bench_command
from numbacnn.cli import bench_tables
from PIL import Image

import numbacnn as nc
from numbacnn.bench import cases, machine, measure, processes, timing, work
from numbacnn.bench.peaks import Peaks
from numbacnn.bench.peers import Peers, find_peers
from numbacnn.engine.device import cuda_facts, get_device
from numbacnn.engine.executor import Executor
from numbacnn.engine.plan import make_plan
from numbacnn.errors import NumbacnnError

QUICK = ("--quick", "--threads", 1, "--no-peers")
FIGURES = {"ms", "flops", "bytes", "gflops", "share_of_peak", "bandwidth", "share_of_triad", "ms_interval", "peers"}


def bench(*arguments):
    outcome = numbacnn("bench", *arguments, *QUICK)
    assert outcome.code == 0, outcome.err
    return outcome


def report(*arguments):
    outcome = bench(*arguments, "--json")
    assert outcome.err == ""
    return json.loads(outcome.out)


def is_table_of(out, first, names):
    """Whether the lines after the one that starts with ``first`` start with these names."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(first)) + 1
    return [line.split("  ")[0] for line in lines[start : start + len(names)]] == names


# -- kernels ----------------------------------------------------------------------------------------------------------


def test_kernels_measures_every_selected_case_in_each_direction():
    found = report("kernels", "--filter", "lenet-5", "--filter", "two conv*")
    chosen = [case for case in cases.CASES if case.origin in ("LeNet-5", "two convolutions")]
    assert len(chosen) == 6
    expected = [(case.op, case.spec, direction) for case in chosen for direction in cases.DIRECTIONS[:3]]
    assert [(row["op"], row["spec"], row["direction"]) for row in found["results"]] == expected
    for row in found["results"]:
        assert row.keys() >= FIGURES
        assert min(row["ms"], row["gflops"], row["share_of_peak"], row["share_of_triad"]) > 0
        assert row["ms_interval"][0] <= row["ms"] <= row["ms_interval"][1]
        assert row["gflops"] == pytest.approx(row["flops"] / row["ms"] / 1e6)
        wanted = {row["direction"].replace("-", "_")} if row["op"] == "conv2d" else set()
        assert row["algorithms"].keys() == wanted
        assert all(found["name"] and min(found["flops"], found["bytes"]) > 0 for found in row["algorithms"].values())
    assert min(found["peaks"]["gflops"], found["peaks"]["bandwidth"]) > 0
    assert (found["threads"], found["summary"], found["notes"]) == (1, {}, [])
    assert found["versions"]["numbacnn"] == nc.__version__


def test_kernels_as_text():
    out = bench("kernels", "--op", "dense", "--filter", "lenet-5").out
    assert out.startswith("measured peaks: ")
    assert is_table_of(out, "case", ["dense 400->120"] * 3)


@pytest.mark.parametrize(
    ("op", "shape", "directions"),
    [
        ("conv2d", "9x7x3->5/3/2/1", ["forward", "input-gradient", "weight-gradient"]),
        ("depthwise_conv2d", "8x8x6/3/1/1", ["forward", "input-gradient", "weight-gradient"]),
        ("dense", "20->7", ["forward", "input-gradient", "weight-gradient"]),
        ("max_pool2d", "8x8x6/2/2", ["forward", "input-gradient"]),
        ("avg_pool2d", "8x8x6/3/2/1", ["forward", "input-gradient"]),
        ("batch_norm", "8x8x6", ["forward", "input-gradient"]),
        ("relu", "8x8x6", ["forward", "input-gradient"]),
        ("update", "1000", ["update"]),
    ],
)
def test_custom_cases(op, shape, directions):
    found = report("kernels", "--op", op, "--shape", shape, "--batch", 3)
    assert [row["direction"] for row in found["results"]] == directions
    assert {(row["op"], row["spec"], row["batch"]) for row in found["results"]} == {(op, shape, 3)}


def test_one_direction_alone():
    found = report("kernels", "--shape", "8x8x4->4/3", "--direction", "weight-gradient")
    assert [(row["op"], row["direction"]) for row in found["results"]] == [("conv2d", "weight-gradient")]


def test_every_case_can_be_built():
    for case in cases.CASES:
        if case.op != "update":
            work.graph_of(case)
    assert len({(case.op, case.spec, case.batch) for case in cases.CASES}) == len(cases.CASES)
    wide = [case.spec for case in cases.CASES if case.is_wide_3x3]
    assert "14x14x512->512/3/1/1" in wide
    assert "14x14x32->64/3/1/1" not in wide
    assert "56x56x128->128/3/2/1" not in wide
    memory_bound = [case for case in cases.CASES if case.origin == "out of cache"]
    assert {case.op for case in memory_bound} >= {"depthwise_conv2d", "batch_norm", "max_pool2d", "update"}
    assert min(4 * case.batch * np.prod(case.shape) for case in memory_bound) >= 100e6


def cost(layer, shape, batch, direction):
    """Cost of a step of a graph with one layer."""
    x = nc.Input(shape)
    graph = nc.Model(x, layer(x)).graph
    plan = make_plan(graph, get_device("cpu").sizes, batch, training=True, input_gradient=True)
    return work.plan_cost(plan.forward if direction == "forward" else plan.backward, batch)


def test_costs_of_a_convolution():
    g = nc.Conv2D(8, 3, padding=1, bias=False)
    x, y, w, flops = 4 * 5 * 6 * 4, 4 * 5 * 6 * 8, 4 * 9 * 4 * 8, 2 * 30 * 8 * 9 * 4
    assert cost(g, (5, 6, 4), 2, "forward") == (2 * flops, 2 * (x + y) + w)
    both = cost(nc.Conv2D(8, 3, padding=1, bias=False), (5, 6, 4), 2, "backward")
    assert both == (4 * flops, 2 * (y + x + x) + 2 * w)


@pytest.mark.parametrize(
    ("op", "spec", "direction", "expected"),
    [
        ("conv2d", "5x6x4->8/3/1/1", "input-gradient", (2 * 17280, 2 * (960 + 480) + 1152)),
        ("conv2d", "5x6x4->8/3/1/1", "weight-gradient", (2 * 17280, 2 * (960 + 480) + 1152)),
        ("batch_norm", "4x4x8", "forward", (512, 2 * 3 * 512 + 64)),  # x twice, y once
        ("batch_norm", "4x4x8", "input-gradient", (512, 2 * 5 * 512 + 128)),  # x and dy twice, dx once
        ("max_pool2d", "4x4x8/2/2", "input-gradient", (256, 2 * (512 + 128 + 128))),  # dx, dy, argmax
        ("update", "100", "update", (400, 2000)),
    ],
)
def test_costs_of_one_direction(op, spec, direction, expected):
    job = work.kernel_job(cases.custom_case(op, spec, 2), direction, get_device("cpu"))
    assert job.cost == expected
    job.work()


# -- models -----------------------------------------------------------------------------------------------------------


def test_training_step_with_its_layers():
    found = report("train", "--batch-size", 2, "--batch-size", 3, "--layers")
    assert [result["batch"] for result in found["results"]] == [2, 3]
    assert (found["model"], found["mode"], found["parameters"]) == ("lenet5", "training", 61_706)
    result = found["results"][0]
    assert result.keys() >= FIGURES
    assert result["images_per_second"] == pytest.approx(2e3 / result["ms"])
    layers = nc.models.lenet5().summary(show=False).rows
    rows = [(row["layer"], row["direction"]) for row in result["layers"]]
    forward = [name for name, direction in rows if direction == "forward"]
    backward = [name for name, direction in rows if direction == "backward"]
    weighted = [row.name for row in layers if row.parameters]
    # ReLU and pools run in their stores, a pool on vectors as wide as the convolution's output
    assert [name for name in forward if not name.startswith("max_pool")] == weighted
    assert [name for name in backward if name in weighted] == weighted[::-1]
    assert rows[-1] == ("update", "update")
    for row in result["layers"]:
        assert row["ms"] == pytest.approx(sum(row["kernels"].values()))
        assert row["bytes"] > 0
    assert sum(row["flops"] for row in result["layers"][:-1]) == result["flops"]


def test_layer_times_name_the_kernels_that_ran():
    """A convolution that is forced to use Winograd's algorithm."""
    x = nc.Input((8, 8, 4))
    model = nc.Model(x, nc.Conv2D(4, 3, padding=1, algorithm="winograd2", name="c")(x))
    executor = Executor(make_plan(model.graph, model.device.sizes, 2, training=False), model.store, model.device)
    (row,) = work.time_layers(executor, 2, timing.QUICK)
    assert (row.layer, row.op, row.direction) == ("c", "conv2d", "forward")
    assert any("winograd" in name for name, _ in row.kernels)
    assert {direction: found.name for direction, found in row.algorithms.items()} == {"forward": "winograd2"}
    assert [ms for _, ms in row.kernels] == sorted((ms for _, ms in row.kernels), reverse=True)


def test_custom_layers_are_timed_as_a_whole():
    class Twice(nc.Layer):
        op = "bench_twice"

        def forward(self, kernels, t, g):
            np.multiply(t.x, 2, out=t.y)

    x = nc.Input((4, 4, 2))
    model = nc.Model(x, Twice(name="t")(x))
    executor = Executor(make_plan(model.graph, model.device.sizes, 2, training=False), model.store, model.device)
    (row,) = work.time_layers(executor, 2, timing.QUICK)
    assert [name for name, _ in row.kernels] == ["whole step"]


def test_inference_as_text_with_layers():
    out = bench("train", "--inference", "--batch-size", 2, "--layers").out
    assert out.startswith("lenet5 inference, input 28×28×1, 61,706 parameters\nmeasured peaks: ")
    model = nc.models.lenet5()
    launched = {step.node.name for step in make_plan(model.graph, model.device.sizes, 2, training=False).forward}
    names = ["conv2d_1", "max_pool2d_1", "conv2d_2", "max_pool2d_2", "dense_1", "dense_2", "dense_3"]
    assert is_table_of(out, "layers, batch size 2", [name for name in names if name in launched])
    assert "\nrest: loss, Python" in out


def test_shapes_and_options_of_architectures():
    shape = ("--model", "resnet20", "--input-shape", "8x8x3", "--classes", 4, "--inference", "--batch-size", 1)
    found = report("train", *shape)
    assert found["input_shape"] == [8, 8, 3]
    x = nc.models.resnet20(input_shape=(8, 8, 3), classes=4)
    assert found["parameters"] == x.store.count
    options = ("--option", "original=true", "--inference", "--batch-size", 1, "--layers")
    rows = report("train", *options)["results"][0]["layers"]
    assert "tanh" in {row["op"] for row in rows}


def test_model_file(tmp_path):
    x = nc.Input((6, 5, 2))
    nc.Model(x, nc.Dense(3)(nc.Flatten()(x))).save(tmp_path / "m.safetensors")
    found = report("train", "--model", tmp_path / "m.safetensors", "--batch-size", 2)
    assert found["input_shape"] == [6, 5, 2]


def test_labels_per_pixel():
    x = nc.Input((6, 5, 2))
    model = nc.Model(x, nc.Conv2D(3, 1)(x))
    assert measure.random_labels(model, 2).shape == (2, 6, 5)
    measure.measure_model(model, 2, True, timing.QUICK)


def test_every_turn_waits_for_the_device(monkeypatch):
    model, events = nc.models.lenet5(), []
    step, update, wait = model.train_step, nc.SGD.step, model.device.synchronize
    monkeypatch.setattr(model, "train_step", lambda *args: (step(*args), events.append("step")))
    monkeypatch.setattr(nc.SGD, "step", lambda *args: (update(*args), events.append("update")))
    monkeypatch.setattr(type(model.device), "synchronize", lambda self: (wait(), events.append("wait")))
    measured, turns = timing.seconds, []

    def seconds(work, repeats=1):
        events.clear()
        spent = measured(work, repeats)
        turns.append(events[-1])
        return spent

    monkeypatch.setattr(timing, "seconds", seconds)
    measure.measure_model(model, 2, True, timing.QUICK, layers=True)
    assert set(turns) == {"wait"}


def test_plot_is_written(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    for name, arguments in (("k.png", ("kernels", "--op", "dense", "--filter", "lenet-5")), ("t.png", ("train",))):
        out = bench(*arguments, "--plot", tmp_path / name).out
        assert out.endswith(f"{tmp_path / name}\n")
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 500


def test_roofline_shows_every_point_and_both_peaks():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    points = [nc.plots.Point(f"layer {i} $", 10**6 * i, 10**5, 1.0 + i) for i in range(41)]  # the first has no FLOPs
    (ax,) = nc.plots.roofline(points, 100.0, 10.0, "r").axes
    peaks, dots = ax.get_lines()[:2]
    assert sorted(dots.get_ydata()) == pytest.approx([i / (1 + i) for i in range(1, 41)])
    assert sorted(dots.get_xdata()) == pytest.approx([10 * i for i in range(1, 41)])
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names[1] == "1  layer 40 \\$: 41 ms, 0.976 GFLOP/s"  # the longest first
    assert len(names) == 26
    assert list(peaks.get_ydata())[1:] == [100.0, 100.0]
    assert list(peaks.get_xdata())[1] == 10.0  # where both peaks meet
    with pytest.raises(nc.ArgumentError, match="nothing to plot"):
        nc.plots.roofline(points[:1], 100.0, 10.0)


# -- processes of their own --------------------------------------------------------------------------------------------


def small_model():
    x = nc.Input((6, 6, 2))
    return nc.Model(x, nc.Dense(1000)(nc.Flatten()(nc.ReLU()(nc.Conv2D(64, 3, padding=1)(x)))))


def test_layers_are_timed_with_their_prepared_weights():
    """A buffer that nobody has written is one page of zeros, which takes no time to read."""
    model = nc.Sequential([nc.Conv2D(64, 3, padding="same")], (8, 8, 64))
    device = get_device("cpu")
    executor = Executor(make_plan(model.graph, device.sizes, 1, training=False), model.store, device)
    work.time_layers(executor, 1, timing.QUICK)
    preparations = executor.bind(1).preparations
    assert preparations
    assert all(np.any(written) for _, (written, *_) in preparations)


def test_peak_memory_holds_weights_gradients_and_velocity():
    model = small_model()
    needed = 3 * 4 * model.store.count
    assert needed < processes.peak_memory(model, 2) < needed + 150e6


@pytest.mark.long
def test_cold_compilation():
    for model in (small_model(), nc.models.make("grid_detector", input_shape=(32, 32, 1))):
        found = processes.cold_compilation(model, 2)
        assert found.kernels > 12  # 5 are of the threads
        assert found.first_step > 0


def test_failing_process_reports_its_error():
    x = nc.Input((1, 1, 2))
    model = nc.Model(x, nc.Dense(2)(nc.Flatten()(nc.BatchNorm(name="bn")(x))))
    with pytest.raises(NumbacnnError, match='"bn": 1 image of 1×1 pixels has no variance'):
        processes.peak_memory(model, 1)


def test_cold_and_memory_on_the_command_line(monkeypatch):
    monkeypatch.setattr(processes, "peak_memory", lambda model, batch, *peer: 1_048_576 * batch)
    monkeypatch.setattr(processes, "cold_compilation", lambda model, batch: processes.Compilation(7, 3.5))
    out = bench("train", "--batch-size", 2, "--cold", "--memory").out
    assert "peak memory of a training step, batch size 2: numbacnn 2.0 MiB\n" in out
    assert "with an empty kernel cache, the first training step takes 3.5 s and compiles 7 functions\n" in out


# -- timing -----------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that only the work advances."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def lasting(self, seconds):
        def work():
            self.now += seconds

        return work


def test_ratio_of_two_functions(monkeypatch):
    clock = Clock(monkeypatch)
    ratio = timing.paired_ratio(clock.lasting(0.002), clock.lasting(0.005), timing.Effort(30))
    assert (ratio.ratio, ratio.low, ratio.high) == pytest.approx((2.5, 2.5, 2.5))
    assert (ratio.a_ms, ratio.b_ms, ratio.pairs) == pytest.approx((2, 5, 30))
    assert str(ratio) == "2.50× [2.50, 2.50]  (2.000 ms against 5.000 ms)"


def test_asynchronous_work_is_awaited_once_per_turn(monkeypatch):
    clock, waits = Clock(monkeypatch), []
    launched = timing.Launched(clock.lasting(0.002), lambda: waits.append(clock.lasting(0.1)()))
    assert timing.seconds(launched, 50) == pytest.approx((50 * 0.002 + 0.1) / 50)
    assert len(waits) == 1


def test_failing_mode_is_noted_and_the_others_remain():
    def fail():
        raise RuntimeError("no compiler\nhere")

    modes = {"PyTorch": lambda: {"compiled": fail, "eager": lambda: None}}
    found = measure._compare(lambda: None, work.Cost(1, 1), modes, timing.QUICK)
    assert found.peers["PyTorch"].mode == "eager"
    assert found.notes == ("PyTorch, compiled, is left out: no compiler here",)


def test_slow_work_has_fewer_pairs_but_at_least_five(monkeypatch):
    clock = Clock(monkeypatch)
    effort = timing.Effort(pairs=40, limit=100.0)
    assert timing.paired_ratio(clock.lasting(2), clock.lasting(2), effort).pairs == 13
    assert timing.paired_ratio(clock.lasting(50), clock.lasting(50), effort).pairs == timing.MIN_PAIRS


def test_fastest_mode_is_chosen(monkeypatch):
    clock = Clock(monkeypatch)
    modes = {"contiguous": clock.lasting(0.003), "channels_last": clock.lasting(0.002)}
    assert timing.fastest_mode(modes, timing.Effort()) == "channels_last"


def test_median_of_one_function(monkeypatch):
    clock = Clock(monkeypatch)
    assert timing.median_time(clock.lasting(0.004), timing.Effort(9)) == pytest.approx((4, 4, 4))


def kernel_result(spec, direction, ratio, low, high):
    against = measure.Comparison("contiguous", timing.Ratio(ratio, low, high, 1, 1, 30))
    measured = measure.Measurement(timing.Time(1, 1, 1), work.Cost(1, 1), {"PyTorch": against})
    case = next(case for case in cases.CASES if case.spec == spec)
    return measure.KernelResult(case, direction, measured)


def test_summary_of_kernels():
    results = [
        kernel_result("14x14x512->512/3/1/1", "forward", 4.0, 3.0, 5.0),
        kernel_result("28x28x1->6/5/1/2", "forward", 1.0, 0.9, 1.1),
        kernel_result("28x28x1->6/5/1/2", "weight-gradient", 2.0, 1.9, 2.1),
        kernel_result("400->120", "forward", 0.5, 0.4, 0.6),  # compared, but not in the means
    ]
    found = measure.summarize_kernels(results, "PyTorch")
    assert found["geometric_mean"] == pytest.approx({"forward": 2.0, "weight-gradient": 2.0})
    assert found["geometric_mean_wide_3x3"] == pytest.approx(4.0)
    assert found["worst"] == {"case": "dense 400->120", "direction": "forward", "ratio": 0.5}
    assert (found["won"], found["lost"], found["compared"]) == (2, 1, 4)
    assert measure.summarize_kernels(results, "onnxruntime") == {}
    assert measure.summarize_kernels(results, measure.BETTER_RUNTIME) == {}


def with_runtimes(**ratios):
    """A measurement with these ratios of inference runtimes."""
    peers = {name: measure.Comparison("", timing.Ratio(r, r, r, 1, r, 5)) for name, r in ratios.items()}
    return measure.Measurement(timing.Time(1, 1, 1), work.Cost(1, 1), peers)


def test_better_runtime_is_chosen_row_by_row():
    case = next(case for case in cases.CASES if case.spec == "14x14x512->512/3/1/1")
    measured = [with_runtimes(onnxruntime=2.0, OpenVINO=8.0), with_runtimes(onnxruntime=3.0, OpenVINO=0.5)]
    assert [m.better_runtime for m in measured] == ["onnxruntime", "OpenVINO"]
    assert [m.figures(Peaks(1, 1))["better_runtime"] for m in measured] == ["onnxruntime", "OpenVINO"]
    found = measure.summarize_kernels(
        [measure.KernelResult(case, "forward", m) for m in measured], measure.BETTER_RUNTIME
    )
    assert found["geometric_mean"] == pytest.approx({"forward": 1.0})
    assert found["worst"]["ratio"] == 0.5
    one = with_runtimes(onnxruntime=2.0)
    assert one.better_runtime is None
    assert one.ratio(measure.BETTER_RUNTIME) is None


def test_better_runtime_is_printed_for_each_batch_size(capsys):
    results = [
        {"batch": batch, **with_runtimes(onnxruntime=r, OpenVINO=4.0).figures(Peaks(1, 1))}
        for batch, r in ((1, 0.5), (64, 2.0))
    ]
    bench_tables._better_runtime(results)
    line = "time of the better of onnxruntime and OpenVINO over ours: 0.50× at batch size 1, 2.00× at batch size 64"
    assert capsys.readouterr().out == f"{line}; geometric mean 1.00×\n"
    bench_tables._better_runtime([{"batch": 1, **with_runtimes(onnxruntime=1.0).figures(Peaks(1, 1))}])
    assert capsys.readouterr().out == ""


def test_rates_and_shares_of_the_peaks():
    found = measure.rates(2.0, work.Cost(4_000_000, 1_000_000), Peaks(200.0, 20.0))
    assert (found["gflops"], found["share_of_peak"]) == (2.0, 0.01)
    assert (found["bandwidth"], found["share_of_triad"]) == (0.5, 0.025)


def test_peaks_line_names_the_precision():
    line = bench_tables.peaks_line(Peaks(200.0, 20.0, "tf32")._asdict())
    assert line == "measured peaks: 200.0 GFLOP/s of multiply-adds in tf32, 20.0 GB/s of a triad"
    assert "multiply-adds, " in bench_tables.peaks_line(Peaks(200.0, 20.0)._asdict())


def test_plot_titles_name_the_device(monkeypatch):
    monkeypatch.setattr(nc, "get_num_threads", lambda: 3)
    assert bench_command._title(get_device("cpu")) == "Kernels on 3 threads"
    assert bench_command._title(SimpleNamespace(name="cuda", precision="tf32")) == "Kernels on a GPU, tf32"


# -- benchmarks/gpu.py ------------------------------------------------------------------------------------------------


def script(name, monkeypatch):
    """A script of benchmarks/ as a module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    yield importlib.import_module(name)
    sys.modules.pop(name)


@pytest.fixture
def gpu_figures(monkeypatch):
    yield from script("gpu", monkeypatch)


@pytest.fixture
def inference_table(monkeypatch):
    yield from script("inference", monkeypatch)


def test_nan_is_the_largest_error(gpu_figures):
    assert gpu_figures.largest_error([(1e-6, "a"), (3e-6, "b"), (2e-6, "c")]) == (3e-6, "b")
    worst, where = gpu_figures.largest_error([(1e-6, "a"), (float("nan"), "b"), (2e-6, "c")])
    assert where == "b"
    assert not worst <= 1e-4


def test_zero_pairs_are_rejected(gpu_figures, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--pairs", "0"])
    with pytest.raises(SystemExit, match="2"):
        gpu_figures.main()
    assert capsys.readouterr().err.endswith("error: --pairs 0: use at least 1\n")


def test_pytorch_is_back_in_fp32_after_a_failure(gpu_figures, monkeypatch):
    def step(self, precision, minimum):
        if precision == "tf32":
            raise NumbacnnError("no tensor cores")
        yield gpu_figures.Row(precision, "")

    given = []
    bench = object.__new__(gpu_figures.Bench)  # the constructor measures a GPU
    bench.peers = SimpleNamespace(configure=given.append)
    monkeypatch.setattr(gpu_figures.Bench, "_training_step", step)
    with pytest.raises(NumbacnnError, match="no tensor cores"):
        list(bench.resnet18())
    assert given == ["fp32"]


# -- errors -----------------------------------------------------------------------------------------------------------


def test_missing_peers_are_noted(monkeypatch):
    known = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] in ("torch", "onnxruntime", "openvino"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
        return known(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in ("torch_peer", "torch_twin", "onnxruntime_peer", "openvino_peer"):
        monkeypatch.delitem(sys.modules, f"numbacnn.bench.{name}", raising=False)
    peers = find_peers()
    assert peers.found == {}
    (note,) = peers.notes
    assert note.startswith("not compared with PyTorch (torch is not installed), onnxruntime (onnx")
    assert ", OpenVINO (o" in note  # onnx or openvino
    assert note.endswith("pip install 'numbacnn[bench]'")
    outcome = numbacnn("bench", "train", "--quick", "--threads", 1, "--batch-size", 1)
    assert outcome.code == 0
    assert outcome.err == f"note: {note}\n"


@pytest.mark.parametrize(
    ("fragment", "code", "arguments"),
    [
        ("unknown op 'conv'; did you mean 'conv2d'?", 1, ("kernels", "--op", "conv")),
        ("no case matches op dense and resnet", 1, ("kernels", "--op", "dense", "--filter", "resnet")),
        ('"28x28x3" has no filters', 1, ("kernels", "--shape", "28x28x3")),
        ("must be an image (height, width, channels), not (28,)", 1, ("kernels", "--shape", "28->3")),
        ('"a->b" is not a shape', 1, ("kernels", "--shape", "a->b")),
        ("window 9×9 exceeds the padded input 8×8", 1, ("kernels", "--shape", "8x8x1->2/9")),
        ("use at most one --op", 2, ("kernels", "--shape", "8x8x1->2/3", "--filter", "x")),
        ("none of these cases has the direction update", 1, ("kernels", "--op", "dense", "--direction", "update")),
        ("k.jpg: choose a file name that ends in .png or .svg", 1, ("kernels", "--plot", "k.jpg")),
        ("unknown model 'lenet'; did you mean 'lenet5'?", 1, ("train", "--model", "lenet")),
        ("m.safetensors: no such file", 1, ("train", "--model", "m.safetensors")),
        ("'32x' is not a shape; write 32x32x3", 2, ("train", "--input-shape", "32x")),
        ("resnet20 has no options", 1, ("train", "--model", "resnet20", "--option", "stem=cifar")),
        (
            "unknown option of resnet18 'stm'; did you mean 'stem'?",
            1,
            ("train", "--model", "resnet18", "--option", "stm=a"),
        ),
        ("stem='x': choose \"imagenet\"", 1, ("train", "--model", "resnet18", "--option", "stem=x")),
        ("--option original=maybe: use true or false", 1, ("train", "--option", "original=maybe")),
        ('device "cuda" cannot run: ', 1, ("kernels", "--op", "dense", "--device", "cuda")),
        ('device "cuda" cannot run: ', 1, ("train", "--device", "cuda")),
        ('precision "tf32" is for tensor cores', 1, ("train", "--precision", "tf32")),
        ('precision "bf16" is for tensor cores', 1, ("kernels", "--op", "dense", "--precision", "bf16")),
        ("--cold and --memory measure the CPU", 1, ("train", "--device", "cuda", "--memory")),
    ],
)
def test_errors_of_the_command(fragment, code, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "cuda" in arguments and cuda_facts()["available"]:
        pytest.skip("there is a GPU")
    rejected(fragment, "bench", *arguments, *QUICK, code=code)


def test_missing_peers_on_a_gpu_are_noted():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert (
        find_peers("cuda").notes[0].startswith("not compared with PyTorch (this PyTorch has no CUDA, or finds no GPU)")
    )


def test_models_that_bench_rejects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = nc.Input((4,))
    nc.Model(x, nc.Softmax()(nc.Dense(3)(x))).save("soft.safetensors")
    rejected("needs logits", "bench", "train", "--model", "soft.safetensors", *QUICK)
    assert numbacnn("bench", "train", "--model", "soft.safetensors", "--inference", *QUICK).code == 0
    rejected("leave out --input-shape", "bench", "train", "--model", "soft.safetensors", "--classes", 3, *QUICK)
    y = nc.Dense(3)(x)
    nc.Model([x], [y, nc.ReLU()(y)]).save("two.safetensors")
    rejected("several inputs or outputs", "bench", "train", "--model", "two.safetensors", *QUICK)


# -- the machine ------------------------------------------------------------------------------------------------------


def test_idle_share_counts_all_processors_and_waiting_for_disks(tmp_path, monkeypatch):
    times = tmp_path / "stat"
    times.write_text("cpu  100 0 50 800 10 0 0 5 77 0\ncpu0 1 2 3\n")

    def work(seconds):
        times.write_text("cpu  130 0 60 860 50 0 10 55 99 0\n")

    monkeypatch.setattr(machine, "PROCESSOR_TIMES", times)
    monkeypatch.setattr(machine, "wait_until_idle", lambda: None)
    monkeypatch.setattr(machine.time, "sleep", work)
    assert machine.idle_share() == 100 / 200


def test_idle_share_is_unknown_without_proc(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "PROCESSOR_TIMES", tmp_path / "stat")
    assert machine.idle_share(0.0) is None
    assert [machine.idle_cell(idle) for idle in (None, 0.96, 0.5)] == ["", "96%", "50% †"]


def test_rows_on_a_busy_machine_are_not_in_the_means(monkeypatch, inference_table):
    model = nc.models.lenet5()
    monkeypatch.setattr(inference_table, "idle_share", iter([1.0, 0.2, 0.99]).__next__)
    measured = iter([with_runtimes(onnxruntime=r, OpenVINO=4.0) for r in (1.0, 100.0, 4.0)])
    monkeypatch.setattr(
        inference_table.measure,
        "measure_model",
        lambda _, batch, *rest: measure.ModelResult(batch, False, next(measured)),
    )
    peers = Peers({"onnxruntime": None, "OpenVINO": None})
    rows = list(inference_table.table({"a": lambda: model}, [1, 8, 64], peers, lambda _: timing.Effort(5), 100.0))
    assert [row[2] for row in rows[1:-1]] == ["100%", "20% †", "99%"]
    assert [row[-1] for row in rows[1:]] == ["1.00×", "4.00×", "4.00×", "2.00×"]
    assert rows[-1][0] == "geometric means, 2 rows"
    assert all(len(row) == len(rows[0]) for row in rows)


def test_what_fails_is_a_row_and_the_others_remain(monkeypatch, inference_table):
    def missing():
        raise ModuleNotFoundError("no such network")

    def measured(model, batch, *rest):
        if batch == 8:
            raise nc.NumbacnnError("too large")
        return measure.ModelResult(batch, False, with_runtimes(onnxruntime=2.0, OpenVINO=4.0))

    monkeypatch.setattr(inference_table, "idle_share", lambda: 1.0)
    monkeypatch.setattr(inference_table.measure, "measure_model", measured)
    networks, peers = {"a": missing, "b": nc.models.lenet5}, Peers({"onnxruntime": None, "OpenVINO": None})
    rows = list(inference_table.table(networks, [1, 8], peers, lambda _: timing.Effort(5), 100.0))
    assert [row[0] for row in rows[1:]] == ["a", "b", "b", "geometric means, 1 rows"]
    assert [row[3] for row in rows[1:]][::2] == ["failed: no such network", "failed: too large"]
    assert all(len(row) == len(rows[0]) for row in rows)


def test_the_time_left_is_divided_among_the_rows_left(monkeypatch, inference_table):
    monkeypatch.setattr(inference_table.time, "monotonic", iter([100.0, 400.0, 500.0]).__next__)
    effort = inference_table.efforts(15, 460.0, 3)
    assert [effort(rows)[2:] for rows in (12, 4, 1)] == [(10.0, 5), (5.0, 5), (0.0, 2)]
