"""Translates PTX to C: a function for each of the module's functions, which runs one thread (PTX ISA, chapter 9).

Registers become local variables of their declared type, and instructions become statements: memory accesses and
barriers call ``runtime.c``, which checks them. Floating-point operations keep PTX's rounding; approximate ones
(``ex2.approx``, ``rcp.approx``) are computed exactly and rounded.
"""

import re
from collections.abc import Iterable

from ptx.parser import Function, Instruction, Label, Module, Registers, Scope, Statement, Unsupported, split

C_TYPES = {
    "pred": "uint8_t", "f32": "float", "f64": "double",
    **{f"{kind}{bits}": f"{sign}int{bits}_t" for bits in (8, 16, 32, 64) for kind, sign in (("u", "u"), ("b", "u"))},
    **{f"s{bits}": f"int{bits}_t" for bits in (8, 16, 32, 64)},
}  # fmt: skip
SIZES = {kind: 1 if kind == "pred" else int(kind[1:]) // 8 for kind in C_TYPES}
FLOATS = ("f32", "f64")
# Values that no kernel may depend on, so that reading an unwritten register shows.
UNWRITTEN = {"f32": "float_of(0x7fc0dead)", "f64": "double_of(0x7ff8dead00000000)", "pred": "1"}
SPECIAL = {
    f"%{name}.{axis}": f"t->{name}[{i}]" for name in ("tid", "ntid", "ctaid", "nctaid") for i, axis in enumerate("xyz")
}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">",
               "hs": ">="}  # fmt: skip
ROUNDINGS = {"rzi": "trunc", "rni": "rint", "rmi": "floor", "rpi": "ceil"}  # to an integer
DIRECTIONS = {"rm": "FE_DOWNWARD", "rp": "FE_UPWARD", "rz": "FE_TOWARDZERO"}  # of a result
ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^"}
MATRIX_PRODUCTS = {
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32": "TF32",
    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32": "BF16",
}


def translate(module: Module) -> str:
    """Return the C source of a module, whose kernel is the function ``kernel``."""
    functions = [_Function(module, function) for function in module.functions]
    constants = [
        f"static const uint8_t {identifier(name)}[{size}] __attribute__((aligned(64))) = {{{values}}};"
        for name, size, values in module.constants
    ]
    if constants:
        names = " ".join(f"READ_FROM({identifier(name)})" for name, _, _ in module.constants)
        constants.append(
            f"static void *any_memory(ACCESS) {{ {names} return memory(t, at, size, count, writes, line); }}"
        )
    prototypes = [f"{function.head};" for function in functions]
    return "\n".join(['#include "runtime.h"', *constants, *prototypes, *(f.source() for f in functions)]) + "\n"


def waits(module: Module) -> bool:
    """Return whether threads of the module wait for each other."""
    opcodes = (s.opcode for f in module.functions for s in f.body if isinstance(s, Instruction))
    return any(opcode.startswith(("bar.", "barrier.", "mma.")) for opcode in opcodes)


