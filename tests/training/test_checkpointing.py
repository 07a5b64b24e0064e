"""Activation checkpointing: the same derivatives, and a clear no where they would not be the same."""

import pytest
import timm
import torch
from torch import nn

from augnet.classifier import ClassifierConfig
from augnet.recipe import InnerConfig, OuterConfig
from augnet.training import IFTTrainer

VIT = {"embed_dim": 12, "depth": 3, "num_heads": 2, "patch_size": 4}


def trained(quick, checkpoint, **settings):
    classifier = ClassifierConfig(name="vit_tiny_patch16_224", options={**VIT, **settings.pop("options", {})})
    inner = InnerConfig(checkpoint_activations=checkpoint, **settings.pop("inner", {}))
    trainer = IFTTrainer(quick(steps=8, classifier=classifier, inner=inner, **settings))
    trainer.fit()
    return trainer


@pytest.mark.parametrize("second_derivative", ["exact", "differences"])
def test_a_run_with_recomputed_activations_is_the_same_bit_for_bit(quick, second_derivative):
    """On the CPU the same operations on the same numbers; dropout of the whole batch is repeated, too."""
    settings = {"outer": OuterConfig(second_derivative=second_derivative), "options": {"proj_drop_rate": 0.1}}
    plain, again = (trained(quick, checkpoint, **settings) for checkpoint in (False, True))
    assert again.classifier.model.grad_checkpointing
    for level in ("classifier", "augmenter"):
        ours, theirs = (getattr(trainer, level).state_dict() for trainer in (plain, again))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_would_not_be_the_same_is_refused(quick):
    with pytest.raises(ValueError, match="would move the running statistics of batch norm twice"):
        IFTTrainer(quick(inner=InnerConfig(checkpoint_activations=True)))
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(
        ValueError, match="Sequential has no set_grad_checkpointing that does it; take another timm model"
    ):
        IFTTrainer(quick(inner=InnerConfig(checkpoint_activations=True)), classifier=own)
    # As timm's ConViT, PiT and Twins have it.
    own.set_grad_checkpointing = timm.create_model("pit_ti_224").set_grad_checkpointing
    with pytest.raises(ValueError, match="Sequential has no set_grad_checkpointing that does it"):
        IFTTrainer(quick(inner=InnerConfig(checkpoint_activations=True)), classifier=own)
    with pytest.raises(ValueError, match="cannot repeat the dropout of a part of a batch"):
        trained(quick, True, options={"proj_drop_rate": 0.1}, inner={"micro_batch": 4})
