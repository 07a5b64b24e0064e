"""The solvers, on matrices small enough to invert."""

import math

import pytest
import torch

from augnet.family import members
from augnet.implicit import ConjugateGradient, Exact, Identity, InverseHessian, Neumann, Nystrom

FAMILY = [member() for member in members(InverseHessian)]
CONVERGED = [Exact(), ConjugateGradient(steps=6), Neumann(steps=1500), Neumann(steps=1500, step_size=0.15)]


def name(inverse):
    return type(inverse).__name__


def system(size: int = 6, seed: int = 0, least: float = 0.5, largest: float = 8.0):
    """A symmetric matrix with eigenvalues spread evenly from least to largest, and a right side."""
    generator = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    H = Q @ torch.diag(torch.linspace(least, largest, size, dtype=torch.float64)) @ Q.T
    return (H + H.T) / 2, torch.randn(size, generator=generator, dtype=torch.float64)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def warm(inverse, systems):
    """Solve one system (H, b) after the other, each from the last solution; give all solutions."""
    solutions = [None]
    for H, b in systems:
        solutions.append(inverse.solve(H.mv, b, solutions[-1]))
    return solutions[1:]


@pytest.mark.parametrize("inverse", FAMILY, ids=name)
def test_solving_with_the_identity_gives_b(inverse):
    """H = I: x = b, up to the factor that a member's damping or truncation puts before it, so the cosine is 1."""
    b = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = inverse.solve(lambda v: v, b).value
    assert float(torch.cosine_similarity(x, b, dim=0)) == pytest.approx(1, abs=1e-12)
    assert relative(x, b) < 0.1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("inverse", FAMILY, ids=name)
def test_the_answer_points_the_exact_way(inverse, seed):
    """Each member applies a positive definite function of H to b; that and H⁻¹b must be within 90 degrees here."""
    H, b = system(seed=seed)
    x = inverse.solve(lambda v: H @ v, b).value
    assert float(torch.cosine_similarity(x, torch.linalg.solve(H, b), dim=0)) > 0.1


@pytest.mark.parametrize("inverse", FAMILY, ids=name)
def test_the_products_are_counted(inverse):
    H, b = system()
    spent = []
    solution = inverse.solve(lambda v: spent.append(v) or H @ v, b)
    assert solution.products == len(spent)
    planned = inverse.planned(None)
    assert planned is None or torch.equal(spent[planned - 1], solution.value)


@pytest.mark.parametrize("inverse", FAMILY, ids=name)
def test_a_right_side_of_zero_gives_zero(inverse):
    H, b = system()
    solution = inverse.solve(lambda v: H @ v, 0 * b)
    assert not solution.value.any()
    assert not solution.diverged


@pytest.mark.parametrize("inverse", CONVERGED, ids=name)
def test_a_converged_solve_is_the_inverse(inverse):
    """x = H⁻¹b with condition 16: (1 - 0.7/16)^1500 is below 1e-29."""
    H, b = system()
    solution = inverse.solve(lambda v: H @ v, b)
    assert relative(solution.value, torch.linalg.solve(H, b)) < 1e-10
    assert float(solution.residual) < 1e-10
    assert not solution.diverged


@pytest.mark.parametrize(
    "inverse",
    [
        Exact(damping=0.3),
        ConjugateGradient(steps=6, damping=0.3),
        Neumann(steps=1500, damping=0.3),
        Nystrom(rank=6, rho=0.3),
    ],
    ids=name,
)
def test_damping_adds_to_every_eigenvalue(inverse):
    """x = (H + 0.3 I)⁻¹ b; Nyström at full rank knows all of H and ρ is its damping."""
    H, b = system()
    expected = torch.linalg.solve(H + 0.3 * torch.eye(6, dtype=torch.float64), b)
    assert relative(inverse.solve(lambda v: H @ v, b).value, expected) < 1e-10


