"""Fifty validation images are overfitted by weight decays alone, if there is one per weight."""

import pytest
import torch

from augnet.data import Digits

STEPS = 800


@pytest.fixture(scope="module")
def splits():
    return Digits(train_size=50, val_size=50).load(seed=0)


@pytest.fixture(scope="module")
def by_weight(script, splits):
    return script.tune(splits, "linear", "one per weight", STEPS, rate=0.03)


@pytest.fixture(scope="module")
def by_layer(script, splits):
    """Make the change that a newcomer would: one decay for each tensor of weights."""
    script.GRAINS["one per layer"] = lambda weights: [script.log_decay() for _ in weights]
    return script.tune(splits, "linear", "one per layer", STEPS, rate=0.03)


def test_one_decay_per_weight_overfits_the_validation_images(by_weight):
    """The test loss tells that nothing was learned but these images."""
    assert by_weight.hyperparameters == 16 * 16 * 10 + 10
    assert by_weight.validation[0] > 0.3
    assert by_weight.validation[-1] < 0.05
    assert by_weight.test_loss > 0.3


def test_few_decays_do_not(by_layer, by_weight):
    assert by_layer.hyperparameters == 2
    assert by_layer.validation[-1] > 5 * by_weight.validation[-1]


@pytest.mark.parametrize("model", ["MLP", "convolutional"])
def test_the_grains_cover_every_weight_of_every_model(script, splits, model):
    network = script.MODELS[model](len(splits.classes))
    network(splits.tensors()[0][0])
    weights = list(network.parameters())
    for grain, make in script.GRAINS.items():
        decays = make(weights)
        assert [torch.broadcast_shapes(d.shape, w.shape) for d, w in zip(decays, weights, strict=True)] == [
            w.shape for w in weights
        ], grain


def test_the_figure_has_a_line_for_each_model(script, by_layer, by_weight):
    figure = script.draw({"linear": {"many": by_weight, "few": by_layer}})
    over_time, by_number = figure.axes
    assert over_time.lines[0].get_ydata().tolist() == by_weight.validation
    assert by_number.lines[0].get_xdata().tolist() == [2, 2570]
