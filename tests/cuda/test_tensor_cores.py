"""GEMM on tensor cores: the fragments of a warp, rounding, and convolutions and dense layers of rounded operands.

In the simulator the instruction itself is ``tensor_cores.multiply_warp``, whose tables are those of the PTX ISA.
"""

import copy

import numpy as np
import pytest
from convolutions import CALLS
from emulation import PTX
from engine import assert_close
from test_twins import Arrays
from twins import Image

import numbacnn as nc
from numbacnn.bench.peaks import measure_peaks
from numbacnn.engine.device import CudaDevice, get_device
from numbacnn.kernels.cpu import launchers as cpu
from numbacnn.kernels.cpu import sizes as cpu_sizes
from numbacnn.kernels.cuda import launchers as cuda
from numbacnn.kernels.cuda import roofline
from numbacnn.kernels.cuda import sizes as cuda_sizes
from numbacnn.kernels.cuda.gemm import gemm, tensor_core_gemm
from numbacnn.kernels.cuda.gemm import tensor_cores as cores
from numbacnn.kernels.cuda.runtime import backend, driver
from numbacnn.kernels.cuda.runtime.array import DeviceArray
from numbacnn.kernels.cuda.runtime.array import to_device as on_device

ROUND = {"tf32": cores.round_to_tf32, "bf16": cores.round_to_bf16}
LAUNCHERS = ("conv2d_forward", "conv2d_input_gradient", "conv2d_weight_gradient", "dense_forward")
REASONS = {
    "tf32": ("fours", "groups", "dilation", "5x7 to 3"),
    "bf16": ("fours", "strides, ReLU", "many filters, mask"),
}


def python(function):
    """Return a device function as Python calls it."""
    return getattr(function, "py_func", function)


# -- fragments --------------------------------------------------------------------------------------------------------

A_OF_LANE_13 = [(3, 1), (11, 1), (3, 5), (11, 5)]  # PTX ISA, "Matrix fragments for mma.m16n8k8": group 3, thread 1
B_OF_LANE_13 = [(1, 3), (5, 3)]
C_OF_LANE_13 = [(3, 2), (3, 3), (11, 2), (11, 3)]


@pytest.mark.anywhere
def test_the_elements_of_a_lane_are_those_of_the_instruction_set():
    for fragment, expected in (
        (cores.a_fragment, A_OF_LANE_13),
        (cores.b_fragment, B_OF_LANE_13),
        (cores.c_fragment, C_OF_LANE_13),
    ):
        assert [python(fragment)(13, register) for register in range(len(expected))] == expected


@pytest.mark.anywhere
@pytest.mark.parametrize("elements", [1, 2])
def test_fragments_multiply_to_the_product_of_the_matrices(elements):
    """From matrices to the words of lanes by the functions of kernels, and back by the tables."""
    draw = np.random.default_rng(0)
    a, b, c = (
        draw.integers(-8, 9, (16, 8 * elements)),
        draw.integers(-8, 9, (8 * elements, 8)),
        draw.integers(-99, 99, (16, 8)),
    )
    pack = cores.pack_tf32 if elements == 1 else cores.pack_bf16
    operands = []
    for lane in range(cores.WARP):
        at_a = [python(cores.a_fragment)(lane, register) for register in range(cores.A_REGISTERS)]
        at_b = [python(cores.b_fragment)(lane, register) for register in range(cores.B_REGISTERS)]
        at_c = [python(cores.c_fragment)(lane, register) for register in range(cores.C_REGISTERS)]
        words = [pack(a[row, elements * word : elements * (word + 1)].astype(np.float32)) for row, word in at_a]
        words += [pack(b[elements * word : elements * (word + 1), column].astype(np.float32)) for word, column in at_b]
        operands.append([*words, *(np.float32(c[index]) for index in at_c)])
    expected = a @ b + c
    for lane, found in enumerate(cores.multiply_warp(operands, elements)):
        assert [expected[python(cores.c_fragment)(lane, register)] for register in range(4)] == list(found), lane


