"""Exported programs give the module's pixels, at every batch and size, and need no augnet."""

import io
import json
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

import augnet
from augnet import transforms as tf
from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.export.programs import EXTRA_FILE, onnx_program, smallest_side, torch_program
from augnet.export.target import OnnxProgram

ROUNDING = (tf.Posterize, tf.JPEG, tf.Equalize)
# Other than the traced one: below the working size of 16 and above it, square and not, whole blocks of 8 and not, odd.
SIZES = [(1, 32, 32), (5, 24, 40), (3, 16, 16), (2, 9, 12), (2, 8, 40), (1, 61, 10), (7, 33, 20), (1, 5, 5), (2, 7, 9)]
ABOUT = {"words": ["rotation ±14°"], "classes": ["a", "b"]}


def augmenter_of(members, **settings):
    """Make an augmenter that does all of these to every image, each image by its own amounts."""
    torch.manual_seed(0)
    augmenter = Augmenter(AugmenterConfig(transforms=members, gates="choices", start_spread=0.4, **settings), 3)
    torch.nn.init.normal_(augmenter.head.linear.weight, std=0.1)
    return augmenter.eval().requires_grad_(False)


def run_torch(content):
    return torch.export.load(io.BytesIO(content)).module()


def run_onnx(content):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options)
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs):
        arrays = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(["augmented"], arrays)[0])

    return run


def differences(augmenter, program, strength=1.0):
    """Give the difference of every value, over all sizes, in one row."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for count, height, width in SIZES:
        images = torch.rand(count, 3, height, width, generator=generator)
        noise = augmenter.draw_noise(count, generator)
        found.append((program(images, noise) - augmenter(images, noise, strength)).abs().flatten())
    return torch.cat(found)


@pytest.fixture(scope="module")
def smooth():
    """Every transform that does not round, and a residual."""
    return augmenter_of(
        [t() for t in tf.all_transforms() if t not in ROUNDING and t.__module__.startswith("augnet.")],
        residual_limit=0.1,
    )


@pytest.fixture(scope="module")
def rounding():
    return augmenter_of([t() for t in ROUNDING])


def test_the_two_chains_are_the_whole_family(smooth, rounding):
    names = {type(t) for t in (*smooth.transforms, *rounding.transforms)}
    assert names == {t for t in tf.all_transforms() if t.__module__.startswith("augnet.")}


def test_a_torch_program_gives_the_modules_pixels_at_every_batch_and_size(smooth):
    assert float(differences(smooth, run_torch(torch_program(smooth))).max()) <= 1e-5


def test_a_torch_program_rounds_as_the_module_does(rounding):
    assert float(differences(rounding, run_torch(torch_program(rounding, strength=0.7)), 0.7).max()) <= 1e-5


def test_onnxruntime_gives_the_modules_pixels_at_every_batch_and_size(smooth):
    assert float(differences(smooth, run_onnx(onnx_program(smooth))).max()) <= 1e-4


def test_onnxruntime_rounds_as_the_module_does_but_halfway(rounding):
    """Where a value lies halfway between two levels, the last bit decides: in one value of a hundred at most."""
    found = differences(rounding, run_onnx(onnx_program(rounding)))
    assert float((found > 1e-4).double().mean()) < 1e-2


@pytest.mark.parametrize(("write", "run"), [(torch_program, run_torch), (onnx_program, run_onnx)])
def test_a_sampled_program_draws_for_each_image_on_its_own(write, run):
    """Brightness at spread s moves a grey image evenly within ± s · limit, whose deviation is s · limit / √3."""
    augmenter = augmenter_of([tf.Brightness(limit=0.5)])
    torch.nn.init.zeros_(augmenter.head.linear.weight)
    torch.manual_seed(0)
    images = torch.full((2000, 3, 6, 5), 0.5)
    levels = run(write(augmenter, sampled=True))(images).mean((1, 2, 3)) - 0.5
    assert float(levels.abs().max()) <= 0.2 + 1e-5
    assert float(levels.mean()) == pytest.approx(0, abs=0.012)
    assert float(levels.std()) == pytest.approx(0.2 / 3**0.5, rel=0.05)
    assert abs(float(torch.corrcoef(torch.stack([levels[:1000], levels[1000:]]))[0, 1])) < 0.1


@pytest.mark.parametrize("sampled", [False, True])
def test_a_file_says_what_it_takes_and_what_was_learned(sampled):
    augmenter = augmenter_of([tf.Rotate(), tf.MirrorUpDown()])
    extra = {EXTRA_FILE: ""}
    torch_file = torch_program(augmenter, ABOUT, strength=0.5, sampled=sampled)
    torch.export.load(io.BytesIO(torch_file), extra_files=extra)
    onnx_file = onnx_program(augmenter, ABOUT, strength=0.5, sampled=sampled)
    (found,) = [entry.value for entry in onnx.load_from_string(onnx_file).metadata_props]
    said = json.loads(found)
    assert said == json.loads(extra[EXTRA_FILE])
    assert {key: said[key] for key in ABOUT} == ABOUT
    assert said["channels"] == 3
    assert said["noise_size"] == (0 if sampled else augmenter.noise_size)
    assert said["strength"] == 0.5
    assert list(said["inputs"]) == ["images"] if sampled else ["images", "noise"]
    for content in (torch_file, onnx_file):
        assert str(Path(augnet.__file__).parent).encode() not in content


@pytest.mark.parametrize(
    ("depth", "working_size", "least"), [(1, 16, 3), (3, 16, 5), (7, 16, 9), (5, 40, 17), (3, 1, 3)]
)
def test_a_program_takes_images_from_its_smallest_side_on(depth, working_size, least):
    """The deepest level of more than one pixel has ⌈side / 2^j⌉ of them, so the side must exceed 2^j."""
    augmenter = augmenter_of([tf.Contrast()], depth=depth, width=2, working_size=working_size, residual_limit=0.2)
    assert smallest_side(augmenter) == least
    program = run_torch(torch_program(augmenter))
    for side in (least, least + 1, working_size + 2, 2 * working_size):
        if side >= least:
            images, noise = torch.rand(2, 3, side, side + 3), augmenter.draw_noise(2)
            torch.testing.assert_close(program(images, noise), augmenter(images, noise), rtol=0, atol=1e-5)


def test_exporting_leaves_the_augmenter_and_the_random_numbers_alone():
    augmenter = Augmenter(AugmenterConfig(transforms=[tf.Rotate()]), 1).double().train()
    torch.manual_seed(0)
    torch_program(augmenter)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))
    assert augmenter.training
    assert {w.dtype for w in augmenter.parameters()} == {torch.float64}
    assert all(w.requires_grad for w in augmenter.parameters())


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"run: pip install 'augnet\[onnx\]'"):
        OnnxProgram()
    with pytest.raises(ValueError, match=r"run: pip install 'augnet\[onnx\]'"):
        onnx_program(augmenter_of([tf.Rotate()]))


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match=r"strength must be a number of at least 0.*found -1"):
        torch_program(augmenter_of([tf.Rotate()]), strength=-1)
