"""A batch in parts: gradients, hypergradients and draws of the whole, in the memory of a part."""

import weakref

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import nn

from augnet.implicit import ConjugateGradient, Identity
from augnet.recipe import InnerConfig, OuterConfig
from augnet.training import IFTTrainer
from augnet.training.parallel import Processes
from augnet.training.parts import parts_of


def small(dropout=0.0, norm=lambda channels: nn.GroupNorm(2, channels)):
    """Make a classifier of 8×8 digits that, with group norm, does not mix images."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), norm(8), nn.GELU(), nn.Dropout2d(dropout), DropPath(dropout),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(72, 10),
    )  # fmt: skip


def in_double(recipe, classifier):
    trainer = IFTTrainer(recipe, classifier=classifier)
    trainer.classifier.double()
    trainer.augmenter.double()
    if trainer.outer.teacher is not None:
        trainer.outer.teacher.model.double()
    torch.nn.init.normal_(trainer.augmenter.head.linear.weight, generator=torch.Generator().manual_seed(0))
    return trainer


def steps(trainer, number):
    """Make outer and inner steps; return both levels' weights, the last hypergradient and the losses."""
    losses = []
    for (images, labels, _), (val_images, val_labels, _), _ in zip(*trainer._streams(), range(number), strict=False):
        batch, val_batch = (images.double(), labels), (val_images.double(), val_labels)
        trainer._prepare_step()
        losses += trainer.outer_step(batch, val_batch)
        trainer.step += 1
        gradients = [w.grad for w in trainer.augmenter.parameters()]
        trainer._prepare_step()
        losses.append(trainer.inner_step(batch))
        trainer.step += 1
    modules = trainer.classifier, trainer.augmenter
    return [*(w.detach() for m in modules for w in m.parameters()), *gradients], losses


@pytest.mark.parametrize(
    "settings",
    [
        {"outer": OuterConfig(second_derivative="exact")},
        {"outer": OuterConfig(second_derivative="exact", project=False), "inverse_hessian": ConjugateGradient(steps=2)},
        {"outer": OuterConfig(difference_step=0.01, label_safety=0.1, spread_reward=0.001)},
        {"outer": OuterConfig(temperature=False), "inverse_hessian": Identity()},
        {"outer": OuterConfig(precondition="optimiser"), "optimiser": "adamw"},
    ],
    ids=["exact", "conjugate gradients", "differences", "identity", "preconditioned"],
)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_micro_batches_change_nothing(quick, settings, dropout):
    """Sums over parts are sums; three steps of each kind, so that the second and third start warm and projected."""
    settings = dict(settings)
    inner = {"optimiser": settings.pop("optimiser", "sgd")}
    recipes = (quick(inner=InnerConfig(micro_batch=size, **inner), **settings) for size in (0, 5))
    (whole, losses), (parts, part_losses) = (steps(in_double(recipe, small(dropout)), 3) for recipe in recipes)
    assert losses == pytest.approx(part_losses, rel=1e-10)
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


