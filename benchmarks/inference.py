"""Compare inference with onnxruntime and OpenVINO, paired, and print a Markdown table of this machine.

    python benchmarks/inference.py [--only resnet18 LeNet] [--batch 1 8] [--pairs 15] [--threads 2] [--minutes 20]

The networks are ten of torchvision at 224×224, which PyTorch exports and numbacnn imports, and five of nc.models. Every
runtime runs the file that numbacnn exports. On one image, our convolutions use algorithm="latency", and on several
"auto". Ratios are a runtime's time over ours, with bootstrap 95 % intervals; the last column has the better runtime.
Before each row, the idle share of the processors is measured: a row on a busy machine is marked, and left out of the
geometric means. What is left of ``--minutes`` is divided among the remaining comparisons: a slow one gets fewer pairs,
but at least five, and once the time is over two. What fails is a row too.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numbacnn as nc
from numbacnn._checks import brief
from numbacnn.bench import measure
from numbacnn.bench.machine import QUIET, describe, idle_cell, idle_share, is_quiet
from numbacnn.bench.peers import RUNTIMES, Peers, find_peers
from numbacnn.bench.timing import MIN_PAIRS, QUICK, Effort, geometric_mean
from numbacnn.runs.provenance import processor, versions

Networks = Mapping[str, Callable[[], nc.Model]]
Efforts = Callable[[int], Effort]  # of a row, by the number of rows left
OWN: Networks = {
    "LeNet-5": nc.models.lenet5,
    "ResNet-18, 32×32": lambda: nc.models.resnet18((32, 32, 3), classes=10, stem="cifar"),
    "ResNet-50": nc.models.resnet50,
    "MobileNetV2": nc.models.mobilenet_v2,
    "VGG-16": nc.models.vgg16,
}


def networks(folder: Path) -> Networks:
    """The constructors of all networks by name; those of torchvision pass through files in the folder."""
    from numbacnn.bench import torchvision_networks

    return {name: partial(imported, name, folder) for name in torchvision_networks.NAMES} | OWN


def imported(name: str, folder: Path) -> nc.Model:
    """A network of torchvision, read from a file that PyTorch writes."""
    from numbacnn.bench import torchvision_networks

    path = folder / f"{name}.onnx"
    torchvision_networks.save(torchvision_networks.make(name), path, (3, 224, 224))
    model = nc.onnx.load(path)
    path.unlink()
    return model


def table(chosen: Networks, batches: Sequence[int], peers: Peers, efforts: Efforts, peak: float) -> Iterator[list[str]]:
    """Measure each network at each batch size: cells of a heading, of a row each, and of the geometric means."""
    heading = ["network", "batch", "idle", "ms", "GFLOP/s", "of peak", *peers.found, "the better runtime"]
    yield heading
    quiet, left = [], len(chosen) * len(batches)
    for name, make in chosen.items():
        try:
            model = make()
        except Exception as error:  # the other rows remain
            yield failed(name, "", error, heading)
            left -= len(batches)
            continue
        for batch in batches:
            model.use_algorithm("latency" if batch == 1 else "auto")
            effort = efforts(left)
            left -= 1
            idle = idle_share() if effort.turn_seconds else None
            try:
                m = measure.measure_model(model, batch, False, effort, peers).measurement
            except Exception as error:
                yield failed(name, str(batch), error, heading)
                continue
            if is_quiet(idle):
                quiet.append(m)
            rates = f"{m.time.ms:.3g}", f"{m.gflops:.0f}", f"{m.gflops / peak:.0%}"
            yield [name, str(batch), idle_cell(idle), *rates, *ratios(m, peers, effort.pairs)]
    means = [mean(quiet, name) for name in (*peers.found, measure.BETTER_RUNTIME)]
    yield [f"geometric means, {len(quiet)} rows", *[""] * 5, *means]


def failed(name: str, batch: str, error: Exception, heading: Sequence[str]) -> list[str]:
    """The cells of a row that could not be measured."""
    return [name, batch, "", f"failed: {brief(error)}", *[""] * (len(heading) - 4)]


def efforts(pairs: int, end: float, comparisons: int) -> Efforts:
    """Divide the time until ``end`` among the rows that are left, each of which has some comparisons."""

    def effort(rows: int) -> Effort:
        seconds = end - time.monotonic()
        return Effort(pairs, limit=max(0.0, seconds / (rows * comparisons)), min_pairs=MIN_PAIRS if seconds > 0 else 2)

    return effort


def ratios(m: measure.Measurement, peers: Peers, pairs: int) -> Iterator[str]:
    """A peer's time over ours, with its interval, its mode, and its number of pairs if there were fewer."""
    for name in peers.found:
        if name in m.peers:
            mode, r = m.peers[name].mode, m.peers[name].ratio
            fewer = f", {r.pairs} pairs" if r.pairs < pairs else ""
            yield f"{r.ratio:.2f}× [{r.low:.2f}, {r.high:.2f}], {mode}{fewer}"
        else:
            yield ""
    better = m.ratio(measure.BETTER_RUNTIME)
    yield f"{better.ratio:.2f}×" if better else ""


def mean(measured: Sequence[measure.Measurement], peer: str) -> str:
    """The geometric mean of a peer's times over ours."""
    found = [ratio.ratio for m in measured if (ratio := m.ratio(peer))]
    return f"{geometric_mean(found):.2f}×" if found else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="networks whose name contains one of these")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--quick", action="store_true", help="only check that everything runs")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    installed = find_peers()
    peers = Peers({name: peer for name, peer in installed.found.items() if name in RUNTIMES}, installed.notes)
    if not peers.found:
        parser.exit(1, f"{' '.join(peers.notes)}\n")
    nc.set_num_threads(options.threads)
    peers.configure()
    text, peaks = describe(processor(), versions() | peers.versions, options.quick)
    print(text, *peers.notes, "", f"A row below {QUIET:.0%} idle is marked with †.", "", sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        chosen = {
            name: make
            for name, make in networks(Path(folder)).items()
            if not options.only or any(part in name for part in options.only)
        }
        spent: Efforts = (lambda _: QUICK) if options.quick else efforts(options.pairs, end, 1 + len(peers.found))
        for number, cells in enumerate(table(chosen, options.batch, peers, spent, peaks.gflops)):
            print(f"| {' | '.join(cells)} |", flush=True)
            if number == 0:
                print("|---" * len(cells) + "|", flush=True)


if __name__ == "__main__":
    main()