def test_nystrom_is_exact_for_a_matrix_of_low_rank():
    """H = UUᵀ of rank 3 is known from 3 products; (UUᵀ + ρI)⁻¹b by a dense solve."""
    generator = torch.Generator().manual_seed(0)
    U = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    b = torch.randn(20, generator=generator, dtype=torch.float64)
    expected = torch.linalg.solve(U @ U.T + 0.1 * torch.eye(20, dtype=torch.float64), b)
    assert relative(Nystrom(rank=3, rho=0.1).solve(lambda v: U @ (U.T @ v), b).value, expected) < 1e-10


def test_cold_neumann_is_the_truncated_series():
    """value = α Σ_{j<K} (I - αH)ʲ b, next is the sum to K, and the residual belongs to value."""
    H, b = system()
    alpha, steps = 0.1, 4
    term, total = alpha * b, torch.zeros_like(b)
    for _ in range(steps):
        total = total + term
        term = term - alpha * H @ term
    solution = Neumann(steps=steps, step_size=alpha).solve(lambda v: H @ v, b)
    torch.testing.assert_close(solution.value, total)
    torch.testing.assert_close(solution.next, total + term)
    assert float(solution.residual) == pytest.approx(float((b - H @ total).norm() / b.norm()))


def test_warm_neumann_goes_on_where_it_stopped():
    """Twice 3 products are 6: the same iterates, in two calls."""
    H, b = system()
    once = Neumann(steps=6, step_size=0.1).solve(lambda v: H @ v, b)
    twice = warm(Neumann(steps=3, step_size=0.1), [(H, b)] * 2)[-1]
    torch.testing.assert_close(twice.next, once.next)
    torch.testing.assert_close(twice.value, once.value)


def test_conjugate_gradient_restarts_from_a_solution():
    """A restart loses the conjugate directions but not the progress: 3 steps are not enough, 41 times 3 are."""
    H, b = system()
    first, *_, last = warm(ConjugateGradient(steps=3), [(H, b)] * 41)
    assert float(first.residual) > 1e-3
    assert relative(last.value, torch.linalg.solve(H, b)) < 1e-10


def test_conjugate_gradient_drops_a_start_that_is_worse_than_none():
    H, b = system()
    inverse = ConjugateGradient(steps=6)
    bad = inverse.solve(lambda v: H @ v, b)._replace(next=1e6 * torch.ones_like(b))
    assert relative(inverse.solve(lambda v: H @ v, b, bad).value, torch.linalg.solve(H, b)) < 1e-10


def test_conjugate_gradient_stops_at_negative_curvature():
    """H = diag(2, -1), b = (1, 0.1): the first direction b has bᵀHb = 1.99 > 0, the second is bent down, so one step.

    H = -I has none at all: T1–T2, and the alarm.
    """
    H, b = torch.diag(torch.tensor([2.0, -1.0])), torch.tensor([1.0, 0.1])
    solution = ConjugateGradient(steps=10).solve(lambda v: H @ v, b)
    torch.testing.assert_close(solution.value, b * (1.01 / 1.99))
    assert not solution.diverged
    stuck = ConjugateGradient().solve(lambda v: -v, b)
    torch.testing.assert_close(stuck.value, b)
    assert stuck.diverged


def test_a_tolerance_saves_products():
    H, b = system(size=40, largest=50.0)
    solution = ConjugateGradient(steps=40, tolerance=0.1).solve(lambda v: H @ v, b)
    assert solution.products < 20
    assert float(solution.residual) <= 0.1


@pytest.mark.parametrize("inverse", [ConjugateGradient(steps=2), Neumann(steps=100)], ids=name)
def test_the_right_preconditioner_makes_a_diagonal_system_easy(inverse):
    """H = D with condition 1e6 and M = D: M⁻¹H = I, one eigenvalue, so either converges at once."""
    d = torch.logspace(-3, 3, 8, dtype=torch.float64)
    b = torch.ones(8, dtype=torch.float64)
    solution = inverse.solve(lambda v: d * v, b, diagonal=d)
    assert relative(solution.value, b / d) < 1e-10


