"""Joint training of classifier and augmenter, and the folder that it leaves behind."""

from augnet.training.progress import Progress
from augnet.training.run import Run
from augnet.training.trainer import IFTTrainer, TrainingDiverged

__all__ = ["IFTTrainer", "Progress", "Run", "TrainingDiverged"]