@pytest.mark.anywhere
def test_every_element_of_a_matrix_is_in_one_register():
    for fragment, registers, shape in (
        (cores.a_fragment, cores.A_REGISTERS, (cores.ROWS, cores.WORDS)),
        (cores.b_fragment, cores.B_REGISTERS, (cores.WORDS, cores.COLUMNS)),
        (cores.c_fragment, cores.C_REGISTERS, (cores.ROWS, cores.COLUMNS)),
    ):
        found = {python(fragment)(lane, register) for lane in range(cores.WARP) for register in range(registers)}
        assert found == set(np.ndindex(shape))


# -- rounding ---------------------------------------------------------------------------------------------------------


@pytest.mark.anywhere
@pytest.mark.parametrize(("precision", "bits"), [("tf32", 10), ("bf16", 7)])
def test_operands_are_rounded_to_the_nearest(precision, bits):
    x = np.ldexp(np.random.default_rng(1).standard_normal(200), np.arange(-100, 100)).astype(np.float32)
    fraction, exponent = np.frexp(x.astype(np.float64))
    nearest = np.ldexp(np.round(fraction * 2 ** (bits + 1)) / 2 ** (bits + 1), exponent)
    np.testing.assert_array_equal(ROUND[precision](x), nearest)
    special = np.array([np.inf, -np.inf, np.nan, 0.0, 1.0], np.float32)
    np.testing.assert_array_equal(ROUND[precision](special), special)


@pytest.mark.anywhere
def test_ties():
    """tf32 rounds ties away from zero, bf16 to even."""
    assert list(cores.round_to_tf32(np.float32([1 + 2**-11, 1 + 3 * 2**-11]))) == [1 + 2**-10, 1 + 2**-9]
    assert list(cores.round_to_bf16(np.float32([1 + 2**-8, 1 + 3 * 2**-8]))) == [1, 1 + 2**-6]
    low, high = np.array([cores.pack_bf16((np.float32(1.5), np.float32(-2)))]).view(np.uint16)
    assert (low, high) == (0x3FC0, 0xC000)


# -- shared memory ----------------------------------------------------------------------------------------------------


@pytest.mark.anywhere
@pytest.mark.parametrize("k_major", [True, False])
@pytest.mark.parametrize("tile", [(128, 16), (64, 16), (16, 16)])
def test_a_register_of_all_lanes_is_in_32_banks(tile, k_major):
    mn, word, size = tensor_core_gemm.shared_layout(*tile, k_major)
    for fragment, mn_first in ((cores.a_fragment, True), (cores.b_fragment, False)):
        banks = set()
        for lane in range(cores.WARP):
            index = python(fragment)(lane, 0) if mn_first else python(fragment)(lane, 0)[::-1]
            banks.add((index[0] * mn + index[1] * word) % 32)
        assert len(banks) == 32
    assert (tile[0] - 1) * mn + (tile[1] - 1) * word < size
    assert max(mn, word) % 4 == 0  # vectors start at 16 bytes


# -- launchers --------------------------------------------------------------------------------------------------------


def rounded(argument, precision):
    if isinstance(argument, Image):
        return argument._replace(whole=ROUND[precision](argument.whole))
    return ROUND[precision](argument)


def check(call, precision):
    """Compare a launcher, whose first two inputs are the operands, with the CPU's for rounded operands."""
    ((name, (out, first, second, *rest)),) = call.steps
    exact = call._replace(steps=[(name, [out, rounded(first, precision), rounded(second, precision), *rest])])
    expected, *_ = Arrays(cpu_sizes, np.array).run(cpu, exact)
    with gemm.in_precision(precision):
        found, *_ = Arrays(cuda_sizes, on_device, DeviceArray.read).run(cuda, call)
    assert_close(found, expected, f"{call}, {precision}")
    return found


def of_reasons(precision, *names):
    calls = [call for call in CALLS if call.steps[-1][0] in names]
    return [call for call in calls if call.reason in REASONS[precision] or call.reason[:-6] in REASONS[precision]]


