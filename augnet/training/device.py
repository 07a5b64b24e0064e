"""The device to train on."""

import torch


def device_named(name: str | None) -> torch.device:
    """Find a device by its name; None takes a GPU where there is one.

    Raises:
        ValueError: if this machine, or this build of torch, has no such device.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # A name may be well formed and stand for nothing: only a number that comes back proves the device.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(f"there is no device {name!r} here; there is {', '.join(here)}") from error
    return device
