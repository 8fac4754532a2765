"""The polynomial kernel of the kernel Inception distance, and its mean over one set's pairs."""

import numpy as np
from numpy.typing import NDArray

ROWS = 1024  # bounds the memory of a mean at ROWS·m values


def polynomial_kernel(X: NDArray[np.float64], Y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(xᵀy/d + 1)³ of each pair of rows (Bińkowski et al. 2018, sec. 4). (n, d), (m, d) -> (n, m)."""
    kernel: NDArray[np.float64] = X @ Y.T
    kernel /= X.shape[1]
    kernel += 1.0
    kernel **= 3
    return kernel


def mean_kernel(Y: NDArray[np.float64]) -> float:
    """Average the kernel over pairs of different rows of Y (m, d), m ≥ 2."""
    m = len(Y)
    total = sum(polynomial_kernel(Y[start : start + ROWS], Y).sum() for start in range(0, m, ROWS))
    diagonal = (np.square(Y).sum(1) / Y.shape[1] + 1.0) ** 3
    return float((total - diagonal.sum()) / (m * (m - 1)))
