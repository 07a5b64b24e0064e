"""The learned augmenter as a torchvision transform."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as v2f

from augnet.augmenter import Augmenter, in_words, load
from augnet.augmenter.policy import check_strength
from augnet.export.drawn import Drawn, augment, draw
from augnet.export.motion import Motion, move_boxes, move_mask, move_points
from augnet.export.pixels import to_plain

ANNOTATIONS = (tv_tensors.Mask, tv_tensors.BoundingBoxes, tv_tensors.KeyPoints)


class LearnedAugment(v2.Transform):
    """Augment images the way that was learned; masks, boxes and key points move along.

    A torchvision v2 transform: it takes PIL images (L, RGB), tensors (..., c, h, w) of uint8, uint16 or floats in
    [0, 1], `tv_tensors.Image` and `Video`, alone or in any structure of lists, tuples and dicts, and gives back the
    same types. It comes before `v2.Normalize`. In a batch every image gets a draw of its own; a video has one, decided
    on its middle frame. Further images of a sample share the draw of the first. No gradients pass.

    In a module, such as `nn.Sequential` or kornia's containers, it augments batches on their device; there
    `augnet.Augmenter` itself will do as well, which passes gradients.

    Grey images and RGB stand in for one another. On grey ones an augmenter for RGB leaves out what only changes
    colours; on RGB one for grey decides by the brightness and does the same to all channels.

    Randomness comes from torch's global generator: the same `torch.manual_seed`, the same images, in the workers of a
    `DataLoader` too.

    Args:
        augmenter: is copied, so that training it further changes nothing here.
        about: what is known of it: the second result of `augnet.load`.
        strength: 0 changes nothing, 1 is as learned; between and above, amounts and the probabilities of choices
            scale, up to the transforms' limits and to 1.
        p: probability that an image is augmented at all.

    Raises:
        TypeError: if `augmenter` is none, such as a path.
        ValueError: if `strength` is negative or `p` not a probability.
    """

    def __init__(
        self, augmenter: Augmenter, about: dict[str, Any] | None = None, *, strength: float = 1.0, p: float = 1.0
    ) -> None:
        super().__init__()
        if not isinstance(augmenter, Augmenter):
            raise TypeError(
                f"an augmenter is wanted, found {augmenter!r}; to read a file, use LearnedAugment.load(path)"
            )
        check_strength(strength)
        if not 0 <= p <= 1:
            raise ValueError(f"p must be a probability, from 0 to 1, found {p!r}")
        self.augmenter = copy.deepcopy(augmenter).eval().requires_grad_(False)
        self.about = about or {}
        self.strength = strength
        self.p = p

    @classmethod
    def load(cls, path: Path | str, *, strength: float | None = None, p: float = 1.0) -> "LearnedAugment":
        """Read an augmenter's file, or that in the folder of a run; no code is run.

        Args:
            path: the file or the folder; or a name among `augnet.policies()`.
            strength: by default that with which it was exported.
            p: probability that an image is augmented at all.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged or no augmenter's file.
        """
        path = Path(path)
        inside = path / "augmenter.safetensors"
        augmenter, about = load(inside if inside.is_file() else path)
        return cls(augmenter, about, strength=about.get("strength", 1.0) if strength is None else strength, p=p)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """Say what is done: averaged over training images if the file says it, else as for a plain grey image."""
        settings = f"strength={self.strength:g}, p={self.p:g}"
        if self.strength == 0 or self.p == 0:
            return f"changes nothing; {settings}"
        words = self.about.get("words")
        if isinstance(words, list) and words:
            said = ", ".join(map(str, words))
        else:
            grey = torch.full((1, self.augmenter.channels, 1, 1), 0.5).to(next(self.augmenter.parameters()))
            said = in_words(self.augmenter.summary(grey))
        residual = self.augmenter.config.residual_limit
        painted = [f"painted change up to {residual:.2g} of full scale"] if residual > 0 else []
        return f"{', '.join([said] * bool(said) + painted)}; {settings}"

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse arrays with no image beside them, which would come back as they are, as torchvision does with them.

        Raises:
            TypeError: if there is no image, but a NumPy array.
        """
        known = (Tensor, PIL.Image.Image)
        if any(isinstance(x, np.ndarray) for x in flat_inputs) and not any(isinstance(x, known) for x in flat_inputs):
            raise TypeError(
                "images should be PIL images or tensors, found a NumPy array; use PIL.Image.fromarray(array), or "
                "augnet.export.dual in an albumentations pipeline"
            )

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw once for a call: a row for every image, of the first among the inputs that are images.

        Raises:
            ValueError: if there are only masks, boxes or key points.
        """
        pictures = [x for x in flat_inputs if not isinstance(x, ANNOTATIONS)]
        if not flat_inputs or self.strength == 0 or self.p == 0:
            return {}
        if not pictures:
            found = ", ".join(sorted({type(x).__name__ for x in flat_inputs}))
            raise ValueError(f"there is no image to decide by, found only {found}; hand over the image with them")
        images = to_plain(pictures[0])
        if isinstance(pictures[0], tv_tensors.Video):
            images = images[..., images.shape[-4] // 2, :, :, :] if images.numel() else images[..., 0:0, :, :, :]
        if images.numel() == 0:
            return {}
        leading, image = images.shape[:-3], images.shape[-3:]
        with torch.no_grad():
            drawn = draw(self.augmenter, images.reshape(-1, *image), strength=self.strength, p=self.p)
        return {"drawn": drawn, "leading": tuple(leading)}

    @torch.no_grad()
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Do what was drawn to one input.

        Raises:
            ValueError: if an annotation does not belong to one image each of a batch, or a picture is of a kind that
                is not taken.
        """
        if not params:
            return inpt
        drawn, leading = params["drawn"], params["leading"]
        if isinstance(inpt, ANNOTATIONS):
            return self._annotation(inpt, drawn, leading)
        pixels = to_plain(inpt)
        frames = pixels.shape[-4] if isinstance(inpt, tv_tensors.Video) else 1
        found = tuple(pixels.shape[: -4 if isinstance(inpt, tv_tensors.Video) else -3])
        if found != leading:
            raise ValueError(
                f"images of one sample should come in batches of the same shape, found {leading} and {found}; "
                "call once for each"
            )
        images = pixels.reshape(-1, *pixels.shape[-3:])
        augmented = augment(self.augmenter, images, drawn.repeated(frames), strength=self.strength)
        if augmented is images:
            return inpt
        result = augmented.reshape(pixels.shape)
        if isinstance(inpt, PIL.Image.Image):
            return v2f.to_pil_image(result, inpt.mode)
        return tv_tensors.wrap(result, like=inpt) if isinstance(inpt, tv_tensors.TVTensor) else result

    def _annotation(self, inpt: tv_tensors.TVTensor, drawn: Drawn, leading: tuple[int, ...]) -> tv_tensors.TVTensor:
        count = math.prod(leading)
        boxes = isinstance(inpt, tv_tensors.BoundingBoxes)
        if count > 1 and (boxes or inpt.shape[: len(leading)] != leading):
            raise ValueError(
                f"{type(inpt).__name__} of shape {tuple(inpt.shape)} cannot be told apart for a batch {leading} of "
                "images, each of which moves differently; call once for each image"
            )
        height, width = v2f.get_size(inpt)
        # In double precision, so that whole pixels stay whole.
        draws = self.augmenter.draws(drawn.noise).double()
        motion = Motion(self.augmenter.transforms, drawn.amounts.double(), draws, (height, width))
        if motion.still:
            return inpt
        if boxes:
            return move_boxes(inpt, motion)
        plain = inpt.as_subclass(Tensor)
        moved = (
            move_mask(plain.reshape(count, -1, height, width), motion)
            if isinstance(inpt, tv_tensors.Mask)
            else move_points(plain.reshape(count, -1, 2), motion)
        )
        return tv_tensors.wrap(moved.view_as(plain), like=inpt)
