"""Every figure: what it shows, that it fits into the user's own, and that odd data leave it readable."""

import matplotlib
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from augnet import Augmenter, AugmenterConfig, Run, show
from augnet import transforms as tf
from augnet.augmenter import Learned
from augnet.export import measure
from augnet.show.amounts import bootstrap
from augnet.show.by_class import class_differences
from augnet.show.canvas import DARK, INK, PAPER, RED, darken, in_unit, limit_of, shorten
from augnet.show.decisions import at_step
from augnet.show.history import at


def noise(count, *shape):
    """Images of noise, the first of which is dark and the last of which is not."""
    images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))
    return images * torch.linspace(0.4, 1, count)[:, None, None, None]


IMAGES = noise(12, 3, 12, 12)
LABELS = torch.arange(12) % 3
NAMES = ["$a$ & \\frac", "a very long name of a class that would take the whole width", "c"]


class Darkness(torch.nn.Module):
    """Classify by brightness: the brighter, the surer of class 1 and not of class 0; others are never likely."""

    def forward(self, images):
        brightness = 8 * images.mean(dim=(1, 2, 3)) - 4
        return torch.cat([-brightness[:, None], brightness[:, None], torch.full((len(images), 657), -9.0)], dim=1)


darkness = Darkness()


def figures(augmenter, images=IMAGES, labels=LABELS, classes=NAMES):
    """Give every figure of these images as a function of where to draw it."""
    safe = None if labels is None else measure(augmenter, darkness, images, labels, classes)
    effects = [show.Effect("rotation", 0.02, 0.005, 0.015), show.Effect("any of them", 0.1, 0.2, 0.6)]
    made = {
        "gallery": lambda on: show.gallery(augmenter, images, labels, classes, darkness, on=on),
        "amounts": lambda on: show.amounts(augmenter, images, on=on),
        "by_class": lambda on: show.by_class(augmenter, images, labels, classes, on=on),
        "strip": lambda on: show.strip(augmenter, images, on=on),
        "walk": lambda on: show.walk(augmenter, images[:2], frames=3, on=on),
        "residual": lambda on: show.residual(augmenter, images, labels, on=on),
        "gain": lambda on: show.gain(effects, on=on),
    }
    return made if safe is None else {**made, "safety": lambda on: show.safety(safe, on=on)}


FIGURES = ["gallery", "amounts", "by_class", "strip", "walk", "residual", "gain", "safety"]


def drawn(figure):
    """Draw for real, and give all text that is in it."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_fills_the_cell_that_it_is_given_and_leaves_the_neighbour_alone(name, augmenter):
    own = Figure(figsize=(20, 12), layout="constrained")
    left, right = own.subplots(1, 2)
    left.set_title("mine")
    assert figures(augmenter)[name](right) is own
    assert "mine" in drawn(own)
    assert left in own.axes
    assert right not in own.axes
    assert own.subfigs[0].axes or own.subfigs[0].subfigs


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_fills_a_subfigure_and_comes_alone_where_no_place_is_given(name, augmenter):
    own = Figure(figsize=(20, 12), layout="constrained")
    part = own.subfigures(1, 2)[1]
    assert figures(augmenter)[name](part) is own
    alone = figures(augmenter)[name](None)
    assert sorted(drawn(alone)) == sorted(drawn(own))


def test_axes_that_stand_in_no_grid_are_refused(augmenter):
    axes = Figure().add_axes([0, 0, 1, 1])
    with pytest.raises(ValueError, match="in no grid"):
        show.walk(augmenter, IMAGES[:1], on=axes)


def test_nothing_is_drawn_through_pyplot(augmenter):
    for draw in figures(augmenter).values():
        draw(None)
    assert matplotlib._pylab_helpers.Gcf.get_num_fig_managers() == 0


ODD = {
    "grey": (IMAGES[:, :1], LABELS, NAMES),
    "a class missing": (IMAGES, torch.tensor([0, 2] * 6), NAMES),
    "659 classes": (noise(700, 3, 8, 8), torch.arange(700) % 659, [f"class {n}" for n in range(659)]),
    "five images": (IMAGES[:5], LABELS[:5], NAMES),
    "one image": (IMAGES[:1], LABELS[:1], NAMES),
    "no labels": (IMAGES, None, ()),
    "wide": (noise(4, 3, 28, 56), LABELS[:4], NAMES),
    "large": (noise(3, 3, 224, 224), LABELS[:3], NAMES),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_data_leave_every_figure_readable(odd):
    """Readable: it draws, within a page's height, and no name is longer than its place."""
    images, labels, classes = ODD[odd]
    config = AugmenterConfig(
        transforms=[tf.MirrorLeftRight(), tf.Rotate(), tf.Erase()], residual_limit=0.1, width=4, depth=2
    )
    augmenter = Augmenter(config, images.shape[1]).eval()
    torch.nn.init.normal_(augmenter.head.linear.weight, generator=torch.Generator().manual_seed(0))
    for draw in figures(augmenter, images, labels, classes).values():
        figure = draw(None)
        texts = drawn(figure)
        assert max(figure.get_size_inches()) < 20
        assert all(len(line) < 110 for text in texts for line in text.split("\n"))


