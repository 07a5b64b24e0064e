"""The page: whole, alone, within its size, and safe from names with markup in them."""

import base64
import io
import json
import shutil
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from augnet import Augmenter, AugmenterConfig, Run
from augnet import transforms as tf
from augnet.show import Subject
from augnet.show.controls import controls
from augnet.show.report import write
from augnet.show.words import sentences


class Page(HTMLParser):
    """What a browser makes of a page: its tags with attributes, and the text in them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data

    def of(self, name):
        """Give the attributes and the text right behind every tag of a name."""
        return [(a, text) for (tag, a), text in zip(self.tags, self.texts, strict=True) if tag == name]


SECTIONS = ["gallery", "amounts", "history", "by_class", "strip", "walk", "residual", "gain", "safety", "comparison"]


@pytest.fixture(scope="module")
def read(page):
    return Page(page.read_text(encoding="utf-8"))


@pytest.fixture
def classes(run_folder):
    return Run(run_folder).record["classes"]


def test_everything_that_the_page_shows_is_inside_it(read):
    addresses = [a[name] for _, a in read.tags for name in ("src", "href", "srcset") if name in a]
    assert len(addresses) > 20
    assert all(address.startswith(("data:", "#")) for address in addresses)
    policy = [a["content"] for a, _ in read.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0].startswith("default-src 'none'")


def test_every_figure_has_its_section_with_a_picture_in_light_and_dark_and_a_sentence_on_how_to_read_it(read):
    sections = [a["id"] for a, _ in read.of("section")]
    assert sections == ["try", *SECTIONS, "facts"]
    # What transforms help was not asked for, and nothing was compared; both say how to.
    assert len(read.of("img")) == len(read.of("source")) == len(read.of("figcaption")) == 8
    assert all(len(text) > 60 for _, text in read.of("figcaption"))
    assert all(a["alt"] for a, _ in read.of("img"))
    for words in ("--leave-one-out 3", "no comparison is in the run folder; make one with augnet compare"):
        assert any(words in text for _, text in read.of("p"))


def test_every_figure_is_a_file_too(page):
    files = {path.name for path in (page.parent / "figures").iterdir()}
    assert files == {f"{name}.png" for name in SECTIONS if name not in ("gain", "comparison")} | {"walk.webp"}
    # Frames that are equal are one.
    assert 10 < Image.open(page.parent / "figures" / "walk.webp").n_frames <= 60


def test_names_with_markup_in_them_stay_names(read, classes):
    """The page has the scripts and pictures that it is made of and no others, and shows every name as it is."""
    assert len(read.of("script")) == 2
    assert {text.strip() for _, text in read.of("option")} == set(classes)
    assert all(a["src"].startswith("data:") for a, _ in read.of("img"))
    data = json.loads(read.of("script")[0][1])
    assert sorted(view["name"] for view in data["views"]) == sorted(classes)


def test_every_label_of_a_control_leads_to_its_control(read):
    identities = [a["id"] for _, a in read.tags if "id" in a]
    assert len(identities) == len(set(identities))
    named = [a["for"] for a, _ in read.of("label") if "for" in a]
    assert set(named) == {"view", "strength", "step", "angle"}
    assert set(named) <= set(identities)


def test_a_control_has_a_row_of_images_for_every_position(read):
    data = json.loads(read.of("script")[0][1])
    for view in data["views"]:
        assert view["sheet"]["rows"] == len(data["strengths"]) + len(data["steps"])
        picture = Image.open(io.BytesIO(base64.b64decode(view["sheet"]["picture"].partition(",")[2])))
        assert picture.size == (12 * view["sheet"]["columns"], 12 * view["sheet"]["rows"])
    assert data["steps"][-1] == 20
    assert data["switches"]["sheet"]["rows"] == 2 ** len(data["switches"]["names"]) == 16


def test_an_augmenter_that_only_paints_has_a_page(tmp_path):
    painter = Augmenter(AugmenterConfig(transforms=[], residual_limit=0.2, width=4, depth=2), 1).eval()
    subject = Subject(name="painter", augmenter=painter, images=torch.rand(5, 1, 28, 28), source="five images")
    text = write(subject, tmp_path).read_text()
    assert "it paints: every pixel may change by up to 0.2" in text
    assert 'id="switch-view"' not in text
    assert 'id="step"' not in text


def test_a_page_stays_below_its_size_for_many_classes_of_images_that_cannot_be_compressed():
    """Noise is the worst case. Figures take at most 3 MB beside the controls' bytes."""
    config = AugmenterConfig(transforms=[tf.Rotate(), tf.GaussianNoise()], width=4, depth=1)
    subject = Subject(
        name="noise", augmenter=Augmenter(config, 3).eval(), images=torch.rand(64, 3, 64, 64), labels=torch.arange(64),
        classes=tuple(f"class {number}" for number in range(64)),
    )  # fmt: skip
    found = controls(subject)
    assert found["of"] == 64
    assert 1 <= len(found["views"]) < 64
    assert len(json.dumps(found)) < 5_000_000


