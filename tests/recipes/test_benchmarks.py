"""Laws that the benchmarks' numbers obey, at their smallest sizes; how long anything takes is not tested."""

import csv
import dataclasses
import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from augnet.data import Digits
from augnet.recipe import Recipe, ScheduleConfig
from augnet.training import IFTTrainer

BENCHMARKS = Path(__file__).parents[2] / "recipes" / "benchmarks"
TINY = {"model": "test_resnet", "size": 16, "train_size": 32, "val_size": 32, "batch": 16, "width": 2, "steps": 26}
# Methods of which each is the same formula as an exact one of augnet's, as far as digits go.
EXACT = [
    "the same, exact", "the same, exact, not projected", "identity", "identity, projected", "Neumann, 5 products, cold",
    "Neumann, 3 products, warm, projected", "Neumann on Gauss–Newton, 1, warm, projected", "conjugate gradients, 5",
    "unrolled, 5 steps", "plain autograd, 5 Neumann products", "TorchOpt, 5 Neumann products",
    "higher, 5 unrolled steps",
]  # fmt: skip


@pytest.fixture(scope="module")
def benchmark_script():
    """Import a benchmark as it is when it runs as a script: its neighbours are found by name."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    patch.undo()


@pytest.fixture(scope="module")
def trained(benchmark_script, tmp_path_factory):
    """Give the settings of a tiny training and the file with its state.

    Its activations have no kink, to either side of which float32 and float64 might fall.
    """
    problem = benchmark_script("outer_problem")
    recipe = ("--schedule.outer_every=2", "--inner.learning_rate=0.02", "--classifier.options={act_layer: silu}")
    settings = problem.Settings(**TINY, step_size=0.01, recipe=recipe)
    path = tmp_path_factory.mktemp("benchmarks") / "state.pt"
    problem.train(settings, path)
    return settings, path


@pytest.fixture
def in_this_process(benchmark_script, monkeypatch):
    """Let a benchmark measure in this process, which saves seconds for each of its own."""

    def patched(name):
        module = benchmark_script(name)
        monkeypatch.setattr(module, "fresh", lambda function, *arguments: function(*arguments))
        return module

    return patched


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", EXACT)
def test_exact_methods_agree_with_float64(benchmark_script, trained, name):
    """Every method, whoever wrote it, gives its formula as augnet's exact products do in float64, to 1e-3."""
    bench, methods = benchmark_script("hypergradient"), benchmark_script("outer_methods")
    method = methods.methods(trained[0].trainer().recipe)[name]
    if not method.installed:
        pytest.skip(f"{method.needs} is not installed")
    _, found = bench.costs(*trained, name, True)
    assert bench.relative(found.double(), bench.in_float64(*trained, name)) < 1e-3


@pytest.mark.parametrize("project", [False, True])
def test_the_whole_data_of_one_batch_is_that_batch(benchmark_script, trained, monkeypatch, project):
    """With one batch and noise that is always the same, the reference is the hypergradient of a single step."""
    bench, methods = benchmark_script("hypergradient"), benchmark_script("outer_methods")
    monkeypatch.setattr(bench.Problem, "draw_noise", lambda self, generator: torch.zeros(16, self.augmenter.noise_size))
    settings, state = dataclasses.replace(trained[0], train_size=16, val_size=16), trained[1]
    halves = bench.references(settings, state, 3, 1)[int(project)]
    problem = bench.Problem(settings, state)
    problem.take(*problem.whole()[0], problem.noise)
    # Warm, but without a start: the step size is chosen by the largest eigenvalue, as for the reference.
    call = methods.Implicit(inverse=methods.Neumann(steps=3), warm=True, project=project)
    expected, _ = problem.hypergradient(call, None)
    assert bench.relative(halves[0], expected) < 1e-3
    assert bench.relative(halves[1], expected) < 1e-3


