"""Print the tables of ``benchmarks/README.md`` in Markdown, row by row as they are measured.

    python benchmarks/figures.py [--only kernels memory-bound training inference compile memory]
                                 [--threads 2] [--pairs 30] [--quick]

Run it on an idle machine; everything takes about an hour. Ratios are the peer's time over ours, paired in one process,
with their bootstrap 95 % interval, for the peer's fastest mode. A cell names its number of pairs if it has fewer than
its table's heading says. The idle share of the processors is measured before each row: a row on a busy machine is
marked, and left out of the means. ``benchmarks/inference.py`` compares more networks in inference.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import inference

import numbacnn as nc
from numbacnn.bench import cases, measure, processes
from numbacnn.bench.machine import QUIET, describe, idle_cell, idle_share, is_quiet
from numbacnn.bench.peaks import Peaks, make_triad
from numbacnn.bench.peers import Peer, Peers, find_peers
from numbacnn.bench.timing import QUICK, Effort, Launched
from numbacnn.engine.device import get_device
from numbacnn.runs.provenance import processor, versions

CIFAR = {"input_shape": (32, 32, 3), "classes": 10}
MODELS: dict[str, Callable[[], nc.Model]] = {
    "LeNet-5": nc.models.lenet5,
    "two convolutions": nc.models.simple_cnn,
    "ResNet-18, 32×32": lambda: nc.models.resnet18(**CIFAR, stem="cifar"),
    "VGG-16, 224×224": nc.models.vgg16,
    "ResNet-50, 224×224": nc.models.resnet50,
    "U-Net (`unet_small`), 64×64": nc.models.unet_small,
    "MobileNetV2, 96×96": lambda: nc.models.mobilenet_v2((96, 96, 3)),
}
TRAINING = [
    *(("LeNet-5", batch) for batch in (32, 64, 128, 256)),
    *(("two convolutions", batch) for batch in (32, 64, 128, 256)),
    *(("ResNet-18, 32×32", 64), ("VGG-16, 224×224", 4)),
    *(("U-Net (`unet_small`), 64×64", 16), ("MobileNetV2, 96×96", 16)),
]
INFERENCE = [1, 8, 64]  # batch sizes
INFERENCE_LIMIT = 30.0  # seconds of a comparison, after which 5 pairs suffice
MEMORY = [("VGG-16, 224×224", 4), ("ResNet-50, 224×224", 8)]
Rows = Iterator[list[str]]
T = TypeVar("T")


class Triad(Peer):
    """A peer whose every kernel is the triad."""

    def __init__(self, work: Launched) -> None:
        self._work = work

    def kernel(self, case: cases.Case, direction: str) -> dict[str, Launched]:
        return {"triad": self._work}


class Bench:
    """Peers, effort and peaks of all measurements."""

    def __init__(self, peers: Peers, effort: Effort, quick: bool, peaks: Peaks) -> None:
        self.peers, self.effort, self.quick, self.peaks = peers, effort, quick, peaks

    def kernels(self) -> Rows:
        """Convolutions and dense layers, {pairs} pairs, and means over the convolutions"""
        yield ["case", "batch", "direction", "ms", "GFLOP/s", "of peak", *self.peers.found, "idle"]
        results = []
        chosen = (case for case in cases.CASES if case.is_representative or case.op == "dense")
        for idle, result in self._watched(self._kernels(chosen, self.peers)):
            if is_quiet(idle):
                results.append(result)
            m = result.measurement
            yield [*_names(result), *self._compute(m), *self._ratios(m), idle_cell(idle)]
        for peer, found in measure.summaries(results, self.peers.found).items():
            if not found:
                continue
            worst = found["worst"]
            rows = {f"geometric mean, {direction}": ratio for direction, ratio in found["geometric_mean"].items()}
            rows["geometric mean, 3×3 at stride 1, C and K ≥ 64"] = found["geometric_mean_wide_3x3"]
            rows[f"worst: {worst['case']} {worst['direction']}"] = worst["ratio"]
            for name, ratio in rows.items():
                column = peer if peer in self.peers.found else next(reversed(self.peers.found))
                cells = (f"{ratio:.2f}×" if column == other else "" for other in self.peers.found)
                yield [f"{peer}, {name}", *[""] * 5, *cells, ""]

    def memory_bound(self) -> Rows:
        """Memory-bound layers out of cache, {pairs} pairs, also with the triad"""
        yield ["case", "batch", "direction", "ms", "GB/s", "of triad", *self.peers.found, "idle"]
        triad, moved = make_triad(get_device("cpu"), self.quick)
        peers = Peers({"triad": Triad(triad)} | self.peers.found)
        out_of_cache = (case for case in cases.CASES if case.origin == cases.OUT_OF_CACHE)
        for idle, result in self._watched(self._kernels(out_of_cache, peers)):
            m = result.measurement
            ratio, share = m.peers["triad"].ratio, m.cost.bytes / moved
            of_triad = f"{ratio.ratio * share:.0%} [{ratio.low * share:.0%}, {ratio.high * share:.0%}]"
            rates = f"{m.time.ms:.2f}", f"{m.bandwidth:.1f}", of_triad
            yield [*_names(result), *rates, *self._ratios(m), idle_cell(idle)]

    def training(self) -> Rows:
        """Training steps, {pairs} pairs"""
        names = [name for name, peer in self.peers.found.items() if peer.training_modes]
        yield ["model", "batch", "ms", "GFLOP/s", "of peak", *names, "idle"]
        for idle, (name, batch, m) in self._watched(map(self._step, TRAINING)):
            yield [name, str(batch), *self._compute(m), *self._ratios(m, names), idle_cell(idle)]

    def inference(self) -> Rows:
        """Inference, {pairs} pairs"""
        batches, effort = INFERENCE, self.effort._replace(limit=INFERENCE_LIMIT)
        if self.quick:
            batches, effort = [1], self.effort
        return inference.table(inference.OWN, batches, self.peers, effort, self.peaks.gflops)

    def compile(self) -> Rows:
        """Compilation of a training step with an empty cache"""
        yield ["model", "functions", "first step"]
        for name in ("LeNet-5", "ResNet-18, 32×32"):
            found = processes.cold_compilation(MODELS[name](), 2)
            yield [name, str(found.kernels), f"{found.first_step:.1f} s"]

    def memory(self) -> Rows:
        """Peak memory of a training step, above that of the process before it"""
        modes = [(name, mode) for name, peer in self.peers.found.items() for mode in peer.training_modes]
        yield ["model", "batch", "numbacnn", *map(" ".join, modes)]
        for name, batch in MEMORY:
            model = MODELS[name]()
            peaks = [processes.peak_memory(model, batch, *peer) for peer in ((), *modes)]
            yield [name, str(batch), *(f"{peak / 2**20:,.0f} MiB" for peak in peaks)]

    def _step(self, row: tuple[str, int]) -> tuple[str, int, measure.Measurement]:
        name, batch = row[0], 1 if self.quick else row[1]
        return name, batch, measure.measure_model(MODELS[name](), batch, True, self.effort, self.peers).measurement

    def _watched(self, measured: Iterator[T]) -> Iterator[tuple[float | None, T]]:
        """Each result with the idle share of the processors before it was measured."""
        while True:
            idle = None if self.quick else idle_share()
            try:
                yield idle, next(measured)
            except StopIteration:
                return

    def _kernels(self, chosen: Iterable[cases.Case], peers: Peers) -> Iterator[measure.KernelResult]:
        sized = [case._replace(batch=1) if self.quick else case for case in chosen]
        return measure.measure_kernels(cases.in_directions(sized), get_device("cpu"), peers, self.effort)

    def _compute(self, m: measure.Measurement) -> list[str]:
        return [f"{m.time.ms:.3f}", f"{m.gflops:.1f}", f"{m.gflops / self.peaks.gflops:.0%}"]

    def _ratios(self, m: measure.Measurement, names: Iterable[str] | None = None) -> list[str]:
        found = [m.peers.get(name) for name in (names or self.peers.found)]
        return [self._ratio(compared) if compared else "" for compared in found]

    def _ratio(self, compared: measure.Comparison) -> str:
        r = compared.ratio
        pairs = f", {r.pairs} pairs" if r.pairs != self.effort.pairs else ""
        return f"{r.ratio:.2f}× [{r.low:.2f}, {r.high:.2f}], {compared.mode}{pairs}"


def _names(result: measure.KernelResult) -> tuple[str, str, str]:
    return str(result.case), str(result.case.batch), result.direction


FIGURES = {
    "kernels": Bench.kernels,
    "memory-bound": Bench.memory_bound,
    "training": Bench.training,
    "inference": Bench.inference,
    "compile": Bench.compile,
    "memory": Bench.memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="only check that everything runs")
    options = parser.parse_args()
    peers = find_peers()
    nc.set_num_threads(options.threads)
    peers.configure()
    text, peaks = describe(processor(), versions() | peers.versions, options.quick)
    bench = Bench(peers, QUICK if options.quick else Effort(options.pairs), options.quick, peaks)
    print(text, *peers.notes, "", f"A row below {QUIET:.0%} idle is marked with †.", sep="\n")
    for name in options.only:
        print(f"\n### {FIGURES[name].__doc__.format(pairs=bench.effort.pairs)}\n")
        for number, cells in enumerate(FIGURES[name](bench)):
            print(f"| {' | '.join(cells)} |", flush=True)
            if number == 0:
                print("|---" * len(cells) + "|")


if __name__ == "__main__":
    main()
