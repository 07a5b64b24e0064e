"""Time every transform, and a fused chain against its members and against kornia's functions one after another.

    python recipes/benchmarks/transforms_cost.py
    python recipes/benchmarks/transforms_cost.py --batch 16 --size 224

Prints milliseconds per batch of images: the forward pass alone, and the forward and backward pass to the amounts. On
a CPU it is one thread's processor time, medians, the chains in turns, so that a busy machine is equally busy to all.
What is compared has the same members and does each to every image, by the same amounts. Hue and saturation of kornia
are those of HSV, its erased rectangle has no gradient, and its warps interpolate one by one.
"""

import argparse
import functools
import math
import time
from collections.abc import Callable

import kornia
import torch
from kornia.geometry import bbox_generator, bbox_to_mask
from torch import Tensor

from augnet import transforms as T

CHAIN = [
    T.Rotate(),
    T.TranslateX(),
    T.TranslateY(),
    T.ShearX(),
    T.ShearY(),
    T.Scale(),
    T.Aspect(),
    T.MirrorLeftRight(),
    T.Brightness(),
    T.Contrast(),
    T.Saturation(),
    T.Hue(),
    T.Gamma(),
    T.Sharpness(),
    T.GaussianBlur(),
    T.Erase(),
    T.GaussianNoise(),
]


def draw(transforms: list[T.DifferentiableTransform], batch: int, device: str) -> tuple[Tensor, Tensor]:
    """Draw amounts over the whole range of each transform, and noise."""
    columns = []
    for transform in transforms:
        uniform = torch.rand(batch, device=device)
        if transform.choice:
            columns.append(uniform.round())
        else:
            columns.append(transform.limit * (2 * uniform - 1 if transform.signed else uniform))
    return torch.stack(columns, 1), 2 * torch.rand(batch, T.total_draws(transforms), device=device) - 1


def one_after_another(transforms: list[T.DifferentiableTransform], images: Tensor, amounts: Tensor, noise: Tensor):
    """Call each member alone."""
    shares = noise.split([transform.draws for transform in transforms], dim=1)
    for transform, amount, share in zip(transforms, amounts.unbind(1), shares, strict=True):
        images = transform(images, amount, share)
    return images


def by_kornia(transforms: list[T.DifferentiableTransform], images: Tensor, amounts: Tensor, noise: Tensor) -> Tensor:
    """Do what `CHAIN` says with kornia's functions."""
    height, width = images.shape[-2:]
    amount = {type(transform): column for transform, column in zip(transforms, amounts.unbind(1), strict=True)}
    erase, pattern = noise[:, :3], torch.randn_like(images)
    zero = torch.zeros_like(amounts[:, 0])
    mirrored = {"padding_mode": "reflection", "align_corners": False}
    geometry, enhance = kornia.geometry.transform, kornia.enhance

    x = geometry.rotate(images, amount[T.Rotate], **mirrored)
    x = geometry.translate(x, torch.stack((amount[T.TranslateX] * width, zero), 1), **mirrored)
    x = geometry.translate(x, torch.stack((zero, amount[T.TranslateY] * height), 1), **mirrored)
    x = geometry.shear(x, torch.stack(((amount[T.ShearX] * math.pi / 180).tan(), zero), 1), **mirrored)
    x = geometry.shear(x, torch.stack((zero, (amount[T.ShearY] * math.pi / 180).tan()), 1), **mirrored)
    x = geometry.scale(x, torch.exp2(amount[T.Scale])[:, None].expand(-1, 2), **mirrored)
    stretch = torch.exp2(amount[T.Aspect] / 2)
    x = geometry.scale(x, torch.stack((stretch, 1 / stretch), 1), **mirrored)
    x = torch.where(amount[T.MirrorLeftRight][:, None, None, None] > 0.5, geometry.hflip(x), x)
    x = enhance.adjust_brightness(x, amount[T.Brightness])
    x = enhance.adjust_contrast(x, 1 + amount[T.Contrast])
    x = enhance.adjust_saturation(x, 1 + amount[T.Saturation])
    x = enhance.adjust_hue(x, amount[T.Hue] * math.pi / 180)
    x = enhance.adjust_gamma(x.clamp(min=1e-6), torch.exp2(amount[T.Gamma]))
    x = enhance.sharpness(x, 1 + amount[T.Sharpness])
    sigma = (amount[T.GaussianBlur] * width).clamp(min=1e-3)
    # Two deviations to either side, at the limit: less would be no Gaussian.
    taps = 2 * math.ceil(2 * T.GaussianBlur().limit * width) + 1
    x = kornia.filters.gaussian_blur2d(x, (taps, taps), sigma[:, None].expand(-1, 2))
    side = (amount[T.Erase].detach() * width).clamp(min=2).floor()
    left, top = ((erase[:, :2] + 1) / 2 * width - side[:, None] / 2).clamp(0, width - 2).floor().unbind(1)
    side = torch.minimum(side, width - torch.maximum(left, top))
    hidden = bbox_to_mask(bbox_generator(left, top, side, side), width, height)[:, None]
    x = torch.where(hidden > 0, x.mean((2, 3), keepdim=True), x)
    return (x + amount[T.GaussianNoise][:, None, None, None] * pattern).clamp(0, 1)


def milliseconds(calls: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, float]:
    """Take the median of several runs of each, in turns, after two that don't count."""
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 2):
        for name, call in calls.items():
            start = clock()
            call()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            times[name].append(clock() - start)
    return {name: 1e3 * sorted(found[2:])[repeats // 2] for name, found in times.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.rand(asked.batch, 3, asked.size, asked.size, device=asked.device)
    weights = torch.rand_like(images)

    def rows(
        programs: dict[str, tuple[Callable[..., Tensor], list[T.DifferentiableTransform]]],
    ) -> dict[str, list[float]]:
        forward: dict[str, Callable[[], object]] = {}
        backward: dict[str, Callable[[], object]] = {}
        for name, (program, transforms) in programs.items():
            amounts, noise = draw(transforms, asked.batch, asked.device)
            learned = amounts.clone().requires_grad_()
            forward[name] = torch.no_grad()(functools.partial(program, transforms, images, amounts, noise))

            def both(program=program, transforms=transforms, learned=learned, noise=noise) -> None:
                torch.autograd.grad((program(transforms, images, learned, noise) * weights).sum(), learned)

            backward[name] = both
        found = [milliseconds(calls, asked.repeats, asked.device) for calls in (forward, backward)]
        return {name: [column[name] for column in found] for name in programs}

    print(f"batch {asked.batch}x3x{asked.size}x{asked.size}, {asked.device}, one thread; milliseconds\n")
    print("| transform | forward | with backward |\n|---|---|---|")
    for member in T.all_transforms():
        for name, (forward, both) in rows({member.__name__: (one_after_another, [member()])}).items():
            print(f"| {name} | {forward:.2f} | {both:.2f} |", flush=True)
    chains = {
        "fused": T.apply,
        "its members one after another": one_after_another,
        "kornia one after another": by_kornia,
    }
    found = rows({name: (program, CHAIN) for name, program in chains.items()})
    print(f"\n| chain of {len(CHAIN)} | forward | with backward | x | x |\n|---|---|---|---|---|")
    for name, (forward, both) in found.items():
        ratios = f"{forward / found['fused'][0]:.2f} | {both / found['fused'][1]:.2f}"
        print(f"| {name} | {forward:.2f} | {both:.2f} | {ratios} |")


if __name__ == "__main__":
    main()