def test_without_noise_all_estimates_are_the_same(in_this_process, trained, monkeypatch, tmp_path):
    """One batch is the whole data and its noise is always the same, so cosines with other draws and the whole are 1."""
    bench, methods = in_this_process("hypergradient"), importlib.import_module("outer_methods")
    monkeypatch.setattr(bench.Problem, "draw_noise", lambda self, generator: torch.zeros(16, self.augmenter.noise_size))
    series = methods.Implicit(inverse=methods.Neumann(steps=3), warm=True)
    known = {"series": methods.Method(series, series), "by another": methods.Method(series, series, twin="series")}
    monkeypatch.setattr(bench, "methods", lambda recipe: known)
    settings = dataclasses.replace(trained[0], train_size=16, val_size=16)
    rows = bench.accuracy_rows(settings, trained[1], count=1, burn_in=0, terms=3, passes=1)
    assert rows["all directions"]["whole data"] == pytest.approx(1, abs=1e-4)
    assert rows["series"]["noise"] == pytest.approx(1, abs=1e-3)
    assert rows["series"]["whole data"] == pytest.approx(1, abs=1e-3)
    assert rows["series"]["whole data, projected"] < rows["series"]["whole data"]
    assert rows["by another"] == {**rows["series"], "method": "by another"}
    # The trainer draws its own noise.
    assert abs(rows[bench.TRAINER]["noise"]) < 1
    bench.draw([{**row, "units": 4.0} for row in rows.values()], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_method_that_is_not_installed_says_so(in_this_process, trained, monkeypatch):
    bench = in_this_process("hypergradient")
    methods = importlib.import_module("outer_methods")
    identity = methods.Implicit(inverse=methods.Identity())
    known = {"of nobody": methods.Method(identity, identity, "a_library_of_nobody")}
    monkeypatch.setattr(bench, "methods", lambda recipe: known)
    rows = bench.cost_rows(*trained, rounds=1)
    assert rows["of nobody"] == {"method": "of nobody", "units": "not installed"}
    assert rows[bench.UNIT]["units"] == 1


def test_followed_truth_is_the_slope_of_the_validation_loss_of_trained_weights(benchmark_script):
    """The truth along the path, against a central difference of L_val(w*(λ)) in a random direction, both in float64."""
    bench = benchmark_script("following")
    images, labels = bench.digits(torch.float64)
    moment = list(bench.path(2, None))[1]
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(640, generator=generator, dtype=torch.float64)

    def trained_out(decays):
        w = moment.weights[0].detach()
        for _ in range(6):
            g = bench.slope(images[bench.TRAIN], labels[bench.TRAIN], w) + decays.exp() * w
            w = w - torch.linalg.solve(bench.hessian(images[bench.TRAIN], w, decays), g)
        return moment.val_loss([w])

    decays, step = moment.decays.detach(), 1e-4
    slope = (trained_out(decays + step * direction) - trained_out(decays - step * direction)) / (2 * step)
    assert float(moment.truth @ direction) == pytest.approx(float(slope), rel=1e-4)


def test_following_costs_what_is_counted_and_more_products_are_better(benchmark_script):
    """With whole batches, five steps of conjugate gradients are nearer than none; the dense inverse is nearest."""
    bench = benchmark_script("following")
    rows = {row["method"]: row for row in bench.rows("whole", list(bench.path(3, None)))}
    assert rows["identity"]["units"] == 4
    assert rows["Neumann, 5 products, cold"]["units"] == 14
    errors = [rows[name]["error"] for name in ("dense inverse", "conjugate gradients, 5", "identity")]
    assert errors == sorted(errors)


def test_a_benchmark_writes_what_it_prints(in_this_process, tmp_path, capsys):
    in_this_process("transforms_cost").main(
        ["--batch=2", "--size=16", "--rounds=1", "--repeats=1", f"--csv={tmp_path / 'chains.csv'}"]
    )
    rows = read(tmp_path / "chains.csv")
    printed = capsys.readouterr().out
    assert len(rows) == 7
    assert all(row["chain"] in printed for row in rows)
    assert float(rows[0]["forward, x"]) == 1
    # What draws for itself has no gradient to its amounts.
    assert [bool(row["with backward, ms"]) for row in rows] == [True] * 4 + [False] * 3


def test_whole_trainings_are_compared_at_the_same_steps(in_this_process):
    bench = in_this_process("training_cost")
    (row,) = bench.training_rows(bench.Settings(size=8), steps=1, rounds=1, every=[1])
    assert row["outer step every"] == 1
    # A training with an outer step at each step does all that one without does, and more.
    assert row[f"× {bench.NONE}"] > 1


def test_scale_counts_what_it_scales(in_this_process):
    """Doubling the channels of a residual net multiplies its weights by almost four.

    Through two points the fitted line is exact, so the exponent is the ratio of the logarithms of the growths.
    """
    bench = in_this_process("scale")
    points = [bench.Point(channels=channels, batch=2, size=16, width=2) for channels in (8, 16)]
    *rows, exponents, growth = bench.series("weights", points, 1, 1, math.inf)
    assert growth["outer MB"] == pytest.approx(rows[1]["outer MB"] / rows[0]["outer MB"])
    weights = rows[1]["value"] / rows[0]["value"]
    assert exponents["outer MB"] == pytest.approx(math.log(growth["outer MB"]) / math.log(weights), rel=1e-4)
    assert weights == pytest.approx(3.7, abs=0.4)
    assert bench.series("weights", points, 1, 1, 1e-3) == []


def test_each_call_has_a_process_of_its_own(benchmark_script):
    """A fresh process has one thread as asked, another number than this one, and hands its answer over."""
    import os

    measuring = benchmark_script("measuring")
    first, second = (measuring.fresh(os.getpid) for _ in range(2))
    assert len({first, second, os.getpid()}) == 3
    assert measuring.fresh(torch.get_num_threads) == 1


def test_an_exponent_is_that_of_a_power_law(benchmark_script):
    sizes = [1.0, 10.0, 1000.0]
    assert benchmark_script("measuring").exponent(sizes, [3 * size**0.7 for size in sizes]) == pytest.approx(
        0.7, rel=1e-5
    )


def test_a_policy_set_by_hand_has_the_probabilities_named_and_else_those_of_the_start(benchmark_script):
    bench = benchmark_script("set_by_hand")
    start, other = (
        bench.by_hand(*asked, 3)
        for asked in (({}, []), ({"Hue": 0.6, "MirrorLeftRight": 1.0, "Invert": 0.4}, ["Erase"]))
    )
    images = torch.rand(4, 3, 16, 16)
    before, now = ({type(i.transform).__name__: i for i in augmenter.summary(images)} for augmenter in (start, other))
    assert set(before) - set(now) == {"Erase"}
    assert set(now) - set(before) == {"Invert"}
    assert now["Hue"].probability == pytest.approx(0.6)
    assert now["Invert"].probability == pytest.approx(0.4)
    assert now["MirrorLeftRight"].probability == pytest.approx(0.99, abs=1e-3)
    assert all(now[name] == before[name] for name in set(now) - {"Hue", "MirrorLeftRight", "Invert"})
    with pytest.raises(ValueError, match="no transform named 'Tint'"):
        bench.by_hand({"Tint": 0.5}, [], 3)
    with pytest.raises(ValueError, match="Invert is none of the default transforms"):
        bench.by_hand({}, ["Invert"], 3)


def test_policies_set_by_hand_and_fixed_ones_are_retrained_alike(benchmark_script, tmp_path, capsys):
    """Images that are their own mirror images train the same classifier mirrored half of the time as not at all."""
    rng = np.random.default_rng(0)
    half = rng.integers(0, 256, (48, 16, 8), np.uint8)
    np.savez(tmp_path / "images.npz", images=np.concatenate([half, half[..., ::-1]], 2), labels=np.arange(48) % 2)
    bench = benchmark_script("set_by_hand")
    common = [str(tmp_path / "images.npz"), "--train=16", "--val=8", "--seeds=0", f"--table={tmp_path / 'table.csv'}"]
    common += ["--schedule.inner_steps=3", "--schedule.warmup=0", "--schedule.batch_size=8"]
    common += ["--classifier.name=test_resnet"]
    names = [type(t).__name__ for t in bench.default_transforms()]
    bench.main([*common, "--arm=none"])
    bench.main([*common, "--without", *names[1:], "--set", f"{names[0]}=0.5"])
    bench.main([*common, "--arm=TrivialAugmentWide"])
    none, by_hand, other = read(tmp_path / "table.csv")
    assert (none["policy"], by_hand["policy"][:5]) == ("none", "start")
    assert none["steps"] == by_hand["steps"] == "3"
    assert none["loss"] == by_hand["loss"] != other["loss"]
    for wrong in (
        ["--set", "Hue"],
        ["--set", "Hue=2"],
        ["--set", "Hue=0.5", "--without", "Hue"],
        ["--arm=none", "--without", "Hue"],
    ):
        with pytest.raises(SystemExit, match="2"):
            bench.main([*common, *wrong])
    assert "leave out --set and --without" in capsys.readouterr().err


def test_a_screening_finds_effects_that_were_planted(benchmark_script):
    """Of a full design exactly, each by itself; of a part of it the two that matter before all others."""
    bench = benchmark_script("screening")
    signs = bench.design("images")
    assert np.array_equal(signs.T @ signs, 24 * np.eye(23))
    assert not np.array_equal(signs, bench.design("signs"))
    planted = {f"Factor{k}": {3: 1.5, 7: -0.5}.get(k, 0.0) for k in range(23)}
    levels = [{name: 0.3 if sign > 0 else 0.1 for name, sign in zip(planted, row, strict=True)} for row in signs]
    results = [80 + sum(planted[n] / 2 * (1 if x == 0.3 else -1) for n, x in each.items()) for each in levels]
    assert bench.effects(levels, results) == pytest.approx(planted)
    part = bench.effects(levels[:18], results[:18])
    assert max(part, key=part.get) == "Factor3"
    assert part["Factor3"] > 0.75
    assert part["Factor7"] < 0


def test_a_screening_makes_its_trainings_once_and_prints_effects(benchmark_script, tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 256, (96, 8, 8), np.uint8), labels=np.arange(96) % 2)
    bench, table = benchmark_script("screening"), tmp_path / "table.csv"
    common = [str(tmp_path / "images.npz"), "--train=16", "--val=8", f"--table={table}", "--set", "MirrorUpDown=0.01"]
    common += ["--factors", "ShearX+ShearY=0.05:0.3", "Invert=0.01:0.5", "spread=0.3:0.8"]
    common += ["--schedule.inner_steps=3", "--schedule.batch_size=8", "--classifier.name=test_resnet"]
    common += ["--schedule.warmup=0", "--runs"]
    made, by_hand = [], bench.by_hand
    monkeypatch.setattr(bench, "by_hand", lambda *a, **settings: made.append(by_hand(*a, **settings)) or made[-1])
    bench.main([*common, "4", "5"])
    bench.main([*common, "5", "6"])
    rows = read(table)
    assert [row["run"] for row in rows] == ["4", "5", "6"]
    assert {row["settings"] for row in rows} == {
        "--train 16 --val 8 --split 11 --set MirrorUpDown=0.01 --schedule.inner_steps=3 --schedule.batch_size=8 "
        "--classifier.name=test_resnet --schedule.warmup=0"
    }
    signs = bench.design("images")[4]
    assert rows[0]["levels"] == " ".join(
        f"{name}={values[int(sign > 0)]}"
        for (name, values), sign in zip(
            {"ShearX+ShearY": (0.05, 0.3), "Invert": (0.01, 0.5), "spread": (0.3, 0.8)}.items(), signs, strict=False
        )
    )
    assert len(made) == 3
    for row, augmenter in zip(rows, made, strict=True):
        asked = dict(each.split("=") for each in row["levels"].split())
        found = {type(i.transform).__name__: i for i in augmenter.summary(torch.rand(4, 1, 8, 8))}
        for name in ("ShearX", "ShearY", "Invert"):
            assert found[name].probability == pytest.approx(
                float(asked["Invert" if name == "Invert" else "ShearX+ShearY"]), abs=1e-3
            )
        assert found["ShearX"].spread / found["ShearX"].transform.limit == pytest.approx(float(asked["spread"]))
    other = [text.replace("spread=0.3:0.8", "spread=0.3:0.9") for text in common]
    for wrong in (
        [*other, "7"],
        ["MirrorUpDown=0.02" if text == "MirrorUpDown=0.01" else text for text in [*common, "7"]],
        [*common[:3], f"--table={table}", "--factors", "Invert=0.1:0.2", "Invert=0.1:0.3"],
        [*common, "24"],
    ):
        with pytest.raises(SystemExit, match="2"):
            bench.main(wrong)
    said = capsys.readouterr().err
    assert "of another design" in said
    assert "named twice" in said
    bench.main(["--effects", str(table)])
    assert "| ShearX+ShearY |" in capsys.readouterr().out
    for wrong in ("Invert=0.5", "Invert=0.5:0.2", "Invert=0:0.2", "Invert"):
        with pytest.raises(SystemExit, match="2"):
            bench.main([common[0], "--factors", wrong])
    assert "LOW:HIGH with 0 < LOW < HIGH < 1" in capsys.readouterr().err


