"""Time every transform, and a fused chain against its members one after another.

    python recipes/benchmarks/transforms_cost.py --threads 1

Prints milliseconds per batch of images: the forward pass alone, and the forward and backward pass to the amounts.
"""

import argparse
import time
from collections.abc import Callable

import torch
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


def milliseconds(call: Callable[[], object], repeats: int, device: str) -> float:
    """Take the median of several runs, after two that don't count."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * sorted(times[2:])[repeats // 2]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    images = torch.rand(asked.batch, 3, asked.size, asked.size, device=asked.device)

    def cost(program: Callable[..., Tensor], transforms: list[T.DifferentiableTransform]) -> tuple[float, float]:
        amounts, noise = draw(transforms, asked.batch, asked.device)
        learned = amounts.clone().requires_grad_()
        weights = torch.rand_like(images)

        def both() -> None:
            torch.autograd.grad((program(transforms, images, learned, noise) * weights).sum(), learned)

        with torch.no_grad():
            forward = milliseconds(lambda: program(transforms, images, amounts, noise), asked.repeats, asked.device)
        return forward, milliseconds(both, asked.repeats, asked.device)

    print(f"batch {asked.batch}x3x{asked.size}x{asked.size}, {asked.device}, {asked.threads} thread(s); milliseconds")
    print(f"{'transform':<24}{'forward':>9}{'with backward':>15}")
    for member in T.all_transforms():
        forward, both = cost(one_after_another, [member()])
        print(f"{member.__name__:<24}{forward:>9.2f}{both:>15.2f}")
    fused, chained = cost(T.apply, CHAIN), cost(one_after_another, CHAIN)
    print(f"{f'chain of {len(CHAIN)}, fused':<24}{fused[0]:>9.2f}{fused[1]:>15.2f}")
    print(f"{'one after another':<24}{chained[0]:>9.2f}{chained[1]:>15.2f}")
    print(f"{'ratio':<24}{chained[0] / fused[0]:>9.2f}{chained[1] / fused[1]:>15.2f}")


if __name__ == "__main__":
    main()