def offsets(module: Module) -> list[tuple[int, str]]:
    """Return the offset and the type of each parameter of the kernel."""
    found, end = [], 0
    for kind, _ in module.entry.parameters:
        start = -(-end // SIZES[kind]) * SIZES[kind]
        found.append((start, kind))
        end = start + SIZES[kind]
    return found


def identifier(name: str) -> str:
    """Return a name of PTX as one of C."""
    return re.sub(r"\W", "_", name)


class _Function:
    """The translation of one function."""

    def __init__(self, module: Module, function: Function) -> None:
        self.module, self.function = module, function
        self.shared = {array.name: i for i, array in enumerate(module.shared)}
        self.constants = {constant.name for constant in module.constants}
        self.kinds = {parameter.name: parameter.kind for parameter in (*function.parameters, *function.results)}
        for statement in function.body:
            if isinstance(statement, Registers):
                self.kinds |= dict.fromkeys(statement.names, statement.kind)
        entry = zip(function.parameters, offsets(module) if function.entry else (), strict=False)
        self.offsets = {parameter.name: start for parameter, (start, _) in entry}

    @property
    def head(self) -> str:
        """The function's declaration."""
        if self.function.entry:
            return "void kernel(Thread *t)"
        result = C_TYPES[self.function.results[0].kind] if self.function.results else "void"
        arguments = [f"{C_TYPES[kind]} {identifier(name)}" for kind, name in self.function.parameters]
        return f"static {result} {identifier(self.function.name)}({', '.join(['Thread *t', *arguments])})"

    def source(self) -> str:
        """Return the function's definition."""
        results = [f"{C_TYPES[kind]} {identifier(name)} = 0;" for kind, name in self.function.results]
        return "\n".join([f"{self.head} {{", *results, *map(self.statement, self.function.body), "}"])

    def statement(self, statement: Statement) -> str:
        """Return a statement in C."""
        match statement:
            case Label(name):
                return f"L{identifier(name)}:;"
            case Scope(opens):
                return "{" if opens else "}"
            case Registers(kind, names):
                unwritten = UNWRITTEN.get(kind, f"({C_TYPES[kind]})0xdeadbeefdeadbeef")
                return "".join(f"{C_TYPES[kind]} {identifier(name)} = {unwritten}; " for name in names)
            case _:
                return self.instruction(statement)

    def instruction(self, instruction: Instruction) -> str:
        """Return an instruction in C, under its predicate."""
        base, *modifiers = instruction.opcode.split(".")
        method = getattr(self, f"_{base}", None)
        if method is None:
            raise Unsupported(f"line {instruction.line}: {instruction.opcode}")
        try:
            code = method(modifiers, instruction.operands, instruction.line)
        except (KeyError, ValueError, IndexError) as error:
            raise Unsupported(f"line {instruction.line}: {instruction.opcode} ({error!r})") from None
        if code is None:
            raise Unsupported(f"line {instruction.line}: {instruction.opcode}")
        if not instruction.guard:
            return str(code)
        negated = instruction.guard.startswith("!")
        return f"if ({'!' * negated}{identifier(instruction.guard.lstrip('!'))}) {{ {code} }}"

    # -- operands -----------------------------------------------------------------------------------------------------

    def read(self, operand: str, kind: str) -> str:
        """Return the value of an operand as one of a type."""
        if operand in SPECIAL:
            return f"({C_TYPES[kind]}){SPECIAL[operand]}"
        if re.fullmatch(r"0[fF][0-9A-Fa-f]{8}", operand):
            return f"float_of(0x{operand[2:]}u)"
        if re.fullmatch(r"0[dD][0-9A-Fa-f]{16}", operand):
            return f"double_of(0x{operand[2:]}ull)"
        if re.fullmatch(r"-?\d+|0x[0-9A-Fa-f]+U?", operand):
            return f"({C_TYPES[kind]}){int(operand.rstrip('U'), 0) & (1 << 64) - 1}ull"
        if operand in self.shared:
            return f"t->shared[{self.shared[operand]}]"
        if operand in self.constants:
            return f"(uint64_t){identifier(operand)}"
        return self._converted(identifier(operand), self.kinds[operand], kind)

    @staticmethod
    def _converted(value: str, held: str, kind: str) -> str:
        """Return a value of type ``held``, or its bits, as one of type ``kind``."""
        if kind in FLOATS:
            return value if held == kind else f"{'float' if kind == 'f32' else 'double'}_of({value})"
        bits = f"bits_of_{'float' if held == 'f32' else 'double'}({value})" if held in FLOATS else value
        return f"({C_TYPES[kind]})({bits})"

    def write(self, operand: str, kind: str, value: str) -> str:
        """Return the assignment of a value of a type to a register."""
        if operand == "_":
            return f"(void)({value});"
        held = self.kinds[operand]
        if held in FLOATS or kind in FLOATS:
            value = self._converted(value, kind, held)
        return f"{identifier(operand)} = {value};"

    def compute(self, kind: str, operands: list[str], expression: str) -> str:
        """Write an expression of {1}, {2}, … to the first operand; all are of one type."""
        values = ["", *(f"({self.read(operand, kind)})" for operand in operands[1:])]
        return self.write(operands[0], kind, f"({C_TYPES[kind]})({expression.format(*values)})")

    def address(self, operand: str) -> tuple[str, str, int]:
        """Return the address in [register+offset], its base, and the offset."""
        base, _, offset = operand.strip("[]").partition("+")
        base, distance = base.strip(), int(offset or 0)
        value = self.read(base, "u64") if base in self.kinds or base in self.shared or base in self.constants else "0"
        return f"({value} + (int64_t){distance})", base, distance

    # -- control ------------------------------------------------------------------------------------------------------

    def _bra(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return f"goto L{identifier(operands[0])};"

    def _ret(self, modifiers: list[str], operands: list[str], line: int) -> str:
        results = self.function.results
        return f"return {identifier(results[0].name)};" if results and not self.function.entry else "return;"

    _exit = _ret

    def _trap(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return f'report(t, "trap", {line}, 0); return;'

    def _bar(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        return f"barrier(t, {line});" if modifiers == ["sync"] and operands == ["0"] else None

    _barrier = _bar

    def _call(self, modifiers: list[str], operands: list[str], line: int) -> str:
        results = [name.strip() for name in split(operands[0].strip("()"))] if operands[0][0] == "(" else []
        name, *rest = operands[1:] if results else operands
        arguments = [identifier(part) for part in split(rest[0].strip("() \n\t"))] if rest else []
        call = f"{identifier(name)}({', '.join(['t', *arguments])})"
        return f"{identifier(results[0])} = {call};" if results else f"{call};"

    # -- moves and memory ---------------------------------------------------------------------------------------------

    def _mov(self, modifiers: list[str], operands: list[str], line: int) -> str:
        kind, (target, source) = modifiers[-1], operands
        if target[0] == "{":
            width = SIZES[kind] * 8 // len(split(target[1:-1]))
            parts = [
                self.write(part, f"b{width}", f"(uint{width}_t)(packed >> {width * i})")
                for i, part in enumerate(split(target[1:-1]))
            ]
            return f"{{ uint64_t packed = {self.read(source, kind)}; {' '.join(parts)} }}"
        if source[0] == "{":
            parts = split(source[1:-1])
            width = SIZES[kind] * 8 // len(parts)
            values = [f"((uint64_t){self.read(part, f'b{width}')} << {width * i})" for i, part in enumerate(parts)]
            return self.write(target, kind, f"({C_TYPES[kind]})({' | '.join(values)})")
        return self.write(target, kind, self.read(source, kind))

    def _cvta(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return self.write(operands[0], modifiers[-1], self.read(operands[1], modifiers[-1]))

    def _ld(self, modifiers: list[str], operands: list[str], line: int) -> str:
        kind, (target, source) = modifiers[-1], operands
        if "param" in modifiers:
            _, base, distance = self.address(source)
            if base in self.offsets:
                parameter = f"t->parameters + {self.offsets[base] + distance}"
                return self.write(target, kind, f"*({C_TYPES[kind]} *)({parameter})")
            return self.write(target, kind, self.read(base, kind))
        targets = split(target[1:-1]) if target[0] == "{" else [target]
        pointer = self._access(source, kind, len(targets), False, line)
        reads = [self.write(each, kind, f"p[{i}]") for i, each in enumerate(targets)]
        return f"{{ const {C_TYPES[kind]} *p = {pointer}; {' '.join(reads)} }}"

    def _st(self, modifiers: list[str], operands: list[str], line: int) -> str:
        kind, (target, source) = modifiers[-1], operands
        if "param" in modifiers:
            _, base, _ = self.address(target)
            return self.write(base, kind, self.read(source, kind))
        sources = split(source[1:-1]) if source[0] == "{" else [source]
        pointer = self._access(target, kind, len(sources), True, line)
        writes = [f"p[{i}] = {self.read(each, kind)};" for i, each in enumerate(sources)]
        return f"{{ {C_TYPES[kind]} *p = {pointer}; {' '.join(writes)} }}"

    def _access(self, operand: str, kind: str, count: int, writes: bool, line: int) -> str:
        """Return a pointer to memory that the runtime has checked."""
        address, _, _ = self.address(operand)
        function = "any_memory" if self.constants else "memory"
        return f"{function}(t, {address}, {SIZES[kind]}, {count}, {int(writes)}, {line})"

    # -- arithmetic ---------------------------------------------------------------------------------------------------

    def _binary(self, name: str, modifiers: list[str], operands: list[str]) -> str | None:
        kind, given = modifiers[-1], [part for part in modifiers[:-1] if part not in ("rn", "lo", "ftz")]
        if kind == "pred":
            kind = "b8"
        if kind in FLOATS and given and given[0] in DIRECTIONS:
            direction, symbol = DIRECTIONS[given[0]], ARITHMETIC[name]
            return self.compute(kind, operands, f"rounded_{kind}({direction}, '{symbol}', {{1}}, {{2}}, 0)")
        if given:
            return None
        unsigned = kind if kind in FLOATS else f"u{SIZES[kind] * 8}"  # overflow of signed numbers is undefined in C
        return self.compute(unsigned, operands, f"{{1}} {ARITHMETIC[name]} {{2}}")

    def _add(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        return self._binary("add", modifiers, operands)

    def _sub(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        return self._binary("sub", modifiers, operands)

    def _and(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        return self._binary("and", modifiers, operands)

    def _or(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        return self._binary("or", modifiers, operands)

    def _xor(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        return self._binary("xor", modifiers, operands)

    def _mul(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        kind = modifiers[-1]
        if modifiers[0] == "wide":
            return self._wide(kind, operands, "{0} * {1}")
        if modifiers[0] == "hi":
            wide = {4: "int64_t", 8: "__int128"}[SIZES[kind]]
            sign = ("unsigned " if SIZES[kind] == 8 else "u") if kind[0] == "u" else ""
            return self.compute(kind, operands, f"(({sign}{wide}){{1}} * ({sign}{wide}){{2}}) >> {SIZES[kind] * 8}")
        return self._binary("mul", modifiers, operands)

    def _mad(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        if modifiers[0] == "wide":
            return self._wide(modifiers[-1], operands, "{0} * {1} + {2}")
        unsigned = f"u{SIZES[modifiers[-1]] * 8}"
        return self.compute(unsigned, operands, "{1} * {2} + {3}") if modifiers[0] == "lo" else None

    def _wide(self, kind: str, operands: list[str], expression: str) -> str:
        """Return a product of twice the width of its factors, and a sum with a number of that width."""
        wide = f"{kind[0]}{SIZES[kind] * 16}"
        values = [f"({C_TYPES[wide]})({self.read(operand, kind)})" for operand in operands[1:3]]
        values += [f"({self.read(operand, wide)})" for operand in operands[3:]]
        return self.write(operands[0], wide, expression.format(*values))

    def _fma(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        kind, rounding = modifiers[-1], modifiers[0]
        if rounding in DIRECTIONS:
            return self.compute(kind, operands, f"rounded_{kind}({DIRECTIONS[rounding]}, 'f', {{1}}, {{2}}, {{3}})")
        if rounding != "rn":
            return None
        return self.compute(kind, operands, f"{'fmaf' if kind == 'f32' else 'fma'}({{1}}, {{2}}, {{3}})")

    def _div(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        kind = modifiers[-1]
        if kind in FLOATS:
            return self.compute(kind, operands, "{1} / {2}")
        return self.compute(kind, operands, f"divided_{kind[0]}64(t, {{1}}, {{2}}, {line})")

    def _rem(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return self.compute(modifiers[-1], operands, f"remainder_{modifiers[-1][0]}64(t, {{1}}, {{2}}, {line})")

    def _extremum(self, name: str, modifiers: list[str], operands: list[str]) -> str | None:
        kind = modifiers[-1]
        if len(modifiers) > 1 and modifiers[:-1] != ["ftz"]:
            return None
        if kind in FLOATS:  # which returns the other number if one is NaN, as C's functions do
            return self.compute(kind, operands, f"f{name}{'f' if kind == 'f32' else ''}({{1}}, {{2}})")
        return self.compute(kind, operands, f"{{1}} {'<' if name == 'min' else '>'} {{2}} ? {{1}} : {{2}}")

    def _min(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        return self._extremum("min", modifiers, operands)

    def _max(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        return self._extremum("max", modifiers, operands)

    def _neg(self, modifiers: list[str], operands: list[str], line: int) -> str:
        kind = modifiers[-1]
        return self.compute(kind, operands, "-{1}" if kind in FLOATS else "0 - {1}")

    def _abs(self, modifiers: list[str], operands: list[str], line: int) -> str:
        absolute = {"f32": "fabsf({1})", "f64": "fabs({1})"}
        return self.compute(modifiers[-1], operands, absolute.get(modifiers[-1], "{1} < 0 ? 0 - {1} : {1}"))

    def _not(self, modifiers: list[str], operands: list[str], line: int) -> str:
        pred = modifiers[-1] == "pred"
        return self.compute("b8" if pred else modifiers[-1], operands, "!{1}" if pred else "~{1}")

    def _shl(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return self._shift(modifiers[-1], operands, "<<", "0")

    def _shr(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return self._shift(modifiers[-1], operands, ">>", "value < 0 ? -1 : 0" if modifiers[-1][0] == "s" else "0")

    def _shift(self, kind: str, operands: list[str], symbol: str, beyond: str) -> str:
        """Return a shift; PTX defines those by the width or more."""
        value, count = self.read(operands[1], kind), self.read(operands[2], "u32")
        shifted = f"count >= {SIZES[kind] * 8} ? ({C_TYPES[kind]})({beyond}) : ({C_TYPES[kind]})(value {symbol} count)"
        declared = f"{C_TYPES[kind]} value = {value}; uint32_t count = {count};"
        return f"{{ {declared} {self.write(operands[0], kind, shifted)} }}"

    def _sqrt(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return self.compute(modifiers[-1], operands, "sqrtf({1})" if modifiers[-1] == "f32" else "sqrt({1})")

    def _rcp(self, modifiers: list[str], operands: list[str], line: int) -> str:
        kind = modifiers[-1]
        if modifiers[0] == "approx" and kind == "f64":
            return self.compute(kind, operands, "approximate_reciprocal({1})")
        return self.compute(kind, operands, "1 / {1}")

    def _rsqrt(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return self.compute(modifiers[-1], operands, "1 / sqrt({1})")

    def _ex2(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return self.compute(modifiers[-1], operands, f"power_of_two({{1}}, {int('ftz' in modifiers)})")

    def _lg2(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return self.compute(modifiers[-1], operands, "log2f({1})")

    def _clz(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return self.write(operands[0], "u32", f"leading_zeros({self.read(operands[1], modifiers[-1])})")

    def _copysign(self, modifiers: list[str], operands: list[str], line: int) -> str:
        return self.compute(modifiers[-1], operands, "copysign({2}, {1})")

    # -- comparisons and conversions ----------------------------------------------------------------------------------

    def _setp(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        comparison, kind = modifiers[0], modifiers[-1]
        if len([part for part in modifiers if part != "ftz"]) != 2:
            return None
        a, b = (f"({self.read(operand, kind)})" for operand in operands[1:])
        return self.write(operands[0], "pred", self._comparison(comparison, kind, a, b))

    @staticmethod
    def _comparison(comparison: str, kind: str, a: str, b: str) -> str:
        unordered = f"({a} != {a} || {b} != {b})"
        if kind in FLOATS:
            if comparison in ("num", "nan"):
                return unordered if comparison == "nan" else f"!{unordered}"
            if comparison[:-1] in COMPARISONS and comparison.endswith("u"):
                return f"({a} {COMPARISONS[comparison[:-1]]} {b} || {unordered})"
            return f"({a} {COMPARISONS[comparison]} {b} && !{unordered})"
        return f"({a} {COMPARISONS[comparison]} {b})"

    def _selp(self, modifiers: list[str], operands: list[str], line: int) -> str:
        kind, (target, yes, no, condition) = modifiers[-1], operands
        value = f"{identifier(condition)} ? {self.read(yes, kind)} : {self.read(no, kind)}"
        return self.write(target, kind, f"({value})")

    def _cvt(self, modifiers: list[str], operands: list[str], line: int) -> str | None:
        (*given, to, held), rest = modifiers, operands[1:]
        if (to, held) == ("tf32", "f32") and given == ["rna"]:
            return self.write(operands[0], "b32", f"rounded_to_tf32({self.read(rest[0], 'f32')})")
        if (to, held) == ("bf16x2", "f32") and given == ["rn"]:
            high, low = (f"rounded_to_bf16({self.read(part, 'f32')})" for part in rest)
            return self.write(operands[0], "b32", f"({high} << 16 | {low})")
        value = f"({self.read(rest[0], held)})"
        given = [part for part in given if part not in ("rn", "ftz")]
        if given == ["sat"] and to == held == "f32":
            return self.write(operands[0], to, f"saturated({value})")
        if not given and (to in FLOATS or held not in FLOATS):
            return self.write(operands[0], to, f"({C_TYPES[to]}){value}")
        if len(given) != 1 or held not in FLOATS:
            return None
        whole = f"{ROUNDINGS[given[0]]}((double){value})"
        return self.write(
            operands[0], to, whole if to in FLOATS else f"({C_TYPES[to]})clipped_{to[0]}{SIZES[to] * 8}({whole})"
        )

    def _mma(self, modifiers: list[str], operands: list[str], line: int) -> str:
        name = MATRIX_PRODUCTS[".".join(["mma", *modifiers])]
        d, a, b, c = (split(operand[1:-1]) for operand in operands)
        words, sums = self._listed([*a, *b], "b32"), self._listed(c, "f32")
        results = " ".join(self.write(each, "f32", f"d[{i}]") for i, each in enumerate(d))
        product = f"matrix_product(t, {name}, (uint32_t[]){{{words}}}, (float[]){{{sums}}}, d, {line});"
        return f"{{ float d[4]; {product} {results} }}"

    def _listed(self, operands: Iterable[str], kind: str) -> str:
        return ", ".join(self.read(operand, kind) for operand in operands)
