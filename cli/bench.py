"""``numbacnn bench``."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import numbacnn
from numbacnn import models, plots
from numbacnn._checks import choose
from numbacnn.bench import cases, measure, processes
from numbacnn.bench.peaks import Roofs, measure_roofs
from numbacnn.bench.peers import NO_PEERS, Peers, find_peers
from numbacnn.bench.timing import QUICK, Effort
from numbacnn.engine.device import Device, cuda_facts, get_device
from numbacnn.errors import ArgumentError
from numbacnn.plots.figures import checked_path, new_figure
from numbacnn.runs.provenance import processor, versions

from . import bench_tables, progress, render
from .options import (
    debug_option,
    engine,
    import_option,
    is_file_name,
    json_option,
    open_model,
    precision_option,
    threads_option,
)

QUICK_BATCH = 1


class Size(click.ParamType):  # type: ignore[type-arg]  # which is generic in later versions
    """The shape of one image, 32x32x3."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Height, width and channels, or the number of features."""
        parts = str(value).split("x")
        if not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is no shape; write 32x32x3", param, ctx)
        return tuple(map(int, parts))


def _measuring(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that both commands have."""
    for option in (
        click.option("--pairs", type=click.IntRange(1), default=40, metavar="N", help="Turns to measure, A B B A."),
        click.option("--quick", is_flag=True, help="Only see that it runs: the figures then mean nothing."),
        click.option("--peers/--no-peers", default=True, help="Compare with PyTorch and onnxruntime, where installed."),
        click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="A roofline, .png or .svg."),
        threads_option,
        click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Device to measure.  [default: cpu]"),
        precision_option,
        json_option,
        debug_option,
    )[::-1]:
        command = option(command)
    return command


@click.group("bench", no_args_is_help=False)
@debug_option
def command() -> None:
    """Measure speed: of single kernels, or of a whole model.

    Beside PyTorch and onnxruntime where they are installed (pip install 'numbacnn[bench]'), paired in one run; with
    --device cuda beside PyTorch on the same GPU, eager and captured as a graph, models also compiled. Use a calm
    machine; benchmarks/README.md has the method.
    """


@command.command("kernels")
@click.option("--op", "ops", multiple=True, metavar="OP", help=f"Of {', '.join(cases.ALL_OPS)}; several by repeating.")
@click.option("--filter", "patterns", multiple=True, metavar="PATTERN", help="Of shapes and networks: '28x*/3/1', vgg.")
@click.option("--shape", metavar="SHAPE", help="Your own: 28x28x64->128/3/1/1, INPUT->FILTERS/WINDOW/STRIDE/PADDING.")
@click.option(
    "--direction", "directions", multiple=True, type=click.Choice(cases.DIRECTIONS), help="[default: all of them]"
)
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Images.  [default: the case's own; 64 of --shape]")
@_measuring
def kernels_command(
    ops: tuple[str, ...],
    patterns: tuple[str, ...],
    shape: str | None,
    directions: tuple[str, ...],
    batch: int | None,
    pairs: int,
    quick: bool,
    peers: bool,
    plot: Path | None,
    threads: int | None,
    device: str | None,
    precision: str | None,
    as_json: bool,
) -> None:
    """Measure single layers: forward and each gradient alone.

    Without options: the representative shapes of networks from LeNet-5 to ResNet, and memory-bound layers at sizes out
    of cache. Shares are of this machine's measured peak, which is that of the precision, and of a triad's bandwidth.
    """
    chosen = _custom_cases(ops, patterns, shape, batch) if shape else cases.select(ops, patterns)
    sized = [case._replace(batch=batch or (QUICK_BATCH if quick else case.batch)) for case in chosen]
    wanted = cases.in_directions(sized, directions)
    _check_plot(plot)
    found = _peers(peers, device)
    with engine(threads):
        target = get_device(device or "cpu", precision or "fp32")
        found.share_threads()
        found.share_precision(target.precision)
        roofs, effort = _roofs(target, quick), _effort(quick, pairs)
        table = bench_tables.KernelTable(wanted, list(found.modules), roofs, silent=as_json)
        results = []
        for result in measure.measure_kernels(wanted, target, found, effort):
            table.add(result)
            results.append(result)
        notes = [*found.notes, *(note for result in results for note in result.measurement.notes)]
        summaries = {name: measure.summarize_kernels(results, name) for name in found.modules}
        facts = _facts(found, roofs, effort, target)
    render.notes(dict.fromkeys(notes))
    if as_json:
        listed = [
            {**result.case._asdict(), "direction": result.direction, **result.measurement.figures(roofs)}
            for result in results
        ]
        render.as_json({**facts, "results": listed, "summary": summaries, "notes": notes})
    else:
        bench_tables.kernel_summaries(summaries)
    if plot:
        points = [plots.Point(f"{r.case} {r.direction}", *r.measurement.cost, r.measurement.time.ms) for r in results]
        _plot(points, roofs, plot, _title(target), as_json)


def _title(device: Device) -> str:
    place = f"{numbacnn.get_num_threads()} threads" if device.name == "cpu" else f"a GPU, {device.precision}"
    return f"Kernels on {place}"


def _custom_cases(ops: Sequence[str], patterns: Sequence[str], shape: str, batch: int | None) -> list[cases.Case]:
    if patterns or len(ops) > 1:
        raise click.UsageError("--shape is one case of your own: give one --op with it, and no --filter.")
    return [cases.custom_case(ops[0] if ops else "conv2d", shape, batch or 64)]


@command.command("train")
@click.option("--model", default="lenet5", metavar="NAME|MODEL", help=f"{', '.join(models.MODELS)}; or a file.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the architecture: stem=cifar.")
@click.option("--input-shape", type=Size(), metavar="HxWxC", help="Of one image.  [default: the architecture's]")
@click.option("--classes", type=click.IntRange(1), metavar="N", help="Outputs.  [default: the architecture's]")
@click.option(
    "--batch-size",
    "batches",
    type=click.IntRange(1),
    multiple=True,
    default=[64],
    metavar="N",
    help="Images of one step; several by repeating.",
)
@click.option("--inference", is_flag=True, help="Measure forward passes instead of training steps.")
@click.option("--layers", is_flag=True, help="Also the time of each layer, and of the kernels that it launches.")
@click.option("--cold", is_flag=True, help="Also what a step compiles where the kernel cache is empty.")
@click.option("--memory", is_flag=True, help="Also the peak memory of a training step, in a process of its own.")
@import_option
@_measuring
def train_command(
    model: str,
    options: tuple[str, ...],
    input_shape: tuple[int, ...] | None,
    classes: int | None,
    batches: tuple[int, ...],
    inference: bool,
    layers: bool,
    cold: bool,
    memory: bool,
    pairs: int,
    quick: bool,
    peers: bool,
    plot: Path | None,
    threads: int | None,
    device: str | None,
    precision: str | None,
    as_json: bool,
) -> None:
    """Measure the training step, or the inference, of a model.

    Forward, cross-entropy, backward and an update by SGD with momentum, on random images and weights.
    """
    sizes = {"input_shape": input_shape, "classes": classes, "device": device, "precision": precision}
    given = {name: value for name, value in sizes.items() if value is not None}
    _check_plot(plot)
    if device == "cuda" and (cold or memory):
        raise ArgumentError("--cold and --memory tell of the CPU: leave them out on a GPU")
    found = _peers(peers, device)
    with engine(threads):
        network = _model(model, given, options)
        found.share_threads()
        found.share_precision(network.device.precision)
        roofs, effort = _roofs(network.device, quick), _effort(quick, pairs)
        facts = {**_facts(found, roofs, effort, network.device), **_about(network, model, inference)}
        results = []
        for batch in batches:
            progress.status(f"measuring: {model}, batches of {batch} …")
            detailed = layers or plot is not None
            last = measure.measure_model(network, batch, not inference, effort, found, detailed)
            results.append(_result(last, roofs) | (_memory(network, last, found) if memory else {}))
        progress.status()
        facts["cold"] = processes.cold_compilation(network, 2)._asdict() if cold else None
    notes = [*found.notes, *last.measurement.notes]
    render.notes(notes)
    report = {**facts, "results": results, "notes": notes}
    if as_json:
        render.as_json(report)
    else:
        bench_tables.model_times(report, layers)
    if plot:
        points = [plots.Point(f"{row.layer} {row.direction}", *row.cost, row.ms) for row in last.layers]
        _plot(points, roofs, plot, f"{model}, batches of {last.batch}", as_json)


def _model(model: str, given: dict[str, Any], options: Sequence[str]) -> numbacnn.Model:
    """A model file, or an architecture with the options of its own. Raises ArgumentError where one does not fit."""
    if is_file_name(model):
        if given.keys() - {"device", "precision"} or options:
            raise ArgumentError(f"{model} is a file, and has its shapes: leave out --input-shape, --classes, --option")
        return open_model(model, **given)
    function = choose("model", model, models.MODELS)
    known = {
        name: type(parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for option in options:
        name, _, value = option.partition("=")
        if not known:
            raise ArgumentError(f"--option {option}: {model} has no options of its own")
        given[name] = _value(option, value, choose(f"option of {model}", name, known))
    return open_model(model, **given)


def _value(option: str, text: str, kind: type) -> Any:
    """The text as the type of the option's default."""
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        wanted = "true or false" if kind is bool else f"a {kind.__name__}"
        raise ArgumentError(f"--option {option}: give {wanted}") from None


def _about(network: numbacnn.Model, model: str, inference: bool) -> dict[str, Any]:
    return {
        "model": model,
        "input_shape": network.input_shape,
        "parameters": network.store.count,
        "mode": "inference" if inference else "training",
    }


def _result(result: measure.ModelResult, roofs: Roofs) -> dict[str, Any]:
    """A batch size as data."""
    rows = [
        {"layer": row.layer, "op": row.op, "direction": row.direction, **measure.rates(row.ms, row.cost, roofs)}
        | {"kernels": dict(row.kernels)}
        for row in result.layers
    ]
    rate = 1e3 * result.batch / result.measurement.time.ms
    figures = result.measurement.figures(roofs)
    return {"batch": result.batch, "images_per_second": rate, **figures} | ({"layers": rows} if rows else {})


def _memory(network: numbacnn.Model, result: measure.ModelResult, peers: Peers) -> dict[str, Any]:
    """Of ours, and of the peers that train, each in the mode that was faster."""
    peak = {"numbacnn": processes.peak_memory(network, result.batch)}
    for name, module in peers.modules.items():
        if hasattr(module, "training_step"):
            against = result.measurement.peers.get(name) if result.training else None
            mode = against.mode if against else module.MODES[0]
            peak[name] = processes.peak_memory(network, result.batch, name, mode)
    return {"peak_memory": peak}


# -- what both commands do --------------------------------------------------------------------------------------------


def _peers(wanted: bool, device: str | None) -> Peers:
    return find_peers(device or "cpu") if wanted else NO_PEERS


def _effort(quick: bool, pairs: int) -> Effort:
    return QUICK if quick else Effort(pairs)


def _roofs(device: Device, quick: bool) -> Roofs:
    progress.status("measuring: the machine's roofs …")
    return measure_roofs(device, quick)


def _facts(peers: Peers, roofs: Roofs, effort: Effort, device: Device) -> dict[str, Any]:
    """What it was measured on, and how."""
    facts = {
        "versions": versions() | peers.versions,
        "processor": processor(),
        "threads": numbacnn.get_num_threads(),
        "device": device.name,
        "precision": device.precision,
        "effort": effort._asdict(),
        "roofs": roofs._asdict(),
    }
    return facts | ({"gpu": cuda_facts()} if device.name == "cuda" else {})


def _check_plot(plot: Path | None) -> None:
    """Says at once what would be wrong at the end."""
    if plot:
        checked_path(plot)
        new_figure(1, 1)


def _plot(points: Sequence[plots.Point], roofs: Roofs, path: Path, title: str, as_json: bool) -> None:
    plots.save(plots.roofline(points, roofs.gflops, roofs.bandwidth, title), path)
    if not as_json:
        render.text(str(path))
