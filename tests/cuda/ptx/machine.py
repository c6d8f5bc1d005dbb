"""Whether PTX can be translated, compiled and run here, for the tests of this folder."""

import platform
import shutil

import pytest

from numbacnn.kernels.cuda.runtime import backend

usable = backend.INSTALLED and not backend.SIMULATED and platform.machine() == "x86_64" and shutil.which("gcc")
needs_compilers = pytest.mark.skipif(not usable, reason="needs numba-cuda, not simulated, and gcc on x86-64")
