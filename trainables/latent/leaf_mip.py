"""The same maximum as a mixed-integer linear program over leaves, solved by HiGHS.

It allows leaves of any depth, and side constraints:

    maximize   constant + Σ_leaf value · y_leaf
    with       Σ_a x_ia = 1                              one label for each variable
               Σ_{leaf of tree} y_leaf = 1               one leaf in each tree
               Σ_{leaf: M_i(leaf) ⊆ M} y_leaf ≤ Σ_{a ∈ M} x_ia    for each tree, variable i, mask M there
               x binary, 0 ≤ y

This is Mišić (2020, eq. 2) with splits by sets of categories. A no-good cut Σ_i x_{i, a_i} ≤ t − 1 excludes
an assignment, and Σ_i x_{i, a⁰_i} ≥ t − r is a trust region of radius r around the labels a⁰.
"""

import highspy
import numpy as np
from scipy.sparse import csr_array

from trainables.latent.ensemble import Leaf, Restriction
from trainables.latent.pairwise import Assignment, maximize_pairwise


def maximize_leaf_mip(
    restriction: Restriction,
    *,
    center: np.ndarray | None = None,
    radius: int | None = None,
    time_limit: float | None = None,
) -> Assignment | None:
    """Return a best assignment, proven, among those not excluded, or None where there is none.

    With `center`, (t,), and `radius`, at most `radius` variables differ from the center. After `time_limit`
    seconds, return the best assignment known by then with the bound that was reached. It is at least as good
    as those that differ from the center in one variable at most. Where all of these are excluded, too,
    nothing is known, and the result is None.

    Raises ValueError for a radius without a center or below 0, and RuntimeError where HiGHS ends otherwise.
    """
    if not restriction.free:  # HiGHS takes no program without columns
        return maximize_pairwise(restriction)
    program = _Program(restriction)
    if radius is not None:
        if center is None or not radius >= 0:
            raise ValueError(f"a radius of {radius} around {center}: it must be 0 or more around a center")
        variables = np.array([program.column(i, a) for i, a in enumerate(center)])
        program.row(variables, np.ones(len(variables)), len(variables) - radius, np.inf)
    solver = _solve(program, time_limit)
    status, info = solver.getModelStatus(), solver.getInfo()
    if status == highspy.HighsModelStatus.kInfeasible:
        return None
    if status not in (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kTimeLimit):
        raise RuntimeError(f"HiGHS ended with {solver.modelStatusToString(status)}; it must be Optimal")
    found = info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible)
    known = [program.labels(solver)] if found else []
    bound, nodes = info.mip_dual_bound, max(0, int(info.mip_node_count))
    if status == highspy.HighsModelStatus.kTimeLimit:
        known += _around(restriction, center, radius)
        bound = min(bound, program.loose_bound) if np.isfinite(bound) else program.loose_bound
    elif nodes == 0:  # presolve has solved it, and the bound stays infinite or 0
        bound, nodes = info.objective_function_value, 1
    if not known:
        return None
    best = max(known, key=restriction.value)
    value = restriction.value(best)
    return Assignment(best, value, max(value, bound), nodes)


def _solve(program: "_Program", time_limit: float | None) -> highspy.Highs:
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", 1e-9)
    solver.setOptionValue("mip_feasibility_tolerance", 1e-9)
    solver.setOptionValue("primal_feasibility_tolerance", 1e-9)
    if time_limit is not None:
        solver.setOptionValue("time_limit", max(0.0, time_limit))
    solver.passModel(program.model())
    solver.run()
    return solver


def _around(restriction: Restriction, center: np.ndarray | None, radius: int | None) -> list[np.ndarray]:
    """Return the allowed assignments that differ from the center, by default the first labels, in 1 or 0."""
    start = np.zeros(len(restriction.free), dtype=np.int64) if center is None else np.asarray(center)
    near = [start]
    if radius != 0:
        for i, classes in enumerate(restriction.classes):
            for label in range(len(classes)):
                near.append(start.copy())
                near[-1][i] = label
    return [labels for labels in near if not (restriction.excluded == labels).all(1).any()]


