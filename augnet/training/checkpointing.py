"""Activation checkpointing: activations are computed again in the backward pass instead of being kept."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def recompute_activations(classifier: nn.Module, in_parts: bool) -> None:
    """Let a timm model, perhaps inside another module, keep the activations between its blocks only.

    Second derivatives hold as they did. What a second pass would do otherwise than the first is refused.

    Args:
        in_parts: whether dropout draws for more images than pass at a time.

    Raises:
        ValueError: if the model cannot do it, has batch norm, whose running statistics would move twice, or has dropout
            that is drawn in parts.
    """
    modules = list(classifier.modules())
    switches: list[Any] = [m.set_grad_checkpointing for m in modules if hasattr(m, "set_grad_checkpointing")]
    none = ValueError(
        f"inner.checkpoint_activations is set but {type(classifier).__name__} has no set_grad_checkpointing that does "
        "it; take another timm model, or set inner.micro_batch instead"
    )
    if not switches:
        raise none
    if any(isinstance(module, _BatchNorm) and module.track_running_stats for module in modules):
        raise ValueError(
            "inner.checkpoint_activations would move the running statistics of batch norm twice a step; take a model "
            "with layer or group norm, or set inner.micro_batch instead"
        )
    if in_parts and any(getattr(module, name, 0) for module in modules for name in ("p", "drop_prob")):
        raise ValueError(
            "inner.checkpoint_activations cannot repeat the dropout of a part of a batch; take the dropout out of "
            "classifier.options, or leave inner.micro_batch at 0 and train in one process"
        )
    try:
        switches[0]()
    except AssertionError as error:  # the method of models that are without it
        raise none from error
