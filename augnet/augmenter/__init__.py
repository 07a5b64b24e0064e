"""The augmentation network: U-Net, policy, and the module that applies what they decide."""

from augnet.augmenter.augmenter import Augmenter, AugmenterConfig, default_transforms
from augnet.augmenter.file import load, policies
from augnet.augmenter.policy import Learned, Policy, change_in_words, in_words, summarise
from augnet.augmenter.unet import UNet

__all__ = [
    "Augmenter", "AugmenterConfig", "Learned", "Policy", "UNet", "change_in_words", "default_transforms", "in_words",
    "load", "policies", "summarise",
]  # fmt: skip
