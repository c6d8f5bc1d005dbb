"""From a graph to buffers and steps, before any array exists.

A plan decides which operations are fused, which values share a buffer, and the halo of each buffer and its offset in
one arena. Time is 0, 1, … over the forward steps, then one for the loss, then continues over the backward steps.
"""

from numbacnn.engine.plan.arena import Buffer, View
from numbacnn.engine.plan.steps import Plan, ScratchArray, Step, make_plan

__all__ = ["Buffer", "Plan", "ScratchArray", "Step", "View", "make_plan"]
