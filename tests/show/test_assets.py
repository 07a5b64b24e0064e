"""The README's pictures are there, are what was drawn, and were drawn by the code that is there."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MANIFEST = json.loads((ROOT / "assets" / "manifest.json").read_text())


@pytest.fixture
def recipe():
    spec = importlib.util.spec_from_file_location("draw_assets", ROOT / "recipes" / "draw_assets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_of_the_readme_is_one_that_was_drawn():
    shown = re.findall(r"\(assets/([^)]+)\)", (ROOT / "README.md").read_text())
    assert shown
    assert set(shown) <= set(MANIFEST["pictures"])


@pytest.mark.parametrize("name", MANIFEST["pictures"])
def test_a_picture_is_the_one_that_was_drawn(name):
    assert hashlib.sha256((ROOT / "assets" / name).read_bytes()).hexdigest() == MANIFEST["pictures"][name]


def test_the_pictures_were_drawn_by_the_code_that_is_there(recipe):
    assert MANIFEST["code"] == recipe.code_digest(), f"the drawing code changed; run: {MANIFEST['drawn_by']}"


def test_a_comment_makes_no_picture_old_and_another_number_does(recipe, tmp_path, monkeypatch):
    (tmp_path / "augnet" / "show").mkdir(parents=True)
    for name in recipe.DRAWING:
        (tmp_path / "augnet" / "show" / f"{name}.py").write_text('"""Words."""\nwidth = 3\n')
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    before = recipe.code_digest()
    canvas = tmp_path / "augnet" / "show" / "canvas.py"
    canvas.write_text('"""Other words."""\n# And a reason.\nwidth = 3\n')
    assert recipe.code_digest() == before
    canvas.write_text('"""Words."""\nwidth = 4\n')
    assert recipe.code_digest() != before
