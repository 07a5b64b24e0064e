"""The table of approximations says what theory says."""

import pytest
import torch

PRODUCTS = [1, 4, 16, 64]


@pytest.fixture(scope="module", params=[[], [4]], ids=["linear", "network"])
def given(script, request):
    return script.problem(request.param)


@pytest.fixture(scope="module")
def table(script, given):
    return script.compare(given, PRODUCTS)


def column(rows, name):
    return [row[name] for row in rows]


def test_the_models_are_trained_out(given):
    """The implicit function theorem asks for a gradient of zero."""
    gradients = torch.autograd.grad(given.training_loss(given.weights), given.weights)
    assert max(float(g.abs().max()) for g in gradients) < 1e-6


@pytest.mark.parametrize("products", PRODUCTS)
def test_neumann_terms_are_unrolled_steps(script, given, products):
    """At a minimum, K unrolled steps and K Neumann terms are the same polynomial in H."""
    terms, steps = (script.METHODS[method](given, products).gradients for method in ("Neumann", "unrolled"))
    torch.testing.assert_close(terms, steps, rtol=1e-5, atol=1e-8)


def test_conjugate_gradients_come_closest_and_the_identity_stays_away(table):
    errors = column(table["conjugate gradients"], "relative error")
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05
    assert errors[-1] < table["Neumann"][-1]["relative error"] < table["identity"][-1]["relative error"]
    assert table["conjugate gradients"][-1]["cosine"] > 0.99


def test_memory_is_flat_in_products_and_grows_with_unrolled_steps(table):
    assert len(set(column(table["Neumann"], "memory (kB)"))) == 1
    unrolled = column(table["unrolled"], "memory (kB)")
    assert unrolled[-1] > 20 * unrolled[0]


def test_the_figure_holds_every_method(script, table):
    axes = script.draw({"model": table}).axes
    assert [line.get_label() for line in axes[0].lines] == list(table)
    assert len(axes) == 4