@pytest.mark.parametrize("inverse", [ConjugateGradient(steps=6), Neumann(steps=3000)], ids=name)
def test_a_preconditioner_does_not_change_the_answer(inverse):
    H, b = system()
    diagonal = torch.linspace(1, 3, 6, dtype=torch.float64)
    assert relative(inverse.solve(lambda v: H @ v, b, diagonal=diagonal).value, torch.linalg.solve(H, b)) < 1e-10


def test_exact_takes_the_least_norm_where_there_is_no_inverse():
    """H = diag(2, 0), b = (4, 0): every (2, t) solves it."""
    H = torch.diag(torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(Exact().solve(lambda v: H @ v, torch.tensor([4.0, 0.0])).value, torch.tensor([2.0, 0.0]))


def test_exact_refuses_many_weights():
    with pytest.raises(ValueError, match=r"Hessian of 6,000 weights densely, beyond its limit of 5,000"):
        Exact().solve(lambda v: v, torch.zeros(6000))


@pytest.mark.parametrize("seed", range(3))
def test_the_automatic_step_never_diverges_on_a_fixed_system(seed):
    """λ_max from 5 power iterations is short of 300 by less than half, so 0.7 of its inverse is below 2 / λ_max."""
    H, b = system(size=50, seed=seed, least=0.1, largest=300.0)
    solutions = warm(Neumann(steps=1), [(H, b)] * 200)
    assert not any(solution.diverged for solution in solutions)
    assert {solution.products for solution in solutions[1:]} == {1, 2}
    assert 150 < solutions[-1].curvature <= 300.0001


@pytest.mark.parametrize("steps", [1, 5, 30])
def test_a_step_above_two_over_the_largest_eigenvalue_raises_the_alarm(steps):
    """α = 2.5/λ_max multiplies the top component by -1.5 per step: 1e29 after 160, unless someone notices."""
    H, b = system()
    solutions = warm(Neumann(steps=steps, step_size=2.5 / 8.0), [(H, b)] * 160)
    assert all(solution.value.norm() < 20 * torch.linalg.solve(H, b).norm() for solution in solutions)
    alarmed = [solution for solution in solutions if solution.diverged]
    assert alarmed
    for solution in alarmed:
        torch.testing.assert_close(solution.next, 2.5 / 8.0 * b)
        assert 2 / solution.curvature < 2.5 / 8.0


def test_a_right_side_of_zero_does_not_spoil_the_step_of_later_solves():
    """Power iteration that began at 0 would stay there, and the step would double until it blows up."""
    H, b = torch.diag(torch.linspace(0.5, 10, 8, dtype=torch.float64)), torch.ones(8, dtype=torch.float64)
    _, *solutions = warm(Neumann(steps=1, alarm=3.0), [(H, 0 * b)] + [(H, b)] * 400)
    assert not any(solution.diverged for solution in solutions)
    assert float(solutions[-1].residual) < 1e-6


def test_growth_within_one_solve_raises_the_alarm_before_the_residual_is_large():
    """αλ = 2.5 for all of b: residuals 1.5, 1.5², 1.5³, 1.5⁴ = 5.1, below 20 but 3.4 times the first."""
    solution = Neumann(steps=4, step_size=2.5).solve(lambda v: v, torch.tensor([1.0, 0.0]))
    assert float(solution.residual) == pytest.approx(1.5**4)
    assert solution.diverged
    assert solution.curvature == pytest.approx(1)


def test_the_products_of_a_solve_correct_the_estimate_of_curvature():
    """λ_max goes from 8 to 20: the old step has αλ = 1.75, so nothing blows up, yet the estimate rises."""
    H, b = system()
    solutions = warm(Neumann(steps=5, refresh=1000), [(H, b)] + [(2.5 * H, b)] * 3)
    assert not any(solution.diverged for solution in solutions)
    assert 15 < solutions[-1].curvature < 20.0001


@pytest.mark.parametrize("steps", [1, 3])
def test_curvature_that_rises_tenfold_is_caught(steps):
    """The step chosen for λ_max = 8 has αλ = 7 at λ_max = 80; it must find its way back without a new first solve."""
    H, b = system()
    solutions = warm(Neumann(steps=steps, refresh=1000), [(H, b)] * 20 + [(10 * H, b)] * 1480)
    assert 1 <= sum(solution.diverged for solution in solutions) <= 3
    assert relative(solutions[-1].value, torch.linalg.solve(10 * H, b)) < 1e-6


def test_an_automatic_step_follows_curvature_down():
    """Every refresh halves the distance to the new λ_max = 0.8: within 1 % after 10 of them."""
    H, b = system()
    solutions = warm(Neumann(steps=1, refresh=5), [(H, b)] + [(0.1 * H, b)] * 80)
    assert solutions[-1].curvature == pytest.approx(0.8, rel=0.01)


@pytest.mark.parametrize("least", [0.05, -0.2])
def test_single_warm_products_stay_bounded_over_thousands_of_noisy_solves(least):
    """Every product has another H (noise of 0.3, a little negative curvature) and another b, as minibatches do."""
    H, b = system(size=20, least=least, largest=5.0)
    generator = torch.Generator().manual_seed(1)

    def noise(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    noisy = [(H + 0.15 * (part + part.T), b + noise(20)) for part in (noise(20, 20) for _ in range(3000))]
    solutions = warm(Neumann(steps=1), noisy)
    assert all(solution.value.norm() < 500 * b.norm() for solution in solutions)
    assert sum(solution.diverged for solution in solutions) < 150


def test_a_product_that_is_not_finite_does_not_poison_the_next_solve():
    H, b = system()
    inverse = Neumann(steps=1)
    solution = inverse.solve(lambda v: H @ v, b)
    broken = inverse.solve(lambda v: H @ v * math.nan, b, solution)
    assert broken.diverged
    assert broken.next.isfinite().all()
    assert not inverse.solve(lambda v: H @ v, b, broken).diverged


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Neumann(steps=0), "steps is 0 and must be at least 1"),
        (lambda: Neumann(step_size=-0.1), "step_size is -0.1 and must be above 0, or None"),
        (lambda: Neumann(alarm=0.5), "alarm is 0.5 and must be above 1"),
        (lambda: ConjugateGradient(damping=-1.0), "damping is -1.0 and must be 0 or above"),
        (lambda: Nystrom(rho=0.0), "rho is 0.0 and must be above 0"),
        (lambda: Exact(damping=-1.0), "damping is -1.0"),
        (lambda: Identity(curvature="gauss_newton"), "curvature is gauss_newton and must be left out"),
    ],
)
def test_settings_check_themselves(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("inverse", [Nystrom(rank=3), Exact()])
def test_what_is_not_finite_is_a_solution_that_is_not(inverse):
    found = inverse.solve(lambda v: v * torch.nan, torch.ones(5, dtype=torch.float64))
    assert found.diverged
    assert found.value.isnan().all()


def test_nystrom_damps_in_the_metric_of_the_preconditioner():
    """Of full rank it is (H + ρM)⁻¹ b."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    dense, diagonal = half @ half.T, torch.linspace(0.5, 3, 6, dtype=torch.float64)
    b = torch.randn(6, generator=generator, dtype=torch.float64)
    found = Nystrom(rank=6, rho=0.3).solve(lambda v: dense @ v, b, diagonal=diagonal).value
    torch.testing.assert_close(found, torch.linalg.solve(dense + 0.3 * diagonal.diag(), b))


def test_identity_divides_by_the_preconditioner():
    b, d = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 8.0])
    torch.testing.assert_close(Identity().solve(lambda v: v, b, diagonal=d).value, torch.tensor([0.5, 0.25]))
