"""The augmenter as a file: safetensors with a JSON header, so that loading runs no code.

The header says what is needed to build the augmenter, and what a person wants to know of it.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from augnet import transforms as tf
from augnet.augmenter.augmenter import Augmenter, AugmenterConfig

VERSION = 1


def to_bytes(augmenter: Augmenter, about: dict[str, Any] | None = None) -> bytes:
    """Write an augmenter with its header.

    Args:
        augmenter: what to write.
        about: JSON of anything that a reader should know: classes, data, words.
    """
    config = augmenter.config
    settings = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "transforms"}
    header = {
        "version": VERSION,
        "channels": augmenter.channels,
        "settings": settings,
        "transforms": [
            {"name": type(t).__name__, **{f.name: getattr(t, f.name) for f in fields(t)}} for t in augmenter.transforms
        ],
        "about": about or {},
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in augmenter.state_dict().items()}
    return save(tensors, {"augnet": json.dumps(header)})


def load(path: Path | str) -> tuple[Augmenter, dict[str, Any]]:
    """Read an augmenter, ready to use and without gradients, and what is known about it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not an augmenter's file, is damaged, or was written by a later version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no augmenter at {path}")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["augnet"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["version"] > VERSION:
            raise ValueError(
                f"{path} has format {header['version']}; this augnet reads up to {VERSION}: upgrade augnet"
            )
        members = [tf.named(member.pop("name"))(**member) for member in header["transforms"]]
        augmenter = Augmenter(AugmenterConfig(**header["settings"], transforms=members), header["channels"])
        augmenter.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, AttributeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not an augmenter's file or is damaged: {error}") from error
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ValueError(f"{path} holds weights that are not finite; train again or take an earlier file")
    return augmenter.eval().requires_grad_(False), header["about"]
