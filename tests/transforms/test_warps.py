"""Warps against pictures and points whose place is known."""

import math

import kornia
import pytest
import torch
from torch.nn.functional import interpolate

from augnet import transforms as T
from augnet.transforms.warp import HORIZON, before_horizon

WARPS = [member() for member in T.all_transforms() if issubclass(member, T.Warp)]


def picture(height=12, width=12, seed=0):
    return torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one(value):
    return torch.tensor([value], dtype=torch.float64)


def near(x, y):
    return pytest.approx((x, y), abs=1e-9)


def moved(transform, amount, point, height=20, width=10):
    """Where a point, in normalised coordinates, goes."""
    matrix = T.warp_matrix([transform], one(amount)[None], height, width)[0]
    x, y, depth = matrix @ torch.tensor([*point, 1.0], dtype=torch.float64)
    return float(x / depth), float(y / depth)


def test_a_quarter_turn_is_exact():
    images = picture()
    found = T.Rotate(limit=180.0)(images, one(90.0))
    torch.testing.assert_close(found, torch.rot90(images, 1, (2, 3)))


def test_half_a_turn_of_an_oblong_image_swaps_both_ends():
    images = picture(10, 16)
    torch.testing.assert_close(T.Rotate(limit=180.0)(images, one(180.0)), images.flip(2, 3))


def test_rotation_agrees_with_kornia_inside_an_oblong_image():
    """Inside the largest circle nothing comes from beyond the border, where kornia fills with zeros."""
    images = picture(15, 21)
    found = T.Rotate()(images, one(25.0))
    expected = kornia.geometry.rotate(images, one(25.0), align_corners=True)
    y, x = torch.meshgrid(torch.arange(15) - 7, torch.arange(21) - 10, indexing="ij")
    inside = (x.square() + y.square()).sqrt() < 6.5
    torch.testing.assert_close(found[..., inside], expected[..., inside])


def test_a_shift_by_one_pixel_moves_by_one_pixel():
    images = picture(8, 10)
    torch.testing.assert_close(T.TranslateX()(images, one(0.1))[..., 1:], images[..., :-1])
    torch.testing.assert_close(T.TranslateY()(images, one(-0.125))[..., :-1, :], images[..., 1:, :])


def test_mirrors_are_flips():
    images = picture(7, 10)
    torch.testing.assert_close(T.MirrorLeftRight()(images, one(1.0)), images.flip(3))
    torch.testing.assert_close(T.MirrorUpDown()(images, one(1.0)), images.flip(2))


def test_a_quarter_turn_as_a_choice_is_that_of_a_rotation():
    torch.testing.assert_close(T.QuarterTurn()(picture(), one(1.0)), torch.rot90(picture(), 1, (2, 3)))
    oblong = picture(10, 16)
    torch.testing.assert_close(T.QuarterTurn()(oblong, one(1.0)), T.Rotate(limit=180.0)(oblong, one(90.0)))


def test_mirrors_and_a_quarter_turn_make_all_eight_ways_to_lay_a_square():
    members = [T.MirrorLeftRight(), T.MirrorUpDown(), T.QuarterTurn()]
    amounts = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).double()
    found = T.apply(members, picture().expand(8, -1, -1, -1), amounts, torch.zeros(8, 0))
    turns = [torch.rot90(side, k, (2, 3)) for side in (picture(), picture().flip(3)) for k in range(4)]
    assert all(any(torch.allclose(each, turn[0]) for each in found) for turn in turns)


def test_doubling_shows_the_middle():
    """A linear slope over x has the closed form x ↦ x / 2 under bilinear interpolation."""
    x = (2 * torch.arange(10, dtype=torch.float64) + 1) / 10 - 1
    images = (0.5 + 0.4 * x).expand(1, 1, 10, 10)
    found = T.Scale(limit=1.0)(images, one(1.0))
    torch.testing.assert_close(found, (0.5 + 0.2 * x).expand(1, 1, 10, 10))


def test_points_go_where_the_words_say():
    """Height 20, width 10: half the height is 2 of y/x unit ratios, so slopes of 45° are 2 or 1/2 in coordinates."""
    assert moved(T.TranslateX(), 0.2, (0.0, 0.0)) == near(0.4, 0.0)
    assert moved(T.TranslateY(), 0.2, (0.0, 0.0)) == near(0.0, 0.4)
    assert moved(T.Rotate(limit=90.0), 90.0, (1.0, 0.0)) == near(
        0.0, -0.5
    )  # counter-clockwise: from the right to the top
    assert moved(T.ShearX(limit=45.0), 45.0, (0.0, -1.0)) == near(2.0, -1.0)  # the top leans to the right
    assert moved(T.ShearY(limit=45.0), 45.0, (1.0, 0.0)) == near(1.0, -0.5)  # the right goes up
    assert moved(T.Scale(limit=1.0), 1.0, (0.5, -0.3)) == near(1.0, -0.6)
    assert moved(T.Aspect(limit=1.0), 1.0, (0.5, -0.3)) == near(0.5 * math.sqrt(2), -0.3 / math.sqrt(2))
    assert moved(T.TiltX(), 0.2, (1.0, 0.0)) == near(1.25, 0.0)  # the near side grows
    assert moved(T.TiltY(), 0.2, (0.0, -1.0)) == near(0.0, -1 / 1.2)  # the far side shrinks
    assert moved(T.MirrorLeftRight(), 1.0, (0.5, 0.3)) == near(-0.5, 0.3)
    assert moved(T.MirrorUpDown(), 1.0, (0.5, 0.3)) == near(0.5, -0.3)
    assert moved(T.QuarterTurn(), 1.0, (1.0, 0.0)) == near(0.0, -0.5)  # from the right to the top


