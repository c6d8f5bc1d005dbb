"""Print the figures that keep the code base small and regular, as a Markdown table.

python tools/structure.py            the working tree
python tools/structure.py --list     also each longest file, longest function, and bare ``Any``
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE, COMMANDS = ROOT / "numbacnn", ROOT / "cli"
LONG_FUNCTION = 60  # lines
PART_DECORATORS = ("inlined", "in_order", "device_function")  # of the functions that kernels call


def sources() -> list[Path]:
    """List the source files of the package and the command line."""
    return sorted([*PACKAGE.rglob("*.py"), *COMMANDS.rglob("*.py")])


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Iterate over all functions and methods, including nested ones."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None and len(function.body) > 1 else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1


def bare_any(tree: ast.AST) -> list[int]:
    """Return the lines of annotations that are exactly ``Any`` or ``Any | None``."""
    found = []
    for node in ast.walk(tree):
        hints = [node.annotation] if isinstance(node, ast.arg | ast.AnnAssign) else []
        hints += [node.returns] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else []
        found += [hint.lineno for hint in hints if hint is not None and ast.unparse(hint) in ("Any", "Any | None")]
    return found


def uses(tree: ast.AST, name: str) -> int:
    """Count the uses of a name, except imports."""
    return sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))


def is_kernel_part(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a decorator makes the function a part of a kernel."""
    return any(ast.unparse(decorator).startswith(PART_DECORATORS) for decorator in function.decorator_list)


def main() -> None:
    """Print the table."""
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sources()}
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in trees}
    kernels = PACKAGE / "kernels"
    parts = [
        (len(f.args.args), f.name, path) for path, tree in trees.items() for f in functions(tree) if is_kernel_part(f)
    ]
    long = [
        (lines_of(f), f.name, path)
        for path, tree in trees.items()
        for f in functions(tree)
        if lines_of(f) > LONG_FUNCTION
    ]
    outside = {path: tree for path, tree in trees.items() if not path.is_relative_to(kernels)}
    anys = [(path, line) for path, tree in outside.items() for line in bare_any(tree)]
    namespaces = sum(uses(tree, "SimpleNamespace") for tree in outside.values())
    largest, most = max(lines, key=lines.__getitem__), max(parts)
    rows = [
        ("modules at the package's root", sum(path.name != "__init__.py" for path in PACKAGE.glob("*.py")), ""),
        ("most parameters of a kernel's part", most[0], most[1]),
        ("largest source file, lines", lines[largest], largest.relative_to(ROOT).as_posix()),
        (f"functions over {LONG_FUNCTION} lines, docstrings apart", len(long), ""),
        ("annotations that are bare `Any`, outside kernels", len(anys), ""),
        ("`SimpleNamespace`, outside kernels", namespaces, ""),
        ("source lines, package and command line", sum(lines.values()), ""),
    ]
    print("| figure | now | where |\n|---|---|---|")
    for what, value, where in rows:
        print(f"| {what} | {value:,} | {where} |")
    if "--list" in sys.argv:
        for count, name, path in sorted(parts, reverse=True, key=lambda part: part[0])[:20]:
            print(f"{count} parameters: {name} in {path.relative_to(ROOT)}")
        for path in sorted(lines, key=lines.__getitem__, reverse=True)[:20]:
            print(f"{lines[path]} lines: {path.relative_to(ROOT)}")
        for count, name, path in sorted(long, reverse=True, key=lambda function: function[0]):
            print(f"{count} lines: {name} in {path.relative_to(ROOT)}")
        for path, line in anys:
            print(f"Any: {path.relative_to(ROOT)}:{line}")


if __name__ == "__main__":
    main()
