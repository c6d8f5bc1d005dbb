"""From a graph to buffers and steps, before any array exists.

A plan decides which operations are fused, which values share a buffer, which halo each buffer has, and its place in one
arena. Time runs 0, 1, … over the forward steps, then once for the loss, then over the backward steps.
"""

from numbacnn.engine.plan.arena import Buffer, View
from numbacnn.engine.plan.steps import Plan, Step, make_plan

__all__ = ["Buffer", "Plan", "Step", "View", "make_plan"]
