"""Reads PTX as numba-cuda writes it: arrays, constants, and functions (PTX ISA, chapters 4 and 5)."""

import re
from typing import NamedTuple


class Unsupported(Exception):  # noqa: N818 (it names what the translator lacks, not a fault of the kernel)
    """PTX that is not translated."""


class Array(NamedTuple):
    """An array in shared memory."""

    name: str
    size: int
    alignment: int


class Constant(NamedTuple):
    """An initialized array in global or constant memory; ``values`` are its bytes as text."""

    name: str
    size: int
    values: str


class Parameter(NamedTuple):
    """A parameter or a result of a function, with its type, such as u64."""

    kind: str
    name: str


class Label(NamedTuple):
    """A target of branches."""

    name: str


class Scope(NamedTuple):
    """A brace."""

    opens: bool


class Registers(NamedTuple):
    """A declaration of registers of one type."""

    kind: str
    names: list[str]


class Instruction(NamedTuple):
    """An instruction, with the predicate that guards it ("" for none, "!%p1" for a negated one) and its line."""

    guard: str
    opcode: str
    operands: list[str]
    line: int


Statement = Label | Scope | Registers | Instruction


class Function(NamedTuple):
    """A kernel, which is an ``entry``, or a function that kernels call."""

    entry: bool
    name: str
    results: list[Parameter]
    parameters: list[Parameter]
    body: list[Statement]


class Module(NamedTuple):
    """The PTX of a kernel."""

    shared: list[Array]
    constants: list[Constant]
    functions: list[Function]
    max_threads: int  # per block

    @property
    def entry(self) -> Function:
        """The kernel."""
        (found,) = (function for function in self.functions if function.entry)
        return found


def parse(text: str) -> Module:
    """Parse the PTX of one kernel."""
    text = re.sub(r"//[^\n]*", "", text)
    if re.search(r"^\s*\.local ", text, re.MULTILINE):
        raise Unsupported("arrays in local memory")
    shared = [
        Array(name, int(size or 1), int(alignment))
        for alignment, name, size in re.findall(
            r"^\s*(?:\.visible |\.extern )?\.shared \.align (\d+) \.b8 ([\w$]+)(?:\[(\d*)\])?;", text, re.MULTILINE
        )
    ]
    constants = [
        Constant(name, int(size), values)
        for name, size, values in re.findall(
            r"^\s*(?:\.visible )?\.(?:global|const) \.align \d+ \.b8 ([\w$]+)\[(\d+)\]\s*=\s*\{([^}]*)\};",
            text,
            re.MULTILINE,
        )
    ]
    limit = re.search(r"\.maxntid (\d+)(?:, (\d+), (\d+))?", text)
    sizes = [int(size or 1) for size in limit.groups()] if limit else [1024, 1, 1]
    return Module(shared, constants, _functions(text), sizes[0] * sizes[1] * sizes[2])


def _functions(text: str) -> list[Function]:
    found = []
    for match in re.finditer(r"^(?:\.visible |\.weak )*\.(entry|func)\b([^{;]*?)\{\n", text, re.MULTILINE):
        head, end = match[2], _closing_brace(text, match.end())
        first = text.count("\n", 0, match.end()) + 1
        declared = [Parameter(*pair) for pair in re.findall(r"\.param \.(?:align \d+ \.)?(\w+) ([\w$]+)", head)]
        results = [parameter for parameter in declared if parameter.name.startswith("func_retval")]
        name = re.search(r"(?:^|\))\s*([\w$]+)\s*(?:\(|$)", head.strip())
        assert name, head
        body = _statements(text[match.end() : end], first)
        rest = [parameter for parameter in declared if parameter not in results]
        found.append(Function(match[1] == "entry", name[1], results, rest, body))
    return found


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for match in re.finditer(r"[{}]", text[start:]):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return start + match.start()
    raise Unsupported("a function without an end")


def _statements(body: str, first_line: int) -> list[Statement]:
    found: list[Statement] = []
    pending = ""
    for number, source in enumerate(body.split("\n"), first_line):
        rest = source.strip()
        while rest:
            if not pending:
                label = re.match(r"(\$?[\w$]+):", rest)
                if label:
                    found.append(Label(label[1]))
                    rest = rest[label.end() :].strip()
                    continue
                if rest[0] == "}" or rest == "{":
                    found.append(Scope(rest[0] == "{"))
                    rest = rest[1:].strip()
                    continue
                if rest[0] == "{" and not rest[1:].lstrip().startswith("%"):
                    found.append(Scope(True))
                    rest = rest[1:].strip()
                    continue
            head, semicolon, rest = rest.partition(";")
            pending = f"{pending} {head}".strip()
            if semicolon:
                found += _statement(pending, number)
                pending, rest = "", rest.strip()
    return found


def _statement(text: str, line: int) -> list[Statement]:
    if not text or text.startswith((".pragma", ".loc", ".file")):
        return []
    declaration = re.match(r"\.(?:reg|param) \.(?:align \d+ \.)?(\w+)\s+(.*)$", text)
    if declaration:
        return [Registers(declaration[1], _declared(declaration[2]))]
    match = re.match(r"(?:@(!?%\w+)\s+)?(\S+)\s*(.*)$", text, re.DOTALL)
    assert match, text
    return [Instruction(match[1] or "", match[2], split(match[3]), line)]


def _declared(text: str) -> list[str]:
    """Return the names in a declaration: %r<4> is %r1 to %r3."""
    names = []
    for part in split(text):
        several = re.match(r"(%\w+)<(\d+)>$", part)
        names += [f"{several[1]}{i}" for i in range(1, int(several[2]))] if several else [part]
    return names


def split(text: str) -> list[str]:
    """Split operands at the commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts
