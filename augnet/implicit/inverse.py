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

from augnet.implicit.curvature import Operator, largest_eigenvalue

UNKNOWN = math.nan
# Share of 1 / λ_max that an automatic step takes. Any share up to 2 converges on a fixed system; on minibatches
# recipes/benchmarks/solver_error.py finds 0.5 to 1 alike, and 1.5 worse.
SAFETY = 0.7
# Growth of the residual within one solve, where H is fixed, that slight negative curvature does not explain.
GROWTH = 2.0


class Solution(NamedTuple):
    """What a solve found, and what the next solve starts from.

    Args:
        value: x, the inverse-Hessian-vector product.
        next: iterate from which a warm start goes on; for Neumann one step further than `value`.
        residual: |b − (H + δI)x| / |b| at `value`, a tensor without dimensions; nan if not measured.
        products: Hessian-vector products spent.
        curvature: estimate of λ_max; nan if unknown.
        step_size: α that was used; nan for solvers that have none.
        diverged: the solve blew up, and `value` and `next` were set back to those of a cold start.
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

    def planned(self, start: Solution | None) -> int | None:
        """Say which product will be taken at `Solution.value`, counted from 1; None if none will be."""
        return None


@dataclass(frozen=True, kw_only=True)
class Identity(InverseHessian):
    """Take the inverse for the identity: x = M⁻¹ b (T1–T2, Luketina et al. 2016). Costs no product.

    It mistakes whatever enlarges the training gradient for progress; `project=True` in `hypergradient` takes out the
    larger part of that bias.
    """

    def solve(
        self, hessian: Operator, vector: Tensor, start: Solution | None = None, diagonal: Tensor | None = None
    ) -> Solution:
        x = vector if diagonal is None else vector / diagonal
        return Solution(x, x, vector.new_tensor(UNKNOWN), products=0)


@dataclass(frozen=True, kw_only=True)
class Neumann(InverseHessian):
    """Truncated Neumann series (Lorraine, Vicol and Duvenaud 2020), cold or warm.

    One loop, x ← x + α M⁻¹ (b − (H + δI)x), serves three methods. Cold, it starts at α M⁻¹ b and K products give the K
    terms α Σ_{j<K} (I − αH)ʲ b, which is what K unrolled steps of gradient descent with learning rate α give.
    Cold with one product it is a scaled T1–T2. Warm with one product it is the amortised single loop of SOBA (Dagréou
    et al. 2022). `value` is the iterate at which the last product was taken, so its residual is known and the mixed
    derivative can come out of the same backward pass; `next` is one step further.

    Args:
        steps: products per solve, K.
        step_size: α, which converges below 2 / λ_max and diverges above; None chooses 0.7 / λ_max and follows λ_max.
        damping: δ, added to every eigenvalue; keeps directions of slightly negative curvature from growing.
        probes: products of power iteration that find λ_max at the first solve; only without `step_size`.
        refresh: solves between two further products that keep λ_max current; only without `step_size`.
        alarm: residual beyond which a solve has diverged; x = 0 has residual 1, and minibatches alone give up to 7.
    """

    steps: int = 3
    step_size: float | None = None
    damping: float = 0.0
    probes: int = 5
    refresh: int = 20
    alarm: float = 20.0

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "steps", self.steps, "at least 1")
        _require(self.step_size is None or self.step_size > 0, "step_size", self.step_size, "above 0, or None")
        _require(self.damping >= 0, "damping", self.damping, "0 or above")
        _require(self.probes >= 1, "probes", self.probes, "at least 1")
        _require(self.refresh >= 1, "refresh", self.refresh, "at least 1")
        _require(self.alarm > 1, "alarm", self.alarm, "above 1, the residual of x = 0")

    def solve(
        self, hessian: Operator, vector: Tensor, start: Solution | None = None, diagonal: Tensor | None = None
    ) -> Solution:
        operator, precondition = _damped(hessian, self.damping), _divide_by(diagonal)
        found, top, age = self._largest_eigenvalue(lambda v: precondition(operator(v)), vector, start)
        step = self._step_size(found)
        x = following = step * precondition(vector) if start is None else start.next
        residuals, gains = [], []
        previous = None
        for _ in range(self.steps):
            x = following
            residual = vector - operator(x)
            following = x + step * precondition(residual)
            residuals.append(_ratio(residual, vector))
            if previous is not None:
                # x has just moved by α M⁻¹ r, so the change of r is that much of H: a bound on λ_max for nothing,
                # unless r is all rounding.
                gain = _ratio(precondition(residual - previous), step * precondition(previous))
                gains.append(gain * (residuals[-2] > torch.finfo(vector.dtype).eps ** 0.5))
            previous = residual
        products = self.planned(start)
        measured = float(residuals[-1])
        grown = measured > max(1.0, GROWTH * float(residuals[0]))
        diverged = not measured <= self.alarm or grown
        found = max([found, *map(float, gains)]) if self.step_size is None else UNKNOWN
        if diverged:
            # A residual that blew up points along the eigenvector which did it.
            guilty = residual if bool(residual.isfinite().all()) else vector
            blamed, _ = largest_eigenvalue(lambda v: precondition(operator(v)), guilty, 1)
            products += 1
            found = blamed if math.isnan(found) else max(found, blamed)
            step = self._step_size(found)
            x = following = step * precondition(vector)
        return Solution(x, following, residuals[-1], products, found, step, diverged, top, age)

    def planned(self, start: Solution | None) -> int:
        return self._probes_due(start) + self.steps

    def _probes_due(self, start: Solution | None) -> int:
        if self.step_size is not None:
            return 0
        if start is None or start.top is None or not math.isfinite(start.curvature):
            return self.probes
        return 1 if start.age >= self.refresh else 0

    def _largest_eigenvalue(
        self, operator: Operator, vector: Tensor, start: Solution | None
    ) -> tuple[float, Tensor | None, int]:
        due = self._probes_due(start)
        if self.step_size is not None:
            return UNKNOWN, None, 0
        if start is None or start.top is None or not math.isfinite(start.curvature):
            return *largest_eigenvalue(operator, vector, due), 1
        if due == 0:
            return start.curvature, start.top, start.age + 1
        estimate, top = largest_eigenvalue(operator, start.top, due)
        # Rising at once and sinking by halves: too small a step is slow, too large a one blows up.
        return max(estimate, (estimate + start.curvature) / 2), top, 1

    def _step_size(self, largest: float) -> float:
        if self.step_size is not None:
            return self.step_size
        return SAFETY / largest if largest > 0 else 1.0


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
        _require(self.steps >= 1, "steps", self.steps, "at least 1")
        _require(self.damping >= 0, "damping", self.damping, "0 or above")
        _require(self.tolerance >= 0, "tolerance", self.tolerance, "0 or above")

    def solve(
        self, hessian: Operator, vector: Tensor, start: Solution | None = None, diagonal: Tensor | None = None
    ) -> Solution:
        operator, precondition = _damped(hessian, self.damping), _divide_by(diagonal)
        x, residual, products = torch.zeros_like(vector), vector, 0
        if start is not None:
            warm = vector - operator(start.next)
            products = 1
            if warm.norm() <= vector.norm():
                x, residual = start.next, warm
        z = direction = precondition(residual)
        slope = residual @ z
        for _ in range(self.steps):
            if slope <= 0 or _ratio(residual, vector) <= self.tolerance:
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
        return Solution(x, x, _ratio(residual, vector), products, diverged=diverged)


@dataclass(frozen=True, kw_only=True)
class Nystrom(InverseHessian):
    """Nyström approximation of low rank, plus ρI, inverted in closed form (Hataya and Yamada 2023).

    A random Gaussian sketch Ω takes the place of the columns that the paper samples: H ≈ HΩ (ΩᵀHΩ)⁺ ΩᵀH. Outside the
    sketched subspace the inverse is 1/ρ, so ρ must be near the eigenvalues left out and the answer is never better
    than that guess. Keeps `rank` vectors in memory; a warm start does not help it. Negative eigenvalues count as 0.

    Args:
        rank: columns of the sketch; each costs one product.
        rho: ρ, the damping of all eigenvalues.
        seed: of the sketch.
    """

    rank: int = 10
    rho: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.rank >= 1, "rank", self.rank, "at least 1")
        _require(self.rho > 0, "rho", self.rho, "above 0")

    def solve(
        self, hessian: Operator, vector: Tensor, start: Solution | None = None, diagonal: Tensor | None = None
    ) -> Solution:
        rank = min(self.rank, vector.numel())
        # Drawn on the CPU, so that a seed means the same sketch on every device.
        generator = torch.Generator().manual_seed(self.seed)
        draws = torch.randn(vector.numel(), rank, generator=generator, dtype=vector.dtype).to(vector.device)
        sketch, _ = torch.linalg.qr(draws)
        images = torch.stack([hessian(column) for column in sketch.T], dim=1)
        middle = sketch.T @ images
        basis, triangle = torch.linalg.qr(images)
        small = triangle @ torch.linalg.pinv((middle + middle.T) / 2, hermitian=True) @ triangle.T
        eigenvalues, vectors = torch.linalg.eigh((small + small.T) / 2)
        basis = basis @ vectors
        inside = basis.T @ vector
        outside = vector - basis @ inside
        x = basis @ (inside / (eigenvalues.clamp_min(0) + self.rho)) + outside / self.rho
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
        _require(self.damping >= 0, "damping", self.damping, "0 or above")

    def solve(
        self, hessian: Operator, vector: Tensor, start: Solution | None = None, diagonal: Tensor | None = None
    ) -> Solution:
        if vector.numel() > self.limit:
            raise ValueError(
                f"Exact builds the Hessian of {vector.numel():,} weights densely, beyond its limit of {self.limit:,}; "
                "take ConjugateGradient or Neumann, or raise `limit` if the memory is there"
            )
        operator = _damped(hessian, self.damping)
        columns = torch.eye(vector.numel(), dtype=vector.dtype, device=vector.device)
        dense = torch.stack([operator(column) for column in columns])
        dense = (dense + dense.T) / 2
        x = torch.linalg.pinv(dense, hermitian=True) @ vector
        return Solution(x, x, _ratio(vector - dense @ x, vector), vector.numel())


def _require(holds: bool, name: str, found: object, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {found} and must be {rule}")


def _damped(hessian: Operator, damping: float) -> Operator:
    return hessian if damping == 0 else lambda v: hessian(v) + damping * v


def _divide_by(diagonal: Tensor | None) -> Operator:
    return (lambda v: v) if diagonal is None else lambda v: v / diagonal


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part.norm() / whole.norm().clamp_min(torch.finfo(whole.dtype).tiny)
