"""Trainings are paired: arms share weights, batches and dropout, seed by seed."""

import pytest
import torch

from augnet.compare.fixed import NoAugmentation, TrivialAugmentWide
from augnet.compare.learned import Learned
from augnet.compare.measures import Measures
from augnet.compare.results import Results
from augnet.compare.retraining import Interrupted, Result, Retraining, Training, key_of, retrain

ARMS = [NoAugmentation(), TrivialAugmentWide(), Learned()]


def weights(retraining):
    return torch.cat([w.detach().ravel() for w in retraining.inner.weights])


def test_arms_of_a_seed_share_weights_and_batches_and_other_seeds_do_not(make_bench):
    bench = make_bench(1, 8, 8)
    of_seed = {}
    for seed in (0, 1):
        trainings = [Retraining(bench, Training(arm, 4, seed)) for arm in ARMS]
        first = trainings[0]
        seen = [next(first.batches)[2] for _ in range(12)]
        for other in trainings[1:]:
            assert torch.equal(weights(other), weights(first))
            for batch in seen:
                assert torch.equal(next(other.batches)[2], batch)
        of_seed[seed] = weights(first), torch.stack(seen)
    assert not any(torch.equal(a, b) for a, b in zip(of_seed[0], of_seed[1], strict=True))


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_a_training_gives_the_same_result_again_and_leaves_the_generators_alone(make_bench, arm):
    bench = make_bench(3, 8, 8)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = [retrain(bench, Training(arm, 3, 1, copies=2)) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert [result._replace(seconds=0) for result in found[0]] == [result._replace(seconds=0) for result in found[1]]
    assert [result.copies for result in found[0]] == [1, 2]


def test_views_of_an_arm_that_changes_nothing_are_all_the_same(make_bench):
    one, three = retrain(make_bench(1, 8, 8), Training(NoAugmentation(), 3, 0, copies=3))
    assert three.measures.right == one.measures.right
    assert three.measures.loss == pytest.approx(one.measures.loss, rel=1e-12)


def test_bright_and_dark_images_are_told_apart(make_bench):
    """Classes that differ by half the range are learned in a few steps; every class has 12 test images."""
    (result,) = retrain(make_bench(1, 8, 8), Training(NoAugmentation(), 30, 0))
    assert result.measures.accuracy == 1
    assert result.measures.right == (12, 12)


def test_a_training_stops_when_told(make_bench):
    calls = iter([False, False, True])
    with pytest.raises(Interrupted, match="at step 2"):
        retrain(make_bench(1, 8, 8), Training(NoAugmentation(), 30, 0), stopped=lambda: next(calls))


def test_keys_tell_apart_what_learned_arms_are_of_but_not_fixed_ones(make_bench):
    one, other = make_bench(1, 8, 8), make_bench(1, 8, 8)
    with torch.no_grad():
        next(other.augmenter.parameters()).add_(1)
    assert key_of(one, NoAugmentation()) == key_of(other, NoAugmentation())
    assert key_of(one, Learned()) != key_of(other, Learned())
    assert key_of(one, Learned()) != key_of(one, Learned(strength=0.5))


RESULT = Result("none", 4, 0, 1, Measures(1 / 3, 0.25, 0.5, (3, 0, 1)), 1.5, "0123456789abcdef")


def test_results_come_back_as_they_were_and_half_a_row_is_passed_over(tmp_path):
    path = tmp_path / "results.csv"
    Results(path).add([RESULT, RESULT._replace(seed=1)])
    whole = path.read_bytes()
    path.write_bytes(whole + b"none,4,2,1,0.5,0.1")
    after = Results(path)
    assert after.get(RESULT.key, 4, 0, 1) == RESULT
    assert after.get(RESULT.key, 4, 2, 1) is None
    after.add([RESULT._replace(seed=3)])
    found = Results(tmp_path / "other.csv", [path])
    assert [seed for seed in range(5) if found.get(RESULT.key, 4, seed, 1)] == [0, 1, 3]


def test_tables_of_something_else_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"should be a table of results, with the columns arm, .* found a, b"):
        Results(path)
    with pytest.raises(FileNotFoundError, match="there is no table of results"):
        Results(tmp_path / "new.csv", [tmp_path / "none.csv"])
