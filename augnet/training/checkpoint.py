"""Nested states as one safetensors file, written so that a reader never sees half of one.

Optimisers keep their state in nested dicts with tensors at the leaves. The tensors go into the file as they are and
the nesting goes into its header as JSON, so that nothing is pickled and loading runs no code.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

State = Any  # dicts with str or int keys, lists, tuples, tensors, strings, numbers, booleans, None


def write(state: State, path: Path) -> None:
    """Write a nested state, replacing what was at `path` only when all of it is on disk.

    Raises:
        OSError: with a sentence, if the disk is full; what was at `path` before is then still there.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_strip(state, tensors))
    write_bytes(save(tensors, {"structure": structure}), path)


def write_bytes(content: bytes, path: Path) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with room_for(path, f" ({len(content) / 1e6:.1f} MB); what was there is kept"):
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def room_for(path: Path, more: str = "") -> Iterator[None]:
    """Name the file where the disk is full: the error of a write does not."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, f"no space left to write {path}{more}") from error
        raise


def read(path: Path) -> State:
    """Read what `write` wrote, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a file or is cut short.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, "pt") as file:
            structure = json.loads((file.metadata() or {})["structure"])
            return _restore(structure, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a checkpoint or is damaged: {error}") from error


def _strip(state: State, tensors: dict[str, Tensor]) -> Any:
    """Move tensors out; what is left is JSON in which every container is tagged by its kind."""
    if isinstance(state, Tensor):
        name = str(len(tensors))
        # A copy: safetensors refuses tensors that share memory.
        tensors[name] = state.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(state, dict):
        return {"dict": [[key, _strip(value, tensors)] for key, value in state.items()]}
    if isinstance(state, list | tuple):
        return {type(state).__name__: [_strip(value, tensors) for value in state]}
    return {"value": state}


def _restore(structure: Any, tensors: dict[str, Tensor]) -> State:
    ((kind, content),) = structure.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _restore(value, tensors) for key, value in content}
    if kind in ("list", "tuple"):
        items = [_restore(value, tensors) for value in content]
        return items if kind == "list" else tuple(items)
    return content
