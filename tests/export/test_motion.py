"""Masks, boxes and key points come to lie where the pixels do."""

import math

import pytest
import torch
from torchvision import tv_tensors

from augnet import transforms as T
from augnet.export.motion import Motion, move_boxes, move_mask, move_points

MOVING = [member() for member in T.all_transforms() if issubclass(member, T.Warp | T.Flow)]
SIZE = (60, 80)
IDS = [type(transform).__name__ for transform in MOVING]


def draw(transforms, share=0.6, seed=0):
    """Draw amounts up to a share of each limit, either sign where there are signs; choices are made."""
    generator = torch.Generator().manual_seed(seed)
    uniform = 2 * torch.rand(1, len(transforms), generator=generator, dtype=torch.float64) - 1
    amounts = torch.stack(
        [
            torch.ones(1, dtype=torch.float64) if t.choice else share * t.limit * (u if t.signed else u.abs())
            for t, u in zip(transforms, uniform.unbind(1), strict=True)
        ],
        dim=1,
    )
    draws = 2 * torch.rand(1, T.total_draws(transforms), generator=generator, dtype=torch.float64) - 1
    return amounts, draws


def blob(x, y, radius=3.0):
    """Draw a round, soft marker about a point given in pixels, (0, 0) the centre of the first."""
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in SIZE)
    square = (columns - x).square() + (rows[:, None] - y).square()
    return torch.exp(-square / radius**2)[None, None]


def middle(image):
    """Find the centre of mass of a marker, (x, y) in pixels."""
    mass = image[0, 0] / image.sum()
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in SIZE)
    return torch.stack(((mass.sum(0) * columns).sum(), (mass.sum(1) * rows).sum()))


CHAINS = [[transform] for transform in MOVING] + [MOVING]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("transforms", CHAINS, ids=[*IDS, "all together"])
def test_a_drawn_marker_is_where_its_key_point_mask_and_box_are(transforms, seed):
    """The marker is small, so that its centre of mass moves as its centre does, but for the reflection at the border:
    markers that come to lie near it are passed over."""
    amounts, draws = draw(transforms, share=0.6 if len(transforms) == 1 else 0.25, seed=seed)
    motion = Motion(transforms, amounts, draws, SIZE)
    tested = 0
    for x, y in ((30.0, 25.0), (45.0, 30.0), (40.0, 36.0)):
        point = move_points(torch.tensor([[[x, y]]], dtype=torch.float64), motion)[0, 0]
        if not (12 < point[0] < SIZE[1] - 12 and 12 < point[1] < SIZE[0] - 12):
            continue
        tested += 1
        found = middle(T.apply(transforms, blob(x, y), amounts, draws))
        assert float((point - found).norm()) < 0.5
        mask = move_mask((blob(x, y) > 0.3).long(), motion)
        assert float((middle(mask.double()) - found).norm()) < 1
        # A circle of radius 3·√(ln 1/0.3) touches its box on all sides, however it is turned.
        r = 3 * math.sqrt(math.log(1 / 0.3))
        box = tv_tensors.BoundingBoxes(
            [[x + 0.5 - r, y + 0.5 - r, x + 0.5 + r, y + 0.5 + r]], format="XYXY", canvas_size=SIZE, dtype=torch.float64
        )
        left, top, right, bottom = move_boxes(box, motion)[0].tolist()
        rows, columns = mask[0, 0].nonzero().unbind(1)
        assert left < int(columns.min()) + 1
        assert int(columns.max()) < right
        assert top < int(rows.min()) + 1
        assert int(rows.max()) < bottom
        assert abs((left + right) / 2 - 0.5 - float(found[0])) < 1
        assert abs((top + bottom) / 2 - 0.5 - float(found[1])) < 1
    assert tested