def test_words_say_what_is_used_what_is_not_and_which_classes_a_mirror_costs(augmenter):
    learned = augmenter.summary(torch.rand(4, 3, 8, 8))
    learned = [
        item._replace(centre=0.0, spread=share * item.transform.limit, probability=often)
        for item, share, often in zip(learned, (1, 0.4, 0.5, 0.1), (0.02, 0.5, 0.3, 0.1), strict=True)
    ]
    subject = Subject(name="", augmenter=augmenter, images=torch.rand(1, 3, 8, 8), classes=tuple("abcdef"))
    found = sentences(subject, learned, None, {"mirror left-right": [0, 1, 2, 4, 5]}, [], 0.0)
    assert found[0].startswith("Of its 4 transforms, an image gets 0.9 on average. The most used: rotation ±12° on 50%")
    assert found[1] == "Hardly used: mirror left-right, erased rectangle."
    assert found[-1] == (
        "Mirror left-right is done on 2% of images; it makes the classifier misread most images of 5 classes: "
        "a, b, c, e and 1 more."
    )


def test_words_say_what_was_left_out_in_training_and_why(run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "run")
    record = json.loads((run / "record.json").read_text())
    record |= {"left_out": ["mirror up-down p 0.02"], "spoiling": ["saturation", "greyscale"]}
    (run / "record.json").write_text(json.dumps(record))
    found = sentences(Subject.of_run(run), [], None, {}, [], 0.0)
    assert found[:2] == [
        "Learned down and left out: mirror up-down p 0.02.",
        "Left out since labels suffer under it (outer.least_skill): saturation, greyscale.",
    ]


def test_the_figure_of_a_comparison_is_on_the_page(run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "run")
    (run / "comparison").mkdir()
    picture = run / "comparison" / "comparison.png"
    Image.new("RGB", (300, 150), "white").save(picture)
    (drawn,) = (a for a, _ in Page(_page_of(run)).of("img") if a["alt"] == "Whether it is any better")
    assert (drawn["width"], drawn["height"]) == ("230", "115")
    picture.write_bytes(picture.read_bytes()[:60])
    assert "comparison.png is damaged" in _page_of(run)


def _page_of(run):
    return write(Subject.of_run(run), run).read_text(encoding="utf-8")


def test_words_end_with_the_verdict_of_a_comparison(augmenter):
    subject = Subject(
        name="", augmenter=augmenter, images=torch.rand(1, 3, 8, 8), about={"verdict": "use it: it gains"}
    )
    last = sentences(subject, augmenter.summary(torch.rand(4, 3, 8, 8)), None, {}, [], 0.0)[-1]
    assert last == "Compared with fixed augmentation, by classifiers trained from scratch: use it: it gains."
