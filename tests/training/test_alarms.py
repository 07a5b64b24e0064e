"""Alarms: each goes off when it should, once, and not otherwise."""

import math

import pytest

from augnet.augmenter import Learned
from augnet.training.alarms import AGAIN, EARLY, FAINT, LEAST_AGREEMENT, LEAST_SIGNAL, SETTLED, SURE, Alarms
from augnet.transforms import Brightness, MirrorLeftRight, Rotate


def rotation(centre=0.0, spread=8.0, probability=1.0):
    return Learned(Rotate(), centre, spread, probability)


def mirror(probability):
    return Learned(MirrorLeftRight(), 0.0, 0.3, probability)


# A training in which all is well.
WELL = {
    "resets": 0,
    "noise": 0.9,
    "outer_steps": 200,
    "learned": [rotation(), mirror(0.2)],
    "overfitting": 1.0,
    "agreement": 0.95,
    "skipped": 0,
}
FAINT_ROTATION = FAINT * Rotate().limit

RAISED = [
    ("divergence", {"resets": 180}, "raise inverse_hessian.damping"),
    ("noise", {"noise": 1 - 0.9 * LEAST_SIGNAL / 200}, "raise schedule.val_batch_size"),
    ("collapse", {"learned": [rotation(spread=0.9 * FAINT_ROTATION), mirror(0.9 * FAINT)]}, "outer.spread_reward"),
    ("collapse", {"learned": [rotation(probability=0.9 * FAINT)]}, "outer.spread_reward"),
    ("overfitting", {"overfitting": SURE + 0.1}, "by 4.1 standard errors"),
    ("destruction", {"agreement": LEAST_AGREEMENT - 0.01}, "only 59% of the images"),
    ("skipped", {"skipped": 3}, "3 steps were left out"),
]


@pytest.mark.parametrize(("name", "change", "words"), RAISED, ids=[name for name, _, _ in RAISED])
def test_an_alarm_goes_off_once_and_names_a_setting(name, change, words):
    alarms = Alarms()
    (sentence,) = alarms.check(500, **WELL | change)
    assert words in sentence
    assert any(f"{group}." in sentence for group in ("inverse_hessian", "schedule", "outer", "inner"))
    assert alarms.state == {name: 500}
    assert alarms.check(501, **WELL | change) == []
    assert alarms.check(500 + AGAIN - 1, **WELL | change) == []
    assert alarms.check(500 + AGAIN, **WELL | change) == [sentence]
    # A training that was resumed knows what it said before.
    assert Alarms(dict(alarms.state)).check(501 + AGAIN, **WELL | change) == []


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"noise": 1 - 1.1 * LEAST_SIGNAL / 200},
        {"noise": math.nan},
        {"noise": 1.0, "outer_steps": SETTLED},
        {"learned": [rotation(spread=1.1 * FAINT_ROTATION)]},
        {"learned": [rotation(centre=-1.1 * FAINT_ROTATION, spread=0.0)]},
        {"learned": [rotation(spread=0.0), mirror(1.1 * FAINT)]},
        {"learned": [Learned(Brightness(), 0.0, 0.0, 1.0), rotation()]},
        {"learned": [rotation(spread=0.0)], "outer_steps": EARLY},
        {"learned": []},
        {"overfitting": SURE},
        {"overfitting": -9.0},
        {"overfitting": 9.0, "outer_steps": EARLY},
        {"agreement": LEAST_AGREEMENT},
        {"agreement": math.nan},
        {"agreement": 0.0, "outer_steps": EARLY},
    ],
)
def test_no_alarm_goes_off_for_nothing(change):
    assert Alarms().check(500, **WELL | change) == []


def test_alarms_do_not_silence_each_other():
    alarms = Alarms()
    assert len(alarms.check(10, **WELL | {"resets": 180})) == 1
    assert len(alarms.check(20, **WELL | {"resets": 90, "skipped": 1, "noise": 1.0})) == 2
