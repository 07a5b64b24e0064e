"""The recipe: what is written comes back, what is not written has its default, and what is wrong is named."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import torch

from augnet.classifier import ClassifierConfig
from augnet.data import DataSource, Digits, Folder, Npz, Pair, Torchvision
from augnet.implicit import ConjugateGradient, Identity, InverseHessian, Neumann
from augnet.recipe import FAMILIES, InnerConfig, OuterConfig, Recipe, ScheduleConfig, settings_parser
from augnet.transforms import Brightness, DifferentiableTransform, Rotate

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def made(kind):
    """Make a member, with a word where a setting has no default."""
    needed = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    return kind(**dict.fromkeys(needed, "word"))


def changed(member):
    """Move every setting of a member off its default, as far as it agrees."""
    others = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v / 3, str: lambda v: v + "s"}
    for field in dataclasses.fields(member):
        value = getattr(member, field.name)
        choices = [choice for choice in get_args(field.type) if get_origin(field.type) is Literal and choice != value]
        if not choices and type(value) in others:
            choices = [others[type(value)](value)]
        # A choice, such as a mirror, has no limit but 1.
        with contextlib.suppress(ValueError):
            member = dataclasses.replace(member, **{field.name: choices[0]}) if choices else member
    return member


def again(recipe, tmp_path):
    recipe.save(tmp_path / "recipe.yaml")
    return Recipe.load(tmp_path / "recipe.yaml")


def recipe_with(member):
    if isinstance(member, DataSource):
        return Recipe(data=member)
    if isinstance(member, InverseHessian):
        return Recipe(inverse_hessian=member)
    plain = Recipe()
    other = Brightness() if isinstance(member, Rotate) else Rotate()
    return dataclasses.replace(plain, augmenter=dataclasses.replace(plain.augmenter, transforms=[other, member]))


# Data sets made in Python cannot be written down; a run writes `data: null` for them.
MEMBERS = [kind for family in FAMILIES.values() for kind in family() if kind is not Pair]


@pytest.mark.parametrize("kind", MEMBERS, ids=lambda kind: kind.__name__)
def test_every_member_of_every_family_comes_back_from_yaml(kind, tmp_path):
    recipe = recipe_with(changed(made(kind)))
    assert again(recipe, tmp_path) == recipe


def test_the_families_are_complete():
    counts = {name: len(members()) for name, members in FAMILIES.items()}
    assert counts["transforms"] >= 20
    assert {kind.__name__ for kind in FAMILIES["inverse_hessian"]()} >= {
        "Identity", "Neumann", "ConjugateGradient", "Nystrom", "Exact",
    }  # fmt: skip
    assert all(issubclass(kind, DifferentiableTransform) for kind in FAMILIES["transforms"]())


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(data=None),
        Recipe(seed=7, device="cpu", workers=0, checkpoint_every=3, tensorboard=True),
        Recipe(inner=InnerConfig(optimiser="adamw", learning_rate=1e-5, precision="bfloat16")),
        Recipe(inner=InnerConfig(micro_batch=8, checkpoint_activations=True)),
        Recipe(outer=OuterConfig(betas=(0.5, 0.25), learning_rate=1e-300, project=False)),
        Recipe(schedule=ScheduleConfig(inner_steps=12_345, warmup=0)),
        Recipe(
            classifier=ClassifierConfig(name="resnet18", options={"drop_rate": 0.1, "block_args": {"a": [1, None]}})
        ),
    ],
    ids=["no data", "top", "inner", "memory", "outer", "schedule", "options"],
)
def test_every_other_setting_comes_back_from_yaml(recipe, tmp_path):
    assert again(recipe, tmp_path) == recipe


def test_a_member_of_ones_own_is_found_again(tmp_path, monkeypatch):
    (tmp_path / "mine_glow.py").write_text(
        "from dataclasses import dataclass\nfrom augnet.transforms import Brightness\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Glow(Brightness):\n    limit: float = 0.3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = Recipe.parse(["--augmenter.transforms", "[{class_path: mine_glow.Glow}, Rotate]"])
    recipe.save(tmp_path / "recipe.yaml")
    assert "class_path: mine_glow.Glow" in (tmp_path / "recipe.yaml").read_text()
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe


def test_a_setting_that_yaml_cannot_hold_is_refused(tmp_path):
    recipe = Recipe(classifier=ClassifierConfig(name="resnet18", options={"act_layer": torch.nn.ReLU}))
    with pytest.raises(ValueError, match=r"text, numbers, lists and mappings only, found <class '.*ReLU'>"):
        recipe.save(tmp_path / "recipe.yaml")
    assert not (tmp_path / "recipe.yaml").exists()


def test_the_defaults_are_those_of_the_command_line():
    assert Recipe.parse([]) == Recipe()
    assert (Recipe().data, Recipe().inverse_hessian) == (Digits(), Neumann(steps=1, alarm=3.0))
    assert Recipe().schedule.inner_steps == 1500


def test_later_settings_win(tmp_path):
    (tmp_path / "r.yaml").write_text("schedule: {inner_steps: 700}\nseed: 4\naugmenter: {transforms: [Rotate]}\n")
    recipe = Recipe.load(tmp_path / "r.yaml", ["--seed", "5", "--augmenter.transforms+", "Brightness"])
    assert (recipe.seed, recipe.schedule) == (5, ScheduleConfig(inner_steps=700))
    assert recipe.augmenter.transforms == [Rotate(), Brightness()]
    assert Recipe.parse(["--seed=5", f"--recipe={tmp_path / 'r.yaml'}"]).seed == 4


@pytest.mark.parametrize(
    ("text", "data", "inverse"),
    [
        ("data: {class_path: Folder, init_args: {root: a}}", Folder(root="a"), Neumann(steps=1, alarm=3.0)),
        (
            "data: {class_path: Torchvision, init_args: {name: svhn}}",
            Torchvision(name="svhn"),
            Neumann(steps=1, alarm=3.0),
        ),
        ("inverse_hessian: ConjugateGradient", Digits(), ConjugateGradient()),
        ("inverse_hessian: {class_path: Identity}\ndata: null", None, Identity()),
        (
            "inverse_hessian: {class_path: Neumann, init_args: {damping: 0.5}}",
            Digits(),
            Neumann(steps=1, damping=0.5, alarm=3.0),
        ),
        ("data: {size: 8}", Digits(size=8), Neumann(steps=1, alarm=3.0)),
    ],
)
def test_a_member_takes_over_nothing_from_the_one_that_it_replaces(tmp_path, text, data, inverse):
    """The digits are made 16 pixels wide and a third of them is for testing; a folder of images must not be."""
    (tmp_path / "r.yaml").write_text(text)
    recipe = Recipe.load(tmp_path / "r.yaml")
    assert (recipe.data, recipe.inverse_hessian) == (data, inverse)


def test_a_member_named_on_the_command_line_starts_from_its_own_defaults():
    recipe = Recipe.parse(
        ["--data=Npz", "--data.path=a.npz", "--data.val_size=9", "--inverse_hessian=ConjugateGradient"]
    )
    assert recipe.data == Npz(path="a.npz", val_size=9)
    assert recipe.inverse_hessian == ConjugateGradient()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schedul: {inner_steps: 3}", "no setting 'schedul.inner_steps'; did you mean schedule.inner_steps"),
        ("schedule: {inner_step: 3}", "no setting 'schedule.inner_step'; did you mean schedule.inner_steps"),
        ("schedule: {steps: 3}", r"no setting 'schedule.steps'; did you mean schedule.inner_steps\?"),
        ("batch_size: 3", r"no setting 'batch_size'; did you mean schedule.batch_size\?"),
        ("lr: 3", r"no setting 'lr'; did you mean inner.learning_rate or outer.learning_rate\?"),
        ("outer: {lr: 3}", r"no setting 'outer.lr'; did you mean outer.learning_rate\?"),
        ("outer: {zzz: 3}", "no setting 'outer.zzz'; there is outer.learning_rate, .*outer.watch$"),
        ("epochs: 3", r"no setting 'epochs'; did you mean schedule.inner_steps\?"),
        ("zzz: 3", "no setting 'zzz'; there is augmenter, .*seed"),
        ("augmenter: {transforms: [Rotat]}", "augmenter.transforms has no member 'Rotat'; did you mean Rotate"),
        ("augmenter: {transforms: [qqq]}", "has no member 'qqq'; there is Aspect, .*TranslateY"),
        ("augmenter: {transforms: [Digits]}", "augmenter.transforms has no member 'Digits'"),
        ("augmenter: {transforms: [3]}", "augmenter.transforms has no member '3'"),
        ("augmenter: {transforms: Rotate}", "augmenter.transforms should be a list, found 'Rotate'"),
        ("augmenter: {transforms: [{class_path: Rotate, init_args: {limits: 3}}]}", "Rotate has no setting 'limits'"),
        ("augmenter: {transforms: [{class_path: Rotate, init_args: {limit: -3}}]}", "limit of Rotate must be positive"),
        ("augmenter: {transforms: []}", "the augmenter has nothing to do"),
        ("augmenter: {transforms: [Rotate, Hue, Rotate]}", "transforms has Rotate 2 times, .*; name it once"),
        ("data: {class_path: Foldr, init_args: {root: a}}", "data has no member 'Foldr'; did you mean Folder"),
        ("data: {class_path: Folder, init_args: {rot: a}}", "Folder has no setting 'rot'; did you mean root"),
        ("data: {class_path: Folder}", "Folder needs the setting 'root'; set data.root"),
        ("data: {class_path: Folder, init_args: {root: a, on_bad_file: ask}}", "data.on_bad_file should be 'stop' or"),
        ("data: {val_size: some}", "data.val_size should be a whole number or a number or null, found 'some'"),
        ("data: {val_size: 1.5}", "^val_size must be a number of images from 1, or a share between 0 and 1, not 1.5$"),
        ("inverse_hessian: {class_path: Neumann, init_args: {steps: 0}}", "^steps is 0 and must be at least 1$"),
        ("inverse_hessian: {steps: few}", "inverse_hessian.steps should be a whole number, found 'few'"),
        ("inner: {optimiser: lion}", "inner.optimiser should be 'sgd' or 'adamw', found 'lion'"),
        ("inner: {learning_rate: fast}", "inner.learning_rate should be a number or null, found 'fast'"),
        ("outer: {betas: [0.9, 1.0]}", r"betas must lie in \[0, 1\)"),
        ("outer: {difference_step: 0}", "difference_step must be above 0, found 0"),
        ("outer: {precondition: optimiser}", "set inner.optimiser to 'adamw'"),
        ("classifier: {name: resnet81}", "timm has no model 'resnet81'; did you mean resnet18"),
        ("classifier: {name: qqqqqqq}", r"`timm.list_models\(\)` lists the names"),
        ("classifier: {pretrained: true}", "'small' has no pretrained weights"),
        ("tensorboard: maybe", "tensorboard should be true or false, found 'maybe'"),
        ("seed: -1", "seed must not be negative"),
        ("outer: {significance: -1}", "significance must not be negative, found -1"),
        ("inner: {micro_batch: -1}", "micro_batch must not be negative, found -1"),
        (
            "inner: {micro_batch: 8}\n"
            "inverse_hessian: {class_path: ConjugateGradient, init_args: {curvature: gauss_newton}}",
            "inner.micro_batch is 8 but Gauss–Newton products need the graph of the whole batch; set it to 0",
        ),
    ],
)
def test_a_mistake_is_named_with_what_there_is(tmp_path, text, words):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=words):
        Recipe.load(tmp_path / "r.yaml")


def test_a_recipe_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no recipe at .*nothing\.yaml; give the path"):
        Recipe.load(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_ours_loads_is_short_and_opens_with_its_command(path):
    lines = path.read_text().splitlines()
    assert len(lines) < 30
    assert max(map(len, lines)) <= 120
    assert any(f"augnet train --recipe recipes/{path.name}" in line for line in lines if line.startswith("#"))
    assert isinstance(Recipe.load(path).data, DataSource)


def test_every_setting_is_explained_in_the_help():
    page = settings_parser().format_help()
    for config in (ScheduleConfig, InnerConfig, OuterConfig):
        for field in dataclasses.fields(config):
            assert f".{field.name} " in page


@pytest.mark.parametrize("schedule", [ScheduleConfig(), ScheduleConfig(inner_steps=50, outer_every=7, warmup=3)])
def test_outer_steps_are_counted_as_they_fall(schedule):
    falls = [schedule.is_outer(step) for step in range(50)]
    assert [schedule.outer_steps_before(step) for step in range(50)] == [sum(falls[:step]) for step in range(50)]
