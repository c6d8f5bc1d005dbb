"""What a layer is: a specification without arrays, and its bindings to kernels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple, Protocol

from numbacnn.errors import ArgumentError
from numbacnn.geometry import Halo, PoolGeometry, Shape


class ParameterSpec(NamedTuple):
    """A trained array, or one of state: its shape, the name of its initializer, and how training penalises it."""

    shape: Shape
    initializer: str
    l1: float = 0.0  # the loss gains l1 · Σ|w|
    l2: float = 0.0  # + l2 · Σw²


class ScratchSpec(NamedTuple):
    """A buffer that kernels need beside inputs and outputs: its shape, and when it is used."""

    shape: Shape
    when: str  # "forward"; "backward"; "saved": written by the one for the other; "prepared": see ``recording.prepare``
    trained: Shape | None = None  # the shape in training, where what was prepared is made anew in every step


class Symbol(Protocol):
    """A symbolic tensor, as ``graph.Tensor`` is one."""

    def record(self, layer: "Layer", inputs: Sequence[Any]) -> Any:
        """A new symbolic tensor: the output of ``layer`` on ``inputs``."""


REGISTRY: dict[str, type["Layer"]] = {}


# What each says of a layer's methods, beside ``only_launches``.
PROMISES = {
    "forward": ("fuses", "folds", "adds", "fuses_pool", "monotone", "is_max_pool", "is_view", "idle_in_inference"),
    "backward": ("masks_gradient", "accepts_pool_gradient", "monotone", "is_max_pool", "in_place_gradient"),
}


def _writer(cls: type, name: str) -> type:
    """The class from which ``cls`` has the attribute ``name``."""
    return next(base for base in cls.__mro__ if name in base.__dict__)


def is_custom(layer: type) -> bool:
    """Whether the class is a user's own, not numbacnn's."""
    return layer.__module__.partition(".")[0] != "numbacnn"


def _register(layer: type["Layer"]) -> None:
    """Makes the op known. A user's own class may take the place of an earlier one: a notebook's cell is run again."""
    if not isinstance(layer.op, str) or not layer.op.isidentifier():
        raise ArgumentError(f'{layer.__name__}.op is {layer.op!r}; give letters, digits and _, such as "my_layer"')
    known = REGISTRY.get(layer.op)
    if known is not None and is_custom(layer) and not is_custom(known):
        raise ArgumentError(f'"{layer.op}" is numbacnn\'s own {known.__name__}; choose another name for your layer')
    REGISTRY[layer.op] = layer


@dataclass(kw_only=True, eq=False)
class Layer:
    """A layer's specification. Its arrays belong to the model, so that one specification may serve several models.

    Subclasses are dataclasses: their fields are the attributes that a model file holds. In the bindings, ``t`` holds
    the arrays of one step: ``t.x t.y`` and in backward ``t.dx t.dy`` (``t.xs``, ``t.dxs`` for all of several inputs; an
    entry is None where no gradient is asked for), each N×H×W×C; each parameter and its gradient (``t.weight``,
    ``t.d_weight``); each array of state; each scratch buffer; ``t.fused``, the name of an activation that forward
    applies on its way; ``t.algorithm``, what ``choose_algorithm`` says; ``t.training``, False in inference and where
    the layer is frozen; ``t.frozen``, the names of parameters whose gradients nobody reads, so that a layer may leave
    them out; ``t.mask``, None, or x where it is a ReLU's output and dx must be zero wherever it is 0 or less;
    ``t.norm``, None, or the arrays and ``eps`` of the batch normalisation behind, which forward is to apply too;
    ``t.addend``, None, or what forward is to add behind that, before the activation; and
    for layers that draw random numbers ``t.random``, the key (seed, step), and ``t.stream``, a number of the layer's
    own.
    """

    op: ClassVar[str]  # the stable name in model files
    inputs: ClassVar[int | None] = 1  # how many; None: two or more
    reads_x: ClassVar[bool] = False  # whether backward reads the inputs,
    reads_y: ClassVar[bool] = False  # or the output
    weights_read_gradient_halo: ClassVar[bool] = False  # gradient_halo serves the parameters' gradients too
    is_view: ClassVar[bool] = False  # the output is the input's memory in another shape
    in_place_gradient: ClassVar[bool] = False  # backward turns dy into dx
    monotone: ClassVar[bool] = False  # an activation that does not decrease, with its gradient known from y
    is_max_pool: ClassVar[bool] = False  # of windows: a monotone activation's gradient may be applied behind it
    rectifies: ClassVar[bool] = False  # ReLU-like: weights before it are drawn as He et al. say
    only_launches: ClassVar[bool]  # forward and backward do nothing but launch kernels, the same in every step
    normalizes: ClassVar[bool] = False  # weights before it are drawn for the activation behind it
    depends_on_mode: ClassVar[bool] = False  # forward in training is not that of inference,
    idle_in_inference: ClassVar[bool] = False  # which hands on its input as it is
    masks_gradient: ClassVar[bool] = False  # backward can apply the gradient of a ReLU before the layer, on its way
    folds: ClassVar[tuple[str, ...]] = ()  # ops of normalisations that its weights can take in, in inference
    adds: ClassVar[tuple[str, ...]] = ()  # ops of sums of two whose other part it can add, in inference
    fuses: ClassVar[tuple[str, ...]] = ()  # ops of activations that forward can apply on its way

    name: str | None = field(default=None)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if is_custom(cls):  # also where it is derived from a layer of this package
            cls._inherit_no_promises()
        elif "only_launches" not in cls.__dict__:
            cls.only_launches = True
        if "op" in cls.__dict__:
            _register(cls)

    @classmethod
    def _inherit_no_promises(cls) -> None:
        """A promise counts where the class that wrote the method it is about makes it, or one derived from that."""
        if "only_launches" not in cls.__dict__:
            cls.only_launches = False
        for method, names in PROMISES.items():
            writer = _writer(cls, method)
            for name in names:
                if is_custom(writer) and not issubclass(_writer(cls, name), writer):
                    setattr(cls, name, getattr(Layer, name))

    @property
    def known_op(self) -> str | None:
        """``op``, where forward and backward are those of this package, so that another layer may do their work."""
        return None if any(is_custom(_writer(type(self), method)) for method in PROMISES) else self.op

    def __call__(self, x: Any) -> Any:
        """Records this layer on a symbolic tensor, or on a list of them."""
        inputs = list(x) if isinstance(x, Sequence) else [x]
        if not inputs or not all(hasattr(tensor, "record") for tensor in inputs):
            raise ArgumentError(f"{type(self).__name__} wants symbolic tensors, as Input and layers give, not {x!r}")
        return inputs[0].record(self, inputs)

    def attributes(self) -> dict[str, Any]:
        """The specification but for its name, as a model file holds it."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}

    def geometry(self, shapes: Sequence[Shape]) -> Any:
        """What the kernels need to know of the shapes; GeometryError where the layer cannot take them."""
        return None

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Shape of the output for one image."""
        return shapes[0]

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """The trained arrays, by name."""
        return {}

    def state(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """The arrays that are kept with the parameters but not trained, by name."""
        return {}

    def check_training(self, geometry: Any, batch: int) -> None:
        """ArgumentError where the layer cannot be trained on ``batch`` images."""

    def scratch(self, sizes: Any, geometry: Any, batch: int) -> Mapping[str, ScratchSpec]:
        """Buffers for ``batch`` images; ``sizes`` has the device's functions from geometry to scratch shapes."""
        return {}

    def choose_algorithm(self, sizes: Any, geometry: Any) -> str | None:
        """The algorithm that forward and backward run, of a layer that has several."""
        return None

    def input_halo(self, geometry: Any) -> Halo:
        """Zeros that forward and backward expect around x."""
        return Halo()

    def gradient_halo(self, geometry: Any) -> Halo:
        """Zeros that the input gradient expects around dy."""
        return Halo()

    def fuses_pool(self, sizes: Any, geometry: Any, pool: PoolGeometry) -> bool:
        """Whether forward can take the maxima of a pool of its own output, behind the activation that it applies.

        Then ``t.y`` is the pool's output, ``t.argmax`` the places of its maxima (without images where no gradient will
        be asked for), and ``t.pool`` its geometry, else None.
        """
        return False

    def accepts_pool_gradient(self, sizes: Any, geometry: Any, pool: PoolGeometry) -> bool:
        """Whether backward can take the gradient of a max-pool behind this layer, instead of its own output's.

        Then ``t.dy`` is that of the pool's output, contiguous, ``t.argmax`` has the places of its maxima, and
        ``t.pool`` is its geometry, else None.
        """
        return False

    def maxima_scratch(self, sizes: Any, geometry: Any, pool: PoolGeometry, batch: int) -> Mapping[str, ScratchSpec]:
        """Buffers of that backward, in place of those of ``scratch``."""
        return {}

    def folded_scratch(self, shapes: Sequence[Shape]) -> Mapping[str, ScratchSpec]:
        """Buffers for the weights and the bias that take in a normalisation of ``folds``."""
        weight = self.parameters(shapes)["weight"].shape
        return {"folded_weight": ScratchSpec(weight, "prepared"), "folded_bias": ScratchSpec(weight[-1:], "prepared")}

    def flops(self, geometry: Any, output_shape: Shape) -> int:
        """Floating-point operations of a forward pass of one image; a multiply-add counts as two."""
        return 0

    def forward(self, kernels: Any, t: SimpleNamespace, g: Any) -> None:
        """Writes t.y (and saved scratch) from t.x."""
        raise NotImplementedError

    def backward(self, kernels: Any, t: SimpleNamespace, g: Any) -> None:
        """Writes t.dx and the parameters' gradients from t.dy."""
        raise NotImplementedError


@dataclass(kw_only=True, eq=False)
class WeightLayer(Layer):
    """A layer with weights that training may penalise: ``l1`` and ``l2`` add l1·Σ|w| + l2·Σw² to the training loss."""

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        for name in ("l1", "l2"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ArgumentError(f"{name}={value!r}: give a number of at least 0")

    def weights(self, kernels: Any, t: SimpleNamespace) -> tuple[Any, Any]:
        """What forward multiplies by, and its bias or None: the parameters, or those that took in a normalisation."""
        bias = getattr(t, "bias", None)
        if t.norm is None:
            return t.weight, bias
        kernels.fold_batch_norm(t.folded_weight, t.folded_bias, t.weight, bias, t.norm)
        return t.folded_weight, t.folded_bias

    def weight_parameter(self, shape: Shape, initializer: str) -> ParameterSpec:
        """The weights, of this shape, with this layer's penalties."""
        return ParameterSpec(shape, initializer, self.l1, self.l2)
