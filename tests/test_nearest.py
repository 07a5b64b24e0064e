"""A name that is not known is answered with those that are like it, else with all."""

import pytest

from augnet.nearest import nearest

KNOWN = ["Rotate", "Scale", "ShearX", "ShearY", "my-pictures"]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Rotat", "; did you mean Rotate?"),
        ("ROTATE", "; did you mean Rotate?"),
        ("My_Picture", "; did you mean my-pictures?"),
        ("zzz", "; there is Rotate, Scale, ShearX, ShearY, my-pictures"),
        ("", "; there is Rotate, Scale, ShearX, ShearY, my-pictures"),
    ],
)
def test_the_nearest_names_are_given_as_they_are_written(name, advice):
    assert nearest(name, KNOWN) == advice


def test_names_equally_near_are_all_given():
    assert set(nearest("Shear", KNOWN).removeprefix("; did you mean ").removesuffix("?").split(" or ")) == {
        "ShearX", "ShearY",
    }  # fmt: skip


def test_other_advice_takes_the_place_of_the_list():
    assert nearest("zzz", KNOWN, "the manual lists them") == "; the manual lists them"
    assert nearest("Rotat", KNOWN, "the manual lists them") == "; did you mean Rotate?"
