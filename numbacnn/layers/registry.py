"""The layer classes by op, and the traits of custom layers that the engine trusts."""

from functools import cache
from typing import TYPE_CHECKING

from numbacnn._checks import shown
from numbacnn.errors import ArgumentError

if TYPE_CHECKING:
    from numbacnn.layers.base import Layer

REGISTRY: dict[str, type["Layer"]] = {}

# Class attributes of a layer that describe its forward or backward, besides ``only_launches``.
TRAITS = {
    "forward": (
        "fuses",
        "fused_activations",
        "fuses_pool",
        "monotone",
        "is_max_pool",
        "is_view",
        "idle_in_inference",
        "per_image",
    ),
    "backward": (
        "clamps_gradient",
        "masks_gradient",
        "accepts_pool_gradient",
        "monotone",
        "is_max_pool",
        "in_place_gradient",
        "per_image",
    ),
}


def is_custom(layer: type) -> bool:
    """Return whether the class was defined outside numbacnn."""
    return layer.__module__.partition(".")[0] != "numbacnn"


def register(layer: type["Layer"]) -> None:
    """Add a class to ``REGISTRY``. A custom class may replace an earlier one, as when a notebook's cell runs again."""
    if not isinstance(layer.op, str) or not layer.op.isidentifier():
        raise ArgumentError(f'{layer.__name__}.op is {shown(layer.op)}; use letters, digits and _, such as "my_layer"')
    known = REGISTRY.get(layer.op)
    if known is not None and is_custom(layer) and not is_custom(known):
        raise ArgumentError(f'"{layer.op}" is numbacnn\'s own {known.__name__}; choose another name for your layer')
    REGISTRY[layer.op] = layer


def drop_untrusted_traits(layer: type["Layer"], base: type["Layer"]) -> None:
    """Reset the traits that a custom class inherits to those of ``base``, if it overrides the method they describe.

    A trait is trusted only if declared by the class that defines the method, or by a subclass of that.
    """
    if "only_launches" not in layer.__dict__:
        layer.only_launches = False
    for method, traits in TRAITS.items():
        definer = _definer(layer, method)
        for trait in traits:
            if is_custom(definer) and not issubclass(_definer(layer, trait), definer):
                setattr(layer, trait, getattr(base, trait))


@cache
def trusted_op(layer: type["Layer"]) -> str | None:
    """Return the op if this package defines forward and backward, so that they may be fused into another layer."""
    return None if any(is_custom(_definer(layer, method)) for method in TRAITS) else layer.op


def _definer(layer: type, name: str) -> type:
    """Return the class that ``layer`` has the attribute ``name`` from."""
    return next(base for base in layer.__mro__ if name in base.__dict__)
