"""What an augmenter can be exported to: a family of files, each chosen by the ending of its name."""

import keyword
from abc import ABC, abstractmethod
from collections.abc import Mapping
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


class Exported(NamedTuple):
    """What a target made.

    Args:
        content: of the file.
        report: what a person should know of it, line by line.
    """

    content: bytes
    report: tuple[str, ...] = ()


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
class TorchProgram(Target):
    """A program of `torch.export`, which runs without augnet.

    Args:
        sampled: take images alone and draw noise inside.
    """

    sampled: bool = False

    ending: ClassVar[str] = ".pt2"
    label: ClassVar[str] = "a torch.export program"

    def export(
        self, augmenter: Augmenter, about: dict[str, Any], images: Float[Tensor, "b c h w"] | None = None
    ) -> Exported:
        content = programs.torch_program(augmenter, about, strength=self.strength, sampled=self.sampled)
        return Exported(content, _inputs(augmenter, self.sampled))

    def usage(self, path: Path) -> str:
        arguments = "images" if self.sampled else "images, noise"
        return f"augmented = torch.export.load({str(path)!r}).module()({arguments})"


@dataclass(frozen=True, kw_only=True)
class OnnxProgram(Target):
    """An ONNX model, which onnxruntime runs without augnet or torch.

    Args:
        sampled: take images alone and draw noise inside.
    """

    sampled: bool = False

    ending: ClassVar[str] = ".onnx"
    label: ClassVar[str] = "an ONNX model"

    def export(
        self, augmenter: Augmenter, about: dict[str, Any], images: Float[Tensor, "b c h w"] | None = None
    ) -> Exported:
        content = programs.onnx_program(augmenter, about, strength=self.strength, sampled=self.sampled)
        return Exported(content, _inputs(augmenter, self.sampled))

    def usage(self, path: Path) -> str:
        noise = "" if self.sampled else ', "noise": noise'
        session = f"onnxruntime.InferenceSession({str(path)!r})"
        return f'(augmented,) = {session}.run(None, {{"images": images{noise}}})'


@dataclass(frozen=True, kw_only=True)
class TorchvisionCode(Target):
    """A plain policy as Python code, which needs torchvision alone."""

    ending: ClassVar[str] = ".py"
    label: ClassVar[str] = "plain torchvision code"
    fitted: ClassVar[bool] = True

    def export(
        self, augmenter: Augmenter, about: dict[str, Any], images: Float[Tensor, "b c h w"] | None = None
    ) -> Exported:
        plain = _fit(augmenter, images, self.strength)
        learned = f"Learned by augnet, here without what depends on the image (mean loss {plain.loss:.3f})."
        near = _apart(plain, torchvision_code.NEAR)
        return Exported(plain.code([learned, *near]).encode(), (*plain.table(), *near))

    def usage(self, path: Path) -> str:
        if path.stem.isidentifier() and not keyword.iskeyword(path.stem):
            return f"from {path.stem} import transform"
        return f"transform = runpy.run_path({str(path)!r})['transform']"


@dataclass(frozen=True, kw_only=True)
class AlbumentationsJSON(Target):
    """A plain policy as an albumentations pipeline, for images of the size that it was learned on."""

    ending: ClassVar[str] = ".json"
    label: ClassVar[str] = "an albumentations pipeline"
    fitted: ClassVar[bool] = True

    def export(
        self, augmenter: Augmenter, about: dict[str, Any], images: Float[Tensor, "b c h w"] | None = None
    ) -> Exported:
        try:
            # Here, since importing albumentations takes a second.
            from augnet.export import albumentations_json
        except ModuleNotFoundError as error:
            if error.name != "albumentations":
                raise
            raise ValueError("a pipeline needs albumentations; run: pip install 'albumentations>=2.0.8,<3'") from error
        plain = _fit(augmenter, images, self.strength)
        without = [
            f"Left out, having no counterpart: {step.words}, use {step.use:.2f}."
            for step in albumentations_json.without_counterpart(plain)
        ]
        notes = (*_apart(plain, albumentations_json.NEAR), *without)
        return Exported(albumentations_json.to_json(plain).encode(), (*plain.table(), *notes))

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


def _inputs(augmenter: Augmenter, sampled: bool) -> tuple[str, ...]:
    inputs = programs.description(augmenter, {}, strength=1, sampled=sampled)["inputs"]
    side = programs.smallest_side(augmenter)
    return (*(f"{name}: {what}" for name, what in inputs.items()), f"images of any size from {side}×{side} pixels on")


def _fit(augmenter: Augmenter, images: Tensor | None, strength: float) -> PlainPolicy:
    if images is None:
        raise ValueError("a plain policy is fitted to images, and none were given")
    return PlainPolicy.fit(augmenter, images, strength=strength)


def _apart(plain: PlainPolicy, near: Mapping[type, str]) -> list[str]:
    return [f"Near, not the same: {s.transform.label}: {near[kind]}." for s in plain.steps
            if (kind := type(s.transform)) in near]  # fmt: skip
