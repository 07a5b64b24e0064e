"""The trainer: what it computes, what seeds decide, what a killed run comes back to, and what it refuses."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.augmenter.policy import GAIN
from augnet.classifier import ClassifierConfig
from augnet.data import Digits, ImageSet, Npz, from_datasets
from augnet.implicit import ConjugateGradient, Exact, Identity, Neumann, Nystrom
from augnet.recipe import InnerConfig, OuterConfig, Recipe, ScheduleConfig
from augnet.training import IFTTrainer, Run, TrainingDiverged
from augnet.training.evaluation import NoiseMeter, fitted_log_temperature
from augnet.training.folder import share_of_learning
from augnet.training.progress import Watch
from augnet.training.settling import settled
from augnet.transforms import Brightness, Hue, Invert, MirrorLeftRight, Rotate


def weights_of(trainer):
    return torch.cat([w.detach().flatten() for m in (trainer.classifier, trainer.augmenter) for w in m.parameters()])


def test_the_seam_gives_the_same_hypergradient_as_one_graph(quick):
    """Cutting at the augmented images and walking back through the augmenter once is the chain rule, nothing less.

    Reference: −∂/∂λ ⟨p, ∂L_train/∂w⟩ through augmenter and classifier in one graph, in float64.
    """
    recipe = quick(
        augmenter=AugmenterConfig(residual_limit=0.1, width=4, depth=2),
        inverse_hessian=Identity(),
        outer=OuterConfig(project=False, temperature=False, use_price=0.0, second_derivative="exact"),
    )
    trainer = IFTTrainer(recipe)
    trainer.classifier.double()
    trainer.augmenter.double()
    torch.nn.init.normal_(trainer.augmenter.head.linear.weight)
    (images, labels, _), (val_images, val_labels, _) = (next(stream) for stream in trainer._streams())
    batch, val_batch = (images.double(), labels), (val_images.double(), val_labels)

    torch.manual_seed(5)
    noise = trainer.augmenter.draw_noise(len(images))
    augmented, policy, turned, sign = trainer.augmenter.augment_both_ways(batch[0], noise)
    trainer.classifier.train()
    b = torch.autograd.grad(
        trainer.inner.losses(trainer.classifier(val_batch[0]), val_labels).mean(), trainer.inner.weights
    )
    losses = trainer.inner.losses(trainer.classifier(augmented), labels)
    g = torch.autograd.grad(losses.mean(), trainer.inner.weights, create_graph=True)
    alignment = sum((x * y).sum() for x, y in zip(g, b, strict=True))
    parameters = list(trainer.augmenter.parameters())
    pathwise = torch.autograd.grad(-alignment, parameters, retain_graph=True, allow_unused=True)
    influences = []
    for each in (losses, trainer.inner.losses(trainer.classifier(turned), labels)):
        slopes = [torch.autograd.grad(loss, trainer.inner.weights, retain_graph=True) for loss in each]
        influences.append(torch.stack([-sum((x * y).sum() for x, y in zip(s, b, strict=True)) for s in slopes]))
    by_choice = sign * ((influences[0] - influences[1]) / len(losses))[:, None]
    choices = torch.autograd.grad(policy.probability, parameters, by_choice, allow_unused=True)
    expected = [
        (0 if one is None else one) + (0 if two is None else two) for one, two in zip(pathwise, choices, strict=True)
    ]

    torch.manual_seed(5)
    trainer.outer_step(batch, val_batch)
    for parameter, reference in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, reference + torch.zeros_like(parameter), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "start_probability"),
    [
        ({}, 0.3),
        ({"drop_rate": 0.3}, 0.3),
        ({"act_layer": "gelu"}, 0.2),
        ({"act_layer": "gelu", "drop_rate": 0.3}, 0.2),
    ],
    ids=["plain", "dropout", "smooth", "smooth with dropout"],
)
def test_differences_point_where_the_exact_hypergradient_points(quick, options, start_probability):
    """Forward differences in float64, same batches, noise and dropout.

    The step is so short that no kink of the plain network lies within it. From other starts one of its many thousand
    ReLUs may turn even so; the smooth network has none.
    """
    found = []
    for kind in ("exact", "differences"):
        trainer = IFTTrainer(
            quick(
                outer=OuterConfig(second_derivative=kind, difference_step=1e-7),
                inverse_hessian=Identity(),
                classifier=ClassifierConfig(options=options),
                augmenter=AugmenterConfig(width=4, depth=2, start_probability=start_probability),
            )
        )
        trainer.classifier.double()
        trainer.augmenter.double()
        (images, labels, _), (val_images, val_labels, _) = (next(stream) for stream in trainer._streams())
        torch.manual_seed(5)
        trainer.outer_step((images.double(), labels), (val_images.double(), val_labels))
        found.append(torch.cat([w.grad.flatten() for w in trainer.augmenter.parameters() if w.grad is not None]))
    assert float(torch.cosine_similarity(*found, dim=0)) > 0.99


def test_an_outer_step_moves_the_classifier_exactly_as_an_inner_step(quick):
    """Its training gradient is computed on the way to the hypergradient, so nothing is lost and nothing differs."""
    # With a graph and without, images differ in the last digit, which may fall to either side of a ReLU's kink.
    smooth = ClassifierConfig(options={"act_layer": "silu"})
    one, two = (IFTTrainer(quick(classifier=smooth)) for _ in range(2))
    (images, labels, _), (val_images, val_labels, _) = (next(stream) for stream in one._streams())
    torch.manual_seed(3)
    one.inner_step((images, labels))
    torch.manual_seed(3)
    two.outer_step((images, labels), (val_images, val_labels))
    for (name, x), y in zip(one.classifier.state_dict().items(), two.classifier.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6, msg=name)


def test_the_same_seed_gives_the_same_run_bit_for_bit(quick):
    runs = []
    for seed in (0, 0, 1):
        trainer = IFTTrainer(quick(seed=seed))
        trainer.fit()
        runs.append(weights_of(trainer))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"outer": OuterConfig(label_safety=0.1, spread_reward=0.001)},
        {"inner": InnerConfig(optimiser="adamw"), "outer": OuterConfig(precondition="optimiser")},
        {"inverse_hessian": ConjugateGradient(steps=2, damping=0.1, curvature="gauss_newton")},
        {"classifier": ClassifierConfig(options={"drop_rate": 0.3})},
        {"outer": OuterConfig(second_derivative="exact")},
    ],
    ids=["default", "regularised", "adamw", "gauss-newton", "dropout", "exact"],
)
def test_a_stopped_run_ends_in_the_same_weights_as_one_that_was_not(quick, tmp_path, settings):
    whole = IFTTrainer(quick(**settings), out=tmp_path / "whole")
    whole.fit()
    broken = IFTTrainer(quick(**settings), out=tmp_path / "broken")
    broken.fit(lambda progress: broken.stop() if progress.step == 9 else None)
    assert not Run(tmp_path / "broken").finished
    resumed = IFTTrainer.resume(tmp_path / "broken")
    assert resumed.step == 9
    resumed.fit()
    assert torch.equal(weights_of(whole), weights_of(resumed))
    for name in ("augmenter", "classifier"):
        one, two = (tmp_path / run / f"{name}.safetensors" for run in ("whole", "broken"))
        assert one.read_bytes() == two.read_bytes()
    steps = [[row["step"] for row in Run(tmp_path / run).metrics] for run in ("whole", "broken")]
    assert steps[0] == steps[1]


def test_what_gradients_have_shown_so_far_is_known_to_a_run_that_goes_on(quick, tmp_path):
    """Steps are shortened by the mean of all gradients, also of those before it was stopped."""
    recipe = quick(40, 1.0, schedule=ScheduleConfig(inner_steps=40, outer_every=1, warmup=4, batch_size=16))
    whole, broken = (IFTTrainer(recipe, out=tmp_path / name) for name in ("whole", "broken"))
    whole.fit()
    broken.fit(lambda progress: broken.stop() if progress.step == 25 else None)
    before = torch.cat([w.flatten() for w in broken.augmenter.parameters()]).clone()
    resumed = IFTTrainer.resume(tmp_path / "broken")
    resumed.fit()
    after = torch.cat([w.flatten() for w in resumed.augmenter.parameters()])
    assert torch.equal(weights_of(whole), weights_of(resumed))
    # Some moved on, and more than the probabilities of choices.
    assert int((before != after).sum()) > 10


@pytest.mark.parametrize(("p", "stays"), [(0.01, False), (0.19, False), (0.21, True), (0.9, True)])
def test_a_choice_that_was_learned_down_is_left_out_in_the_end(quick, tmp_path, p, stays):
    """Below two thirds of the 0.3 that it began at; the up-down mirror stays at its own. Checkpoints have them all."""
    trainer = IFTTrainer(quick(outer=OuterConfig(learning_rate=0.0)), out=tmp_path / "run")
    with torch.no_grad():
        trainer.augmenter.head.linear.bias[2 * len(trainer.augmenter.transforms)] = math.log(p / (1 - p)) / GAIN
    run = trainer.fit()
    names = [type(transform).__name__ for transform in run.augmenter().transforms]
    assert ("MirrorLeftRight" in names, "MirrorUpDown" in names) == (stays, True)
    assert ("left out" in run.record["in_words"], len(run.record["left_out"])) == (not stays, int(not stays))
    # From 0.3 all four have changed.
    left = "learned down and left out: mirror left-right"
    assert run.record["changed"].startswith("mirror left-right" if stays else left)
    assert len(run.record["learned"]) == len(names) == len(trainer.augmenter.transforms) - (not stays)
    assert IFTTrainer.resume(tmp_path / "run").augmenter.transforms == trainer.augmenter.transforms


@pytest.mark.parametrize(
    ("often", "far", "stays"), [(0.09, 0.6, False), (0.11, 0.6, True), (0.3, 0.19, False), (0.18, 0.3, False)]
)
@pytest.mark.parametrize("transform", [Invert(), Brightness()])
def test_any_other_transform_is_left_out_below_a_third_of_its_use(quick, tmp_path, transform, often, far, stays):
    """Use is how often, times how far: 0.3 and, but for a choice, 0.6 at the start."""
    augmenter = AugmenterConfig(transforms=[transform, MirrorLeftRight()], start_probability=0.3, width=4)
    trainer = IFTTrainer(quick(augmenter=augmenter, outer=OuterConfig(learning_rate=0.0)), out=tmp_path / "run")
    with torch.no_grad():
        trainer.augmenter.head.linear.bias[2] = math.log(far / (1 - far)) / GAIN
        trainer.augmenter.head.linear.bias[4] = math.log((often - 0.01) / (0.99 - often)) / GAIN
    stays = often > 0.1 if transform.choice else stays
    assert trainer.fit().augmenter().transforms == [transform] * stays + [MirrorLeftRight()]


def test_what_goes_one_way_or_the_other_by_the_image_is_used(quick):
    """Centres of +0.8 and −0.8 are 0 on average, and no less use for that."""
    augmenter = Augmenter(AugmenterConfig(transforms=[Rotate(), Hue()], width=4), 3)
    images = torch.rand(8, 3, 8, 8)
    policy = augmenter.policy(images, augmenter.draw_noise(8))
    centre, spread = policy.centre.clone(), torch.full_like(policy.spread, 0.05)
    centre[::2], centre[1::2] = 0.8, -0.8
    use = policy.probability * (centre.abs() + spread)
    turning = policy._replace(centre=centre, spread=spread, use=use)
    augmenter.policy = lambda *_: turning
    assert settled(augmenter, images) == (augmenter, [])


def test_without_gates_use_is_how_far(quick, tmp_path):
    augmenter = AugmenterConfig(transforms=[Brightness(), Hue()], gates="choices", width=4)
    trainer = IFTTrainer(
        quick(augmenter=augmenter, data=from_datasets(Halves(), Halves()), outer=OuterConfig(learning_rate=0.0)),
        out=tmp_path / "run",
    )
    with torch.no_grad():
        trainer.augmenter.head.linear.bias[2:4] = torch.tensor([math.log(s / (1 - s)) / GAIN for s in (0.19, 0.21)])
    assert trainer.fit().augmenter().transforms == [Hue()]


def test_the_only_transform_is_not_left_out(quick, tmp_path):
    augmenter = AugmenterConfig(transforms=[MirrorLeftRight()], width=4)
    trainer = IFTTrainer(quick(augmenter=augmenter, outer=OuterConfig(learning_rate=0.0)), out=tmp_path / "run")
    with torch.no_grad():
        trainer.augmenter.head.linear.bias[2] = -1
    assert trainer.fit().augmenter().transforms == [MirrorLeftRight()]


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from augnet.training import IFTTrainer
from augnet.recipe import Recipe
out, how = sys.argv[1:]
trainer = IFTTrainer.resume(out) if how == "resume" else IFTTrainer(Recipe.load(how), out=out)
trainer.fit(lambda progress: print(progress.step, flush=True))
"""


