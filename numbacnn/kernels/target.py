"""The processor that kernels are compiled for."""

import os
import platform
from dataclasses import dataclass
from functools import cache

from numbacnn.errors import ArgumentError

WIDTH_VARIABLE = "NUMBACNN_VECTOR_WIDTH"


@dataclass(frozen=True)
class Target:
    """The facts of a processor that kernels and plans depend on."""

    instruction_set: str
    lanes: int  # float32 lanes of a vector register
    registers: int  # vector registers
    fma: bool  # has an instruction for fused multiply-add; without it, fma would become a library call

    @property
    def mr(self) -> int:
        """Rows of the GEMM microkernel: two accumulator vectors each, with registers left for the operands."""
        return 8 if self.registers >= 32 else 6

    @property
    def nr(self) -> int:
        """Columns of the GEMM microkernel."""
        return 2 * self.lanes


@cache
def host_target() -> Target:
    """The target of this machine; ``NUMBACNN_VECTOR_WIDTH`` (4, 8 or 16 lanes) forces another vector width.

    Raises ArgumentError for other widths.
    """
    target = _detect()
    forced = os.environ.get(WIDTH_VARIABLE)
    if not forced:
        return target
    if forced not in ("4", "8", "16"):
        raise ArgumentError(f"{WIDTH_VARIABLE}={forced}: choose 4, 8 or 16 lanes, or unset it")
    name = f"{int(forced)} lanes forced on {target.instruction_set}"
    return Target(name, int(forced), target.registers, target.fma)


def _detect() -> Target:
    features = _features()
    if platform.machine().lower() in ("arm64", "aarch64"):
        return Target("NEON", lanes=4, registers=32, fma=True)
    if {"avx512f", "avx512vl", "avx512dq", "avx512bw"} <= features:
        return Target("AVX-512", lanes=16, registers=32, fma=True)
    if {"avx2", "fma"} <= features:
        return Target("AVX2", lanes=8, registers=16, fma=True)
    return Target("SSE", lanes=4, registers=16, fma="fma" in features)


def _features() -> set[str]:
    """The features that Numba compiles for: the host's, or those set by NUMBA_CPU_FEATURES or NUMBA_CPU_NAME.

    Without AVX, by NUMBA_ENABLE_AVX=0, there are no fused multiply-adds either, whose encoding is AVX's.
    """
    import llvmlite.binding as llvm
    from numba.core import config

    if config.CPU_FEATURES is not None:
        return {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    if config.CPU_NAME == "generic":
        return set()
    names = {name for name, present in llvm.get_host_cpu_features().items() if present}
    return names if config.ENABLE_AVX else {name for name in names if not name.startswith(("avx", "fma"))}
