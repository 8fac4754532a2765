"""Solvers of dx/dt = f(x, t), along which flow and diffusion models draw."""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from torch import Tensor

Solver = Literal["euler", "midpoint", "heun"]


def solve(field: Callable[[Tensor, float], Tensor], x: Tensor, times: list[float], solver: Solver) -> Tensor:
    """Return x at the last of these times, given at the first; a step between each two.

    The error falls with the number of steps for euler, which calls the field once a step, and with its square
    for midpoint and heun, which call it twice. heun takes its last step as euler does: at the end, where no
    noise is left, the field of a diffusion is not defined (Karras et al. 2022, algorithm 1) and that of a
    flow is hardly ever trained.
    """
    for t, after in pairwise(times):
        step = after - t
        slope = field(x, t)
        if solver == "midpoint":
            slope = field(x + step / 2 * slope, t + step / 2)
        elif solver == "heun" and after != times[-1]:
            slope = (slope + field(x + step * slope, after)) / 2
        x = x + step * slope
    return x
