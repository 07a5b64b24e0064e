"""Trainings are paired: arms share weights, batches and dropout, seed by seed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from augnet.compare.bench import PACKAGES, _made_with
from augnet.compare.fixed import NoAugmentation, TrivialAugmentWide
from augnet.compare.learned import Learned
from augnet.compare.measures import Measures
from augnet.compare.own import Own
from augnet.compare.results import Results
from augnet.compare.retraining import Interrupted, Result, Retraining, Training, key_of, retrain
from augnet.recipe import Recipe

ARMS = [NoAugmentation(), TrivialAugmentWide(), Learned()]


class Dropping(nn.Module):
    """Keeps what its dropout lets through, which does not depend on the images."""

    def __init__(self):
        super().__init__()
        self.dropout, self.linear, self.kept = nn.Dropout(), nn.Linear(64, 2), []

    def forward(self, images):
        self.kept.append(self.dropout(torch.ones(len(images), 64)))
        return self.linear(images.flatten(1) * self.kept[-1])


def training_of(bench, arm, steps, seed, copies=1):
    return Training(arm, steps, seed, copies, key_of(bench, arm))


def weights(retraining):
    return torch.cat([w.detach().ravel() for w in retraining.inner.weights])


def test_arms_of_a_seed_share_weights_and_batches_and_other_seeds_do_not(make_bench):
    bench = make_bench(1, 8, 8)
    of_seed = {}
    for seed in (0, 1):
        trainings = [Retraining(bench, training_of(bench, arm, 4, seed)) for arm in ARMS]
        first = trainings[0]
        seen = [next(first.batches)[2] for _ in range(12)]
        for other in trainings[1:]:
            assert torch.equal(weights(other), weights(first))
            for batch in seen:
                assert torch.equal(next(other.batches)[2], batch)
        of_seed[seed] = weights(first), torch.stack(seen)
    assert not any(torch.equal(a, b) for a, b in zip(of_seed[0], of_seed[1], strict=True))


def test_arms_of_a_seed_share_dropout_and_other_steps_and_seeds_do_not(make_bench):
    bench = replace(make_bench(1, 8, 8), own=Dropping)

    def kept(arm, seed):
        retraining = Retraining(bench, training_of(bench, arm, 2, seed))
        retraining.step()
        retraining.step()
        return torch.stack(retraining.inner.classifier.kept)

    first = kept(ARMS[0], 0)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(kept(ARMS[0], 1), first)
    for arm in ARMS[1:]:
        assert torch.equal(kept(arm, 0), first)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_a_training_gives_the_same_result_again_and_leaves_the_generators_alone(make_bench, arm):
    bench = make_bench(3, 8, 8)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = [retrain(bench, training_of(bench, arm, 3, 1, copies=2)) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert [result._replace(seconds=0) for result in found[0]] == [result._replace(seconds=0) for result in found[1]]
    assert [result.copies for result in found[0]] == [1, 2]


def test_views_of_an_arm_that_changes_nothing_are_all_the_same(make_bench):
    bench = make_bench(1, 8, 8)
    one, three = retrain(bench, training_of(bench, NoAugmentation(), 3, 0, copies=3))
    assert three.measures.right == one.measures.right
    assert three.measures.loss == pytest.approx(one.measures.loss, rel=1e-12)


def test_bright_and_dark_images_are_told_apart(make_bench):
    """Classes that differ by half the range are learned in a few steps; every class has 12 test images."""
    bench = make_bench(1, 8, 8)
    (result,) = retrain(bench, training_of(bench, NoAugmentation(), 30, 0))
    assert result.measures.accuracy == 1
    assert result.measures.right == (12, 12)


def test_a_training_whose_loss_stays_non_finite_is_no_result(make_bench):
    bench = make_bench(1, 8, 8)
    bench = replace(bench, recipe=replace(bench.recipe, inner=replace(bench.recipe.inner, learning_rate=1e25)))
    with pytest.raises(ValueError, match=r"not finite in 5 steps in a row.*lower inner.learning_rate"):
        retrain(bench, training_of(bench, NoAugmentation(), 20, 0))


def test_a_training_stops_when_told(make_bench):
    bench, calls = make_bench(1, 8, 8), iter([False, False, True])
    with pytest.raises(Interrupted, match="at step 2"):
        retrain(bench, training_of(bench, NoAugmentation(), 30, 0), stopped=lambda: next(calls))


def test_keys_tell_apart_what_learned_arms_are_of_but_not_fixed_ones(make_bench):
    one, other = make_bench(1, 8, 8), make_bench(1, 8, 8)
    with torch.no_grad():
        next(other.augmenter.parameters()).add_(1)
    assert key_of(one, NoAugmentation()) == key_of(other, NoAugmentation())
    assert key_of(one, Learned()) != key_of(other, Learned())
    assert key_of(one, Learned()) != key_of(one, Learned(strength=0.5))


def test_other_versions_and_devices_have_other_keys_and_other_builds_have_not(monkeypatch):
    """A build for GPUs, 2.11.0+cu128, runs on a CPU what 2.11.0+cpu does."""
    versions = dict.fromkeys(PACKAGES, "1.0")
    monkeypatch.setattr("importlib.metadata.version", versions.__getitem__)
    before = _made_with(Recipe(device="cpu"))
    versions["torch"] = "1.0+cu128"
    assert _made_with(Recipe(device="cpu")) == before
    versions["torch"] = "1.1"
    assert _made_with(Recipe(device="cpu")) != before
    versions["torch"] = "1.0"
    monkeypatch.setattr("augnet.compare.bench.device_named", torch.device)
    assert _made_with(Recipe(device="cuda:1")) == _made_with(Recipe(device="cuda")) != before


def test_a_transform_that_was_edited_meanwhile_is_not_filed_as_what_it_was(make_bench, tmp_path):
    bench, mine = make_bench(1, 8, 8), tmp_path / "mine.py"
    mine.write_text("same = lambda image: image\n")
    training = training_of(bench, Own(where=f"{mine}:same"), 2, 0)
    (result,) = retrain(bench, training)
    assert result.key == training.key
    mine.write_text("same = lambda image: image // 2\n")
    with pytest.raises(ValueError, match="was edited since the comparison began; run it again"):
        retrain(bench, training)


RESULT = Result("none", 4, 0, 1, Measures(1 / 3, 0.25, 0.5, (3, 0, 1)), 1.5, "0123456789abcdef")


def test_results_come_back_as_they_were_and_half_a_row_is_passed_over(tmp_path):
    path = tmp_path / "results.csv"
    Results(path).add([RESULT, RESULT._replace(seed=1)])
    whole = path.read_bytes()
    path.write_bytes(whole + b"none,4,2,1,0.5,0.1\0\0\0")
    after = Results(path)
    assert after.get(RESULT.key, 4, 0, 1) == RESULT
    assert after.get(RESULT.key, 4, 2, 1) is None
    after.add([RESULT._replace(seed=3)])
    found = Results(tmp_path / "other.csv", [path])
    assert [seed for seed in range(5) if found.get(RESULT.key, 4, seed, 1)] == [0, 1, 3]


def test_an_empty_table_is_begun_anew(tmp_path):
    path = tmp_path / "results.csv"
    path.touch()
    Results(path).add([RESULT])
    assert Results(path).get(RESULT.key, 4, 0, 1) == RESULT


def test_tables_of_something_else_are_refused(tmp_path):
    path = tmp_path / "mine.csv"
    for content in (b"a,b\n1,2\n", b"PK\x03\x04\x00\xe6\x9c", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"mine.csv should be a table of results, .* but begins with '"):
            Results(tmp_path / "results.csv", [path])
    with pytest.raises(FileNotFoundError, match="there is no table of results"):
        Results(tmp_path / "new.csv", [tmp_path / "none.csv"])
