"""``numbacnn bench``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

import numbacnn
from numbacnn import models, plots
from numbacnn.bench import cases, measure, processes
from numbacnn.bench.peaks import Peaks, measure_peaks
from numbacnn.bench.peers import NO_PEERS, Peers, find_peers
from numbacnn.bench.timing import QUICK, Effort
from numbacnn.bench.work import algorithm_figures
from numbacnn.engine.device import Device, cuda_facts, get_device
from numbacnn.errors import ArgumentError
from numbacnn.layers.convolution import MODEL_ALGORITHMS
from numbacnn.plots.figures import checked_path, new_figure
from numbacnn.runs.provenance import processor, versions

from . import architecture, bench_tables, complete, progress, rank_times, render, shared

Command = TypeVar("Command", bound=Callable[..., None])

QUICK_BATCH = 1


@dataclass(frozen=True)
class Bench:
    """The options that both commands share."""

    pairs: int
    quick: bool
    peers: bool
    plot: Path | None
    threads: int | None
    device: str | None
    precision: str | None
    as_json: bool

    @property
    def effort(self) -> Effort:
        """The effort of each measurement."""
        return QUICK if self.quick else Effort(self.pairs)

    @contextmanager
    def started(self) -> Iterator[Peers]:
        """Find the peers and start the engine."""
        if self.plot:  # fails early if it could not be written
            checked_path(self.plot)
            new_figure(1, 1)
        peers = find_peers(self.device or "cpu") if self.peers else NO_PEERS
        with shared.engine(self.threads):
            yield peers

    def measure_peaks(self, device: Device) -> Peaks:
        """Measure the peaks of the machine."""
        progress.status("measuring: the peaks of this machine …")
        return measure_peaks(device, self.quick)

    def facts(self, peers: Peers, peaks: Peaks, device: Device) -> dict[str, Any]:
        """Return versions, hardware and settings of the measurements."""
        facts = {
            "versions": versions() | peers.versions,
            "processor": processor(),
            "threads": numbacnn.get_num_threads(),
            "device": device.name,
            "precision": device.precision,
            "effort": self.effort._asdict(),
            "peaks": peaks._asdict(),
        }
        return facts | ({"gpu": cuda_facts()} if device.name == "cuda" else {})

    def save_plot(self, points: Sequence[plots.Point], peaks: Peaks, title: str) -> None:
        """Write the roofline plot, if it was asked for."""
        if self.plot:
            plots.save(plots.roofline(points, peaks.gflops, peaks.bandwidth, title), self.plot)
            if not self.as_json:
                render.text(str(self.plot))


def _repeatable(*names: str, help: str, **kind: Any) -> Callable[[Command], Command]:
    return click.option(*names, multiple=True, help=f"{help} Repeatable.", **kind)


def _shared_options(command: Command) -> Command:
    """Add the options of ``Bench``."""
    for option in (
        click.option(
            "--pairs", default=40, help="Number of A B B A pairs; of steps with --shards or --mpi.", **shared.COUNT
        ),
        click.option("--quick", is_flag=True, help="Only check that everything runs; the results mean nothing."),
        click.option("--peers/--no-peers", default=True, help="Compare with other libraries, if they are installed."),
        click.option("--plot", help="Write a roofline, .png or .svg.", **shared.FILE),
        shared.threads,
        click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Device to measure.  [default: cpu]"),
        shared.precision,
        shared.json,
        shared.debug,
    )[::-1]:
        command = option(command)
    return command


@click.group("bench", no_args_is_help=False)
@shared.debug
def command() -> None:
    """Benchmark single kernels or a whole model.

    Compares with PyTorch, onnxruntime and OpenVINO in the same process, if they are installed (pip install
    'numbacnn[bench]'). With --device cuda, compares with PyTorch on the same GPU: eager, as a CUDA graph, and models
    also compiled. Run it on an idle machine; benchmarks/README.md describes the method.
    """


@command.command("kernels")
@_repeatable("--op", "ops", metavar="OP", help=f"Op to measure: {', '.join(cases.ALL_OPS)}.")
@_repeatable("--filter", "patterns", metavar="PATTERN", help="Pattern of shapes or networks: '28x*/3/1', vgg.")
@click.option(
    "--shape", metavar="SHAPE", help="Other shape: INPUT->FILTERS/WINDOW/STRIDE/PADDING, 28x28x64->128/3/1/1."
)
@_repeatable("--direction", "directions", type=click.Choice(cases.DIRECTIONS), help="Direction, by default all.")
@click.option("--batch", help="Batch size.  [default: the case's, or 64 with --shape]", **shared.COUNT)
@_shared_options
def kernels_command(
    ops: tuple[str, ...],
    patterns: tuple[str, ...],
    shape: str | None,
    directions: tuple[str, ...],
    batch: int | None,
    **common: Any,
) -> None:
    """Benchmark single layers: forward and each gradient alone.

    By default measures representative shapes of networks from LeNet-5 to ResNet, and memory-bound layers too large for
    the caches. Percentages are of this machine's measured peaks.
    """
    bench = Bench(**common)
    if shape and (patterns or len(ops) > 1):
        raise click.UsageError("--shape is a single case: use at most one --op and no --filter.")
    chosen = (
        [cases.custom_case(ops[0] if ops else "conv2d", shape, batch or 64)] if shape else cases.select(ops, patterns)
    )
    sized = [case._replace(batch=batch or (QUICK_BATCH if bench.quick else case.batch)) for case in chosen]
    selected = cases.in_directions(sized, directions)
    with bench.started() as peers:
        device = get_device(bench.device or "cpu", bench.precision or "fp32")
        peers.configure(device.precision)
        peaks = bench.measure_peaks(device)
        table = bench_tables.KernelTable(selected, list(peers.found), peaks, silent=bench.as_json)
        results = []
        for result in measure.measure_kernels(selected, device, peers, bench.effort):
            table.add(result)
            results.append(result)
        facts = bench.facts(peers, peaks, device)
    notes = [*peers.notes, *(note for result in results for note in result.measurement.notes)]
    summaries = measure.summaries(results, peers.found)
    render.notes(dict.fromkeys(notes))
    if bench.as_json:
        rows = [
            {**r.case._asdict(), "direction": r.direction, **r.measurement.figures(peaks)}
            | {"algorithms": algorithm_figures(r.algorithms)}
            for r in results
        ]
        render.as_json({**facts, "results": rows, "summary": summaries, "notes": notes})
    else:
        bench_tables.kernel_summaries(summaries)
    points = [plots.Point(f"{r.case} {r.direction}", *r.measurement.cost, r.measurement.time.ms) for r in results]
    bench.save_plot(points, peaks, _title(device))


def _title(device: Device) -> str:
    return (
        f"Kernels on {numbacnn.get_num_threads()} threads"
        if device.name == "cpu"
        else (f"Kernels on a GPU, {device.precision}")
    )


@command.command("train")
@click.option(
    "--model",
    default="lenet5",
    metavar="NAME|MODEL",
    help=f"Model file, or {', '.join(models.MODELS)}.",
    shell_complete=complete.model_or_name,
)
@architecture.options
@_repeatable("--batch-size", "batches", default=[64], help="Images per step.", **shared.COUNT)
@click.option("--inference", is_flag=True, help="Measure forward passes instead of training steps.")
@click.option(
    "--algorithm",
    type=click.Choice(MODEL_ALGORITHMS),
    help="The algorithm of convolutions: for batches, for one image, or the direct sum.  [default: the model's]",
)
@click.option("--layers", is_flag=True, help="Also measure each layer, and the kernels that it launches.")
@click.option(
    "--cold", is_flag=True, help="Also measure the time to the end of a first step, with an empty kernel cache."
)
@click.option("--memory", is_flag=True, help="Also measure the peak memory of a training step.")
@click.option("--shards", type=click.IntRange(1), metavar="N", help="Compare steps in N shards with steps without.")
@click.option("--mpi", is_flag=True, help="Measure steps in shards on the ranks of mpiexec, and their communication.")
@shared.imports
@_shared_options
def train_command(
    model: str,
    options: tuple[str, ...],
    input_shape: tuple[int, ...] | None,
    classes: int | None,
    batches: tuple[int, ...],
    inference: bool,
    algorithm: str | None,
    layers: bool,
    cold: bool,
    memory: bool,
    shards: int | None,
    mpi: bool,
    **common: Any,
) -> None:
    """Benchmark the training step, or the inference, of a model.

    A step is forward, cross-entropy, backward and an update by SGD with momentum, on random images and weights.
    """
    bench = Bench(**common)
    given = {"input_shape": input_shape, "classes": classes, "device": bench.device, "precision": bench.precision}

    def opened() -> numbacnn.Model:
        network = architecture.open_model(model, options, **given)
        return network if algorithm is None else network.use_algorithm(algorithm)

    if mpi or shards:
        _reject_with_shards(bench, inference=inference, layers=layers, cold=cold, memory=memory)
        wanted = rank_times.Options(2 if bench.quick else bench.pairs, bench.threads, bench.as_json)
        rank_times.measure(wanted, opened, batches, shards, mpi)
        return
    if bench.device == "cuda" and (cold or memory):
        raise ArgumentError("--cold and --memory measure the CPU: leave them out on a GPU")
    with bench.started() as peers:
        network = opened()
        peers.configure(network.device.precision)
        peaks = bench.measure_peaks(network.device)
        results = []
        for batch in batches:
            progress.status(f"measuring: {model}, batch size {batch} …")
            detailed = layers or bench.plot is not None
            last = measure.measure_model(network, batch, not inference, bench.effort, peers, detailed)
            results.append(_result(last, peaks) | (_memory(network, last, peers) if memory else {}))
        progress.status()
        report = {
            **bench.facts(peers, peaks, network.device),
            "model": model,
            "input_shape": network.input_shape,
            "parameters": network.store.count,
            "mode": "inference" if inference else "training",
            "algorithm": algorithm,
            "cold": processes.cold_compilation(network, 2)._asdict() if cold else None,
            "results": results,
            "notes": [*peers.notes, *last.measurement.notes],
        }
    render.notes(report["notes"])
    if bench.as_json:
        render.as_json(report)
    else:
        bench_tables.model_times(report, layers)
    points = [plots.Point(f"{row.layer} {row.direction}", *row.cost, row.ms) for row in last.layers]
    bench.save_plot(points, peaks, f"{model}, batch size {last.batch}")


def _reject_with_shards(bench: Bench, **given: bool) -> None:
    """Raise UsageError for options that do not apply to steps in shards."""
    peers = click.get_current_context().get_parameter_source("peers") == ParameterSource.COMMANDLINE and bench.peers
    names = [f"--{name}" for name, on in (given | {"plot": bench.plot is not None, "peers": peers}).items() if on]
    if names:
        raise click.UsageError(f"--shards and --mpi measure only training steps: leave out {', '.join(names)}.")


def _result(result: measure.ModelResult, peaks: Peaks) -> dict[str, Any]:
    """Return the figures of one batch size as a JSON object."""
    rows = [
        {"layer": row.layer, "op": row.op, "direction": row.direction, **measure.rates(row.ms, row.cost, peaks)}
        | {"kernels": dict(row.kernels), "algorithms": algorithm_figures(row.algorithms)}
        for row in result.layers
    ]
    rate = 1e3 * result.batch / result.measurement.time.ms
    figures = result.measurement.figures(peaks)
    return {"batch": result.batch, "images_per_second": rate, **figures} | ({"layers": rows} if rows else {})


def _memory(network: numbacnn.Model, result: measure.ModelResult, peers: Peers) -> dict[str, Any]:
    """Return our peak memory, and that of each peer that trains, in its faster mode."""
    peak = {"numbacnn": processes.peak_memory(network, result.batch)}
    for name, peer in peers.found.items():
        if peer.training_modes:
            compared = result.measurement.peers.get(name) if result.training else None
            mode = compared.mode if compared else peer.training_modes[0]
            peak[name] = processes.peak_memory(network, result.batch, name, mode)
    return {"peak_memory": peak}