class _Program:
    """The program in matrix form. Its columns are x_ia, variable by variable, and then y_leaf."""

    def __init__(self, restriction: Restriction):
        self.constant = restriction.constant
        # the value if each tree gave its highest leaf, which no assignment exceeds
        self.loose_bound = self.constant + sum(max(leaf.value for leaf in tree) for tree in restriction.trees)
        self.starts = np.concatenate(
            [[0], np.cumsum([len(labels) for labels in restriction.classes])]
        ).astype(int)
        self.values = [leaf.value for tree in restriction.trees for leaf in tree]
        self.entries: list[tuple[np.ndarray, np.ndarray]] = []
        self.lower: list[float] = []
        self.upper: list[float] = []
        for i, labels in enumerate(restriction.classes):
            self.row(self.starts[i] + np.arange(len(labels)), np.ones(len(labels)), 1, 1)
        first = int(self.starts[-1])
        for tree in restriction.trees:
            leaves = first + np.arange(len(tree))
            self.row(leaves, np.ones(len(tree)), 1, 1)
            masks = {(i, mask.tobytes()): mask for leaf in tree for i, mask in leaf.allowed.items()}
            for (i, _), mask in masks.items():
                self._split(tree, leaves, i, mask)
            first += len(tree)
        for labels in restriction.excluded:
            columns = np.array([self.column(i, a) for i, a in enumerate(labels)])
            self.row(columns, np.ones(len(columns)), -np.inf, len(columns) - 1)

    def column(self, i: int, label: int) -> int:
        return int(self.starts[i] + label)

    def row(self, columns: np.ndarray, coefficients: np.ndarray, lower: float, upper: float) -> None:
        self.entries.append((np.asarray(columns), np.asarray(coefficients, dtype=float)))
        self.lower.append(lower)
        self.upper.append(upper)

    def labels(self, solver: highspy.Highs) -> np.ndarray:
        """Return the labels, (t,), of the solver's solution."""
        x = np.array(solver.getSolution().col_value)
        bounds = zip(self.starts[:-1], self.starts[1:], strict=True)
        return np.array([x[start:end].argmax() for start, end in bounds], dtype=np.int64)

    def _split(self, tree: list[Leaf], leaves: np.ndarray, i: int, mask: np.ndarray) -> None:
        inside = [i in leaf.allowed and not (leaf.allowed[i] & ~mask).any() for leaf in tree]
        y, x = leaves[inside], self.starts[i] + np.flatnonzero(mask)
        self.row(np.concatenate([y, x]), np.concatenate([np.ones(len(y)), -np.ones(len(x))]), -np.inf, 0)

    def model(self) -> highspy.HighsLp:
        columns, binaries = int(self.starts[-1]) + len(self.values), int(self.starts[-1])
        indptr = np.concatenate([[0], np.cumsum([len(c) for c, _ in self.entries])])
        matrix = csr_array(
            (
                np.concatenate([v for _, v in self.entries]),
                np.concatenate([c for c, _ in self.entries]),
                indptr,
            ),
            shape=(len(self.entries), columns),
        )
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = columns, len(self.entries)
        lp.col_cost_ = np.concatenate([np.zeros(binaries), self.values])
        lp.col_lower_, lp.col_upper_ = np.zeros(columns), np.ones(columns)
        lp.row_lower_, lp.row_upper_ = np.array(self.lower, dtype=float), np.array(self.upper, dtype=float)
        lp.offset_, lp.sense_ = self.constant, highspy.ObjSense.kMaximize
        lp.integrality_ = [highspy.HighsVarType.kInteger] * binaries + [
            highspy.HighsVarType.kContinuous
        ] * len(self.values)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr, matrix.indices
        lp.a_matrix_.value_ = matrix.data
        return lp
