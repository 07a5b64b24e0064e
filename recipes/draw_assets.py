"""Draw the pictures of the README: train on the digits, then draw into assets/, with a manifest of what drew them.

    python recipes/draw_assets.py

Two minutes on two idle cores. A test fails where a picture is missing, is not the one that was drawn, or was drawn by
other code than there is now; comments and docstrings do not count.
"""

import ast
import hashlib
import json
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

from augnet import IFTTrainer, Recipe, Run, show

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "assets"
SETTINGS = ["--device=cpu"]
DRAWING = ["canvas", "decisions", "gallery", "history", "subject", "walk"]


def code_digest() -> str:
    """Hash the code that draws, as a parser sees it."""
    digest = hashlib.sha256()
    for path in [*(ROOT / "augnet" / "show" / f"{name}.py" for name in DRAWING), Path(__file__)]:
        for node in ast.walk(_without_docstrings(ast.parse(path.read_text(encoding="utf-8")))):
            values = [value for _, value in ast.iter_fields(node) if isinstance(value, str | int | float)]
            digest.update(f"{type(node).__name__}{values}".encode())
    return digest.hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def draw(run: Run, folder: Path) -> None:
    """Draw every picture and write the manifest."""
    subject = show.Subject.of_run(run.path)
    figure = Figure(figsize=(9, 15.4), layout="constrained", facecolor="white")
    above, below = figure.subfigures(2, 1, height_ratios=[12, 3.4])
    show.gallery(
        subject.augmenter, subject.images, subject.labels, subject.classes, subject.classifier, draws=6, on=above
    )
    show.use_over_time(subject.augmenter, run.metrics, on=below)
    figure.savefig(folder / "digits.png", dpi=90)
    walk = show.animation(subject.augmenter, subject.images[:6], frames=48)
    (folder / "walk.webp").write_bytes(walk)
    pictures = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("digits.png", "walk.webp")}
    manifest = {"drawn_by": "python recipes/draw_assets.py", "code": code_digest(), "pictures": pictures}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = IFTTrainer(Recipe.parse(SETTINGS), out=Path(folder) / "digits").fit()
        assert run is not None
        draw(run, ASSETS)
    print(f"wrote {', '.join(sorted(path.name for path in ASSETS.iterdir()))} in {ASSETS}")


if __name__ == "__main__":
    main()
