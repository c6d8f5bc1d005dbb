"""The figures of ``benchmarks/README.md``, as tables in Markdown, each printed when it is measured.

    python benchmarks/figures.py [--only kernels memory-bound training inference compile memory]
                                 [--threads 2] [--pairs 30] [--quick]

On a calm machine; all of it takes about an hour. Ratios are times of the peer over ours, paired in one run, with their
bootstrap 95 % interval; PyTorch in its faster memory format.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace

import numbacnn as nc
from numbacnn.bench import cases, measure, processes
from numbacnn.bench.peaks import Roofs, make_triad, measure_roofs
from numbacnn.bench.peers import Peers, find_peers
from numbacnn.bench.timing import QUICK, Effort
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


class Bench:
    """How everything is measured."""

    def __init__(self, peers: Peers, effort: Effort, quick: bool) -> None:
        self.peers, self.effort, self.quick = peers, effort, quick
        self.roofs: Roofs = measure_roofs(quick=quick)

    def kernels(self) -> Rows:
        """Single convolutions and dense layers, and what the convolutions are together."""
        yield ["case", "batch", "direction", "ms", "GFLOP/s", "of peak", *self.peers.modules]
        results = []
        chosen = (case for case in cases.CASES if cases.representative(case) or case.op == "dense")
        for result in self._kernels(chosen, self.peers):
            results.append(result)
            yield [*_names(result), *self._compute(result.measurement), *self._ratios(result.measurement)]
        summaries = {peer: measure.summarize_kernels(results, peer) for peer in self.peers.modules}
        for peer, found in summaries.items():
            worst = found["worst"]
            rows = {f"geometric mean, {direction}": ratio for direction, ratio in found["geometric_mean"].items()}
            rows["geometric mean, 3×3 at stride 1, C and K ≥ 64"] = found["geometric_mean_wide_3x3"]
            rows[f"worst: {worst['case']} {worst['direction']}"] = worst["ratio"]
            for name, ratio in rows.items():
                yield [f"{peer}, {name}", *[""] * 5, *(f"{ratio:.2f}×" if peer == other else "" for other in summaries)]

    def memory_bound(self) -> Rows:
        """What memory bounds, out of cache; shares of a triad are paired, since memory is faster at some times."""
        yield ["case", "batch", "direction", "ms", "GB/s", "of triad", *self.peers.modules]
        triad, moved = make_triad(get_device("cpu"), self.quick)
        beside = Peers({"triad": SimpleNamespace(kernel=lambda case, direction: {"": triad})} | self.peers.modules)
        for result in self._kernels((case for case in cases.CASES if case.origin == "out of cache"), beside):
            m = result.measurement
            ratio, share = m.peers["triad"].ratio, m.cost.bytes / moved
            of_triad = f"{ratio.ratio * share:.0%} [{ratio.low * share:.0%}, {ratio.high * share:.0%}]"
            yield [*_names(result), f"{m.time.ms:.2f}", f"{m.bandwidth:.1f}", of_triad, *self._ratios(m)]

    def training(self) -> Rows:
        """Training steps."""
        return self._models(TRAINING, training=True)

    def inference(self) -> Rows:
        """Inference."""
        return self._models(INFERENCE, training=False)

    def compile(self) -> Rows:
        """What training compiles, with an empty cache."""
        yield ["model", "kernels", "compilation", "first step"]
        for name in ("LeNet-5", "ResNet-18, 32×32"):
            found = processes.cold_compilation(MODELS[name](), 2)
            yield [name, str(found.kernels), f"{found.seconds:.1f} s", f"{found.first_step:.1f} s"]

    def memory(self) -> Rows:
        """Peak memory of a training step, above that of the process before it."""
        modes = [(name, mode) for name in self._trainers for mode in self.peers.modules[name].MODES]
        yield ["model", "batch", "numbacnn", *map(" ".join, modes)]
        for name, batch in MEMORY:
            model = MODELS[name]()
            peaks = [processes.peak_memory(model, batch, *peer) for peer in ((), *modes)]
            yield [name, str(batch), *(f"{peak / 2**20:,.0f} MiB" for peak in peaks)]

    @property
    def _trainers(self) -> list[str]:
        """The peers that train."""
        return [name for name, module in self.peers.modules.items() if hasattr(module, "training_step")]

    def _models(self, rows: list[tuple[str, int]], training: bool) -> Rows:
        names = self._trainers if training else list(self.peers.modules)
        yield ["model", "batch", "ms", "GFLOP/s", "of peak", *names]
        for name, size in rows:
            batch = 1 if self.quick else size
            m = measure.measure_model(MODELS[name](), batch, training, self.effort, self.peers).measurement
            yield [name, str(batch), *self._compute(m), *self._ratios(m, names)]

    def _kernels(self, chosen: Iterable[cases.Case], peers: Peers) -> Iterator[measure.KernelResult]:
        sized = [case._replace(batch=1) if self.quick else case for case in chosen]
        wanted = cases.in_directions(sized, cases.DIRECTIONS)
        return measure.measure_kernels(wanted, get_device("cpu"), peers, self.effort)

    def _compute(self, m: measure.Measurement) -> list[str]:
        return [f"{m.time.ms:.3f}", f"{m.gflops:.1f}", f"{m.gflops / self.roofs.gflops:.0%}"]

    def _ratios(self, m: measure.Measurement, names: Iterable[str] | None = None) -> list[str]:
        found = [m.peers.get(name) for name in (names or self.peers.modules)]
        return [_ratio(against) if against else "" for against in found]


def _names(result: measure.KernelResult) -> tuple[str, str, str]:
    return str(result.case), str(result.case.batch), result.direction


def _ratio(against: measure.Against) -> str:
    r = against.ratio
    return f"{r.ratio:.2f}× [{r.low:.2f}, {r.high:.2f}], {against.mode}, {r.pairs} pairs"


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
    parser.add_argument("--quick", action="store_true", help="only see that it runs: the figures then mean nothing")
    options = parser.parse_args()
    peers = find_peers()
    nc.set_num_threads(options.threads)
    peers.share_threads()
    bench = Bench(peers, QUICK if options.quick else Effort(options.pairs), options.quick)
    facts = processor()
    packages = ", ".join(f"{name} {version}" for name, version in (versions() | peers.versions).items())
    print(
        f"{facts['name']}, {facts['instruction_set']}, {options.threads} threads; {packages}.", *peers.notes, sep="\n"
    )
    print(f"\n{bench.roofs.gflops:.1f} GFLOP/s of multiply-adds, {bench.roofs.bandwidth:.1f} GB/s of a triad.")
    for name in options.only:
        print(f"\n## {FIGURES[name].__doc__}\n")
        for number, cells in enumerate(FIGURES[name](bench)):
            print(f"| {' | '.join(cells)} |", flush=True)
            if number == 0:
                print("|---" * len(cells) + "|")


if __name__ == "__main__":
    main()
