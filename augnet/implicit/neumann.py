"""The Neumann series for an inverse Hessian: cold or warm, with a step size that finds itself and an alarm.

Symbols: those of inverse.py.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from augnet.implicit.curvature import Operator, largest_eigenvalue
from augnet.implicit.inverse import UNKNOWN, InverseHessian, Solution, damped, divide_by, ratio, require

# Share of 1 / λ_max that an automatic step takes. Any share up to 2 converges on a fixed system; on minibatches
# recipes/benchmarks/solver_error.py finds 0.5 to 1 alike, and 1.5 worse.
SAFETY = 0.7
# Growth of the residual within one solve, where H is fixed, that slight negative curvature does not explain.
GROWTH = 2.0


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
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        require(self.step_size is None or self.step_size > 0, "step_size", self.step_size, "above 0, or None")
        require(self.damping >= 0, "damping", self.damping, "0 or above")
        require(self.probes >= 1, "probes", self.probes, "at least 1")
        require(self.refresh >= 1, "refresh", self.refresh, "at least 1")
        require(self.alarm > 1, "alarm", self.alarm, "above 1, the residual of x = 0")

    def solve(
        self, hessian: Operator, vector: Tensor, start: Solution | None = None, diagonal: Tensor | None = None
    ) -> Solution:
        operator, precondition = damped(hessian, self.damping), divide_by(diagonal)
        found, top, age = self._largest_eigenvalue(lambda v: precondition(operator(v)), vector, start)
        step = self._step_size(found)
        x = following = step * precondition(vector) if start is None else start.next
        residuals, gains = [], []
        previous = None
        for _ in range(self.steps):
            x = following
            residual = vector - operator(x)
            following = torch.add(x, precondition(residual), alpha=step)
            residuals.append(ratio(residual, vector))
            if previous is not None:
                # x has just moved by α M⁻¹ r, so the change of r is that much of H: a bound on λ_max for nothing,
                # unless r is all rounding.
                gain = ratio(precondition(residual - previous), step * precondition(previous))
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
        # From a right side of 0 nothing was found.
        if start is None or start.top is None or not 0 < start.curvature < math.inf:
            return self.probes
        return 1 if start.age >= self.refresh else 0

    def _largest_eigenvalue(
        self, operator: Operator, vector: Tensor, start: Solution | None
    ) -> tuple[float, Tensor | None, int]:
        due = self._probes_due(start)
        if self.step_size is not None:
            return UNKNOWN, None, 0
        if start is None or start.top is None or not 0 < start.curvature < math.inf:
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