@pytest.mark.parametrize("transforms", CHAINS, ids=[*IDS, "all together"])
def test_pixels_are_fetched_as_in_training(transforms):
    amounts, draws = draw(transforms, share=1.0)
    images = torch.rand(1, 2, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = Motion(transforms, amounts, draws, SIZE).fetch(images)
    torch.testing.assert_close(found, T.apply(transforms, images, amounts, draws))


def test_a_mask_takes_the_very_pixels_that_its_image_takes():
    """Levels that differ by one between neighbours: nearest labels are within half a level of interpolated ones; with
    the image mirrored into what the warp pulls in from outside, and so the mask."""
    transforms = [T.Rotate(), T.Scale(limit=1.0)]
    amounts = torch.tensor([[20.0, -0.9]], dtype=torch.float64)
    motion = Motion(transforms, amounts, torch.zeros(1, 0), SIZE)
    ramp = (torch.arange(SIZE[1], dtype=torch.float64).expand(1, 1, *SIZE) + 0.5) / SIZE[1]
    labels = torch.arange(SIZE[1]).expand(1, 1, *SIZE)
    fetched = T.apply(transforms, ramp, amounts, torch.zeros(1, 0)) * SIZE[1] - 0.5
    assert float((move_mask(labels, motion) - fetched).abs().max()) < 0.5 + 1e-6


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
def test_labels_keep_their_type_and_their_values(dtype):
    """255 (ignore) and 2⁵³ + 1, which no float holds, come through."""
    mask = torch.tensor([0, 1, 255, 2**53 + 1])[torch.randint(4, (2, 3, *SIZE))].to(dtype)
    amounts, draws = (column.expand(2, -1) for column in draw(MOVING))
    moved = move_mask(mask, Motion(MOVING, amounts, draws, SIZE))
    assert moved.dtype == dtype
    assert set(moved.unique().tolist()) <= set(mask.unique().tolist())


def test_bending_at_its_default_limit_is_undone_to_a_hundredth_of_a_pixel():
    """A point moved forward and fetched back by the image's own grid is where it was; half a pixel is 1/80."""
    elastic = T.Elastic()
    pixels = torch.stack(torch.meshgrid(*(torch.arange(10.0, n - 10, 5) for n in SIZE), indexing="ij"), -1)
    points = pixels.flip(-1).reshape(1, -1, 2).double()
    for seed in range(5):
        _, draws = draw([elastic], seed=seed)
        amounts = torch.full((1, 1), 0.7 * elastic.limit, dtype=torch.float64)
        motion = Motion([elastic], amounts, draws, SIZE)
        moved = move_points(points, motion)
        inside = ((moved > 0) & (moved < torch.tensor((SIZE[1] - 1, SIZE[0] - 1)))).all(-1)
        half = torch.tensor((SIZE[1] / 2, SIZE[0] / 2), dtype=torch.float64)
        x_y = interpolate_at(motion.flow, (moved + 0.5) / half - 1) * half
        assert float((moved + x_y - points)[inside].abs().max()) < 0.01


def interpolate_at(flow, points):
    return torch.nn.functional.grid_sample(
        flow.permute(0, 3, 1, 2), points[:, :, None], padding_mode="border", align_corners=False
    ).squeeze(-1).mT  # fmt: skip


@pytest.mark.parametrize("box_format", ["XYXY", "XYWH", "CXCYWH"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_a_mirrored_box_is_torchvisions(box_format, dtype):
    """v2.functional.horizontal_flip gives the same, in every format."""
    from torchvision.transforms.v2 import functional

    box = tv_tensors.BoundingBoxes([[10, 12, 20, 16]], format=box_format, canvas_size=SIZE, dtype=dtype)
    motion = Motion([T.MirrorLeftRight()], torch.ones(1, 1).double(), torch.zeros(1, 0), SIZE)
    moved, expected = move_boxes(box, motion), functional.horizontal_flip(box)
    assert (moved.dtype, moved.format, moved.canvas_size) == (dtype, box.format, box.canvas_size)
    torch.testing.assert_close(moved.as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor))


@pytest.mark.parametrize("box_format", ["XYWHR", "CXCYWHR", "XYXYXYXY"])
@pytest.mark.parametrize("member", [T.Rotate, T.TranslateX, T.Scale])
def test_a_rotated_box_keeps_its_corners_on_the_same_things(box_format, member):
    """Turns, shifts and changes of size make rectangles of rectangles: the corners are moved points."""
    from torchvision.transforms.v2 import functional

    motion = Motion([member()], torch.full((1, 1), 0.4 * member().limit).double(), torch.zeros(1, 0), (100, 100))
    box = tv_tensors.BoundingBoxes(
        [[50.0, 45.0, 12.0, 8.0, 25.0]], format="CXCYWHR", canvas_size=(100, 100), clamping_mode=None
    )
    box = functional.convert_bounding_box_format(box, new_format=box_format)
    corners = functional.convert_bounding_box_format(box, new_format="XYXYXYXY").as_subclass(torch.Tensor)
    expected = move_points(corners.view(1, 4, 2), motion, edge=0.0)
    found = functional.convert_bounding_box_format(move_boxes(box, motion), new_format="XYXYXYXY")
    torch.testing.assert_close(found.as_subclass(torch.Tensor).view(1, 4, 2), expected, atol=1e-3, rtol=0)


def test_a_rotated_box_stays_upright_in_the_mirror():
    """The upper left corner of the mirror image is the mirrored upper right one."""
    box = tv_tensors.BoundingBoxes(
        [[10.0, 10, 20, 10, 20, 15, 10, 15]], format="XYXYXYXY", canvas_size=SIZE, clamping_mode=None
    )
    motion = Motion([T.MirrorLeftRight()], torch.ones(1, 1).double(), torch.zeros(1, 0), SIZE)
    expected = torch.tensor([[60.0, 10, 70, 10, 70, 15, 60, 15]])
    torch.testing.assert_close(move_boxes(box, motion).as_subclass(torch.Tensor), expected)


def test_boxes_are_clamped_as_they_ask():
    motion = Motion([T.TranslateX()], torch.full((1, 1), 0.25).double(), torch.zeros(1, 0), SIZE)
    for mode, right in (("soft", 80.0), (None, 95.0)):
        box = tv_tensors.BoundingBoxes([[50.0, 5, 75, 9]], format="XYXY", canvas_size=SIZE, clamping_mode=mode)
        assert move_boxes(box, motion)[0].tolist() == [70.0, 5.0, right, 9.0]


def test_what_a_tilt_pushes_behind_the_viewer_leaves_on_its_own_side():
    """Tilted by 0.9 and then enlarged eightfold: the right edge would come to lie behind the viewer."""
    transforms = [T.Scale(limit=3.0), T.TiltX(limit=0.9)]
    motion = Motion(transforms, torch.tensor([[3.0, 0.9]]).double(), torch.zeros(1, 0), SIZE)
    x = motion.points(torch.tensor([[[0.0, 0.0], [0.05, 0.0], [0.5, 0.0], [1.0, 0.0]]]).double())[0, :, 0]
    assert bool((x.diff() > 0).all())
    assert float(x[-1]) > 1
