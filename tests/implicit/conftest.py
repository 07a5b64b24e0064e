import pytest
import torch


@pytest.fixture
def quadratic():
    """Make the problem train = w'Aw/2 - w'Bh, val = |w - t|²/2, in float64."""

    def make(seed=0, size=6, hyperparameters=3, converged=True):
        """A positive definite, B, t and h at random; w the minimiser of the training loss, or at random too."""
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        Q, _ = torch.linalg.qr(draw(size, size))
        A = Q @ torch.diag(torch.linspace(0.5, 8, size, dtype=torch.float64)) @ Q.T
        A, B, t, h = (A + A.T) / 2, draw(size, hyperparameters), draw(size), draw(hyperparameters)
        w = torch.linalg.solve(A, B @ h) if converged else draw(size)
        return A, B, t, h.requires_grad_(), w.requires_grad_()

    return make