@pytest.mark.parametrize("warp", WARPS, ids=lambda warp: type(warp).__name__)
def test_a_spot_moves_with_the_matrix(warp):
    """The centre of mass of a small Gaussian spot follows `warp_matrix`, within a tenth of a pixel."""
    height, width = 40, 60
    y = ((2 * torch.arange(height, dtype=torch.float64) + 1) / height - 1)[:, None]
    x = ((2 * torch.arange(width, dtype=torch.float64) + 1) / width - 1)[None]
    spot = torch.exp(-(((x - 0.3) * width / 2).square() + ((y + 0.2) * height / 2).square()) / 4)[None, None]
    amount = 1.0 if warp.choice else 0.5 * warp.limit
    found = warp(spot, one(amount))[0, 0]
    centre = ((found * x).sum() / found.sum(), (found * y).sum() / found.sum())
    target = T.warp_matrix([warp], one(amount)[None], height, width)[0] @ torch.tensor([0.3, -0.2, 1]).double()
    assert abs(centre[0] - target[0] / target[2]) * width / 2 < 0.1
    assert abs(centre[1] - target[1] / target[2]) * height / 2 < 0.1


def test_a_turn_keeps_distances_in_pixels():
    """In pixels, S⁻¹ M S with S = diag(2/width, 2/height) must be orthogonal."""
    matrix = T.warp_matrix([T.Rotate()], one(17.0)[None], 30, 50)[0, :2, :2]
    to_normal = torch.diag(torch.tensor([2 / 50, 2 / 30], dtype=torch.float64))
    turn = torch.linalg.inv(to_normal) @ matrix @ to_normal
    torch.testing.assert_close(turn @ turn.T, torch.eye(2, dtype=torch.float64))


def test_the_corners_of_a_turned_image_are_filled_by_reflection():
    """A white image stays white."""
    white = torch.ones(1, 1, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(T.Rotate(limit=45.0)(white, one(45.0)), white)


def test_elastic_pushes_by_its_noise():
    """Equal pushes everywhere are a shift: noise 1 in x and amount 1/8 fetch from an eighth of the width on."""
    images = picture(16, 16)
    noise = torch.cat((torch.ones(1, 16), torch.zeros(1, 16)), 1).double()
    found = T.Elastic(limit=0.2)(images, one(0.125), noise)
    torch.testing.assert_close(found[..., :-2], images[..., 2:])


def test_elastic_bends_smoothly():
    """Neighbouring pixels' displacements differ by far less than the largest displacement."""
    noise = 2 * torch.rand(3, 32, generator=torch.Generator().manual_seed(0)) - 1
    flow = T.Elastic().flow(torch.full((3,), 0.1), noise, 32, 32)
    assert flow.abs().max() <= 0.2 * 1.5
    assert flow.diff(dim=1).abs().max() < 0.25 * flow.abs().max()


def test_no_corner_comes_behind_the_viewer():
    """Both tilts at 0.9 would put a corner at depth 1 − 0.9 − 0.9 < 0; both lessened alike, it is at `HORIZON`. What
    stays in front by itself isn't touched."""
    steep = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.9, -0.9, 1]], dtype=torch.float64)
    mild = torch.tensor([[1.1, 0.2, 0.3], [0.1, 0.9, 0], [0.3, -0.4, 1]], dtype=torch.float64)
    found = before_horizon(torch.stack((steep, mild)))
    assert found[0, 2].tolist() == pytest.approx([(1 - HORIZON) / 2, -(1 - HORIZON) / 2, 1])
    torch.testing.assert_close(found[1], mild)


def test_points_stop_at_the_horizon_with_their_image():
    """`warp_matrix` is the inverse of what is sampled there too."""
    chain, amounts = [T.TiltX(limit=0.9), T.TiltY(limit=0.9)], torch.full((1, 2), 0.9, dtype=torch.float64)
    sampled = chain[0].matrix(amounts[:, 0], 8, 8) @ chain[1].matrix(amounts[:, 1], 8, 8)
    expected = torch.linalg.inv(before_horizon(sampled))
    torch.testing.assert_close(T.warp_matrix(chain, amounts, 8, 8), expected)


def test_tilting_beyond_the_horizon_stays_finite():
    images = interpolate(picture(4, 4), (16, 16))
    amounts = torch.tensor([[3.0, 0.9, -0.9]], dtype=torch.float64, requires_grad=True)
    found = T.apply(
        [T.TiltX(limit=0.9), T.TiltY(limit=0.9), T.Scale(limit=3.0)],
        images,
        amounts[:, [1, 1, 2]],
        images.new_zeros(1, 0),
    )
    assert found.isfinite().all()
    assert torch.autograd.grad(found.square().sum(), amounts)[0].isfinite().all()
