"""The augmenter as a file: safetensors with a JSON header, so that loading runs no code.

The header says what is needed to build the augmenter, and what a person wants to know of it. A file may come from a
stranger: the header is checked in full, and every tensor's shape against it, before any memory is given to what it
asks for.
"""

import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from augnet import transforms as tf
from augnet.augmenter.augmenter import WIDEST, Augmenter, AugmenterConfig

VERSION = 1
MOST_TRANSFORMS = 256
LONGEST_NAME = 100
# Far beyond what training reaches; what is larger overflows on its way through the U-Net.
LARGEST_WEIGHT = 1e6
POLICIES = Path(__file__).parents[1] / "policies"
KINDS = {int: "a whole number", float: "a number", str: "text", dict: "an object", list: "a list"}


def to_bytes(augmenter: Augmenter, about: dict[str, Any] | None = None) -> bytes:
    """Write an augmenter with its header.

    Args:
        augmenter: what to write.
        about: JSON of anything that a reader should know: classes, data, words.
    """
    config = augmenter.config
    tensors = {name: tensor.detach().cpu().float().contiguous() for name, tensor in augmenter.state_dict().items()}
    settings = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "transforms"}
    header = {
        "version": VERSION,
        "channels": augmenter.channels,
        "settings": settings,
        "transforms": [
            {"name": type(t).__name__, **{f.name: getattr(t, f.name) for f in fields(t)}} for t in augmenter.transforms
        ],
        "about": about or {},
        "checksum": _checksum(tensors),
    }
    return save(tensors, {"augnet": json.dumps(header)})


def policies() -> list[str]:
    """Name the augmenters that travel with augnet; what each was learned on and what it gained is in its file."""
    return sorted(path.stem for path in POLICIES.glob("*.safetensors"))


def load(path: Path | str) -> tuple[Augmenter, dict[str, Any]]:
    """Read an augmenter, ready to use and without gradients, and what is known about it.

    Leaves torch's random numbers as they are.

    Args:
        path: the file; or one of `policies()`, where no file has that name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not an augmenter's file, is damaged, or was written by a later version.
    """
    path = Path(path)
    if not path.is_file() and str(path) in policies():
        path = POLICIES / f"{path}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"no augmenter at {path}; those that travel with augnet are {', '.join(policies())}")
    try:
        with safe_open(path, "pt") as file:
            header = _header((file.metadata() or {}).get("augnet"))
            config, channels = _plan(header)
            with torch.device("meta"):
                expected = {name: list(t.shape) for name, t in Augmenter(config, channels).state_dict().items()}
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            _check_tensors(expected, found)
            tensors = {name: file.get_tensor(name) for name in found}
        # Not a number is not below anything either.
        if not all(bool((weights.abs() <= LARGEST_WEIGHT).all()) for weights in tensors.values()):
            raise ValueError("it holds weights that are not finite or too large; train again or take an earlier file")
        # Files written before there was a checksum have none.
        if "checksum" in header and header["checksum"] != _checksum(tensors):
            raise ValueError("its weights are not those that were written, as their checksum says; take another copy")
        with torch.random.fork_rng(devices=[]):
            augmenter = Augmenter(config, channels)
        augmenter.load_state_dict(tensors)
    except SafetensorError as error:
        # What it says of a text file, whose first letters it takes for a length, is that its header is too large.
        what = f"{path} is not an augmenter's file or is damaged: it is not safetensors, or not a whole one"
        raise ValueError(f"{what} ({error})") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is not an augmenter's file or is damaged: {error}") from error
    return augmenter.eval().requires_grad_(False), header["about"]


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Hash names and values, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].numpy().tobytes())
    return found.hexdigest()


def _header(text: str | None) -> dict[str, Any]:
    """Read the header and see that its parts are there; the parts themselves are still unchecked."""
    if text is None:
        raise ValueError("it has no header named 'augnet'")
    header = _checked("the header", json.loads(text, object_pairs_hook=_without_repetition), dict)
    version = _checked("version", header.get("version"), int)
    if not 1 <= version <= VERSION:
        raise ValueError(f"it has format {version}, and this augnet reads 1 to {VERSION}; upgrade augnet")
    for name, kind in (("channels", int), ("settings", dict), ("transforms", list), ("about", dict)):
        _checked(name, header.get(name), kind)
    return header


def _plan(header: dict[str, Any]) -> tuple[AugmenterConfig, int]:
    """Read the settings; each class checks its own values."""
    channels = header["channels"]
    if not 1 <= channels <= WIDEST:
        raise ValueError(f"channels must lie in 1 to {WIDEST:,}, found {channels}")
    if len(header["transforms"]) > MOST_TRANSFORMS:
        raise ValueError(f"it lists {len(header['transforms']):,} transforms; at most {MOST_TRANSFORMS} make sense")
    members = []
    for entry in header["transforms"]:
        settings = dict(_checked("a transform", entry, dict))
        name = _checked("a transform's name", settings.pop("name", None), str)
        member = tf.named(name[:LONGEST_NAME])
        _check_settings(member, settings)
        if missing := {f.name for f in fields(member)} - set(settings):
            raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
        members.append(member(**settings))
    _check_settings(AugmenterConfig, header["settings"])
    if unfit := tf.usable(members, channels)[1]:
        raise ValueError(f"{type(unfit[0]).__name__} needs red, green and blue, but channels is {channels}")
    return AugmenterConfig(**header["settings"], transforms=members), channels


def _check_settings(owner: type, settings: dict[str, Any]) -> None:
    """See that settings are those of a dataclass and of the types of their defaults."""
    defaults = {f.name: f.default for f in fields(owner) if f.name != "transforms"}
    for name, value in settings.items():
        if name not in defaults:
            raise ValueError(f"{owner.__name__} has no setting {reprlib.repr(name)}")
        if defaults[name] is MISSING or value is defaults[name] is None:
            continue
        # What is None by default is a number otherwise.
        _checked(f"{name} of {owner.__name__}", value, float if defaults[name] is None else type(defaults[name]))


def _checked(what: str, value: Any, kind: type) -> Any:
    """Return a value that is of a kind, where a whole number will do as a number; True is neither."""
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{what} should be {KINDS.get(kind, kind.__name__)}, found {reprlib.repr(value)}")
    return value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("the header names something twice")
    return found


def _check_tensors(expected: Mapping[str, list[int]], found: Mapping[str, Any]) -> None:
    """See that tensors are those expected, by what the file says of them."""
    for what, names in (("lacks", expected.keys() - found.keys()), ("has the surplus", found.keys() - expected.keys())):
        if names:
            raise ValueError(f"it {what} weights {', '.join(sorted(names)[:3])} ({len(names)} in all)")
    for name, shape in expected.items():
        entry = found[name]
        if entry.get_dtype() != "F32" or entry.get_shape() != shape:
            raise ValueError(
                f"weights {name} should be F32 of shape {shape}, found {entry.get_dtype()} of {entry.get_shape()}"
            )
