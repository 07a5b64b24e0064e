"""Whether what was learned is any better: classifiers retrained with it and with fixed augmentation, and a verdict."""

from augnet.compare.arm import Arm
from augnet.compare.comparison import Comparison, compare
from augnet.compare.writing import write

__all__ = ["Arm", "Comparison", "compare", "write"]
