"""Implicit differentiation: how a validation loss changes with what training depended on.

A small library of its own: it knows nothing of images, and serves hyperparameters of every kind.
"""

from augnet.implicit.curvature import (
    DifferenceProducts,
    GaussNewtonProducts,
    HessianProducts,
    Operator,
    flatten,
    jacobi_diagonal,
    largest_eigenvalue,
    optimiser_diagonal,
    twice_differentiable,
    unflatten,
    zeros_for_unused,
)
from augnet.implicit.hypergradient import Hypergradient, hypergradient, hypergradient_by_differences
from augnet.implicit.inverse import ConjugateGradient, Exact, Identity, InverseHessian, Nystrom, Solution
from augnet.implicit.neumann import Neumann
from augnet.implicit.unrolled import Unrolled, unrolled_hypergradient

__all__ = [
    "ConjugateGradient",
    "DifferenceProducts",
    "Exact",
    "GaussNewtonProducts",
    "HessianProducts",
    "Hypergradient",
    "Identity",
    "InverseHessian",
    "Neumann",
    "Nystrom",
    "Operator",
    "Solution",
    "Unrolled",
    "flatten",
    "hypergradient",
    "hypergradient_by_differences",
    "jacobi_diagonal",
    "largest_eigenvalue",
    "optimiser_diagonal",
    "twice_differentiable",
    "unflatten",
    "unrolled_hypergradient",
    "zeros_for_unused",
]
