"""Solvers against x′ = −x·cos t, whose solution is x₀·exp(−sin t)."""

import math

import pytest
import torch

from trainables.models.ode import solve


def error(solver, steps):
    times = [2 * step / steps for step in range(steps + 1)]
    found = solve(lambda x, t: -x * math.cos(t), torch.tensor([1.5], dtype=torch.float64), times, solver)
    return abs(float(found) - 1.5 * math.exp(-math.sin(2)))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_the_error_falls_with_the_order_of_the_solver(solver, order):
    assert math.log2(error(solver, 100) / error(solver, 200)) == pytest.approx(order, abs=0.05)


@pytest.mark.parametrize(("solver", "calls"), [("euler", 3), ("midpoint", 6), ("heun", 5)])
def test_the_field_is_never_asked_at_0(solver, calls):
    asked = []

    def field(x, t):
        asked.append(t)
        return x / t

    found = solve(field, torch.tensor([6.0]), [3.0, 2.0, 1.0, 0.0], solver)
    assert len(asked) == calls and 0 not in asked
    assert found.item() == pytest.approx(0, abs=1e-6)  # along straight lines each of them is exact
