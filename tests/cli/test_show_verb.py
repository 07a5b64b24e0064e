"""`augnet show`: what a person types, what comes back, and what is left behind."""

import shutil

import numpy as np
import pytest
from PIL import Image

from augnet import AugmenterConfig, IFTTrainer, Recipe, ScheduleConfig
from augnet import transforms as tf
from augnet.cli import main
from augnet.data import Digits


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run on digits, 8×8 and grey, that was stopped halfway, as one that is still training looks."""
    recipe = Recipe(
        data=Digits(size=8, train_size=100, val_size=50),
        augmenter=AugmenterConfig(transforms=[tf.MirrorLeftRight(), tf.Rotate()], width=4, depth=2),
        schedule=ScheduleConfig(inner_steps=20, outer_every=4, warmup=2, batch_size=16, val_batch_size=16),
        checkpoint_every=5,
    )
    trainer = IFTTrainer(recipe, out=tmp_path_factory.mktemp("runs") / "digits")
    trainer.fit(lambda progress: trainer.stop() if progress.step == 10 else None)
    return trainer.path


def test_a_run_that_is_still_training_gets_its_page_and_stays_as_it_is(stopped, capsys):
    kept = {path: path.read_bytes() for path in stopped.iterdir() if path.is_file()}
    assert main(["show", str(stopped), "--leave-one-out", "2", "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "showing digits on 50 of 50 validation images" in said
    assert "making 8 trainings with transforms left out, about" in said
    assert f"wrote {stopped / 'report.html'}" in said
    assert "is not finished; this is its last checkpoint, of 10 steps" in said
    page = (stopped / "report.html").read_text()
    assert "not finished: step 10 of 20" in page
    assert "this is its last checkpoint, of 10 steps" in page
    # All but the residual, which this augmenter has not.
    assert len(list((stopped / "figures").glob("*.png"))) == 8
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_file_is_shown_on_any_images(stopped, tmp_path, capsys):
    shutil.copy(stopped / "augmenter.safetensors", tmp_path / "mine.safetensors")
    (tmp_path / "images").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    assert main(["show", str(tmp_path / "mine.safetensors"), "--images", str(tmp_path / "images")]) == 0
    text = (tmp_path / "mine-show" / "report.html").read_text()
    assert "5 images of " in text
    assert "a file does not tell how it was learned" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: RUN"),
        (["nowhere"], "no run at nowhere"),
        (["{run}", "--images", "nothing/there"], "there is no file or folder 'nothing/there'"),
        (["{run}/augmenter.safetensors"], "name some with --images SOURCE"),
        (["{run}/recipe.yaml", "--images", "digits"], "is not an augmenter's file or is damaged"),
        (["{run}", "--leave-one-out", "-1"], "--leave-one-out must be 0 or at least 2"),
        (["{run}", "--leave-one-out", "1"], "at least 2, since one seed does not tell chance"),
        (["{run}", "--colour", "blue"], "unrecognized arguments: --colour blue"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(arguments, words, stopped, capsys):
    assert main(["show", *(argument.format(run=stopped) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("augnet: ")
    assert words in error
    assert error.count("\n") == 1


def test_help_explains_the_verb(capsys):
    with pytest.raises(SystemExit):
        main(["show", "--help"])
    said = capsys.readouterr().out
    assert "augnet show RUN" in said
    assert "--leave-one-out" in said
