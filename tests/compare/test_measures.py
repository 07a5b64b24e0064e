import math

import pytest
import torch

from augnet.compare.measures import measure


def test_measures_of_three_predictions():
    """Confidences .9 (right), .6 (wrong) and .8 (right) lie in bins of their own: gaps .1, .6 and .2, each a third."""
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], dtype=torch.float64)
    found = measure(probabilities, torch.tensor([0, 1, 1]))
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.loss == pytest.approx(-(math.log(0.9) + math.log(0.4) + math.log(0.8)) / 3)
    assert found.calibration_error == pytest.approx(0.9 / 3)
    assert found.right == (1, 1)


def test_gaps_of_one_bin_cancel():
    """Of four predictions at .75, three are right: accuracy and confidence of their bin agree."""
    probabilities = torch.tensor([[0.75, 0.25]] * 4)
    assert measure(probabilities, torch.tensor([0, 0, 0, 1])).calibration_error == pytest.approx(0)


def test_certain_and_wrong_predictions_have_a_finite_loss_and_an_error_of_1():
    found = measure(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([1, 1]))
    assert found.calibration_error == pytest.approx(1)
    assert math.isfinite(found.loss)
    assert found.right == (0, 0)
