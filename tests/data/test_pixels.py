"""Every kind of image becomes the grey or RGB pixels that a person would see."""

import numpy as np
import pytest
import torch
from PIL import Image

from augnet.data.pixels import as_tensor, decode, from_pil, resize, unit_range


def grey(values, dtype=np.uint8):
    return Image.fromarray(np.array(values, dtype=dtype))


def test_sixteen_bits_are_divided_by_257():
    """65535 / 257 = 255 and 257 / 257 = 1, so full scale stays full scale."""
    pixels = from_pil(grey([[0, 257, 65535]], np.uint16), channels=1, size=None)
    assert pixels.tolist() == [[[0, 1, 255]]]


def test_transparency_is_laid_on_white():
    """Alpha 0 shows the paper, alpha 255 the colour."""
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    assert from_pil(image, channels=3, size=None)[:, 0].T.tolist() == [[255, 255, 255], [255, 0, 0]]


def test_transparent_palette_colour_is_laid_on_white():
    image = Image.new("P", (1, 1), 0)
    image.putpalette([0, 0, 255])
    image.info["transparency"] = 0
    assert from_pil(image, channels=3, size=None).flatten().tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "YCbCr", "HSV"])
def test_white_is_white_in_every_mode(mode):
    """White is the one colour that every mode can say, in RGB as in grey."""
    white = Image.new("RGB", (3, 2), "white")
    image = (
        grey(np.full((2, 3), 65535), np.uint16 if mode == "I;16" else np.int32) if "I" in mode else white.convert(mode)
    )
    assert image.mode == mode
    for channels in (1, 3):
        assert torch.equal(from_pil(image, channels, None), torch.full((channels, 2, 3), 255, dtype=torch.uint8))


def test_exif_orientation_is_applied(tmp_path):
    """Orientation 6 says: turn by 90 degrees clockwise to see it upright; the left end comes to the top."""
    image = Image.new("L", (2, 1), 0)
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert decode(tmp_path / "a.png", channels=1, size=None).tolist() == [[[255], [0]]]


def test_resizing_cuts_out_the_centre():
    """Of columns 0 0 9 9 9 9 0 0 the central square is the nines alone, at any size."""
    columns = torch.tensor([0, 0, 9, 9, 9, 9, 0, 0], dtype=torch.uint8).expand(1, 1, 4, 8)
    assert torch.equal(resize(columns, 6), torch.full((1, 1, 6, 6), 9, dtype=torch.uint8))
    image = Image.fromarray(columns[0, 0].numpy())
    assert torch.equal(from_pil(image, 1, 6), torch.full((1, 6, 6), 9, dtype=torch.uint8))


def test_shrinking_averages():
    """A fine checkerboard of 0 and 1 is grey from afar: 0.5 in the middle, where no border disturbs."""
    board = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).double()[None, None]
    small = resize(board, 4)
    torch.testing.assert_close(small[..., 1:3, 1:3], torch.full((1, 1, 2, 2), 0.5), atol=0.02, rtol=0)


def test_enlarging_is_bilinear():
    """Twice as large, half-pixel centres: 0 1 becomes 0, 1/4, 3/4, 1 in both directions."""
    ramp = torch.tensor([[0.0, 1.0], [0.0, 1.0]])[None, None]
    torch.testing.assert_close(resize(ramp, 4)[0, 0, 0], torch.tensor([0, 0.25, 0.75, 1]))


def test_arrays_are_channel_last_and_tensors_channel_first():
    array = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    expected = torch.from_numpy(array).permute(2, 0, 1)
    assert torch.equal(as_tensor(array, None, None), expected)
    assert torch.equal(as_tensor(expected, None, None), expected)
    assert torch.equal(as_tensor(Image.fromarray(array), None, None), expected)
    assert as_tensor(array[..., 0], None, None).shape == (1, 2, 2)


@pytest.mark.parametrize("array", [np.eye(3, dtype=">f4"), np.eye(3)[:, ::-1], np.eye(3, dtype=np.uint8)])
def test_grey_arrays_of_any_layout_are_read(array):
    assert as_tensor(array, None, None).tolist() == [array.tolist()]


def test_unit_range_divides_uint8_by_255():
    assert unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize("value", [-0.1, 1.1, 255.0, float("nan"), float("inf")])
def test_floats_outside_the_unit_range_are_refused(value):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        unit_range(torch.tensor([0.5, value]))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("picture", "an image is a str"),
        (np.zeros((2, 2, 4), dtype=np.uint8), r"shape \(4, 2, 2\)"),
        (torch.zeros(2, 2, 3, dtype=torch.uint8), r"shape \(2, 2, 3\)"),
        (torch.zeros(1, 2, 2, dtype=torch.int32), "images are int32"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        as_tensor(image, None, None)


def test_a_file_cut_short_is_named(tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cut\.png"):
        decode(path, channels=1, size=None)


def test_floating_point_files_are_refused(tmp_path):
    grey([[0.5]], np.float32).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match="no known full scale"):
        decode(tmp_path / "a.tiff", channels=1, size=None)
