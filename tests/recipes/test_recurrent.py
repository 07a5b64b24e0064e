import pytest
import torch

# Wide enough to learn by heart whatever text is in the manual of the Python that runs this.
SIZES = {"steps": 300, "width": 24, "seed": 1}


@pytest.fixture(scope="module")
def text(script):
    return script.python_manual(sequences=10, length=8, seed=0)


def test_tuning_overfits_ten_validation_sequences(script, text):
    """Untuned, the network learns the training sequences by heart; tuned, it loses a nat of validation loss at least.

    That is far below the loss on a hundred sequences which nothing was tuned on: the validation set is overfitted.
    """
    untuned, tuned = (script.fit(text, script.START, warmup, **SIZES) for warmup in (300, 30))
    assert untuned.train < 1 < 3 < untuned.val
    assert tuned.val < untuned.val - 1
    assert tuned.val < tuned.test - 0.5


def test_sequences_do_not_overlap_and_are_text_of_the_manual(text):
    pieces = torch.cat(text[:3])
    assert pieces.shape == (120, 9)
    assert 0 <= int(pieces.min()) <= int(pieces.max()) < 100


def test_numbers_mean_shares_penalties_and_decays(script):
    weights = list(script.lstm(5, 3).parameters())
    numbers = [0.4] * 5 + [-2.5] * 4 + [-4.0] * len(weights)
    shares, penalties, *decays = script.hyperparameters(numbers, weights)
    torch.testing.assert_close(shares.sigmoid(), torch.full((5,), 0.4))
    torch.testing.assert_close(penalties.exp(), torch.full((2, 2), 10**-2.5))
    for decay, weight in zip(decays, weights, strict=True):
        torch.testing.assert_close(decay.exp(), torch.full_like(weight, 1e-4).detach())
    assert len(script.START) == len(script.RANGES) == len(numbers)
    assert all(low < number < high for number, (low, high) in zip(script.START, script.RANGES, strict=True))


def test_a_search_trains_once_at_least_and_stops_when_its_time_is_spent(script, text):
    sizes = {"steps": 2, "width": 4, "seed": 0}
    (single,) = script.search(text, seconds=0, **sizes)
    assert len(script.search(text, seconds=3 * single.seconds, **sizes)) > 1
