"""A run that is read, as it was left behind."""

import json

import pytest
import torch
from torch import nn

from augnet import IFTTrainer, from_datasets
from augnet.data import Digits


def test_a_row_that_is_only_half_written_is_left_out(quick, tmp_path):
    """Cut anywhere, the last row goes and the others stay; so does a header that is cut itself."""
    run = IFTTrainer(quick(), out=tmp_path / "run").fit()
    whole, path = run.metrics, run.path / "metrics.csv"
    content = path.read_bytes()
    start = content.rstrip().rindex(b"\n") + 1
    for end in (start, start + 1, (start + len(content)) // 2, len(content) - 2):
        path.write_bytes(content[:end])
        # Compared as text, since nan differs from itself.
        assert str(run.metrics) == str(whole[:-1])
    path.write_bytes(content[:20])
    assert run.metrics == []


def test_the_images_that_it_learned_from_are_read_again_and_changed_ones_refused(quick, tmp_path):
    run = IFTTrainer(quick(), out=tmp_path / "run").fit()
    assert torch.equal(run.splits().val.labels, run.recipe.data.load(run.recipe.seed).val.labels)
    (run.path / "record.json").write_text(json.dumps(run.record | {"data_fingerprint": "0" * 64}))
    with pytest.raises(ValueError, match=r"the data of .* have changed \(fingerprint 000000000000 when it learned"):
        run.splits()


def test_images_that_came_from_python_are_handed_over(quick, tmp_path):
    data = from_datasets(Digits(size=8, train_size=80).load(0).train)
    run = IFTTrainer(quick(data=data), out=tmp_path / "run").fit()
    with pytest.raises(ValueError, match="came from Python"):
        run.splits()
    assert len(run.splits(data).train) > 0


def test_the_verdict_of_a_comparison_is_read_where_there_is_one(quick, tmp_path):
    run = IFTTrainer(quick(), out=tmp_path / "run").fit()
    assert run.verdict is None
    path = run.path / "comparison" / "comparison.json"
    path.parent.mkdir()
    for content, expected in (('{"verdict": null}', None), ('{"verdict": {"sentence": "use it: why"}}', "use it: why")):
        path.write_text(content)
        assert run.verdict == expected
    for content in ("{", "{}", "[]", '{"verdict": {}}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"comparison.json is damaged .*; compare again, or remove it"):
            _ = run.verdict


def test_the_classifier_of_a_run_is_the_one_that_was_trained(quick, tmp_path):
    def module(hidden=16):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10))

    trainer = IFTTrainer(quick(), out=tmp_path / "run", classifier=module())
    run, images = trainer.fit(), torch.rand(5, 1, 8, 8)
    trainer.classifier.eval()
    assert torch.equal(run.classifier(module())(images), trainer.classifier(images))
    for other in ([], [module(8)]):
        with pytest.raises(ValueError, match=r"another model than .*hand one like it over: run.classifier\(module\)"):
            run.classifier(*other)
    (run.path / "classifier.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"classifier.safetensors is damaged"):
        run.classifier(module())