CHOSEN = [
    *(("tf32", call) for call in of_reasons("tf32", *LAUNCHERS)),
    *(("bf16", call) for call in of_reasons("bf16", *LAUNCHERS)),
]
if not backend.SIMULATED:
    CHOSEN = [(p, c) for p in ROUND for c in CALLS if c.steps[-1][0] in LAUNCHERS and "depthwise" not in c.reason]


@pytest.mark.parametrize(("precision", "call"), CHOSEN, ids=str)
def test_launchers_multiply_rounded_operands(precision, call):
    found = check(call, precision)
    plain, *_ = Arrays(cuda_sizes, on_device, DeviceArray.read).run(cuda, call)
    is_masked = str(call) == "conv2d_input_gradient a pixel, mask"  # all of its gradient is zero
    assert np.array_equal(found, plain) == is_masked


@pytest.mark.parametrize("precision", ROUND)
def test_the_kernel_that_measures_the_peak_computes_known_sums(precision):
    """A step adds the products ½ · 2⁻¹² of 8 words to each of the 4·8 accumulators of a thread.

    Some threads of the block have no y.
    """
    y, steps, elements = on_device(np.full(5, 3, np.float32)), 2, cores.WORDS_OF[precision].elements
    roofline.warp_multiply_adds(y, steps, precision)
    np.testing.assert_allclose(y.read(), 32 * (3 + steps * 8 * elements * 2.0**-13), rtol=1e-6)
    assert roofline.WARP_STEP_FLOPS[precision] == 512 * elements


@pytest.mark.skipif(bool(PTX), reason="a GPU's peak takes many steps")
@pytest.mark.parametrize("precision", ROUND)
def test_peaks_have_the_precision_of_the_device(precision):
    found = measure_peaks(get_device("cuda", precision), quick=True)
    assert found.precision == precision
    assert min(found.gflops, found.bandwidth) > 0


@pytest.mark.parametrize("precision", ROUND)
def test_several_warps_splits_and_slices(precision, monkeypatch):
    monkeypatch.setattr(gemm, "MIN_K", 7)
    tile = tensor_core_gemm.WarpTile(32, 16, 16, 16, 16)
    monkeypatch.setattr(gemm, "choose_tile", lambda *shape: tile)
    (call,) = [call for call in CALLS if str(call) == "conv2d_weight_gradient many filters"]
    check(call, precision)


# -- models -----------------------------------------------------------------------------------------------------------


def test_a_model_and_its_copies_multiply_in_its_precision():
    x = np.random.default_rng(4).standard_normal((2, 5, 5, 4)).astype(np.float32)
    layers = lambda: [nc.Conv2D(8, 3, name="conv"), nc.Flatten(), nc.Dense(3, name="dense")]  # noqa: E731
    made = nc.Sequential(layers(), (5, 5, 4), seed=1, device="cuda", precision="bf16")
    plain = nc.Sequential(layers(), (5, 5, 4), seed=1)
    exact = {name: rounded(array, "bf16") if "weight" in name else array for name, array in plain.parameters.items()}
    plain.set_parameters(exact)
    hidden = plain.activations(rounded(x, "bf16"), ["conv"])["conv"].reshape(2, -1)
    expected = rounded(hidden, "bf16") @ exact["dense.weight"] + exact["dense.bias"]
    assert_close(made.forward(x), expected, "bf16", 1e-3)  # a hidden value near a tie may be rounded the other way
    assert made.parameters["conv.weight"].dtype == np.float32
    assert not np.array_equal(made.parameters["conv.weight"], exact["conv.weight"])
    for copied in (copy.deepcopy(made), made.replace_head(2)):
        assert (copied.device.name, copied.device.precision) == ("cuda", "bf16")


def test_a_gpu_without_tensor_cores_is_rejected(monkeypatch):
    monkeypatch.setattr(driver, "list_gpus", lambda: [driver.Gpu("Tesla T4", (7, 5), 16 << 30, 15 << 30)])
    with pytest.raises(
        nc.NumbacnnError, match=r"\"tf32\" needs .* 8\.0 or higher; Tesla T4 has 7\.5: leave it at \"fp32\""
    ):
        CudaDevice("tf32")
    assert CudaDevice("fp32").precision == get_device("cuda").precision == "fp32"
