"""The base class of layers: a specification without arrays, and its bindings to kernels."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar

from numbacnn._checks.names import AnswersAttributes, ChecksArguments, checks_call
from numbacnn.errors import ArgumentError
from numbacnn.geometry import NO_HALO, Halo, PoolGeometry, Shape
from numbacnn.layers.algorithms import ConvAlgorithm
from numbacnn.layers.bindings import Bindings, Kernels, Sizes
from numbacnn.layers.checks import check_methods
from numbacnn.layers.registry import drop_untrusted_traits, is_custom, register, trusted_op

Geometry: TypeAlias = Any  # what a layer's own ``geometry`` returns

CLAMPS = frozenset({"relu", "relu6"})  # the activations that only bound their input


class ParameterSpec(NamedTuple):
    """A trained array, or one of state: its shape, the name of its initializer, and its penalties in training."""

    shape: Shape
    initializer: str
    l1: float = 0.0  # adds l1 · Σ|w| to the loss
    l2: float = 0.0  # adds l2 · Σw²


class ScratchSpec(NamedTuple):
    """A buffer that kernels need besides inputs and outputs: its shape, and when it is used.

    ``when`` is "forward" or "backward"; "saved" if forward writes it for backward; "prepared" if it holds weights in
    another layout, which inference makes once and training in every step.
    """

    shape: Shape
    when: str
    trained: Shape | None = None  # the shape in training, if another


S = TypeVar("S", bound="Symbol")


class Symbol(Protocol):
    """A symbolic tensor, such as ``graph.Tensor``."""

    shape: Shape

    def record(self: S, layer: "Layer", inputs: Sequence[S]) -> S:
        """Return a new symbolic tensor, the output of ``layer`` on ``inputs``."""
        ...


@dataclass(kw_only=True, eq=False)
class Layer(ChecksArguments, AnswersAttributes):
    """A layer's specification. Its arrays belong to the model, so that one specification may serve several models.

    Subclasses are dataclasses, and their fields are the attributes that a model file holds. ``forward`` and
    ``backward`` get the device's kernels, the arrays of their step (``bindings.Bindings``), and the layer's geometry.
    """

    op: ClassVar[str]  # the stable name in model files
    inputs: ClassVar[int | None] = 1  # number of inputs; None: two or more
    reads_x: ClassVar[bool] = False  # backward reads the inputs,
    reads_y: ClassVar[bool] = False  # or the output
    # Whether the output of an image, and the gradient of its input, depend on no other image and not on their number,
    # to the bit; and backward leaves out the gradients of ``frozen`` parameters, and of inputs where that is None.
    per_image: ClassVar[bool] = False
    only_launches: ClassVar[bool]  # forward and backward only launch kernels, the same ones in every step

    is_view: ClassVar[bool] = False  # the output is the input's memory in another shape
    in_place_gradient: ClassVar[bool] = False  # backward turns dy into dx
    idle_in_inference: ClassVar[bool] = False  # inference returns the input
    depends_on_mode: ClassVar[bool] = False  # forward differs in training and inference
    weights_read_gradient_halo: ClassVar[bool] = False  # the parameters' gradients also need ``gradient_halo``

    monotone: ClassVar[bool] = False  # an activation that never decreases, whose gradient is computed from y
    is_max_pool: ClassVar[bool] = False  # so that a monotone activation before it may be differentiated after it
    rectifies: ClassVar[bool] = False  # ReLU-like: the weights before it are drawn from He's distribution
    normalizes: ClassVar[bool] = False  # the activation after it decides how the weights before it are drawn

    fuses: ClassVar[frozenset[str]] = frozenset()  # ops after it that forward can compute too: ``engine.plan.fusion``
    clamps_gradient: ClassVar[bool] = False  # backward applies the gradient of the ReLU or ReLU6 that forward applies
    masks_gradient: ClassVar[bool] = False  # backward can apply the gradient of a ReLU before it, if given ``t.mask``

    name: str | None = field(default=None)

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if is_custom(cls):
            check_methods(cls)
            drop_untrusted_traits(cls, Layer)
        elif "only_launches" not in cls.__dict__:
            cls.only_launches = True
        if "op" in cls.__dict__:
            register(cls)

    @property
    def known_op(self) -> str | None:
        """``op``, or None if a custom class overrides forward or backward, which then must run."""
        return trusted_op(type(self))

    @checks_call
    def __call__(self, x: S | Sequence[S], *more: S) -> S:
        """Record this layer on a symbolic tensor, or on several."""
        inputs = [*(x if isinstance(x, Sequence) else [x]), *more]
        if not inputs or not all(hasattr(tensor, "record") for tensor in inputs):
            wrong = type(x).__name__
            raise ArgumentError(f"{type(self).__name__} needs symbolic tensors, such as an Input, not {wrong}")
        return inputs[0].record(self, inputs)

    def attributes(self) -> dict[str, Any]:
        """Return the fields except the name, as a model file holds them."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}

    # -- shapes -------------------------------------------------------------------------------------------------------

    def geometry(self, shapes: Sequence[Shape]) -> Geometry:
        """Return what the kernels need to know about the shapes. Raises GeometryError if the layer cannot take them."""
        return None

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the shape of the output for one image, by default that of the first input."""
        return shapes[0]

    def flops(self, geometry: Geometry, output_shape: Shape) -> int:
        """Return the floating-point operations of a forward pass on one image, a multiply-add counted as two."""
        return 0

    # -- arrays -------------------------------------------------------------------------------------------------------

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """Return the trained arrays by name."""
        return {}

    def state(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """Return the arrays that are kept with the parameters but not trained, by name."""
        return {}

    def check_training(self, geometry: Geometry, batch: int) -> None:
        """Raise ArgumentError if the layer cannot be trained on ``batch`` images."""

    def scratch(self, sizes: Sizes, geometry: Geometry, batch: int) -> Mapping[str, ScratchSpec]:
        """Return the buffers for ``batch`` images by name; ``sizes`` maps geometry to the device's scratch shapes."""
        return {}

    def input_halo(self, geometry: Geometry) -> Halo:
        """Return the halo of zeros that forward and backward expect around x."""
        return NO_HALO

    def gradient_halo(self, geometry: Geometry) -> Halo:
        """Return the halo of zeros that the input gradient expects around dy."""
        return NO_HALO

    def algorithms(
        self, sizes: Sizes, geometry: Geometry, parts: Collection[str], pool: PoolGeometry | None = None
    ) -> Mapping[str, ConvAlgorithm]:
        """Return the convolution algorithm for each part of a step of the plan, as a mapping from the part.

        ``parts``: "forward", or in backward "weight" and "input" for the gradients that are needed. ``pool`` is the
        max-pool that is fused into the step.
        """
        return {}

    def shards_at_once(
        self,
        sizes: Sizes,
        algorithms: Mapping[str, ConvAlgorithm],
        geometry: Geometry,
        batch: int,
        images: Sequence[int],
    ) -> Mapping[str, int]:
        """Return for parameters how many shards of a batch the layer can sum at once; 0 or none if it cannot.

        ``images``: those of each shard, in a plan for ``batch``. With ``t.shards`` the gradient of the parameter is the
        sum over these in the order of a binary tree, with the same bits however many are summed at once. A layer that
        is not ``per_image`` also computes these shards at once, each from its own images, in the scratch of
        ``shard_scratch``; arrays of state have a row for each.
        """
        return {}

    def shard_scratch(self, sizes: Sizes, geometry: Geometry, images: int, shards: int) -> Mapping[str, ScratchSpec]:
        """Return the scratch for that many shards at once, of up to ``images`` images."""
        return {}

    # -- fusion -------------------------------------------------------------------------------------------------------

    def folded_scratch(self, shapes: Sequence[Shape]) -> Mapping[str, ScratchSpec]:
        """Return the buffers for weights and bias with a batch normalization folded in."""
        weight = self.parameters(shapes)["weight"].shape
        return {"folded_weight": ScratchSpec(weight, "prepared"), "folded_bias": ScratchSpec(weight[-1:], "prepared")}

    def fused_activations(self, sizes: Sizes, geometry: Geometry) -> frozenset[str]:
        """Return the ops of activations that forward can apply in inference, if it adds no residual."""
        return self.fuses & CLAMPS

    def fuses_pool(self, sizes: Sizes, geometry: Geometry, pool: PoolGeometry) -> bool:
        """Return whether forward can store the maxima of a pool over its output, after the activation that it applies.

        Then ``t.y`` is the pool's output, ``t.argmax`` the positions of its maxima (empty if there is no gradient), and
        ``t.pool`` its geometry.
        """
        return False

    def accepts_pool_gradient(self, sizes: Sizes, geometry: Geometry, pool: PoolGeometry) -> bool:
        """Return whether backward can take the gradient of a max-pool after this layer instead of its output's.

        Then ``t.dy`` is the gradient of the pool's output, contiguous, ``t.argmax`` the positions of its maxima, and
        ``t.pool`` its geometry.
        """
        return False

    def pool_gradient_scratch(
        self, sizes: Sizes, geometry: Geometry, pool: PoolGeometry, batch: int
    ) -> Mapping[str, ScratchSpec]:
        """Return the buffers that replace those of ``scratch`` in that backward, besides its algorithms'."""
        return {}

    # -- bindings -----------------------------------------------------------------------------------------------------

    def forward(self, kernels: Kernels, t: Bindings, g: Geometry) -> None:
        """Write t.y, and saved scratch, from t.x."""
        raise NotImplementedError

    def backward(self, kernels: Kernels, t: Bindings, g: Geometry) -> None:
        """Write t.dx and the parameters' gradients from t.dy."""
        raise NotImplementedError
