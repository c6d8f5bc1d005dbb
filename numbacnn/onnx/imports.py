"""The table of ONNX's operators in our layers: a row for each, a function of the reader and the operator's inputs.

https://onnx.ai/onnx/operators has their attributes and versions. What no single layer computes is composed of several.
"""

from numbacnn.onnx.import_norms import NORMS
from numbacnn.onnx.import_pixels import PIXELS
from numbacnn.onnx.import_pools import POOLS
from numbacnn.onnx.import_reductions import ROWS_OF_AXES
from numbacnn.onnx.import_shapes import SHAPES
from numbacnn.onnx.import_values import VALUES
from numbacnn.onnx.import_windows import WINDOWS
from numbacnn.onnx.values import Row

ROWS: dict[str, Row] = {**WINDOWS, **POOLS, **ROWS_OF_AXES, **NORMS, **VALUES, **SHAPES, **PIXELS}