class Counting(nn.Module):
    """Counts the images of each pass, and the hidden layers of other passes that are still in memory when it begins."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)
        self.hidden, self.sizes, self.left = [], set(), set()

    def forward(self, images):
        self.left.add(sum(layer() is not None for layer in self.hidden))
        hidden = self.first(images.flatten(1)).tanh()
        if self.training:
            self.sizes.add(len(images))
            self.hidden.append(weakref.ref(hidden))
        return self.last(hidden)


@pytest.mark.parametrize("second_derivative", ["exact", "differences"])
@pytest.mark.parametrize("size", [4, 16])
def test_one_micro_batch_at_a_time_is_in_memory(quick, second_derivative, size):
    recipe = quick(inner=InnerConfig(micro_batch=size), outer=OuterConfig(second_derivative=second_derivative))
    trainer = in_double(recipe, Counting())
    # The look at two images before training counts for nothing.
    for seen in (trainer.classifier.hidden, trainer.classifier.sizes, trainer.classifier.left):
        seen.clear()
    steps(trainer, 1)
    assert (trainer.classifier.sizes, trainer.classifier.left) == ({size}, {0})


def test_parts_are_of_about_equal_size_and_cover_the_images():
    for count, largest in ((16, 5), (7, 3), (3, 8), (9, 0), (4, 1)):
        parts = parts_of(count, largest, Processes())
        sizes = [part.stop - part.start for part in parts]
        assert torch.cat([part.of(torch.arange(count)) for part in parts]).tolist() == list(range(count))
        assert max(sizes) <= (largest or count)
        assert max(sizes) - min(sizes) <= 1
        assert sum(part.share for part in parts) == pytest.approx(1)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: F.dropout(x, 0.4),
        lambda x: F.dropout2d(x, 0.4),
        lambda x: x * x.new_empty(len(x), 1, 1, 1).bernoulli_(0.5),
        lambda x: x + torch.empty_like(x).normal_(),
        lambda x: F.dropout(x.flatten(0, 1), 0.4).view_as(x),
    ],
    ids=["dropout", "channels", "blocks", "noise", "windows"],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_part_draws_what_the_whole_batch_draws_for_it(draw, layout):
    """Two processes of six images each, in micro-batches of two; the generator is left where it was."""
    x = torch.rand(12, 3, 5, 5).contiguous(memory_format=layout)
    torch.manual_seed(7)
    expected = draw(x)
    found = []
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    for rank in range(2):
        for part in parts_of(6, 2, Processes(rank, 2)):
            with part.drawn(torch.device("cpu")):
                found.append(draw(part.of(x[6 * rank : 6 * rank + 6])))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(torch.cat(found), expected)


def test_what_would_draw_nothing_is_not_refused():
    x = torch.rand(3, 3, 1, 4, 4)
    with parts_of(6, 3, Processes())[0].drawn(torch.device("cpu")):
        assert torch.equal(F.alpha_dropout(x, 0.0, True), x)
        F.scaled_dot_product_attention(*x)


@pytest.mark.parametrize(
    "module",
    [
        nn.AlphaDropout(0.4),
        nn.RReLU(),
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        timm.layers.PatchDropout(0.5),
    ],
    ids=["alpha", "slopes", "attention", "patches"],
)
def test_draws_that_cannot_be_cut_are_refused_where_they_would_be_made(module):
    x, (part, _) = torch.rand(6, 8, 4), parts_of(6, 3, Processes())
    with (
        pytest.raises(ValueError, match=r"cannot be had for a part of it; leave out inner.micro_batch"),
        part.drawn(x.device),
    ):
        module.train()(part.of(x))
    with part.drawn(x.device):
        module.eval()(part.of(x))
    with parts_of(6, 0, Processes())[0].drawn(x.device):
        module.train()(x)


def test_batch_norm_sees_the_statistics_of_each_part(quick):
    """The gradient is then the mean of those of two half batches, and running statistics move once for each."""
    trainer = in_double(quick(inner=InnerConfig(micro_batch=8)), small(norm=nn.BatchNorm2d))
    found = []
    trainer.inner.descend = lambda number, gradients, loss: found.append(gradients) or loss
    images, labels = torch.rand(16, 1, 8, 8, dtype=torch.float64), torch.arange(16) % 10
    trainer.inner.step(0, images, labels)
    like = small(norm=nn.BatchNorm2d).double().train()
    halves = [
        torch.autograd.grad(F.cross_entropy(like(images[half]), labels[half]), list(like.parameters()))
        for half in (slice(8), slice(8, 16))
    ]
    for gradient, one, two in zip(found[0], *halves, strict=True):
        torch.testing.assert_close(gradient, (one + two) / 2)
    assert int(trainer.classifier[1].num_batches_tracked) == 2
    torch.testing.assert_close(trainer.classifier[1].running_var, like[1].running_var)
