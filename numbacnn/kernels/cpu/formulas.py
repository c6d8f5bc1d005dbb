"""The CPU kernels of ``kernels.formulas``: vectorized loops over rows of images, or over blocks of flat arrays.

Each thread owns a range of rows or blocks.
"""

from functools import cache, partial

from numba import prange

from numbacnn.kernels.cpu.simd.math import vectorizable
from numbacnn.kernels.cpu.views import block, blocks, row, rows
from numbacnn.kernels.custom import code_key
from numbacnn.kernels.formulas import FORMULAS
from numbacnn.kernels.formulas.formula import custom_activation, generated
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined
from numbacnn.kernels.registry import launcher


def kernel_of(formula, custom=False):
    """Make the CPU kernel of a formula. A ``custom`` function keeps its ``math``, and its code is the kernel's key."""
    function = inlined(formula.function, always=True) if custom else vectorizable(formula.function)
    count, part, kind = (blocks, block, float32_1d) if formula.flat else (rows, row, float32_4d)
    first, constants = formula.arrays[0], list(formula.constants)
    read, written = ([f"{name}[i]" for name in names] for names in (formula.inputs, formula.outputs))
    loop = [
        f"def kernel({', '.join([*formula.arrays, *constants])}):",
        f"    for i in range(len({first})):",
        f"        {', '.join(written)} = function({', '.join([*read, *constants])})",
    ]
    body = [f"    {name} = {entry}" for name, entry in formula.entries.items()]
    if formula.condition:
        body += [f"    if {formula.condition} == 0:", "        return"]
    parts = [f"part({name}, item)" for name in formula.arrays]
    body += [f"    for item in prange(count({first})):", f"        loop({', '.join([*parts, *constants])})"]
    loop = inlined(generated(loop, f"{formula.name}_loop", function=function))
    kernel = generated(
        [f"def kernel({', '.join(formula.parameters)}):", *body],
        formula.name, prange=prange, count=count, part=part, loop=loop, __name__=__name__,
    )  # fmt: skip
    kernel.__doc__ = formula.function.__doc__
    signature = [*[kind] * len(formula.arrays), *formula.numbers.values()]
    return cpu_kernel(*signature, key=partial(code_key, formula.function) if custom else None)(kernel)


@launcher
@cache
def activation_kernels(name, function, gradient):
    """Make the kernels ``name_forward(y, x)`` and ``name_gradient_in_place(dy, x)`` of custom scalar functions."""
    return tuple(kernel_of(formula, custom=True) for formula in custom_activation(name, function, gradient))


LAUNCHERS = {name: launcher(kernel_of(formula)) for name, formula in FORMULAS.items()}
