"""Examples with a wrong label get less weight, and the classifier is the better for it."""

import pytest
from sklearn.metrics import roc_auc_score


@pytest.fixture(scope="module")
def noisy(script):
    return script.corrupt("digits", share=0.4, trusted=100)


@pytest.fixture(scope="module")
def found(script, noisy):
    return script.compare(noisy, steps=600)


def test_as_many_labels_are_wrong_as_asked(script, noisy):
    """About 1,098 labels, each wrong with probability 0.4: a standard deviation of 0.015."""
    clean = script.corrupt("digits", share=0.0, trusted=100)
    assert not clean.corrupted.any()
    assert float(noisy.corrupted.float().mean()) == pytest.approx(0.4, abs=0.045)
    assert ((noisy.labels != clean.labels) == noisy.corrupted).all()
    assert (noisy.trusted[1] == clean.trusted[1]).all()


def test_the_corrupted_examples_are_found(noisy, found):
    assert roc_auc_score(~noisy.corrupted, found["learned weights"].weights) > 0.95


def test_equal_weights_find_nothing(noisy, found):
    assert roc_auc_score(~noisy.corrupted, found["equal weights"].weights) == 0.5


def test_test_accuracy_recovers(found):
    """Learned weights win over equal ones and over the trusted images alone; the clean part is out of reach."""
    ends = {name: sum(learned.accuracy[-5:]) / 5 for name, learned in found.items()}
    assert ends["learned weights"] > ends["equal weights"] + 0.02
    assert ends["learned weights"] > ends["trusted images only"] + 0.02
    assert ends["clean part only"] > ends["learned weights"]


def test_the_figure_shows_every_training(script, noisy, found):
    by_weight, over_time = script.draw(noisy, found).axes
    assert sum(bar.get_height() for bar in by_weight.patches) == len(noisy.labels)
    assert [line.get_label() for line in over_time.lines] == list(found)


def test_a_share_above_one_is_refused(script):
    with pytest.raises(ValueError, match=r"share of corrupted labels is 1\.2"):
        script.corrupt("digits", share=1.2, trusted=100)
