"""The recipe: everything that decides a training, as frozen settings that check themselves.

A recipe comes from Python, from YAML or from the command line, and is written into the run folder whole, so that the
run can be repeated and resumed. Building is one call per part; nothing here trains.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from augnet.augmenter import AugmenterConfig
from augnet.classifier import ClassifierConfig
from augnet.data import DataSource, Digits
from augnet.family import members
from augnet.implicit import InverseHessian, Neumann
from augnet.mistakes import check_recipe_file, explained
from augnet.transforms import DifferentiableTransform


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """When the two levels take turns.

    Args:
        inner_steps: classifier updates in all.
        outer_every: classifier updates between two augmenter updates; each augmenter update is a classifier update too.
        warmup: classifier updates before the first augmenter update.
        batch_size: training images per step.
        val_batch_size: validation images per augmenter update.
    """

    inner_steps: int = 1500
    outer_every: int = 8
    warmup: int = 100
    batch_size: int = 64
    val_batch_size: int = 64

    def __post_init__(self) -> None:
        # A single image has no batch statistics.
        for name, least in (("inner_steps", 1), ("outer_every", 1), ("batch_size", 2), ("val_batch_size", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, found {getattr(self, name)}")
        if not 0 <= self.warmup < self.inner_steps:
            raise ValueError(
                f"warmup ({self.warmup}) must be below inner_steps ({self.inner_steps}), "
                "or the augmenter is never updated"
            )

    def is_outer(self, step: int) -> bool:
        """Whether the classifier update number `step` (from 0) also updates the augmenter."""
        return step >= self.warmup and (step - self.warmup) % self.outer_every == 0

    def outer_steps_before(self, step: int) -> int:
        """Count the augmenter updates among the first `step` classifier updates."""
        return 0 if step <= self.warmup else (step - self.warmup - 1) // self.outer_every + 1


@dataclass(frozen=True, kw_only=True)
class InnerConfig:
    """How the classifier is trained.

    Args:
        optimiser: `sgd` (Nesterov momentum) or `adamw`.
        learning_rate: at its peak; by default 0.1 (sgd) or 0.001 (adamw) from scratch, a tenth of it for finetuning.
        momentum: of sgd.
        weight_decay: by default 5e-4 (sgd) or 0.05 (adamw).
        warmup: share of the steps over which the learning rate rises from 0; after it, a cosine to 0.
        label_smoothing: share of the target spread over all classes.
        gradient_clip: largest norm of the gradient; 0 leaves it alone.
        precision: of steps that update the classifier alone; steps that update the augmenter are float32.
        micro_batch: most images that pass through the classifier at a time to learn from, which bounds the memory; 0
            passes the whole batch. Up to 256 are scored at a time, without gradients. Gradients and hypergradients are
            those of the whole batch, dropout included; only batch norm sees the statistics of each part, as it does
            those of each process's share. Validation images then pass forward twice, and exact second derivatives
            compute the gradient anew for every product.
        checkpoint_activations: keep activations between the blocks of a timm model only, and compute the others anew
            in the backward pass: less memory for more time, but with exact second derivatives, where little is won. Not
            with batch norm, whose statistics would move twice.
    """

    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    warmup: float = 0.05
    label_smoothing: float = 0.0
    gradient_clip: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    micro_batch: int = 0
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ValueError(f"the inner learning_rate must be above 0, found {self.learning_rate}")
        for name in ("warmup", "label_smoothing", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"the inner {name} must lie in [0, 1), found {getattr(self, name)}")
        for name in ("gradient_clip", "micro_batch"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class OuterConfig:
    """How the augmenter is trained: Adam on the hypergradient.

    Args:
        learning_rate: at its peak; what transforms of a kind have in common is added, and mirrors and quarter
            turns move four times as fast.
        rise: share of the training over which the learning rate rises from 0; after it, a cosine to 0. While the
            classifier still learns fast, the hypergradient sees what helps its next steps, which is mild augmentation,
            and not what helps in the end (`recipes/benchmarks/tried.md`).
        betas: of Adam's averages; the first one averages out the noise of the hypergradient, and the second has a long
            memory, so that little is changed where the validation loss has little left to say.
        significance: standard errors by which the mean of all gradients so far must stand out of their noise before a
            weight of the augmenter moves; farther out, steps are shortened less (`ShrinkingAdam`). Probabilities of
            mirrors and quarter turns, whose gradients are the clearest, move from the start. 0 moves everything, as
            Adam does.
        second_derivative: `differences` of gradients, at a third to two thirds of the time of `exact` double backward
            passes and at two thirds of their memory; within batch norm they can miss it widely (see
            `DifferenceProducts`).
        difference_step: length of a difference, relative to the norm of the weights.
        precondition: `optimiser` divides by the root of the second moment that the classifier's AdamW keeps, the
            metric in which its weights really move; `none` takes weights as they are.
        project: take the component along the training gradient out of the inverse product (see `hypergradient`).
        temperature: measure the validation loss at a fitted softmax temperature, so that augmentation is not
            rewarded for curing overconfidence.
        use_price: nats of validation loss that a transform at its full limit, always applied, must be worth; takes
            down what is of no use, where noise would move it about. 0 is off.
        spread_reward: nats per unit of the mean log of spread times probability, against collapse to no augmentation;
            0 is off.
        label_safety: nats of validation loss that one nat of disagreement is worth, between an averaged classifier's
            view of an image before and after augmentation (TeachAugment, Suzuki 2022); 0 is off.
        least_skill: share of its skill, accuracy above that of guessing, that the classifier must keep under a
            transform alone; what leaves less, by two standard errors, spoils labels and is left out. One looks in the
            middle of the training and at its end, and after a quarter if the classifier has three quarters of all skill
            by then (`augnet.training.spoiling`). 0 leaves nothing out.
        watch: share of the validation images that is kept from the hypergradient and watched for overfitting.
    """

    learning_rate: float = 2.5e-3
    rise: float = 0.5
    betas: tuple[float, float] = (0.9, 0.999)
    significance: float = 2.0
    second_derivative: Literal["differences", "exact"] = "differences"
    difference_step: float = 0.01
    precondition: Literal["none", "optimiser"] = "none"
    project: bool = True
    temperature: bool = True
    use_price: float = 0.0005
    spread_reward: float = 0.0
    label_safety: float = 0.0
    least_skill: float = 0.75
    watch: float = 0.1

    def __post_init__(self) -> None:
        if self.learning_rate < 0:
            raise ValueError(f"the outer learning_rate must not be negative, found {self.learning_rate}")
        if not self.difference_step > 0:
            raise ValueError(f"difference_step must be above 0, found {self.difference_step}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), found {self.betas}")
        for name in ("watch", "rise", "least_skill"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), found {getattr(self, name)}")
        for name in ("significance", "use_price", "spread_reward", "label_safety"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training.

    Args:
        data: where images come from and how validation is cut from them; left out when a run's data sets came
            from Python.
        classifier: which model.
        augmenter: which transforms and how large a U-Net.
        inverse_hessian: approximation of the inverse-Hessian-vector product.
        schedule: steps and batches.
        inner: optimiser of the classifier.
        outer: optimiser of the augmenter.
        seed: decides weights, validation split, batches and noise.
        device: such as `cpu` or `cuda:1`; by default a GPU where there is one.
        workers: processes that decode images that do not fit into memory.
        checkpoint_every: steps between two checkpoints.
        tensorboard: also write a TensorBoard log into the run folder; needs `pip install 'augnet[tracking]'`.
    """

    data: DataSource | None = field(default_factory=Digits)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    augmenter: AugmenterConfig = field(default_factory=AugmenterConfig)
    # A product that is off by three times its right side has more noise than news: starting anew costs nothing.
    inverse_hessian: InverseHessian = field(default_factory=lambda: Neumann(steps=1, alarm=3.0))
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    inner: InnerConfig = field(default_factory=InnerConfig)
    outer: OuterConfig = field(default_factory=OuterConfig)
    seed: int = 0
    device: str | None = None
    workers: int = 2
    checkpoint_every: int = 200
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.outer.precondition == "optimiser" and self.inner.optimiser != "adamw":
            raise ValueError(
                f"outer.precondition is 'optimiser' but inner.optimiser is {self.inner.optimiser!r}, which keeps no "
                "second moment; set inner.optimiser to 'adamw' or outer.precondition to 'none'"
            )
        if self.inverse_hessian.curvature == "gauss_newton" and self.inner.micro_batch:
            raise ValueError(
                f"inner.micro_batch is {self.inner.micro_batch} but Gauss–Newton products need the graph of the whole "
                "batch; set it to 0, or inverse_hessian.curvature to 'hessian'"
            )
        for name in ("workers", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name)}")
        if self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be at least 1, found {self.checkpoint_every}")

    @property
    def differentiates_twice(self) -> bool:
        """Whether the classifier is differentiated twice, rather than its gradients subtracted."""
        return self.outer.second_derivative == "exact" or self.inverse_hessian.curvature == "gauss_newton"

    def as_yaml(self) -> str:
        """Write as YAML that `load` and `augnet train --recipe` read.

        Raises:
            ValueError: if a setting, such as one of the classifier's options, is more than text and numbers.
        """
        try:
            return yaml.safe_dump(as_plain(self), sort_keys=False)
        except yaml.representer.RepresenterError as error:
            raise ValueError(
                f"a recipe holds text, numbers, lists and mappings only, found {error.args[-1]!r}; give it by name"
            ) from error

    def save(self, path: Path) -> None:
        """Write `as_yaml` into a file."""
        path.write_text(self.as_yaml())

    @classmethod
    def load(cls, path: Path | str, overrides: Sequence[str] = ()) -> "Recipe":
        """Read YAML; only what differs from the defaults need be there.

        Args:
            path: a recipe.
            overrides: as on the command line, such as `["--schedule.inner_steps", "500"]`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if a setting is unknown or a value does not fit.
        """
        return cls.parse([f"--recipe={path}", *overrides])

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "Recipe":
        """Read settings written as on the command line: `--recipe FILE`, `--schedule.inner_steps 500`.

        A member of a family other than the default one starts from its own defaults.

        Raises:
            FileNotFoundError: if there is no such recipe.
            ValueError: if a setting is unknown or a value does not fit.
        """
        arguments, parser = list(arguments), settings_parser()
        defaults = parser.get_defaults()
        for number, argument in enumerate(arguments):
            if argument.startswith("--recipe="):
                check_recipe_file(argument.removeprefix("--recipe="), GROUPS)
            elif argument == "--recipe" and number + 1 < len(arguments):
                check_recipe_file(arguments[number + 1], GROUPS)
        try:
            settings = parser.parse_args(arguments)
            named = {key: settings[key] and settings[key].class_path for key in ("data", "inverse_hessian")}
            others = {key: {"class_path": name} for key, name in named.items() if name != defaults[key].class_path}
            if others:
                # jsonargparse hands what two classes share on from the default to the one that replaces it: a folder
                # would get the digits' size.
                parser.set_defaults({key: other for key, other in others.items() if other["class_path"]})
                settings = parser.parse_args(arguments)
            settings = parser.instantiate(settings)
        except (ArgumentError, ValueError) as error:
            names = [key.replace(".init_args.", ".") for key, _ in defaults.items() if not key.endswith(".class_path")]
            families = {key: listed() for key, listed in FAMILIES.items()}
            raise ValueError(explained(str(error), names, families)) from error
        return cls(**{f.name: settings[f.name] for f in dataclasses.fields(cls)})


def settings_parser(**options: Any) -> ArgumentParser:
    """Make a parser of every setting of a recipe, and of `--recipe FILE`; `options` are those of `ArgumentParser`."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, **options)
    parser.add_argument("--recipe", action="config", help="YAML file of settings; later arguments win")
    parser.add_class_arguments(Recipe, None)
    return parser


FAMILIES: dict[str, Callable[[], list[type]]] = {
    "transforms": lambda: members(DifferentiableTransform),
    "inverse_hessian": lambda: members(InverseHessian),
    "data": lambda: members(DataSource),
}
GROUPS = ("classifier", "augmenter", "schedule", "inner", "outer")


def _path(kind: type) -> str:
    """Name a class as a recipe finds it again: ours by name, others by module too."""
    ours = kind.__module__.startswith("augnet.")
    return kind.__name__ if ours else f"{kind.__module__}.{kind.__qualname__}"


def as_plain(value: Any) -> Any:
    """Turn settings into dicts, lists and scalars; members of a family name their class."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        is_member = type(value).__bases__ != (object,)
        return {"class_path": _path(type(value)), "init_args": fields} if is_member else fields
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
