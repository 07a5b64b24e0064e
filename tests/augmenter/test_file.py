"""The augmenter's file: what was written is read, and nothing else is."""

import json
import random
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save

from augnet import transforms as tf
from augnet.augmenter import Augmenter, AugmenterConfig, load, policies
from augnet.augmenter.file import to_bytes
from augnet.export import LearnedAugment

GOLDEN = Path(__file__).parent / "golden" / "version_1.safetensors"
CONFIG = AugmenterConfig(transforms=[tf.Rotate(), tf.Erase()], residual_limit=0.1, depth=1, width=1, working_size=4)


@pytest.fixture
def content():
    torch.manual_seed(0)
    return to_bytes(Augmenter(CONFIG, 1), {"classes": ["a", "b"]})


def header_of(content):
    """Return the augmenter's header; it is JSON inside the JSON that safetensors puts after eight bytes of length."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["augnet"])


def with_header(content, header):
    return save(tensors_of(content), {"augnet": header if isinstance(header, str) else json.dumps(header)})


def with_tensor(content, name, tensor):
    tensors = tensors_of(content)
    tensors.pop(name, None)
    return save(tensors | ({} if tensor is None else {name: tensor}), {"augnet": json.dumps(header_of(content))})


def read(folder, content):
    path = folder / "a.safetensors"
    path.write_bytes(content)
    return load(path)


def test_a_file_of_version_1_still_gives_the_same_images():
    """The file was written by the first release of this format; the noise makes every transform take part."""
    augmenter, about = load(GOLDEN)
    assert about["classes"] == ["zero", "one"]
    assert [t.limit for t in augmenter.transforms] == [1.0, 45.0, 1.0, 0.25]
    images = torch.linspace(0, 1, 32).view(2, 1, 4, 4)
    noise = 0.9 * torch.linspace(-1, 1, 2 * augmenter.noise_size).view(2, -1)
    noise = torch.stack([noise[0], -noise[1]])
    torch.testing.assert_close(
        augmenter.policy(images, noise).amounts,
        torch.tensor([[1.0, -45.0, 0.0, 0.1571], [1.0, -13.6957, 0.4982, 0.1746]]), atol=1e-4, rtol=0,
    )  # fmt: skip
    expected = [
        0.295207, 0.202572, 0.089076, 0.056039, 0.382824, 0.260953, 0.154725, 0.043824,
        0.451254, 0.332473, 0.223237, 0.115428, 0.439513, 0.405634, 0.291585, 0.200953,
        0.618238, 0.506931, 0.448235, 0.414551, 0.720323, 0.645352, 0.569934, 0.500097,
        0.878993, 0.796115, 0.715697, 0.646477, 0.985953, 0.942211, 0.870777, 0.804455,
    ]  # fmt: skip
    torch.testing.assert_close(augmenter(images, noise).flatten(), torch.tensor(expected), atol=2e-6, rtol=0)


def test_loading_leaves_random_numbers_as_they_are():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(GOLDEN)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


@pytest.mark.parametrize("about", [{}, {"a": [1, None, {"b": "é"}]}, {"classes": ["<script>"] * 1000}])
def test_what_is_known_comes_back_whatever_it_is(tmp_path, about):
    assert read(tmp_path, to_bytes(Augmenter(CONFIG, 1), about))[1] == about


def changed(**parts):
    return lambda header: header | parts


def setting(**settings):
    return lambda header: header | {"settings": header["settings"] | settings}


def first_transform(**entry):
    return lambda header: header | {"transforms": [header["transforms"][0] | entry, *header["transforms"][1:]]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(version=2), "has format 2, and this augnet reads 1 to 1; upgrade"),
        (changed(version=0), "has format 0"),
        (changed(version="1"), "version should be a whole number, found '1'"),
        (changed(version=None), "version should be a whole number, found None"),
        (changed(channels=0), "channels must lie in 1 to"),
        (changed(channels=10**9), "channels must lie in 1 to"),
        (changed(channels=1.0), "channels should be a whole number, found 1.0"),
        (changed(channels=True), "channels should be a whole number, found True"),
        (changed(channels=2), "weights unet.* should be F32 of shape"),
        (changed(settings=[]), "settings should be an object"),
        (changed(about="words"), "about should be an object, found 'words'"),
        (changed(transforms={}), "transforms should be a list"),
        (changed(transforms=["Rotate"]), "a transform should be an object, found 'Rotate'"),
        (changed(transforms=[{"name": "Rotate", "limit": 9.0}] * 10_000), "lists 10,000 transforms"),
        (changed(transforms=[]), "has the surplus weights head.linear"),
        (setting(depth=10**18), "depth must be at most 13"),
        (setting(depth=13, width=4096), "bottleneck of 16,777,216 channels"),
        (setting(depth=2), "lacks weights unet"),
        (setting(width=4096), "should be F32 of shape"),
        (setting(width=2.0), "width of AugmenterConfig should be a whole number, found 2.0"),
        (setting(noise_channels=10**12), "noise_channels must be at most"),
        (setting(noise_channels=-1), "noise_channels must be at least 0"),
        (setting(working_size=10**30), "working_size must be at most"),
        (setting(residual_limit=float("nan")), "residual_limit must lie in"),
        (setting(residual_limit="much"), "residual_limit of AugmenterConfig should be a number, found 'much'"),
        (setting(gates="some"), "gates must be choices or all, found 'some'"),
        (setting(colour="red"), "AugmenterConfig has no setting 'colour'"),
        (first_transform(name="Rotat"), "no transform named 'Rotat'.*Rotate"),
        (first_transform(name="__import__"), "no transform named '__import__'"),
        (first_transform(name="x" * 10**6), "no transform named 'xxx"),
        (first_transform(name=["Rotate"]), "name should be text"),
        (first_transform(name="Hue"), "Hue needs red, green and blue, but channels is 1"),
        (first_transform(limit=float("nan")), "limit of Rotate must be positive and finite"),
        (first_transform(limit=-1.0), "limit of Rotate must be positive and finite"),
        (first_transform(limit=10**400), "too large|too big"),
        (first_transform(limit=[30.0]), "limit of Rotate should be a number"),
        (first_transform(speed=1.0), "Rotate has no setting 'speed'"),
        (lambda header: header | {"transforms": [{"name": "Rotate"}]}, "Rotate lacks limit"),
        (lambda header: [header], "the header should be an object"),
        (lambda header: "[" * 100_000, "recursion"),
        (lambda header: '{"version": 1, "version": 1}', "names something twice"),
        (lambda header: '{"version": 1', "delimiter"),
        (lambda header: '{"version": ' + "1" * 5000 + "}", "digits"),
    ],
)
def test_a_header_that_is_not_one_of_ours_is_refused_in_a_sentence(tmp_path, content, change, words):
    with pytest.raises(ValueError, match=rf"a.safetensors is not an augmenter's file or is damaged: .*({words})"):
        read(tmp_path, with_header(content, change(header_of(content))))


def test_a_file_without_our_header_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no header named 'augnet'"):
        read(tmp_path, save({"weight": torch.zeros(3)}))


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("head.linear.bias", None, r"lacks weights head.linear.bias \(1 in all\)"),
        ("extra", torch.zeros(2), "has the surplus weights extra"),
        ("head.linear.bias", torch.zeros(7), r"head.linear.bias should be F32 of shape \[6\], found F32 of \[7\]"),
        ("head.linear.bias", torch.zeros(6).double(), r"found F64 of \[6\]"),
        ("head.linear.bias", torch.zeros(6).int(), r"found I32 of \[6\]"),
        ("head.linear.bias", torch.full((6,), float("nan")), "not finite or too large"),
        ("head.linear.bias", torch.full((6,), float("inf")), "not finite or too large"),
        ("unet.down.0.2.weight", torch.full((1, 1, 3, 3), 3e38), "not finite or too large"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_a_sentence(tmp_path, content, name, tensor, words):
    with pytest.raises(ValueError, match=words):
        read(tmp_path, with_tensor(content, name, tensor))


def test_a_file_that_asks_for_much_is_given_nothing(tmp_path, content):
    """The largest U-Net that settings allow has over 10^8 weights; refusing it allocates no tensor of any size."""
    greedy = with_header(content, setting(depth=13, width=1)(header_of(content)))
    with torch.profiler.profile(profile_memory=True) as profile, pytest.raises(ValueError, match="lacks weights"):
        read(tmp_path, greedy)
    assert sum(max(0, event.self_cpu_memory_usage) for event in profile.events()) < 10_000


def mutated(content, chance):
    """Damage a file as disks, networks and mischief do: in bytes, in length, or in what the header says."""
    kind = chance.randrange(6)
    data = bytearray(content)
    if kind == 0:
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data)
    if kind == 1:
        return bytes(data[: chance.randrange(len(data))])
    if kind == 2:
        start, end = sorted(chance.randrange(len(data)) for _ in range(2))
        return bytes(data[:start] + data[end:] if chance.random() < 0.5 else data[:end] + data[start:])
    if kind == 3:
        data[:8] = struct.pack("<Q", chance.choice((0, 1, len(data), 2**31, 2**40, 2**63, chance.randrange(2**64))))
        return bytes(data)
    if kind == 4:
        weights = sum(tensor.numel() for tensor in tensors_of(content).values())
        start = len(data) - 4 * (1 + chance.randrange(weights))
        data[start : start + 4] = struct.pack("<f", chance.choice((float("nan"), float("inf"), 3e38, -1e30, 1e-45)))
        return bytes(data)
    return with_header(content, altered(header_of(content), chance))


def altered(value, chance):
    """Replace one value, anywhere in a tree of JSON."""
    odd = (None, True, -1, 0, 10**18, 10**400, 0.5, 1e308, float("nan"), "", "Rotate", "é" * 300, [], {}, [[]] * 50)
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice(odd)
    key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    fresh = value.copy()
    if chance.random() < 0.15:
        del fresh[key]
    else:
        fresh[key] = altered(value[key], chance)
    return fresh


def without_checksum(content):
    """Give the file as it was written before there was a checksum."""
    header = header_of(content)
    del header["checksum"]
    return with_header(content, header)


def test_weights_that_are_not_those_that_were_written_are_refused(tmp_path, content):
    """A change in the last bit of one weight; before there was a checksum nobody could have seen it."""
    bias = tensors_of(content)["head.linear.bias"]
    bias[0] = torch.nextafter(bias[0], torch.tensor(1.0))
    with pytest.raises(ValueError, match="not those that were written, as their checksum says; take another copy"):
        read(tmp_path, with_tensor(content, "head.linear.bias", bias))
    read(tmp_path, with_tensor(without_checksum(content), "head.linear.bias", bias))


@pytest.mark.parametrize(("prepare", "least", "most"), [(without_checksum, 70, 1050), (bytes, 0, 70)])
def test_2100_damaged_files_load_to_a_finite_augmenter_or_are_refused(tmp_path, content, prepare, least, most):
    content = prepare(content)
    chance = random.Random(0)
    loaded = 0
    for _ in range(2100):
        try:
            augmenter, about = read(tmp_path, mutated(content, chance))
        except ValueError:
            continue
        loaded += 1
        assert isinstance(about, dict)
        assert all(bool(weight.isfinite().all()) for weight in augmenter.parameters())
        assert bool(augmenter(torch.rand(2, augmenter.channels, 4, 4)).isfinite().all())
    # Damage to the words cannot be seen, nor, without a checksum, that to a weight's low bits; most of the rest must.
    assert least < loaded < most


def test_augmenters_that_travel_with_augnet_are_loaded_by_name(tmp_path, monkeypatch):
    """Each says what it was learned on and what a comparison found; a file of that name comes first."""
    monkeypatch.chdir(tmp_path)
    for name in policies():
        augmenter, about = load(name)
        x = torch.rand(2, augmenter.channels, 32, 32)
        assert augmenter(x).shape == x.shape
        assert about["classes"]
        assert "test accuracy against" in about["verdict"]
    with pytest.raises(FileNotFoundError, match=f"no augmenter at nothing; .* are {', '.join(policies())}"):
        load("nothing")
    own = Augmenter(AugmenterConfig(transforms=[tf.Rotate()]), 1)
    Path(policies()[0]).write_bytes(to_bytes(own, {}))
    assert load(policies()[0])[0].channels == 1
    assert len(load(policies()[0])[0].transforms) == 1


def test_a_folder_does_not_hide_an_augmenter_that_travels_with_augnet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / policies()[0]).mkdir()
    assert load(policies()[0])[1]["classes"]
    assert LearnedAugment.load(policies()[0]).about["classes"]