def test_evidence_is_that_of_each_estimator_alone(benchmark_script, tmp_path):
    """Side by side on the same images and draws: neither others before it nor their number change what one gives."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 256, (96, 8, 8), np.uint8), labels=np.arange(96) % 2)
    bench, table = benchmark_script("evidence"), tmp_path / "table.csv"
    common = [str(tmp_path / "images.npz"), "--train=24", "--val=20", f"--csv={table}", "--first=1", "--every=2"]
    common += [
        "--schedule.inner_steps=8",
        "--schedule.batch_size=8",
        "--schedule.val_batch_size=4",
        "--classifier.name=test_resnet",
        "--estimators",
    ]
    found = []
    for names in (["default"], ["exact", "four validation batches", "default"]):
        bench.main([*common, *names])
        found.append(read(table))
        assert list(found[-1][0]) == ["t value of", *names]
    alone, last = ([row["default"] for row in rows if row["t value of"] != "cost"] for rows in found)
    assert alone == last
    for name in ("exact", "four validation batches"):
        assert alone != [row[name] for row in found[1] if row["t value of"] != "cost"]


def test_t_values_are_means_in_standard_errors(benchmark_script):
    """1, 2, 3 has mean 2 and standard error 1/√3; where all are 0 there is nothing to tell."""
    gradients = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, 1.0], [3.0, 0.0, 0.0]])
    assert benchmark_script("evidence").t_values(gradients).tolist() == pytest.approx([-2 * 3**0.5, 0, 0])


def test_the_label_is_the_one_quantity_that_it_says(benchmark_script):
    """Read off the images: levels of the background, and where and how many the letter's pixels are."""
    script = benchmark_script("one_quantity")

    def by_class(quantity, read):
        images, labels = script.draw(quantity, 150, 0)
        assert images.shape == (150, 32, 32, 3)
        assert images.dtype == np.uint8
        values = np.array([read(image.astype(float) / 255) for image in images])
        return [values[labels == label].mean() for label in range(5)]

    def background(image):
        return image[:2].mean((0, 1))

    def letter(image):
        return np.abs(image - background(image)).mean(2) > 0.1

    levels = by_class("brightness", lambda image: background(image).mean())
    assert levels == pytest.approx(script.QUANTITIES["brightness"][0], abs=0.06)
    across = by_class("place", lambda image: letter(image).nonzero()[1].mean() - 15.5)
    assert across == pytest.approx(script.QUANTITIES["place"][0], abs=1)
    assert np.all(np.diff(by_class("size", lambda image: letter(image).sum())) > 0)
    assert np.all(
        np.diff(by_class("saturation", lambda image: np.ptp(background(image)) / background(image).max())) > 0
    )
    assert np.array_equal(script.draw("hue", 20, 3)[0], script.draw("hue", 20, 3)[0])


