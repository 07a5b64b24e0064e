"""Approximate products with an inverse Hessian.

Each approximation is a frozen set of settings with one method, `solve`. It sees the Hessian only as a function from
vector to vector, so nothing here knows about networks, devices or augmentation. A warm start is an argument: hand the
last `Solution` to the next solve.

Symbols: H Hessian of the training loss, b right-hand side, x ≈ (H + δI)⁻¹ b, r = b − (H + δI)x residual, δ damping,
M preconditioner (a diagonal), α step size, K number of products, λ_max largest eigenvalue of M⁻¹(H + δI).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from augnet.implicit.curvature import Operator

UNKNOWN = math.nan


class Solution(NamedTuple):
    """What a solve found, and what the next solve starts from.

    Args:
        value: x, the inverse-Hessian-vector product.
        next: iterate from which a warm start goes on; for Neumann one step further than `value`.
        residual: |b − (H + δI)x| / |b| at `value`, a tensor without dimensions; nan if not measured.
        products: Hessian-vector products spent.
        curvature: estimate of λ_max; nan if unknown.
        step_size: α that was used; nan for solvers that have none.
        diverged: the solve blew up, and `value` and `next` were set back to those of a cold start; or they are not
            finite, as the products were not.
        top: unit vector of the power iteration behind `curvature`.
        age: solves since that power iteration was last refreshed.
    """

    value: Tensor
    next: Tensor
    residual: Tensor
    products: int
    curvature: float = UNKNOWN
    step_size: float = UNKNOWN
    diverged: bool = False
    top: Tensor | None = None
    age: int = 0


@dataclass(frozen=True, kw_only=True)
class InverseHessian(ABC):
    """A way to approximate H⁻¹ b.

    Args:
        curvature: which matrix stands for H: that of the second derivatives, or the Gauss–Newton matrix, which has no
            negative eigenvalues but needs the network's outputs.
    """

    curvature: Literal["hessian", "gauss_newton"] = "hessian"

    @abstractmethod
    def solve(
        self,
        hessian: Operator,
        vector: Float[Tensor, "p"],
        start: Solution | None = None,
        diagonal: Float[Tensor, "p"] | None = None,
    ) -> Solution:
        """Approximate H⁻¹ b.

        Args:
            hessian: products with H, which is symmetric.
            vector: b.
            start: the last solution, of this or of a nearby system; None for a cold start.
            diagonal: M, positive; None for the identity.
        """

    def check(self, weights: int) -> None:
        """Raise ValueError if a Hessian of so many weights cannot be solved with; called before training, too."""
        require(weights > 0, "the number of weights", weights, "above 0")

    def planned(self, start: Solution | None) -> int | None:
        """Say which product will be taken at `Solution.value`, counted from 1; None if none will be."""
        return None


@dataclass(frozen=True, kw_only=True)
class Identity(InverseHessian):
    """Take the inverse for the identity: x = M⁻¹ b (T1–T2, Luketina et al. 2016). Costs no product.

    It mistakes whatever enlarges the training gradient for progress; `project=True` in `hypergradient` takes out the
    larger part of that bias.
    """

    def __post_init__(self) -> None:
        rule = "left out: Identity takes no product with either matrix"
        require(self.curvature == "hessian", "curvature", self.curvature, rule)

    def solve(
        self, hessian: Operator, vector: Tensor, start: Solution | None = None, diagonal: Tensor | None = None
    ) -> Solution:
        x = vector if diagonal is None else vector / diagonal
        return Solution(x, x, vector.new_tensor(UNKNOWN), products=0)


@dataclass(frozen=True, kw_only=True)
class ConjugateGradient(InverseHessian):
    """Preconditioned conjugate gradients (Hestenes and Stiefel 1952).

    Stops where it meets a direction of negative curvature, keeping what it has. A warm start costs one product more,
    for its residual, and is dropped for x = 0 when that residual is above 1. Best where H is the same at every product
    and every solve; on minibatches it fits the noise of the batch at hand, which a warm `Neumann` averages out.

    Args:
        steps: iterations at most; each costs one product.
        damping: δ, added to every eigenvalue.
        tolerance: relative residual at which to stop earlier.
    """

    steps: int = 5
    damping: float = 0.0
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        require(self.damping >= 0, "damping", self.damping, "0 or above")
        require(self.tolerance >= 0, "tolerance", self.tolerance, "0 or above")

    def solve(
        self, hessian: Operator, vector: Tensor, start: Solution | None = None, diagonal: Tensor | None = None
    ) -> Solution:
        operator, precondition = damped(hessian, self.damping), divide_by(diagonal)
        x, residual, products = torch.zeros_like(vector), vector, 0
        if start is not None:
            warm = vector - operator(start.next)
            products = 1
            if warm.norm() <= vector.norm():
                x, residual = start.next, warm
        z = direction = precondition(residual)
        slope = residual @ z
        for _ in range(self.steps):
            if slope <= 0 or ratio(residual, vector) <= self.tolerance:
                break
            image = operator(direction)
            products += 1
            bend = direction @ image
            if bend <= 0 or not bend.isfinite():
                break
            length = slope / bend
            x = x + length * direction
            residual = residual - length * image
            z = precondition(residual)
            slope, last_slope = residual @ z, slope
            direction = z + slope / last_slope * direction
        # Negative curvature at the very first product leaves no scale to choose; T1–T2 at least has a direction.
        stuck = bool(vector.any()) and not bool(x.any())
        diverged = stuck or not bool(x.isfinite().all())
        if diverged:
            x = precondition(vector)
            residual = vector.new_tensor(UNKNOWN)
        return Solution(x, x, ratio(residual, vector), products, diverged=diverged)


@dataclass(frozen=True, kw_only=True)
class Nystrom(InverseHessian):
    """Nyström approximation of low rank, plus ρI, inverted in closed form (Hataya and Yamada 2023).

    A random Gaussian sketch Ω takes the place of the columns that the paper samples: H ≈ HΩ (ΩᵀHΩ)⁺ ΩᵀH. Outside the
    sketched subspace the inverse is 1/ρ, so ρ must be near the eigenvalues left out and the answer is never better
    than that guess. With a diagonal M it is that of M^(-1/2) H M^(-1/2), so ρ stands for ρM. Keeps `rank` vectors in
    memory; a warm start does not help it. Negative eigenvalues count as 0.

    Args:
        rank: columns of the sketch; each costs one product.
        rho: ρ, the damping of all eigenvalues.
        seed: of the sketch.
    """

    rank: int = 10
    rho: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.rank >= 1, "rank", self.rank, "at least 1")
        require(self.rho > 0, "rho", self.rho, "above 0")

    def solve(
        self, hessian: Operator, vector: Tensor, start: Solution | None = None, diagonal: Tensor | None = None
    ) -> Solution:
        rank = min(self.rank, vector.numel())
        # Drawn on the CPU, so that a seed means the same sketch on every device.
        generator = torch.Generator().manual_seed(self.seed)
        draws = torch.randn(vector.numel(), rank, generator=generator, dtype=vector.dtype).to(vector.device)
        sketch, _ = torch.linalg.qr(draws)
        root = torch.ones_like(vector) if diagonal is None else diagonal.sqrt()
        vector = vector / root
        images = torch.stack([hessian(column / root) / root for column in sketch.T], dim=1)
        if not bool(images.isfinite().all()):
            return not_finite(vector, rank)
        middle = sketch.T @ images
        basis, triangle = torch.linalg.qr(images)
        small = triangle @ torch.linalg.pinv((middle + middle.T) / 2, hermitian=True) @ triangle.T
        eigenvalues, vectors = torch.linalg.eigh((small + small.T) / 2)
        basis = basis @ vectors
        inside = basis.T @ vector
        outside = vector - basis @ inside
        x = (basis @ (inside / (eigenvalues.clamp_min(0) + self.rho)) + outside / self.rho) / root
        return Solution(x, x, vector.new_tensor(UNKNOWN), rank)


@dataclass(frozen=True, kw_only=True)
class Exact(InverseHessian):
    """Build H column by column and invert it densely: the answer that the others are tested against.

    Where H has no inverse, the answer of least norm is given.

    Args:
        damping: δ, added to every eigenvalue.
        limit: most weights that it accepts; p of them cost p products and p² numbers.
    """

    damping: float = 0.0
    limit: int = 5000

    def __post_init__(self) -> None:
        require(self.damping >= 0, "damping", self.damping, "0 or above")

    def check(self, weights: int) -> None:
        if weights > self.limit:
            raise ValueError(
                f"Exact builds the Hessian of {weights:,} weights densely, beyond its limit of {self.limit:,}; "
                "take ConjugateGradient or Neumann, or raise `limit` if the memory is there"
            )

    def solve(
        self, hessian: Operator, vector: Tensor, start: Solution | None = None, diagonal: Tensor | None = None
    ) -> Solution:
        self.check(vector.numel())
        operator = damped(hessian, self.damping)
        columns = torch.eye(vector.numel(), dtype=vector.dtype, device=vector.device)
        dense = torch.stack([operator(column) for column in columns])
        dense = (dense + dense.T) / 2
        if not bool(dense.isfinite().all()):
            return not_finite(vector, vector.numel())
        x = torch.linalg.pinv(dense, hermitian=True) @ vector
        return Solution(x, x, ratio(vector - dense @ x, vector), vector.numel())


def not_finite(vector: Tensor, products: int) -> Solution:
    """Give the solution of a system that is not finite: none."""
    x = torch.full_like(vector, UNKNOWN)
    return Solution(x, x, vector.new_tensor(UNKNOWN), products, diverged=True)


def require(holds: bool, name: str, found: object, rule: str) -> None:
    """Raise ValueError with the rule for a setting, unless it holds."""
    if not holds:
        raise ValueError(f"{name} is {found} and must be {rule}")


def damped(hessian: Operator, damping: float) -> Operator:
    """Return v ↦ (H + δI)v."""
    return hessian if damping == 0 else lambda v: hessian(v) + damping * v


def divide_by(diagonal: Tensor | None) -> Operator:
    """Return v ↦ M⁻¹v; the identity where there is no diagonal."""
    return (lambda v: v) if diagonal is None else lambda v: v / diagonal


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide the norm of a part by that of the whole; 0 of 0 is 0."""
    return part.norm() / whole.norm().clamp_min(torch.finfo(whole.dtype).tiny)
