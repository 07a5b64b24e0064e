"""What an augmenter can be exported to: a family of files, each chosen by the ending of its name."""

import keyword
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor

from augnet.augmenter import Augmenter
from augnet.augmenter.file import to_bytes
from augnet.augmenter.policy import check_strength
from augnet.export import programs, torchvision_code
from augnet.export.plain import PlainPolicy
from augnet.family import members
from augnet.nearest import nearest

# Of albumentations 2.0.8.
WORKERS = (
    "All workers of a DataLoader draw the same, epoch after epoch, unless it gets worker_init_fn=lambda _: "
    "pipeline.set_random_seed(torch.initial_seed() % 2**32)."
)


class Exported(NamedTuple):
    """What a target made.

    Args:
        content: of the file.
        report: what a person should know of it, line by line.
        change: what a plain policy does to an image (c, h, w) of floats in [0, 1], at random.
    """

    content: bytes
    report: tuple[str, ...] = ()
    change: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Target(ABC):
    """A form in which an augmenter leaves a run.

    Args:
        strength: 0 changes nothing, 1 is as learned.

    Attributes:
        ending: of its files.
        label: what it is, for people.
        fitted: whether it needs images to be fitted to.
    """

    strength: float = 1.0

    ending: ClassVar[str]
    label: ClassVar[str]
    fitted: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_strength(self.strength)

    @abstractmethod
    def export(
        self, augmenter: Augmenter, about: dict[str, Any], images: Float[Tensor, "b c h w"] | None = None
    ) -> Exported:
        """Make the file.

        Args:
            augmenter: what was learned.
            about: what is known of it, JSON.
            images: to fit to, for a target that is `fitted`.

        Raises:
            ValueError: if a package is missing, or the augmenter has no such form.
        """

    @abstractmethod
    def usage(self, path: Path) -> str:
        """Say the next line to type, for a file at `path`."""


@dataclass(frozen=True, kw_only=True)
class Safetensors(Target):
    """The augmenter as it is, for `augnet.LearnedAugment`, which takes the strength from the file."""

    ending: ClassVar[str] = ".safetensors"
    label: ClassVar[str] = "for augnet.LearnedAugment"

    def export(
        self, augmenter: Augmenter, about: dict[str, Any], images: Float[Tensor, "b c h w"] | None = None
    ) -> Exported:
        return Exported(to_bytes(augmenter, {**about, "strength": self.strength}))

    def usage(self, path: Path) -> str:
        return f"transform = augnet.LearnedAugment.load({str(path)!r})"


@dataclass(frozen=True, kw_only=True)
class Program(Target):
    """A program that runs without augnet.

    Args:
        sampled: take images alone and draw noise inside.
    """

    sampled: bool = False

    @abstractmethod
    def write(self, augmenter: Augmenter, about: dict[str, Any]) -> bytes:
        """Write the program's file."""

    def export(
        self, augmenter: Augmenter, about: dict[str, Any], images: Float[Tensor, "b c h w"] | None = None
    ) -> Exported:
        inputs = programs.description(augmenter, {}, strength=self.strength, sampled=self.sampled)["inputs"]
        side = programs.smallest_side(augmenter)
        lines = (f"{name}: {what}" for name, what in inputs.items())
        return Exported(self.write(augmenter, about), (*lines, f"images of any size from {side}×{side} pixels on"))


@dataclass(frozen=True, kw_only=True)
class TorchProgram(Program):
    """A program of `torch.export`."""

    ending: ClassVar[str] = ".pt2"
    label: ClassVar[str] = "a torch.export program"

    def write(self, augmenter: Augmenter, about: dict[str, Any]) -> bytes:
        return programs.torch_program(augmenter, about, strength=self.strength, sampled=self.sampled)

    def usage(self, path: Path) -> str:
        arguments = "images" if self.sampled else "images, noise"
        return f"augmented = torch.export.load({str(path)!r}).module()({arguments})"


@dataclass(frozen=True, kw_only=True)
class OnnxProgram(Program):
    """An ONNX model, which onnxruntime runs without torch.

    Raises:
        ValueError: if onnx or onnxscript is not installed.
    """

    ending: ClassVar[str] = ".onnx"
    label: ClassVar[str] = "an ONNX model"

    def __post_init__(self) -> None:
        super().__post_init__()
        # At once: label safety is measured before anything is written.
        programs.need_onnx()

    def write(self, augmenter: Augmenter, about: dict[str, Any]) -> bytes:
        return programs.onnx_program(augmenter, about, strength=self.strength, sampled=self.sampled)

    def usage(self, path: Path) -> str:
        noise = "" if self.sampled else ', "noise": noise'
        session = f"onnxruntime.InferenceSession({str(path)!r})"
        return f'(augmented,) = {session}.run(None, {{"images": images{noise}}})'