def test_letters_are_many_classes_of_twelve_different_drawings(benchmark_script, tmp_path, monkeypatch):
    letters = benchmark_script("letters")
    monkeypatch.setattr("sys.argv", ["letters.py", str(tmp_path / "letters.npz")])
    letters.main()
    with np.load(tmp_path / "letters.npz") as held:
        images, labels, classes = held["images"], held["labels"], held["classes"]
    assert images.shape == (len(labels), 28, 28)
    assert np.bincount(labels).tolist() == [12] * len(classes)
    assert len(classes) > 500
    assert {"A", "b", "7"} & set(classes) == {"A", "b"}
    # No letter touches the edge in most fonts, is empty, or is drawn like another in all.
    assert np.median(images[:, [0, -1]].max((1, 2))) == np.median(images[:, :, [0, -1]].max((1, 2))) == 0
    assert images.max((1, 2)).min() > 60
    assert len({stack.tobytes() for stack in images.reshape(len(classes), -1)}) == len(classes)


def test_the_readmes_table_is_that_of_the_results_that_are_kept(benchmark_script, capsys):
    benchmark_script("compared").main()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    lines = (BENCHMARKS.parents[1] / "README.md").read_text().splitlines()
    first = lines.index(printed[0])
    assert lines[first : first + len(printed)] == printed


def test_what_skill_is_kept_is_told_of_a_finished_run(benchmark_script, tmp_path, monkeypatch, capsys):
    """The least first, in the CSV as on the screen."""
    recipe = Recipe(
        data=Digits(size=8, train_size=200, val_size=100),
        schedule=ScheduleConfig(inner_steps=60, outer_every=20, warmup=20, batch_size=32, val_batch_size=32),
    )
    IFTTrainer(recipe, out=tmp_path / "run").fit()
    out = tmp_path / "kept.csv"
    monkeypatch.setattr("sys.argv", ["skill_kept.py", str(tmp_path / "run"), "--out", str(out)])
    benchmark_script("skill_kept").main()
    (line,) = capsys.readouterr().out.splitlines()
    header, *rows = [row.split(",") for row in out.read_text().splitlines()]
    assert header == ["run", "transform", "kept"]
    shares = [float(row[2]) for row in rows]
    assert shares == sorted(shares)
    assert all(share < 1 for share in shares)
    told = [f"{label} {float(share):.2f}" for _, label, share in rows[:3]]
    assert line == f"run: {', '.join(told) or 'no loss is seen under any'}"
