"""The launchers of ``kernels.formulas`` for CUDA, made by ``elements``."""

from functools import cache

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.runtime.intrinsics import device_function, scalar_function
from numbacnn.kernels.formulas import FORMULAS
from numbacnn.kernels.formulas.formula import custom_activation, generated
from numbacnn.kernels.registry import launcher


def launcher_of(formula):
    """Make the launcher of a formula."""
    element, inputs, numbers = scalar_function(formula.function), formula.inputs, list(formula.numbers)
    if numbers != list(formula.constants):  # the element function reads entries from their arrays
        line = f"def kernel({', '.join([*inputs, *numbers])}): return element({', '.join(formula.arguments)})"
        element = device_function(generated([line], f"{formula.name}_element", element=element))
    applies = None
    if formula.condition:
        array, index = numbers.index(formula.condition.array), formula.condition.position
        applies = device_function(lambda numbers: numbers[array][index] != 0)
    kernel = element_kernel(
        len(formula.outputs), len(inputs), 0, formula.numbers.values(), f"_{formula.name}", applies
    )(element)
    written, read = ([formula.arrays.index(name) for name in names] for names in (formula.outputs, inputs))
    count = len(formula.arrays)

    def launch(*arguments):
        kernel([arguments[i] for i in written], [arguments[i] for i in read], constants=arguments[count:])

    launch.__signature__ = formula.signature
    return as_launcher(launch, formula.name, formula.function.__doc__)


def as_launcher(launch, name, doc):
    """Give a generated launcher its name and docstring."""
    launch.__name__ = launch.__qualname__ = name
    launch.__doc__ = doc
    return launch


@launcher
@cache
def activation_kernels(name, function, gradient):
    """Make ``name_forward(y, x)`` and ``name_gradient_in_place(dy, x)`` from custom scalar functions."""
    return tuple(launcher_of(formula) for formula in custom_activation(name, function, gradient))


LAUNCHERS = {name: launcher(launcher_of(formula)) for name, formula in FORMULAS.items()}
