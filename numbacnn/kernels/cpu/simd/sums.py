"""What the tiles of depthwise convolution have in common: sums of vectors of channels, in registers."""

from llvmlite import ir
from numba.core import cgutils

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import FLOAT
from numbacnn.kernels.target import host_target


class Emitter:
    """Writes a tile's IR at the builder's place: ``count`` sums that start at zero, and vectors, whole or of so many
    ``columns``."""

    def __init__(self, builder, count, lanes, columns):
        self.builder, self.count, self.lanes, self.fma = builder, count, lanes, host_target().fma
        self.vector = ir.VectorType(FLOAT, lanes)
        self.mask = None if columns is None else llvm.mask(builder, columns, lanes)
        self.sums = [cgutils.alloca_once(builder, self.vector) for _ in range(count)]
        for place in self.sums:
            builder.store(llvm.zeros(self.vector), place)

    def pointer(self, address):
        """A float pointer."""
        return self.builder.inttoptr(address, FLOAT.as_pointer())

    def step(self, pointer, index, step):
        """The pointer ``index`` steps on."""
        return self.builder.gep(pointer, [self.builder.mul(index, step)])

    def add_product(self, place, a, b):
        """sum += a · b."""
        self.builder.store(llvm.fma(self.builder, a, b, self.builder.load(place), self.fma), place)

    def add(self, place, value):
        """sum += value."""
        self.builder.store(self.builder.fadd(self.builder.load(place), value), place)

    def load(self, pointer):
        """A vector from ``pointer``."""
        if self.mask is None:
            return llvm.load(self.builder, pointer, self.vector)
        return llvm.load_masked(self.builder, pointer, self.mask, self.vector)

    def store(self, value, pointer):
        """A vector to ``pointer``."""
        if self.mask is None:
            llvm.store(self.builder, value, pointer)
        else:
            llvm.store_masked(self.builder, value, pointer, self.mask)
