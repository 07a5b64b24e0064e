"""The classifier: normalisation inside, a stem that fits the images, and a second derivative."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from augnet.classifier import Classifier, ClassifierConfig, make_twice_differentiable, running_statistics_kept


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def build(name, size=32, channels=3, **settings):
    return Classifier.build(ClassifierConfig(name=name, **settings), 5, channels, (size, size))


def test_normalisation_is_inside():
    """(x − mean) / std goes into the model, channel by channel."""
    classifier = Classifier(nn.Identity(), mean=[0.5, 0.25, 0.0], std=[0.5, 0.25, 1.0])
    expected = torch.tensor([0.0, 1.0, 0.5]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    torch.testing.assert_close(classifier(torch.full((2, 3, 4, 4), 0.5)), expected)
    assert set(classifier.state_dict()) == {"mean", "std"}


def test_without_published_statistics_half_the_range_is_the_centre():
    classifier = build("resnet10t")
    assert classifier.mean.flatten().tolist() == [0.5] * 3
    assert classifier.std.flatten().tolist() == [0.25] * 3


@pytest.mark.parametrize("channels", [1, 3])
def test_pretrained_asks_timm_for_weights_and_takes_their_statistics(monkeypatch, channels):
    """Published means are those of ImageNet (0.485, 0.456, 0.406); a grey image gets their average, 0.449."""
    asked = []
    create = timm.create_model

    def without_download(name, pretrained, **options):
        asked.append((name, pretrained))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_download)
    classifier = build("resnet10t", channels=channels, pretrained=True)
    published = timm.get_pretrained_cfg("resnet10t")
    mean, std = torch.tensor(published.mean), torch.tensor(published.std)
    assert asked == [("resnet10t", True)]
    torch.testing.assert_close(classifier.mean.flatten(), mean if channels == 3 else mean.mean()[None])
    torch.testing.assert_close(classifier.std.flatten(), std if channels == 3 else std.mean()[None])
    assert classifier(torch.rand(2, channels, 32, 32)).shape == (2, 5)


def test_weights_that_cannot_be_had_are_a_sentence(monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"cannot make 'resnet18' with its pretrained weights .*no route to the hub"):
        build("resnet18", pretrained=True)


def test_the_small_model_has_no_pretrained_weights():
    with pytest.raises(ValueError, match="'small' has no pretrained weights; name a timm model"):
        ClassifierConfig(pretrained=True)


@pytest.mark.parametrize(
    ("name", "size", "features", "notes"),
    [
        # A residual net divides by 32: 2 in the stem, 2 in its pooling, 8 after that.
        ("small", 16, 2, 2),
        ("resnet18", 32, 4, 2),
        ("resnet18", 48, 3, 1),
        ("resnet18", 63, 4, 1),
        ("resnet18", 64, 2, 0),
        ("efficientnet_b0", 32, 2, 1),
        ("efficientnet_b0", 64, 2, 0),
    ],
)
def test_under_64_pixels_the_stem_keeps_the_resolution_and_says_so(name, size, features, notes):
    classifier = build(name, size)
    found = classifier.model.forward_features(torch.rand(2, 3, size, size))
    assert found.shape[-2:] == (features, features)
    assert len(classifier.notes) == notes
    assert all(str(size) in note for note in classifier.notes[:1])
    if notes == 2:
        assert "pooling" in classifier.notes[1]


def test_small_has_one_block_per_stage_and_takes_grey_images():
    classifier = build("small", 8, channels=1)
    assert sum(weight.numel() for weight in classifier.parameters()) < 320_000
    assert classifier(torch.rand(3, 1, 8, 8)).shape == (3, 5)
    wider = build("small", 8, channels=1, options={"channels": [32, 64, 128, 256]})
    assert sum(weight.numel() for weight in wider.parameters()) > 1_000_000


@pytest.mark.parametrize(
    ("name", "size", "options", "words"),
    [
        ("resnet10t", 32, {"nonsense": 1}, "timm cannot make 'resnet10t' with fresh weights .*nonsense"),
        ("resnet10t", 32, {"drop_rate": "much"}, "could not convert string to float: 'much'"),
        ("resnet10t", 32, {"layers": [1]}, "timm cannot make 'resnet10t'"),
        ("resnet10t", 32, {"features_only": True}, "should give 5 logits per image, but gives a list"),
        ("resnet10t", 32, {"global_pool": ""}, "cannot take 3-channel images of 32×32 pixels"),
        ("vit_tiny_patch16_224", 8, {}, "'vit_tiny_patch16_224' cannot take 3-channel images of 8×8 pixels"),
        ("convnext_atto", 8, {}, "'convnext_atto' cannot take .* set data.size or name another model"),
    ],
)
def test_what_does_not_fit_is_a_sentence(name, size, options, words):
    with pytest.raises(ValueError, match=words):
        build(name, size, options=options)


def test_looking_once_leaves_weights_mode_and_random_numbers_alone():
    torch.manual_seed(1)
    classifier = build("resnet10t", options={"drop_rate": 0.5})
    following = torch.rand(3)
    torch.manual_seed(1)
    plain = timm.create_model("resnet10t", num_classes=5, in_chans=3, drop_rate=0.5)
    assert torch.equal(following, torch.rand(3))
    assert classifier.training
    for found, expected in zip(classifier.model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_the_cure_keeps_outputs_and_gradients(name):
    """Hard sigmoids rewritten with relu6, attention written out: the same function, to rounding."""
    sick = build(name).double().eval()
    cured = copy.deepcopy(sick)
    assert any("second derivative" in note for note in make_twice_differentiable(cured))
    assert make_twice_differentiable(cured) == []
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    found, expected = (model(images) for model in (cured, sick))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    gradients = (
        torch.autograd.grad(F.cross_entropy(outputs, torch.arange(4)), [images, *model.parameters()])
        for outputs, model in ((found, cured), (expected, sick))
    )
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


def test_what_is_not_rewritten_can_be_differentiated_twice():
    for activation in (nn.Hardswish(), timm.layers.HardSwish(), timm.layers.HardSigmoid()):
        points = torch.tensor([-4.0, -1.0, 0.5, 4.0], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(activation, points)


def test_an_activation_that_stands_in_two_places_is_rewritten_in_both():
    shared = nn.Hardsigmoid()
    model = nn.Sequential(nn.Linear(2, 2), shared, nn.Linear(2, 2), shared)
    assert make_twice_differentiable(model) == ["2 hard sigmoids rewritten so that they have a second derivative"]
    assert not any(isinstance(module, nn.Hardsigmoid) for module in model.modules())


def test_a_model_that_needs_no_cure_is_left_alone():
    assert make_twice_differentiable(build("resnet10t")) == []


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "efficientnet_b0"]
)
def test_models_for_large_images_are_differentiated_twice_at_32_pixels(name):
    """⟨u, ∂²L/∂w² v⟩ and ⟨u, ∂²L/∂x∂w v⟩ of a double backward pass against central differences of the gradient by w.

    These models are smooth, so the differences are right to the square of their step.
    """
    model = build(name).double()
    make_twice_differentiable(model)
    weights = list(model.parameters())
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64, requires_grad=True)

    def gradient(**graph):
        # The same stochastic depth every time.
        torch.manual_seed(0)
        with running_statistics_kept(model):
            loss = F.cross_entropy(model(images), torch.arange(4))
        return torch.autograd.grad(loss, weights, **graph)

    def inner(xs, ys):
        return sum((x * y).sum().item() for x, y in zip(xs, ys, strict=True))

    u = [torch.randn_like(w) for w in weights]
    v = [torch.randn_like(w) * (w.norm() / w.numel() ** 0.5 + 1e-3) for w in weights]
    xi = torch.randn_like(images)
    *products, mixed = torch.autograd.grad(gradient(create_graph=True), [*weights, images], grad_outputs=u)

    step = 1e-5
    slopes = []
    for points, moves in ((weights, v), ([images], [xi])):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                for point, move in zip(points, moves, strict=True):
                    point += sign * step * move
            ends.append(inner(gradient(), u))
            with torch.no_grad():
                for point, move in zip(points, moves, strict=True):
                    point -= sign * step * move
        slopes.append((ends[0] - ends[1]) / (2 * step))
    assert inner(products, v) == pytest.approx(slopes[0], rel=1e-4)
    assert inner([mixed], [xi]) == pytest.approx(slopes[1], rel=1e-4)


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_b0"])
def test_running_statistics_are_kept_and_the_batch_is_used(name):
    model = build(name)
    before = copy.deepcopy(model.state_dict())
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        with running_statistics_kept(model):
            inside = model(images)
        kept = model.state_dict()
        assert all(torch.equal(kept[key], value) for key, value in before.items())
        torch.testing.assert_close(model(images), inside)
    assert any(not torch.equal(model.state_dict()[key], value) for key, value in before.items())


def test_running_statistics_move_again_after_an_error():
    model = build("resnet10t")
    with pytest.raises(ZeroDivisionError), running_statistics_kept(model):
        _ = 1 / 0
    assert all(norm.track_running_stats for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))