def test_amounts_stand_beside_their_limits_in_units_the_most_used_on_top(augmenter):
    row = {f"{type(t).__name__}.probability": 0.1 for t in augmenter.transforms} | {"Rotate.probability": 0.9}
    row |= {"Rotate.centre": 15.0, "Rotate.spread": 9.0}
    texts = drawn(show.amounts(at_step(augmenter, row), IMAGES))
    limits = [text for text in texts if "\n" in text]
    assert limits[0] == "rotation\n±30°"
    assert {"erased rectangle\nup to 0.5 of image side", "mirror left-right\ndone or not"} <= set(limits)


def test_the_centre_is_drawn_where_the_policy_has_it(augmenter):
    row = {f"{type(t).__name__}.probability": 0.1 for t in augmenter.transforms}
    row |= {"Rotate.probability": 0.9, "Rotate.centre": -15.0, "Rotate.spread": 9.0}
    left = show.amounts(at_step(augmenter, row), IMAGES).axes[0]
    dots = [line.get_xdata()[0] for line in left.lines if line.get_marker() == "o"]
    assert dots[0] == pytest.approx(-0.5, abs=1e-4)


def test_the_bootstrap_interval_is_that_of_a_normal_mean():
    """The mean of 400 numbers of variance 1 has a 95 % interval of ±1.96 / 20."""
    values = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    mean, error = bootstrap(values / values.std() - values.mean())
    assert float(error.sum() / 2) == pytest.approx(1.96 / 20, rel=0.1)
    assert mean.shape == (1,)


def test_a_frame_stands_where_confidence_falls_and_nowhere_else():
    """Brightness alone, by +0.2 or −0.2: class 1 is for bright images, so darkening lowers its confidence."""
    config = AugmenterConfig(transforms=[tf.Brightness()], gates="choices", width=4, depth=2)
    images = torch.full((4, 3, 8, 8), 0.5)
    augmenter = Augmenter(config, 3).eval()
    figure = show.gallery(augmenter, images, torch.ones(4, dtype=torch.int64), NAMES, darkness, draws=8)
    axes = figure.axes[-1]
    captions = [float(t.get_text()) for t in axes.texts if t.get_text().replace(".", "").isdigit()]
    frames = [patch for patch in axes.patches if to_hex(patch.get_edgecolor()) == RED.lower()]
    rows = [captions[start : start + 9] for start in range(0, 36, 9)]
    # Captions are rounded: those within their last digit of the threshold are told by neither.
    falls = [row[0] - value for row in rows for value in row[1:]]
    assert sum(fall > 0.105 for fall in falls) <= len(frames) <= sum(fall >= 0.095 for fall in falls)
    assert 0 < len(frames) < 32


def test_differences_between_classes_are_those_of_their_means():
    """Means 1 and 3 of a mean of 2; each class's two numbers lie 1 from their mean: standard error √2/√2 = 1."""
    use = torch.tensor([[0.0], [2.0], [2.0], [4.0]])
    present, differences, errors = class_differences(use, torch.tensor([1, 1, 5, 5]))
    assert present.tolist() == [1, 5]
    torch.testing.assert_close(differences, torch.tensor([[-1.0], [1.0]]))
    torch.testing.assert_close(errors, torch.tensor([[1.0], [1.0]]))


def test_where_all_images_are_treated_alike_a_sentence_says_so_and_nothing_is_ranked():
    """A fresh head has weights of 0, so nothing depends on the image; one with weights is drawn with its images."""
    augmenter = Augmenter(AugmenterConfig(transforms=[tf.Rotate()], width=4, depth=2), 3).eval()
    alike = "all images are treated alike: no transform's use differs by 0.01 between any two"
    assert drawn(show.by_class(augmenter, IMAGES, LABELS, NAMES)) == [alike]
    torch.nn.init.normal_(augmenter.head.linear.weight, generator=torch.Generator().manual_seed(0))
    texts = drawn(show.by_class(augmenter, IMAGES, LABELS, NAMES))
    assert alike not in texts
    assert {"rotation", "least use", "most use"} <= set(texts)


def test_without_a_decoder_there_is_no_residual_to_show():
    augmenter = Augmenter(AugmenterConfig(transforms=[tf.Rotate()]), 3)
    with pytest.raises(ValueError, match="paints nothing"):
        show.residual(augmenter, IMAGES)


@pytest.mark.parametrize("draw", [show.amounts, show.by_class, show.strip])
def test_an_augmenter_that_only_paints_has_no_transforms_to_show(draw):
    painter = Augmenter(AugmenterConfig(transforms=[], residual_limit=0.2), 3)
    with pytest.raises(ValueError, match="no transforms"):
        draw(painter, IMAGES)
    drawn(show.gallery(painter, IMAGES))
    drawn(show.residual(painter, IMAGES))


