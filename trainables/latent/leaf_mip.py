"""The same maximum as a mixed-integer linear program over leaves, for HiGHS: any depth, and side constraints.

    maximise   constant + Σ_leaf value · y_leaf
    with       Σ_a x_ia = 1                              one label for each variable
               Σ_{leaf of tree} y_leaf = 1               one leaf in each tree
               Σ_{leaf: M_i(leaf) ⊆ M} y_leaf ≤ Σ_{a ∈ M} x_ia    for each tree, variable i, mask M there
               x binary, 0 ≤ y

(Mišić 2020, eq. 2, with splits by sets of categories.) An excluded assignment is a no-good cut
Σ_i x_{i, a_i} ≤ t − 1; a trust region of radius r around labels a⁰ is Σ_i x_{i, a⁰_i} ≥ t − r.
"""

import highspy
import numpy as np
from scipy.sparse import csr_array

from trainables.latent.ensemble import Restriction
from trainables.latent.pairwise import Assignment, maximize_pairwise


def maximize_leaf_mip(
    restriction: Restriction,
    *,
    center: np.ndarray | None = None,
    radius: int | None = None,
    time_limit: float | None = None,
) -> Assignment | None:
    """Return a best assignment, proven, among those not excluded; None where there is none.

    With `center`, (t,), and `radius`, at most `radius` variables differ from the center. `time_limit` is in
    seconds.

    Raises TimeoutError where the limit is reached first, RuntimeError where HiGHS ends otherwise.
    """
    if not restriction.free:  # a program without columns is none
        return maximize_pairwise(restriction)
    program = _Program(restriction)
    if radius is not None:
        if center is None or not radius >= 0:
            raise ValueError(f"a radius of {radius} around {center}: it must be 0 or more around a center")
        variables = [program.column(i, a) for i, a in enumerate(center)]
        program.row(variables, np.ones(len(variables)), len(variables) - radius, np.inf)
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", 1e-9)
    solver.setOptionValue("mip_feasibility_tolerance", 1e-9)
    solver.setOptionValue("primal_feasibility_tolerance", 1e-9)
    if time_limit is not None:
        solver.setOptionValue("time_limit", float(time_limit))
    solver.passModel(program.model())
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return None
    if status == highspy.HighsModelStatus.kTimeLimit:
        raise TimeoutError(f"HiGHS has no proof after {time_limit} s; gap {solver.getInfo().mip_gap:.3g}")
    if status != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"HiGHS ended with {solver.modelStatusToString(status)}; it must be Optimal")
    x = np.array(solver.getSolution().col_value)
    ends = program.starts[1:]
    labels = np.array(
        [x[s:e].argmax() for s, e in zip(program.starts[:-1], ends, strict=True)], dtype=np.int64
    )
    info = solver.getInfo()
    # The bound of a problem that presolve has solved is infinite or 0; the objective is then its own bound.
    bound = info.mip_dual_bound if info.mip_node_count > 0 else info.objective_function_value
    value = restriction.value(labels)
    return Assignment(labels, value, max(value, bound), max(1, int(info.mip_node_count)))


class _Program:
    """Columns x_ia, variable by variable, then y_leaf; rows as they are added."""

    def __init__(self, restriction: Restriction):
        self.constant = restriction.constant
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
            for i, mask in {(i, m.tobytes()): m for leaf in tree for i, m in leaf.allowed.items()}.items():
                self._split(tree, leaves, i[0], mask)
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

    def _split(self, tree: list, leaves: np.ndarray, i: int, mask: np.ndarray) -> None:
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
