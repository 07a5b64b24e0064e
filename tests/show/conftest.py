import numpy as np
import pytest
import torch

from augnet import Augmenter, AugmenterConfig, IFTTrainer, Recipe, ScheduleConfig
from augnet import transforms as tf
from augnet.data import Npz
from augnet.show import Subject
from augnet.show.report import write

# Names of a folder and of classes that would break a page, a script or a formula which took them at their word.
FOLDER = "<b>run & 'co'"
CLASSES = ["<img src=x onerror=alert(1)>", '</script><script>document.title="taken"</script>', "$\\frac$ & more"]
TRANSFORMS = [tf.MirrorLeftRight(), tf.Rotate(), tf.Brightness(), tf.Erase()]


@pytest.fixture
def augmenter():
    """An augmenter that treats images differently: its head has weights, which a fresh one has not."""
    torch.manual_seed(0)
    made = Augmenter(AugmenterConfig(transforms=TRANSFORMS, width=4, depth=2, residual_limit=0.1), 3).eval()
    torch.nn.init.normal_(made.head.linear.weight)
    return made.requires_grad_(False)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run of a few steps, with a residual, on images of three classes with unfortunate names."""
    folder = tmp_path_factory.mktemp("show") / FOLDER
    folder.mkdir()
    labels = np.arange(90) % 3
    images = np.random.default_rng(0).integers(0, 90, (90, 12, 12, 3)).astype(np.uint8)
    # Each class is bright in a channel of its own, so that it can be learned.
    images[np.arange(90), :, :, labels] += 120
    np.savez(folder / "train.npz", images=images, labels=labels, classes=np.array(CLASSES))
    recipe = Recipe(
        data=Npz(path=str(folder / "train.npz"), val_size=30),
        augmenter=AugmenterConfig(transforms=TRANSFORMS, width=4, depth=2, residual_limit=0.1),
        schedule=ScheduleConfig(inner_steps=20, outer_every=4, warmup=4, batch_size=16, val_batch_size=16),
    )
    IFTTrainer(recipe, out=folder / "run").fit()
    return folder / "run"


@pytest.fixture(scope="session")
def page(run_folder):
    """The page of the run, as `augnet show` writes it."""
    return write(Subject.of_run(run_folder), run_folder)
