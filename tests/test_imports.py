"""The order of imports, the launchers of every device, and the cost of importing the package."""

import ast
import inspect
import json
import operator
import re
from pathlib import Path

import pytest
from processes import run_python

import numbacnn
from numbacnn._checks.frameworks import FRAMEWORKS
from numbacnn.kernels import cpu, cuda, reference, registry

PACKAGE = Path(numbacnn.__file__).parent

# The order of imports in docs/architecture.md: a package imports only from later rows, never from its own row or an
# earlier one. Modules of one package may import each other.
ROWS = [
    {"__main__"},
    {"cli"},
    {"numbacnn"},  # the public names
    {"serve"},
    {"runs"},
    {"bench", "logs"},
    {"plots"},
    {"testing", "sklearn"},
    {"models", "onnx"},
    {"model"},
    {"training", "inspection", "functional"},
    {"saving"},
    {"tasks"},
    {"metrics"},
    {"losses", "optimizers", "schedules", "data", "distributed"},
    {"engine"},
    {"layers", "kernels", "detection"},
    {"geometry"},
    {"_checks"},
    {"errors"},
]
ROW = {part: number for number, row in enumerate(ROWS) for part in row}
# A plan gets the facts about the processor as a value: neither it nor its inputs import kernels or NumPy.
PURE = {"layers", "geometry", "_checks", "errors", "schedules"}
PURE |= {"engine/graph", "engine/graph_format", "engine/plan"}
USES_NUMPY = {"_checks/arrays", "engine/plan/arena", "layers/initializers", "layers/bindings"}


def sources():
    """(part, path) of every module of the package, and of the command line."""
    folders = [(PACKAGE, None), (PACKAGE.parent / "cli", "cli")]
    for folder, part in folders:
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = part or ("numbacnn" if parts == ("__init__",) else parts[0])
            yield pytest.param(name, path, id="/".join((part or "numbacnn", *parts)))


every_module = pytest.mark.parametrize(("part", "path"), list(sources()))


def imported(path):
    """Dotted names that a module imports, in functions too; not those for type checkers, nor the cli's own modules."""
    names = []
    for node in _running(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert path.parent.name == "cli", f"{path}: relative imports hide where they go"
    return names


def _running(node):
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _running(child)


def parts(path):
    """The parts of the package that a module imports from."""
    names = [name.split(".") for name in imported(path)]
    return {name[1] if len(name) > 1 and name[1] in ROW else "numbacnn" for name in names if name[0] == "numbacnn"}


def module_name(path):
    """Path below the package, without suffix: "engine/plan/arena"."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix() if path.is_relative_to(PACKAGE) else path.stem


@every_module
def test_packages_import_only_from_later_rows(part, path):
    assert part in ROW, f"{part} has no row in ROWS"
    back = {other for other in parts(path) - {part} if ROW[other] <= ROW[part]}
    assert not back, f"{part} imports {sorted(back)}, which are in its own row or an earlier one"


@every_module
def test_only_kernels_and_devices_import_numba(part, path):
    users = {name for name in imported(path) if name.split(".")[0] in ("numba", "llvmlite")}
    module = module_name(path)
    assert not users or part in ("kernels", "cli", "runs") or module == "engine/locks", f"{module} imports {users}"
    if not module.startswith("kernels/cuda/runtime/"):
        assert not {name for name in users if name.startswith("numba.cuda")}


@every_module
def test_graph_and_plan_import_no_kernels(part, path):
    module = module_name(path)
    if part in PURE or any(module == pure or module.startswith(f"{pure}/") for pure in PURE):
        assert not parts(path) & {"kernels"}
        assert not any(name.startswith(("numbacnn.engine.device", "numbacnn.engine.locks")) for name in imported(path))
        assert module in USES_NUMPY or "numpy" not in {name.split(".")[0] for name in imported(path)}


def signatures(launchers):
    return {name: list(inspect.signature(launcher).parameters) for name, launcher in vars(launchers).items()}


@pytest.mark.parametrize("device", [cuda, reference], ids=["cuda", "reference"])
def test_every_device_has_the_same_launchers_with_the_same_parameters(device):
    assert len(signatures(cpu.launchers)) > 90
    assert signatures(device.launchers) == signatures(cpu.launchers)


def test_a_launcher_registers_once_with_the_device_whose_package_defines_it():
    def copy(y, x):
        raise NotImplementedError

    copy.__module__ = "numbacnn.kernels.cpu.elementwise"
    with pytest.raises(ValueError, match="cpu already has a launcher called copy"):
        registry.launcher(copy)
    assert cpu.launchers.copy is not copy


PROBE = """
import gc, json, sys, time
start = time.process_time()
import {module}
seconds = time.process_time() - start
loaded = sorted({{name.split(".")[0] for name in sys.modules}})
from numbacnn.kernels.jit import CpuKernel
import numbacnn.kernels.cpu
kernels = [item for item in gc.get_objects() if isinstance(item, CpuKernel)]
compiled = [item.__name__ for item in kernels if item._compiled or item._dispatcher.overloads]
print(json.dumps([seconds, loaded, len(kernels), compiled]))
"""


def probe(module):
    """Import a module in a process that keeps its bytecode, as that of an installed package is kept."""
    return json.loads(run_python("-c", PROBE.format(module=module), PYTHONDONTWRITEBYTECODE=""))


def test_importing_compiles_nothing_and_loads_no_optional_package():
    _, loaded, kernels, compiled = probe("numbacnn")
    assert kernels > 10
    assert compiled == []
    assert not {"PIL", "tqdm", "click", "matplotlib", "onnx", "safetensors", "torch", "tomli_w"} & set(loaded)


def test_importing_takes_little_more_time_than_importing_numba():
    ours, numba = (min(probe(module)[0] for _ in range(3)) for module in ("numbacnn", "numba"))
    assert ours <= numba + 0.3, f"{ours:.2f} s of processor time, numba {numba:.2f} s"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AveragePooling2D", "Keras' AveragePooling2D is nc.AvgPool2D"),
        ("AvgPool2d", "PyTorch's AvgPool2d is nc.AvgPool2D"),
        ("UpSampling2D", "Keras' UpSampling2D is nc.Upsample2D"),
        ("Conv2DTransposed", "module 'numbacnn' has no attribute 'Conv2DTransposed'; did you mean 'Conv2DTranspose'?"),
        ("nothing_like_it", "module 'numbacnn' has no attribute 'nothing_like_it'"),
        ("_private", "module 'numbacnn' has no attribute '_private'"),
    ],
)
def test_unknown_names_suggest_the_nearest_public_one(name, message):
    with pytest.raises(AttributeError) as error:
        getattr(numbacnn, name)
    assert str(error.value) == message


def test_names_of_other_frameworks_suggest_public_names():
    for names in FRAMEWORKS.values():
        assert not set(names) & set(numbacnn.__all__)
        for answer in names.values():
            for path in re.findall(r"\bnc\.([\w.]*\w)", answer):
                operator.attrgetter(path)(numbacnn)