def test_a_killed_run_ends_in_the_same_weights(quick, tmp_path):
    quick(steps=30).save(tmp_path / "recipe.yaml")
    command = [sys.executable, "-c", SCRIPT]
    subprocess.run([*command, tmp_path / "whole", tmp_path / "recipe.yaml"], check=True, capture_output=True)
    process = subprocess.Popen([*command, tmp_path / "killed", tmp_path / "recipe.yaml"], stdout=subprocess.PIPE)
    while int(process.stdout.readline()) < 13:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*command, tmp_path / "killed", "resume"], check=True, capture_output=True)
    for name in ("augmenter.safetensors", "classifier.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_a_run_is_a_complete_record(quick, tmp_path):
    recipe = quick()
    run = IFTTrainer(recipe, out=tmp_path / "run").fit()
    assert run.finished
    assert run.recipe == recipe
    record = run.record
    assert record["images"] == {"train": 200, "validation": 100, "test": 599}
    assert len(record["data_fingerprint"]) == 64
    assert set(record["packages"]) >= {"torch", "kornia", "timm"}
    assert 0 <= record["test_accuracy"] <= 1
    augmenter = run.augmenter()
    assert sum(w.numel() for w in augmenter.parameters()) == record["hyperparameters"]
    x = torch.rand(4, 1, 8, 8)
    assert augmenter(x).shape == x.shape
    assert run.classifier()(x).shape == (4, 10)
    assert run.metrics[-1]["step"] == recipe.schedule.inner_steps


def test_a_run_folder_is_never_overwritten(quick, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(FileExistsError, match="never overwritten"):
        IFTTrainer(quick(), out=tmp_path / "run")


def test_a_checkpoint_of_another_recipe_or_other_data_is_refused(quick, tmp_path):
    IFTTrainer(quick(), out=tmp_path / "run").fit()
    with pytest.raises(ValueError, match="another recipe: seed differ"):
        IFTTrainer.resume(tmp_path / "run", recipe=quick(seed=3))
    record = tmp_path / "run" / "record.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"data_fingerprint": "0" * 64}))
    with pytest.raises(ValueError, match=r"the data of .* have changed"):
        IFTTrainer.resume(tmp_path / "run")


def test_a_run_on_a_relative_path_goes_on_from_any_working_directory(quick, tmp_path, monkeypatch):
    """The recipe that began it names other data from elsewhere, where its path leads to nothing."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 8, 8), dtype=np.uint8)
    np.savez("a.npz", images=pixels, labels=np.arange(90) % 3)
    recipe = quick(data=Npz(path="a.npz"))
    IFTTrainer(recipe, out="run").fit()
    assert IFTTrainer.resume("run", recipe=recipe).step == 24
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert IFTTrainer.resume("../run").step == 24
    with pytest.raises(ValueError, match="another recipe: data differ"):
        IFTTrainer.resume("../run", recipe=recipe)


class Small(nn.Module):
    """A user's own classifier."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 2))

    def forward(self, images):
        return self.body(images)


class Halves(torch.utils.data.Dataset):
    """Bright above or bright below, as float images."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index)) / 2
        image[:, 4 * (index % 2) : 4 * (index % 2) + 4] += 0.5
        return image, index % 2


def test_own_data_sets_and_own_module_from_python(tmp_path):
    schedule = ScheduleConfig(inner_steps=30, outer_every=3, warmup=3, batch_size=8, val_batch_size=8)
    recipe = Recipe(data=from_datasets(Halves(), Halves()), schedule=schedule)
    torch.manual_seed(0)
    trainer = IFTTrainer(recipe, classifier=Small(), out=tmp_path / "run")
    run = trainer.fit()
    assert run.record["validation_accuracy"] > 0.9
    assert run.classifier(Small())(torch.rand(2, 3, 8, 8)).shape == (2, 2)
    with pytest.raises(ValueError, match="came from Python"):
        IFTTrainer.resume(tmp_path / "run")
    assert IFTTrainer.resume(tmp_path / "run", recipe=recipe, classifier=Small()).step == 30


class Unstable(Small):
    """Turns to NaN after some calls."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        return super().forward(images) * (float("nan") if self.calls > 60 else 1.0)


def test_a_loss_that_stays_nan_ends_the_run_with_the_last_good_state(tmp_path):
    schedule = ScheduleConfig(inner_steps=200, outer_every=5, warmup=3, batch_size=8, val_batch_size=8)
    recipe = Recipe(data=from_datasets(Halves(), Halves()), schedule=schedule, checkpoint_every=1000)
    trainer = IFTTrainer(recipe, classifier=Unstable(), out=tmp_path / "run")
    with pytest.raises(TrainingDiverged, match=r"not finite in 5 steps in a row.*last good state.*learning_rate"):
        trainer.fit()
    assert trainer.skipped == 5
    again = IFTTrainer.resume(tmp_path / "run", recipe=recipe, classifier=Small())
    assert torch.equal(weights_of(again), weights_of(trainer))
    assert bool(weights_of(again).isfinite().all())


def test_bfloat16_inner_steps_train(quick):
    trainer = IFTTrainer(quick(inner=InnerConfig(precision="bfloat16")))
    trainer.fit()
    assert bool(weights_of(trainer).isfinite().all())
    assert all(w.dtype == torch.float32 for w in trainer.inner.weights)


@pytest.mark.parametrize("name", ["small", "test_resnet", "resnet18"])
def test_residual_networks_are_differentiated_twice(name):
    """Also where blocks start as the identity, so that half of their ReLUs lie exactly at their kinks."""
    schedule = ScheduleConfig(inner_steps=2, outer_every=1, warmup=1, batch_size=8, val_batch_size=8)
    recipe = Recipe(
        data=Digits(size=16, train_size=100, val_size=60),
        classifier=ClassifierConfig(name=name),
        outer=OuterConfig(second_derivative="exact"),
        inverse_hessian=ConjugateGradient(steps=1, curvature="gauss_newton"),
        schedule=schedule,
    )
    trainer = IFTTrainer(recipe)
    assert not trainer.outer.by_differences
    assert not any("second derivative" in note for note in trainer.notes)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_models_without_second_derivative_are_cured(name):
    """Hard sigmoids and fused attention: rewritten, said, and then differentiated twice."""
    recipe = Recipe(
        data=Digits(size=16, train_size=100, val_size=60),
        classifier=ClassifierConfig(name=name),
        outer=OuterConfig(second_derivative="exact"),
        schedule=ScheduleConfig(inner_steps=2, outer_every=1, warmup=1, batch_size=8, val_batch_size=8),
    )
    trainer = IFTTrainer(recipe)
    assert not trainer.outer.by_differences
    assert any("second derivative" in note for note in trainer.notes)
    trainer.fit()
    assert trainer.outer.solution is not None


class Once(torch.autograd.Function):
    """The identity, with a first derivative only."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient.clone()


class OnlyOnce(Small):
    """A classifier that autograd cannot differentiate twice."""

    def forward(self, images):
        return Once.apply(super().forward(images))


def test_a_model_without_second_derivative_falls_back_to_differences_and_says_so():
    schedule = ScheduleConfig(inner_steps=30, outer_every=3, warmup=3, batch_size=8, val_batch_size=8)
    recipe = Recipe(
        data=from_datasets(Halves(), Halves()), schedule=schedule, outer=OuterConfig(second_derivative="exact")
    )
    trainer = IFTTrainer(recipe, classifier=OnlyOnce())
    assert trainer.outer.by_differences
    assert any("finite differences" in note for note in trainer.notes)
    trainer.fit()
    assert trainer.outer.noise.square.any()


def test_fitted_temperature_is_the_one_that_was_planted():
    """Labels drawn from softmax(z / 3) are described best at temperature 3."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20_000, 5, generator=generator) * 4
    labels = torch.multinomial((z / 3).softmax(dim=-1), 1, generator=generator)[:, 0]
    assert fitted_log_temperature(z, labels) == pytest.approx(torch.tensor(3.0).log().item(), abs=0.03)


@pytest.mark.parametrize(("signal_share", "noise_share"), [(1.0, 0.0), (0.0, 1.0)])
def test_the_noise_meter_tells_signal_from_noise(signal_share, noise_share):
    meter = NoiseMeter()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        meter.add(signal_share * torch.ones(1000) + noise_share * torch.randn(1000, generator=generator))
    assert meter.share == pytest.approx(noise_share, abs=0.05)


def test_the_noise_meter_hears_a_steady_entry_beside_a_loud_one():
    """Half of the entries are steady, at a millionth of the size of the others, which are noise; one is not reached."""
    meter = NoiseMeter()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        noise = torch.randn(500, generator=generator)
        meter.add(torch.cat([torch.full((500,), 1e-6), noise, torch.zeros(1)]))
    assert meter.share == pytest.approx(0.5, abs=0.05)


def test_neumann_is_the_default_and_is_warm():
    assert Recipe().inverse_hessian == Neumann(steps=1, alarm=3.0)


class NanOnce(nn.Module):
    """Batch norm that meets a NaN in one forward pass of training."""

    def __init__(self, number):
        super().__init__()
        # How often a product is made anew, and so which pass is which, depends on the weights.
        torch.manual_seed(0)
        self.norm, self.body, self.calls, self.number = nn.BatchNorm2d(3), Small(), 0, number

    def forward(self, images):
        self.calls += self.training
        return self.body(self.norm(images * (float("nan") if self.calls == self.number else 1.0)))


def test_a_step_that_is_left_out_leaves_no_trace(tmp_path):
    schedule = ScheduleConfig(inner_steps=60, outer_every=4, warmup=3, batch_size=8, val_batch_size=8)
    recipe = Recipe(data=from_datasets(Halves(), Halves()), schedule=schedule)
    trainer = IFTTrainer(recipe, classifier=NanOnce(40), out=tmp_path / "run")
    run = trainer.fit()
    assert trainer.skipped == 1
    assert all(bool(x.isfinite().all()) for x in trainer.classifier.state_dict().values())
    assert run.record["validation_accuracy"] > 0.9


@pytest.mark.parametrize("number", range(14, 23))
def test_whichever_pass_of_an_outer_step_fails_no_weight_does(number):
    """Nine passes that follow each other are three inner steps and all of an outer one."""
    schedule = ScheduleConfig(inner_steps=14, outer_every=4, warmup=3, batch_size=8, val_batch_size=8)
    recipe = Recipe(data=from_datasets(Halves(), Halves()), schedule=schedule)
    trainer = IFTTrainer(recipe, classifier=NanOnce(number))
    trainer.fit()
    assert trainer.classifier.calls > number
    for module in (trainer.classifier, trainer.augmenter):
        assert all(bool(x.isfinite().all()) for x in module.state_dict().values())


class Shaken(Halves):
    """A user's set with a random transform of its own."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return (image + 0.1 * torch.rand(3, 8, 8)).clamp(0, 1), label


def test_random_transforms_of_a_users_set_are_repeated_on_resume(tmp_path):
    schedule = ScheduleConfig(inner_steps=30, outer_every=4, warmup=3, batch_size=8, val_batch_size=8)
    recipe = Recipe(data=from_datasets(Shaken(), Shaken()), schedule=schedule, checkpoint_every=7, workers=0)

    def small():
        torch.manual_seed(0)
        return Small()

    whole = IFTTrainer(recipe, classifier=small(), out=tmp_path / "whole")
    whole.fit()
    broken = IFTTrainer(recipe, classifier=small(), out=tmp_path / "broken")
    broken.fit(lambda progress: broken.stop() if progress.step == 11 else None)
    resumed = IFTTrainer.resume(tmp_path / "broken", recipe=recipe, classifier=small())
    resumed.fit()
    assert torch.equal(weights_of(whole), weights_of(resumed))


def test_a_run_killed_between_the_files_of_its_last_checkpoint_is_repaired(quick, tmp_path):
    trainer = IFTTrainer(quick(), out=tmp_path / "run")
    run = trainer.fit()
    path = run.path / "augmenter.safetensors"
    whole = path.read_bytes()
    path.write_bytes(b"of an earlier checkpoint")
    IFTTrainer.resume(run.path).fit()
    assert path.read_bytes() == whole


def test_watched_images_share_no_group_with_those_that_are_learned_from():
    pixels = torch.randint(0, 256, (80, 3, 8, 8), dtype=torch.uint8)
    images = ImageSet(pixels, torch.arange(80) % 2, groups=torch.arange(80) // 4)
    splits = from_datasets(images, images).load(0)
    watch = Watch(splits, 0.2, 0, torch.device("cpu"), 0)
    assert not set(watch.kept.groups.tolist()) & set(watch.val.groups.tolist())
    assert len(watch.kept) + len(watch.val) == 80


def test_watched_images_are_of_all_classes_whatever_their_order():
    labels = torch.arange(4).repeat_interleave(500)
    images = ImageSet(torch.zeros(2000, 1, 8, 8, dtype=torch.uint8), labels)
    for share in (0.0, 0.5):
        watch = Watch(from_datasets(images, images).load(0), share, 0, torch.device("cpu"), 0)
        for part in (watch.kept, watch.used):
            assert torch.bincount(part.labels).min() > 90
    assert len(watch.kept) == len(watch.used) == 512


def test_a_classifier_with_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="no weight to train"):
        IFTTrainer(Recipe(data=from_datasets(Halves(), Halves())), classifier=Small().requires_grad_(False))


@pytest.mark.parametrize("logits", [1, 3, 1000])
def test_a_classifier_of_other_classes_is_refused(logits):
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, logits))
    with pytest.raises(ValueError, match=rf"logits of shape \(2, 2\) .* found \(2, {logits}\); change its last layer"):
        IFTTrainer(Recipe(data=from_datasets(Halves(), Halves())), classifier=other)


def test_a_classifier_that_gives_more_than_logits_while_it_trains_is_refused(tmp_path):
    class WithAuxiliaryHead(Small):
        def forward(self, images):
            logits = super().forward(images)
            return (logits, logits) if self.training else logits

    recipe = Recipe(data=from_datasets(Halves(), Halves()))
    with pytest.raises(ValueError, match="found tuple in training mode; change its last layer"):
        IFTTrainer(recipe, classifier=WithAuxiliaryHead(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_weights_than_the_exact_inverse_takes_are_refused_before_training(quick, tmp_path):
    with pytest.raises(ValueError, match="beyond its limit of 5,000"):
        IFTTrainer(quick(inverse_hessian=Exact()), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("solver", [Neumann(steps=1), Nystrom(rank=2), ConjugateGradient(steps=1)])
def test_an_outer_step_that_is_not_finite_is_left_out(solver):
    class Failing(Small):
        def forward(self, images):
            logits = super().forward(images)
            return logits * (torch.nan if self.training and len(seen) == 2 and not seen.append(0) else 1)

    seen = []
    schedule = ScheduleConfig(inner_steps=12, outer_every=3, warmup=3, batch_size=8, val_batch_size=8)
    recipe = Recipe(data=from_datasets(Halves(), Halves()), schedule=schedule, inverse_hessian=solver)
    trainer = IFTTrainer(recipe, classifier=Failing())
    trainer.fit(lambda progress: seen.append(0) if progress.step in (2, 3) else None)
    assert trainer.step == 12
    assert trainer.skipped + trainer.outer.skipped == 1
    assert all(weight.isfinite().all() for weight in trainer.augmenter.parameters())


def test_the_reward_for_spread_says_nothing_of_choices(quick):
    config = AugmenterConfig(transforms=[MirrorLeftRight(), Hue()])
    data = from_datasets(Halves(), Halves())
    trainer = IFTTrainer(quick(data=data, augmenter=config, outer=OuterConfig(spread_reward=0.1)))
    images = trainer.watch.sample[0]
    policy = trainer.augmenter.policy(images, trainer.augmenter.draw_noise(len(images)))
    (slope,) = torch.autograd.grad(trainer.outer._cost(policy), trainer.augmenter.head.linear.bias)
    _, spread, probability = slope.view(3, 2)
    assert spread[0] == 0
    assert (torch.stack((spread[1], *probability)) < 0).all()


def test_a_system_that_was_solved_without_the_optimisers_metric_starts_no_other(quick):
    schedule = ScheduleConfig(inner_steps=3, outer_every=1, warmup=0, batch_size=16, val_batch_size=16)
    outer = OuterConfig(precondition="optimiser")
    trainer = IFTTrainer(quick(schedule=schedule, outer=outer, inner=InnerConfig(optimiser="adamw")))
    solutions = []
    trainer.fit(lambda progress: solutions.append(trainer.outer.solution))
    assert solutions[0] is None
    assert solutions[1] is not None
    assert share_of_learning(trainer) is None


@pytest.mark.parametrize("second_derivative", ["exact", "differences"])
def test_fused_attention_is_switched_off_only_where_it_has_to_be(second_derivative):
    recipe = Recipe(
        data=Digits(size=16, train_size=100, val_size=60),
        classifier=ClassifierConfig(name="vit_tiny_patch16_224"),
        outer=OuterConfig(second_derivative=second_derivative),
        schedule=ScheduleConfig(inner_steps=2, outer_every=1, warmup=1, batch_size=8, val_batch_size=8),
    )
    trainer = IFTTrainer(recipe)
    fused = [module.fused_attn for module in trainer.classifier.modules() if hasattr(module, "fused_attn")]
    assert fused
    assert set(fused) == {second_derivative == "differences"}
    trainer.fit()


def test_a_classifier_of_one_precision_is_differentiated_twice():
    class Casting(Small):
        def forward(self, images):
            return super().forward(images.float())

    trainer = IFTTrainer(
        Recipe(data=from_datasets(Halves(), Halves()), outer=OuterConfig(second_derivative="exact")),
        classifier=Casting(),
    )
    assert not trainer.outer.by_differences


def test_too_little_memory_is_not_taken_for_no_second_derivative():
    class Large(Small):
        def forward(self, images):
            if images.dtype == torch.float64:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(images)

    recipe = Recipe(data=from_datasets(Halves(), Halves()), outer=OuterConfig(second_derivative="exact"))
    with pytest.raises(torch.OutOfMemoryError):
        IFTTrainer(recipe, classifier=Large())


def test_one_image_alone_is_refused_where_batch_norm_cannot_do_with_it(quick):
    def normed(*last):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), *last, nn.Flatten(), nn.Linear(4, 10))

    schedule, inner = replace(quick().schedule, batch_size=3), InnerConfig(micro_batch=2)
    pool = nn.AdaptiveAvgPool2d(1)
    with pytest.raises(ValueError, match=r"batch_size comes to 3 images in parts of 2, .* cannot train on one"):
        IFTTrainer(quick(schedule=schedule, inner=inner), classifier=normed(pool, nn.BatchNorm2d(4)))
    IFTTrainer(quick(schedule=schedule), classifier=normed(pool, nn.BatchNorm2d(4)))
    # Where an image has several pixels there is something to take the variance of; running ones are left alone.
    module = normed(pool)
    IFTTrainer(quick(schedule=schedule, inner=inner), classifier=module).fit()
    fresh = IFTTrainer(quick(schedule=schedule, inner=inner), classifier=normed(pool)).classifier
    assert torch.equal(fresh[1].running_mean, torch.zeros(4))


def test_a_module_that_squeezes_away_a_batch_of_one_is_taken(quick):
    class Squeezing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 10, 3)

        def forward(self, images):
            return self.conv(images).mean((2, 3), keepdim=True).squeeze()

    IFTTrainer(quick(), classifier=Squeezing())


@pytest.mark.parametrize(("images", "watched"), [(30, 30), (90, 9)])
def test_few_validation_images_are_all_learned_from(images, watched):
    """The standard error of a few losses is now and then nearly 0, and a difference would seem huge."""
    pixels = torch.randint(0, 256, (images, 1, 8, 8), dtype=torch.uint8)
    part = ImageSet(pixels, torch.arange(images) % 2)
    watch = Watch(from_datasets(part, part).load(0), 0.1, 0, torch.device("cpu"), 0)
    assert len(watch.kept) == watched
    assert len(watch.val) == (images if watched == images else images - watched)


def test_ctrl_c_from_python_leaves_a_checkpoint(quick, tmp_path):
    def press(progress):
        if progress.step == 7:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped at step 7 of 24"):
        IFTTrainer(quick(), out=tmp_path / "run").fit(press)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert IFTTrainer.resume(tmp_path / "run").step == 7


def test_a_stop_that_was_overtaken_by_an_error_is_forgotten(quick):
    trainer = IFTTrainer(quick())

    def fail(_):
        trainer.stop()
        raise RuntimeError("the reader failed")

    with pytest.raises(RuntimeError, match="the reader failed"):
        trainer.fit(fail)
    trainer.fit()
    assert trainer.step == trainer.recipe.schedule.inner_steps


def test_a_stop_before_the_first_step_is_heeded(quick):
    trainer = IFTTrainer(quick())
    trainer.stop()
    trainer.fit()
    assert trainer.step == 0
    trainer.fit()
    assert trainer.step == trainer.recipe.schedule.inner_steps


def test_an_augmenter_with_nothing_left_to_do_is_refused(quick):
    with pytest.raises(ValueError, match="nothing is left for the augmenter to do: Hue is left out"):
        IFTTrainer(quick(augmenter=AugmenterConfig(transforms=[Hue()])))


def test_gauss_newton_of_a_model_without_second_derivative_is_refused():
    recipe = Recipe(data=from_datasets(Halves(), Halves()), inverse_hessian=ConjugateGradient(curvature="gauss_newton"))
    with pytest.raises(ValueError, match="Gauss–Newton products need exact second derivatives, but the model has no"):
        IFTTrainer(recipe, classifier=OnlyOnce())


def test_too_few_updates_of_the_augmenter_are_said_beforehand(quick):
    few, enough = (IFTTrainer(quick(steps)).notes for steps in (80, 81))
    assert any("the augmenter is updated 19 times in all" in note for note in few)
    assert not any("times in all" in note for note in enough)


def test_classes_without_validation_or_test_images_are_named():
    """Nobody would see from an accuracy that every test image is of one class."""
    pixels = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    train = ImageSet(pixels, torch.arange(20) % 4)
    test = ImageSet(pixels, torch.full((20,), 2))
    data = from_datasets(train, ImageSet(pixels, torch.arange(20) % 3), test, classes=["ant", "bee", "cow", "dog"])
    notes = IFTTrainer(Recipe(data=data, schedule=ScheduleConfig(batch_size=8, val_batch_size=8))).notes
    assert "no validation image of class 'dog'" in notes
    assert "no test image of 3 classes, the first being 'ant'" in notes
