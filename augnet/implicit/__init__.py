"""Implicit differentiation: how a validation loss changes with what training depended on.

A small library of its own: it knows nothing of images, and serves hyperparameters of every kind.
"""

from augnet.implicit.curvature import (
    DifferenceProducts,
    GaussNewtonProducts,
    HessianProducts,
    HessianProductsInParts,
    Operator,
    flatten,
    gradient_of_sum,
    largest_eigenvalue,
    twice_differentiable,
    unflatten,
    zeros_for_unused,
)
from augnet.implicit.diagonals import jacobi_diagonal, optimiser_diagonal
from augnet.implicit.fixed_point import update_hypergradient
from augnet.implicit.hypergradient import Hypergradient, hypergradient, hypergradient_by_differences
from augnet.implicit.inverse import ConjugateGradient, Exact, Identity, InverseHessian, Nystrom, Solution
from augnet.implicit.joint import Descent, joint_descent
from augnet.implicit.minimum import minimise
from augnet.implicit.neumann import Neumann
from augnet.implicit.unrolled import Unrolled, unrolled_hypergradient

__all__ = [
    "ConjugateGradient",
    "Descent",
    "DifferenceProducts",
    "Exact",
    "GaussNewtonProducts",
    "HessianProducts",
    "HessianProductsInParts",
    "Hypergradient",
    "Identity",
    "InverseHessian",
    "Neumann",
    "Nystrom",
    "Operator",
    "Solution",
    "Unrolled",
    "flatten",
    "gradient_of_sum",
    "hypergradient",
    "hypergradient_by_differences",
    "jacobi_diagonal",
    "joint_descent",
    "largest_eigenvalue",
    "minimise",
    "optimiser_diagonal",
    "twice_differentiable",
    "unflatten",
    "unrolled_hypergradient",
    "update_hypergradient",
    "zeros_for_unused",
]