def test_history_marks_alarms_where_they_fell_and_says_what_they_said(run_folder, tmp_path, monkeypatch):
    run = Run(run_folder)
    record = {**run.record, "alarms": [{"step": 7, "sentence": "it costs $5 and \\frac"}]}
    monkeypatch.setattr(Run, "record", record)
    figure = show.history(run)
    assert "1: step 7: it costs $5 and \\frac" in drawn(figure)
    marks = [line for axes in figure.findobj(matplotlib.axes.Axes) for line in axes.lines if line.get_color() == RED]
    assert len(marks) == 5
    assert {tuple(line.get_xdata()) for line in marks} == {(7, 7)}


def test_a_long_alarm_stays_within_the_figure(run_folder, monkeypatch):
    run, sentence = Run(run_folder), "it has more words than fit beside each other " * 5
    monkeypatch.setattr(Run, "record", {**run.record, "alarms": [{"step": 7, "sentence": sentence}]})
    figure = show.history(run)
    drawn(figure)
    (said,) = (text for text in figure.findobj(matplotlib.text.Text) if text.get_text().startswith("1: step 7"))
    assert " ".join(said.get_text().split()) == f"1: step 7: {sentence.strip()}"
    assert said.get_window_extent().x1 <= figure.bbox.x1


def test_a_run_that_has_reported_nothing_has_no_history(run_folder, tmp_path):
    for name in ("recipe.yaml", "record.json", "augmenter.safetensors"):
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    with pytest.raises(ValueError, match="no metrics yet"):
        show.history(Run(tmp_path))


def test_a_history_of_one_report_draws(run_folder, tmp_path):
    for name in ("recipe.yaml", "record.json", "augmenter.safetensors"):
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    lines = (run_folder / "metrics.csv").read_text().splitlines()
    (tmp_path / "metrics.csv").write_text("\n".join(lines[:2]) + "\n")
    assert "losses" in drawn(show.history(Run(tmp_path)))


def test_on_a_dark_page_ink_is_light_and_images_stay(augmenter):
    figure = show.gallery(augmenter, IMAGES, LABELS, NAMES)
    before = [image.get_array().copy() for axes in figure.axes for image in axes.images]
    darken(figure)
    drawn(figure)
    assert to_hex(figure.get_facecolor()) == DARK[PAPER]
    colours = {to_hex(text.get_color()) for text in figure.findobj(Text) if text.get_text()}
    assert colours == {DARK[INK]}
    for old, image in zip(before, (image for axes in figure.axes for image in axes.images), strict=True):
        assert (old == image.get_array()).all()


def test_amounts_are_written_in_their_unit():
    assert in_unit(tf.Rotate(), -12.34) == "−12"
    assert in_unit(tf.GaussianBlur(), 0.0123) == "0.012"
    assert in_unit(tf.Rotate(), 0.0) == "0"
    assert limit_of(tf.TranslateX(limit=0.25)) == "±0.25 of image width"
    assert shorten("a" * 40) == "a" * 25 + "…"


def test_hills_of_effects_are_ordered_and_what_could_be_chance_is_hollow():
    effects = [
        show.Effect("a", 0.01, 0.02, 0.06),
        show.Effect("b", 0.3, 0.02, 0.06),
        show.Effect("any of them", 0.5, 0.1, 0.3),
    ]
    axes = show.gain(effects).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["without b", "without a", "without any of them"]
    points = [line for line in axes.lines if line.get_marker() in ("o", "s")]
    assert [line.get_marker() for line in points] == ["o", "s", "o"]


def test_use_is_read_from_metrics_as_the_policy_says_it(run_folder):
    """The last row of metrics.csv and the last augmenter are of the same step."""
    run = Run(run_folder)
    augmenter, row = run.augmenter(), run.metrics[-1]
    learned = {type(item.transform).__name__: item for item in at(augmenter, row)}
    assert set(learned) == {"MirrorLeftRight", "Rotate", "Brightness", "Erase"}
    assert isinstance(learned["Rotate"], Learned)
    assert learned["Rotate"].spread == row["Rotate.spread"]


def test_a_choice_that_was_left_out_is_seen_to_fall():
    """The augmenter no longer has it, and metrics.csv does; named, as it was once the most used."""
    fallen = {"Hue.probability": 0.5, "Hue.centre": -3.0, "Hue.spread": 3.0}
    rows = [
        {
            "step": float(step),
            "MirrorLeftRight.probability": p,
            "Rotate.spread": 3.0,
            "Rotate.probability": 0.5,
            **fallen,
        }
        for step, p in ((50, 0.3), (100, 0.2), (150, 0.02))
    ]
    augmenter = Augmenter(AugmenterConfig(transforms=[tf.Rotate()]), 3)
    (axes,) = show.use_over_time(augmenter, rows).axes
    curves = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    uses = {"rotation": pytest.approx([0.05] * 3), "hue": pytest.approx([0.1] * 3)}
    assert curves == {"mirror left-right": [0.3, 0.2, 0.02], **uses}
    assert next(iter(curves)) == "mirror left-right"
