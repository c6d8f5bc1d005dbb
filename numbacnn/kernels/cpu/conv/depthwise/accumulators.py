"""LLVM IR that the depthwise microkernels share: accumulators in registers, and vectors of channels."""

from llvmlite import ir
from numba.core import cgutils

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import FLOAT
from numbacnn.kernels.target import host_target


class Emitter:
    """Emits a microkernel at the builder's position, with ``count`` accumulators that start at zero.

    Vectors are whole, or have ``columns`` channels if that is given.
    """

    def __init__(self, builder, count, lanes, columns):
        self.builder, self.count, self.lanes, self.fma = builder, count, lanes, host_target().fma
        self.vector = ir.VectorType(FLOAT, lanes)
        self.mask = None if columns is None else llvm.mask(builder, columns, lanes)
        self.sums = [cgutils.alloca_once(builder, self.vector) for _ in range(count)]
        for accumulator in self.sums:
            builder.store(llvm.zeros(self.vector), accumulator)

    def pointer(self, address):
        """Return a float pointer."""
        return self.builder.inttoptr(address, FLOAT.as_pointer())

    def step(self, pointer, index, stride):
        """Advance a pointer by ``index`` strides."""
        return self.builder.gep(pointer, [self.builder.mul(index, stride)])

    def add_product(self, accumulator, a, b):
        """accumulator += a · b."""
        self.builder.store(llvm.fma(self.builder, a, b, self.builder.load(accumulator), self.fma), accumulator)

    def add(self, accumulator, value):
        """accumulator += value."""
        self.builder.store(self.builder.fadd(self.builder.load(accumulator), value), accumulator)

    def load(self, pointer):
        """Load a vector."""
        if self.mask is None:
            return llvm.load(self.builder, pointer, self.vector)
        return llvm.load_masked(self.builder, pointer, self.mask, self.vector)

    def store(self, value, pointer):
        """Store a vector."""
        if self.mask is None:
            llvm.store(self.builder, value, pointer)
        else:
            llvm.store_masked(self.builder, value, pointer, self.mask)