@dataclass(frozen=True, kw_only=True)
class Plain(Target):
    """A plain policy: probabilities and ranges that do not depend on the image."""

    fitted: ClassVar[bool] = True

    @abstractmethod
    def write(self, plain: PlainPolicy) -> Exported:
        """Write the policy's file."""

    def export(
        self, augmenter: Augmenter, about: dict[str, Any], images: Float[Tensor, "b c h w"] | None = None
    ) -> Exported:
        if images is None:
            raise ValueError("a plain policy is fitted to images, and none were given")
        return self.write(PlainPolicy.fit(augmenter, images, strength=self.strength))


@dataclass(frozen=True, kw_only=True)
class TorchvisionCode(Plain):
    """A plain policy as Python code, which needs torchvision alone."""

    ending: ClassVar[str] = ".py"
    label: ClassVar[str] = "plain torchvision code"

    def write(self, plain: PlainPolicy) -> Exported:
        near = _apart(plain, torchvision_code.NEAR)
        heading = [
            "Learned by augnet, here without what depends on the image.",
            f"On average, amounts are {plain.loss:.3f} of their limits away from the U-Net's (1-Wasserstein distance).",
            *near,
        ]
        return Exported(plain.code(heading).encode(), (*plain.table(), *near), plain.transform())

    def usage(self, path: Path) -> str:
        if path.stem.isidentifier() and not keyword.iskeyword(path.stem):
            return f"from {path.stem} import transform"
        return f"transform = runpy.run_path({str(path)!r})['transform']"


@dataclass(frozen=True, kw_only=True)
class AlbumentationsJSON(Plain):
    """A plain policy as an albumentations pipeline, for images of the size that it was learned on."""

    ending: ClassVar[str] = ".json"
    label: ClassVar[str] = "an albumentations pipeline"

    def write(self, plain: PlainPolicy) -> Exported:
        try:
            # Here, since importing albumentations takes a second.
            from augnet.export import albumentations_json
        except ModuleNotFoundError as error:
            if error.name != "albumentations":
                raise
            raise ValueError("a pipeline needs albumentations; run: pip install 'albumentations>=2.0.8,<3'") from error
        without = [
            f"Left out, having no counterpart: {step.words}, use {step.use:.2f}."
            for step in albumentations_json.without_counterpart(plain)
        ]
        channels = f"For images of {len(plain.colour)} channel{'s' * (len(plain.colour) > 1)}."
        notes = (*_apart(plain, albumentations_json.NEAR), *without, channels, WORKERS)
        content = albumentations_json.to_json(plain).encode()
        return Exported(content, (*plain.table(), *notes), albumentations_json.on_tensors(plain))

    def usage(self, path: Path) -> str:
        return f"pipeline = albumentations.load({str(path)!r}); augmented = pipeline(image=image)['image']"


def target_for(path: Path | str, **settings: Any) -> Target:
    """Choose a target by the ending of a file's name.

    Args:
        path: what shall be written.
        settings: of the target.

    Raises:
        ValueError: if no target has that ending, or it lacks one of the settings; the message gives the endings.
    """
    ending = Path(path).suffix
    targets: list[type[Target]] = members(Target)
    known = {member.ending: member for member in targets}
    if ending.lower() not in known:
        found = f"{ending!r}{nearest(ending, known)}" if ending else f"nothing; there is {', '.join(sorted(known))}"
        raise ValueError(f"the ending of {str(path)!r} says what to export to, but it is {found}")
    member = known[ending.lower()]
    if surplus := sorted(set(settings) - {field.name for field in fields(member)}):
        raise ValueError(f"{member.label} ({ending}) has no setting {', '.join(surplus)}; leave it out")
    return member(**settings)


def _apart(plain: PlainPolicy, near: Mapping[type, str]) -> list[str]:
    return [f"Near, not the same: {s.transform.label}: {near[kind]}." for s in plain.steps
            if (kind := type(s.transform)) in near]  # fmt: skip
