"""Print the tables of ``benchmarks/README.md`` in Markdown, row by row as they are measured.

    python benchmarks/figures.py [--only kernels memory-bound training inference compile memory]
                                 [--threads 2] [--pairs 30] [--quick]

Run it on an idle machine; everything takes about an hour. Ratios are the peer's time over ours, paired in one process,
with their bootstrap 95 % interval, for the peer's fastest mode. A cell names its number of pairs if it has fewer than
its table's heading says.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator

import numbacnn as nc
from numbacnn.bench import cases, measure, processes
from numbacnn.bench.peaks import make_triad, measure_peaks
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
}
TRAINING = [
    *(("LeNet-5", batch) for batch in (32, 64, 128, 256)),
    *(("two convolutions", batch) for batch in (32, 64, 128, 256)),
    *(("ResNet-18, 32×32", 64), ("VGG-16, 224×224", 4)),
]
INFERENCE = [("LeNet-5", 1), ("LeNet-5", 64), ("ResNet-18, 32×32", 64), ("VGG-16, 224×224", 4)]
MEMORY = [("VGG-16, 224×224", 4), ("ResNet-50, 224×224", 8)]
Rows = Iterator[list[str]]


class Triad(Peer):
    """A peer whose every kernel is the triad."""

    def __init__(self, work: Launched) -> None:
        self._work = work

    def kernel(self, case: cases.Case, direction: str) -> dict[str, Launched]:
        return {"triad": self._work}


class Bench:
    """Peers, effort and peaks of all measurements."""

    def __init__(self, peers: Peers, effort: Effort, quick: bool) -> None:
        self.peers, self.effort, self.quick = peers, effort, quick
        self.peaks = measure_peaks(quick=quick)

    def kernels(self) -> Rows:
        """Convolutions and dense layers, {pairs} pairs, and means over the convolutions"""
        yield ["case", "batch", "direction", "ms", "GFLOP/s", "of peak", *self.peers.found]
        results = []
        chosen = (case for case in cases.CASES if case.is_representative or case.op == "dense")
        for result in self._kernels(chosen, self.peers):
            results.append(result)
            yield [*_names(result), *self._compute(result.measurement), *self._ratios(result.measurement)]
        summaries = {peer: measure.summarize_kernels(results, peer) for peer in self.peers.found}
        for peer, found in summaries.items():
            worst = found["worst"]
            rows = {f"geometric mean, {direction}": ratio for direction, ratio in found["geometric_mean"].items()}
            rows["geometric mean, 3×3 at stride 1, C and K ≥ 64"] = found["geometric_mean_wide_3x3"]
            rows[f"worst: {worst['case']} {worst['direction']}"] = worst["ratio"]
            for name, ratio in rows.items():
                yield [f"{peer}, {name}", *[""] * 5, *(f"{ratio:.2f}×" if peer == other else "" for other in summaries)]

    def memory_bound(self) -> Rows:
        """Memory-bound layers out of cache, {pairs} pairs, also with the triad"""
        yield ["case", "batch", "direction", "ms", "GB/s", "of triad", *self.peers.found]
        triad, moved = make_triad(get_device("cpu"), self.quick)
        peers = Peers({"triad": Triad(triad)} | self.peers.found)
        for result in self._kernels((case for case in cases.CASES if case.origin == cases.OUT_OF_CACHE), peers):
            m = result.measurement
            ratio, share = m.peers["triad"].ratio, m.cost.bytes / moved
            of_triad = f"{ratio.ratio * share:.0%} [{ratio.low * share:.0%}, {ratio.high * share:.0%}]"
            yield [*_names(result), f"{m.time.ms:.2f}", f"{m.bandwidth:.1f}", of_triad, *self._ratios(m)]

    def training(self) -> Rows:
        """Training steps, {pairs} pairs"""
        return self._models(TRAINING, training=True)

    def inference(self) -> Rows:
        """Inference, {pairs} pairs"""
        return self._models(INFERENCE, training=False)

    def compile(self) -> Rows:
        """Compilation of a training step with an empty cache"""
        yield ["model", "kernels", "compilation", "first step"]
        for name in ("LeNet-5", "ResNet-18, 32×32"):
            found = processes.cold_compilation(MODELS[name](), 2)
            yield [name, str(found.kernels), f"{found.seconds:.1f} s", f"{found.first_step:.1f} s"]

    def memory(self) -> Rows:
        """Peak memory of a training step, above that of the process before it"""
        modes = [(name, mode) for name, peer in self.peers.found.items() for mode in peer.training_modes]
        yield ["model", "batch", "numbacnn", *map(" ".join, modes)]
        for name, batch in MEMORY:
            model = MODELS[name]()
            peaks = [processes.peak_memory(model, batch, *peer) for peer in ((), *modes)]
            yield [name, str(batch), *(f"{peak / 2**20:,.0f} MiB" for peak in peaks)]

    def _models(self, rows: list[tuple[str, int]], training: bool) -> Rows:
        names = [name for name, peer in self.peers.found.items() if peer.training_modes or not training]
        yield ["model", "batch", "ms", "GFLOP/s", "of peak", *names]
        for name, size in rows:
            batch = 1 if self.quick else size
            m = measure.measure_model(MODELS[name](), batch, training, self.effort, self.peers).measurement
            yield [name, str(batch), *self._compute(m), *self._ratios(m, names)]

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
    bench = Bench(peers, QUICK if options.quick else Effort(options.pairs), options.quick)
    facts = processor()
    packages = ", ".join(f"{name} {version}" for name, version in (versions() | peers.versions).items())
    print(
        f"{facts['name']}, {facts['instruction_set']}, {options.threads} threads; {packages}.", *peers.notes, sep="\n"
    )
    print(f"\n{bench.peaks.gflops:.1f} GFLOP/s of multiply-adds, {bench.peaks.bandwidth:.1f} GB/s of a triad.")
    for name in options.only:
        print(f"\n### {FIGURES[name].__doc__.format(pairs=bench.effort.pairs)}\n")
        for number, cells in enumerate(FIGURES[name](bench)):
            print(f"| {' | '.join(cells)} |", flush=True)
            if number == 0:
                print("|---" * len(cells) + "|")


if __name__ == "__main__":
    main()
