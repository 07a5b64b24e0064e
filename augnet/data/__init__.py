"""Labelled images from anywhere, cut into training, validation and test parts, in batches."""

from augnet.data.archives import Npz
from augnet.data.batches import all_batches, batches
from augnet.data.folders import Folder
from augnet.data.hubs import HuggingFace, Torchvision
from augnet.data.images import FileSet, ImageSet, LabelledImages, SampleSet
from augnet.data.lookup import source_from
from augnet.data.sources import DataSource, Digits, Pair, from_datasets
from augnet.data.splits import Splits

__all__ = [
    "DataSource",
    "Digits",
    "FileSet",
    "Folder",
    "HuggingFace",
    "ImageSet",
    "LabelledImages",
    "Npz",
    "Pair",
    "SampleSet",
    "Splits",
    "Torchvision",
    "all_batches",
    "batches",
    "from_datasets",
    "source_from",
]
