"""Tables and plots from stored results: numbers by hand, partial studies, what is published, damaged files."""

from __future__ import annotations

import csv
import json
import math
import shutil
import statistics
from pathlib import Path

import pytest
from matplotlib import pyplot
from typer.testing import CliRunner

from dgdd_nb.cli import app
from dgdd_nb.evaluate import student_interval, summarise
from dgdd_nb.results import (
    lines,
    method_plot,
    pack,
    paired,
    published,
    read_results,
    render,
    save_plot,
    sensitivity_plot,
    what_ran,
)
from dgdd_nb.study import KIND, Evaluation, Method, Study, networks_of, run_study

ROOT = Path(__file__).resolve().parents[1]
STORED = sorted((ROOT / "benchmarks" / "results").glob("*.jsonl"))
WAY = {"name": "convnet", "network": "convnet", "networks": 2, "recipe": "quick"}


def method(name: str, make: str = "random", **options) -> dict:
    return {"name": name, "make": make, "options": options, "prepare": None, "select": {}}


def packed(path: Path, setting: str, methods: list[dict], found: list[tuple], **changes) -> Path:
    """A pack as a run would leave it; trials are (method number, target, seed, {domain: accuracies})."""
    study = {"name": "by hand", "data": "mini_digits", "setting": setting, "targets": []}
    study |= {"ipc": [1], "seeds": 2, "distill": {}, "evaluations": [WAY], "baseline": None}
    made = [{**study, "threads": 1, "paper": None, "methods": methods, **changes}]
    for number, target, seed, scores in found:
        rows = [
            ["convnet", x, 1000 * seed + i, v] for x, vs in scores.items() for i, v in enumerate(vs)
        ]
        trial = {"method": methods[number], "target": target, "seed": seed, "setting": setting}
        fixed = methods[number]["make"] == "whole" or "features" in methods[number]["options"]
        rest = {"bytes": 1000, "seconds": {"make": 2.0}, "ran": {"torch": "2", "device": "cpu"}}
        rest |= {"trial": {**trial, "ipc": 1}, "rows": rows, "fixed": fixed, "images": 10}
        made.append({"kind": KIND, **rest})
    path.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    return path


def table(path: Path, baseline: str | None = None) -> dict:
    """Lines by (method, target)."""
    return {(x.method, x.target): x for x in lines(path, baseline).itertuples()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("table")
    study = Study(
        name="small",
        targets=("print",),
        ipc=(1,),
        seeds=2,
        baseline="random",
        data={"name": "mini_digits", "train": 60, "test": 20},
        distill={"steps": 2, "real_batch": 12, "width": 8},
        evaluations=(Evaluation(networks=2, width=8, recipe={"name": "quick", "epochs": 2}),),
        methods=(
            Method("random"),
            *(Method(f"alpha {a:g}", "DM+SGS", {"alpha": a}) for a in (0.0, 1.0)),
        ),
    )
    run_study(study, place, backend="sequential", progress=False)
    return place


def test_a_pack_is_read_like_its_folder(folder, tmp_path):
    path = pack(folder, tmp_path / "small.jsonl")
    assert read_results(path).equals(read_results(folder))
    for form in ("markdown", "csv", "latex"):
        assert render(path, form) == render(folder, form) == render(read_results(folder), form)
    pyplot.close("all")
    assert save_plot(path, "alpha", tmp_path / "a.png").stat().st_size > 5000
    assert save_plot(folder, None, tmp_path / "new" / "b.png").stat().st_size > 5000
    assert not pyplot.get_fignums()


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda x: render(x, "latecks"), "did you mean 'latex'"),
        (lambda x: render(x, baseline="radnom"), "did you mean 'random'"),
        (lambda x: render(x, targets=["prnt"]), "no line for prnt"),
        (lambda x: render(x, leave=["kb"]), "Unknown heading 'kb'; choose from .* kB"),
        (lambda x: sensitivity_plot(x, "surgery.gamma"), "surgery.gamma"),
        (lambda x: pack(x, "table.txt"), ".jsonl"),
        (lambda x: read_results(x / "nowhere"), "run the study first"),
        (lambda x: read_results(x / "study.json"), "run it first"),
        (lambda x: read_results("nowhere.jsonl"), "check the path"),
    ],
)
def test_mistakes_get_a_sentence(folder, call, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        call(folder)


def test_a_damaged_pack_is_named(folder, tmp_path):
    path = pack(folder, tmp_path / "small.jsonl")
    text = path.read_text(encoding="utf-8").splitlines()
    for wrong in ([text[0], text[1][:40]], [text[0], json.dumps({"kind": "else"})], [text[1]], []):
        path.write_text("\n".join(wrong), encoding="utf-8")
        with pytest.raises(ValueError, match="no packed study"):
            read_results(path)
    path.write_text("\n".join([*text, text[-1]]), encoding="utf-8")
    with pytest.raises(ValueError, match="two trials of alpha 1 on print, seed 1"):
        read_results(path)


def test_single_source_scores_the_other_domains(tmp_path):
    """SDG: the mean over the domains not trained on, network by network; the gap from the source's own images."""
    found = [
        (0, "a", 0, {"b": [10, 20], "c": [30, 50], "a": [90, 70]}),
        (0, "a", 1, {"b": [20, 40], "c": [40, 60], "a": [80, 80]}),
        (0, "b", 0, {"a": [50, 50], "c": [70, 90], "b": [100, 80]}),
        (0, "b", 1, {"a": [30, 30], "c": [30, 50], "b": [100, 100]}),
    ]
    path = packed(tmp_path / "sdg.jsonl", "SDG", [method("random")], found)
    a, b, average = (table(path)["random", name] for name in ("a", "b", "average"))
    rows = networks_of(read_results(path), 1, "convnet")
    assert rows.accuracy.tolist() == [20, 35, 30, 50, 60, 70, 30, 40]
    assert (a.accuracy, b.accuracy, average.accuracy) == (33.75, 50, 41.875)
    assert a.std_seeds == pytest.approx(statistics.stdev([27.5, 40]))
    assert average.std_seeds == pytest.approx(statistics.stdev([(27.5 + 65) / 2, (40 + 35) / 2]))
    assert a.std_networks == pytest.approx(statistics.fmean([15**2 / 2, 20**2 / 2]) ** 0.5)
    assert (a.gap, b.gap, average.gap) == (80 - 33.75, 95 - 50, 87.5 - 41.875)
    text = render(path).splitlines()
    assert "| source " in text[0] and "| a " in text[2] and "target" not in text[0]


def test_known_domains_alone_have_no_gap(tmp_path):
    """ID: every score counts, and there is no unseen domain to compare with."""
    found = [
        (0, "a", 0, {"b": [10, 20], "c": [30, 50]}),
        (0, "b", 0, {"a": [50, 50], "c": [70, 90]}),
    ]
    path = packed(tmp_path / "id.jsonl", "ID", [method("random")], found)
    assert not read_results(path).seen.any()
    made = table(path)
    assert (made["random", "a"].accuracy, made["random", "average"].accuracy) == (27.5, 46.25)
    assert all(math.isnan(line.gap) for line in made.values())
    text = render(path)
    assert "| left out " in text and "seen" not in text and "target" not in text
    assert method_plot(path).get_legend().get_title().get_text() == "left out"


def test_of_one_target_the_seeds_an_interval_and_chance_are_drawn(tmp_path):
    """As of a folder of `compare`; a set that leaves nothing to chance is one dot."""
    found = [(0, "a", seed, {"a": [10 + seed, 20 + seed], "b": [90, 90]}) for seed in range(3)]
    found += [(1, "a", 0, {"a": [50, 60]})]
    methods = [method("random"), method("whole", "whole")]
    axes = method_plot(packed(tmp_path / "one.jsonl", "MDG", methods, found))
    lines = {line.get_label(): sorted(line.get_xdata()) for line in axes.lines}
    assert lines["one seed"] == [15, 16, 17, 55] and lines["chance"] == [10, 10]
    (_, _, (bars,)) = axes.containers[0]
    widths = [segment[1][0] - segment[0][0] for segment in bars.get_segments()]
    half = student_interval([15, 16, 17])[1] - 16
    assert widths == pytest.approx([2 * half, 0])


def test_one_set_is_compared_without_pairs(tmp_path):
    """A method that draws nothing has seed 0 only: its difference is that of the two means the table shows."""
    methods = [
        method("random"),
        method("whole", "whole"),
        method("herding", "herding", features="pixels"),
    ]
    found = [(0, "a", seed, {"a": [10 * seed, 10 * seed]}) for seed in range(3)]
    found += [(1, "a", 0, {"a": [50, 60]}), (2, "a", 0, {"a": [20, 20]})]
    path = packed(tmp_path / "one.jsonl", "MDG", methods, found, baseline="random")
    made = table(path)
    assert made["whole", "a"].minus_baseline == made["whole", "a"].minus_random == 45
    assert made["herding", "a"].minus_baseline == 10
    text = render(path)
    assert text.count("+45.0, no interval") == 1 and "pair" not in text  # the baseline is random
    rows = {line["method"]: line for line in csv.DictReader(render(path, "csv").splitlines())}
    names = ("minus_baseline", "baseline_low", "baseline_pairs")
    assert [rows["whole"][key] for key in names] == ["45.0", "", "0.0"]
    assert rows["random"]["baseline_pairs"] == ""
    assert table(path, "whole")["random", "a"].minus_baseline == -45


def test_partial_studies(tmp_path):
    """An average over some targets is no line, no point of a curve, no dashed line, and nothing to subtract."""
    methods = [method("DM", "DM"), *(method(f"alpha {a}", "DM+SGS", alpha=a) for a in (0, 1))]
    found = [
        (n, target, 0, {target: [10 * n + 5 * (target == "b")] * 2})
        for n in range(3)
        for target in ("a", "b")
        if (n, target) not in ((0, "b"), (2, "a"))
    ]
    path = packed(tmp_path / "partial.jsonl", "MDG", methods, found, baseline="DM")
    averages = [line for line in table(path).values() if line.target == "average"]
    assert [(x.method, x.accuracy) for x in averages] == [("alpha 0", 12.5)]
    assert averages[0].minus_baseline is None or math.isnan(averages[0].minus_baseline)
    axes = sensitivity_plot(path, "alpha")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["alpha"]
    found = [x for x in found if x[:2] != (1, "b")]
    with pytest.raises(ValueError, match="let the study finish"):
        sensitivity_plot(packed(path, "MDG", methods, found, baseline="DM"), "alpha")


def test_an_unfinished_seed_is_not_averaged(tmp_path):
    """A paired difference of averages takes only seeds that have every target, like the averages themselves."""
    found = [
        (n, target, seed, {target: [50.0 + 10 * (target == "b") + (n == 0) * (1 + seed)] * 2})
        for n in range(2)
        for target in ("a", "b")
        for seed in range(3)
        if (target, seed) != ("b", 2)
    ]
    path = packed(
        tmp_path / "seeds.jsonl", "MDG", [method("x"), method("y", per_domain=False)], found
    )
    made = paired(read_results(path), "x", "y")
    assert made["average"].values == (1.0, 2.0) and made["a"].values == (1.0, 2.0, 3.0)
    average = summarise(networks_of(read_results(path), 1, "convnet")).query("target == 'average'")
    assert average["mean"].iloc[0] - average["mean"].iloc[1] == 1.5


def test_several_tables_and_shared_networks(tmp_path):
    """One table per ipc and evaluation; rows of seeds that share their networks carry no claim."""
    found = [
        (n, "a", seed, {"a": [40 + 10 * n + (i + seed) / 10 for i in range(10)]})
        for n in (0, 1)
        for seed in range(5)
    ]
    path = packed(
        tmp_path / "one.jsonl",
        "MDG",
        [method("DM", "DM"), method("new", "DM+SGS")],
        found,
        baseline="DM",
    )
    assert "+10.0 [+10.0, +10.0], better (5 pairs)" in render(path)
    study, *trials = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for trial in trials:
        trial["rows"] = [
            [way, x, seed % 1000, v]
            for way in ("convnet", "big")
            for _, x, seed, v in trial["rows"]
        ]
    study["evaluations"] += [{**WAY, "name": "big"}]
    path.write_text("\n".join(map(json.dumps, [study, *trials])), encoding="utf-8")
    text = render(path)
    assert "shared networks (5 pairs)" in text and "better" not in text
    assert lines(path).table.unique().tolist() == ["convnet", "big"]
    with pytest.raises(ValueError, match="one ipc and one evaluation"):
        paired(read_results(path), "new", "DM")


def test_heading_counts_what_is_stored(tmp_path):
    """Trials that an earlier, larger study left in the same folder count too."""
    found = [(0, "a", seed, {"a": [10, 20]}) for seed in range(8)]
    text = what_ran(
        packed(tmp_path / "narrow.jsonl", "MDG", [method("random")], found, trials=1, seeds=1)
    )
    assert "8 of 8 trials" in text and "ipc 1, seeds 8\n" in text and "threads 1" in text
    assert "{" not in text and "recipe quick" in text


def test_price_leaves_out_what_was_interrupted(tmp_path):
    found = [(0, "a", seed, {"a": [10, 20]}) for seed in range(3)]
    rows = read_results(packed(tmp_path / "price.jsonl", "MDG", [method("random")], found))
    rows["seconds"] = rows.distillation_seed.map({0: 2.0, 1: 4.0, 2: 0.1})
    rows["resumed"] = rows.seconds < 1
    assert lines(rows)[["kilobytes", "seconds"]].iloc[0].tolist() == [1.0, 3.0]
    rows["resumed"] = True
    assert lines(rows).seconds.iloc[0] == 2.0


@pytest.mark.parametrize(
    "setting, target, where, axis",
    [
        ("oracle", "a", "target", "accuracy on new images of the target, %"),
        ("two out", "a + b", "left out", "accuracy on the second domain left out, %"),
        ("validation", "a", "left out", "accuracy on held-out source images, %"),
    ],
)
def test_what_the_numbers_of_a_setting_mean(setting, target, where, axis, tmp_path):
    found = [(0, target, 0, {name: [10, 20] for name in target.split(" + ")})]
    path = packed(tmp_path / "one.jsonl", setting, [method("random")], found)
    drawn = method_plot(path)
    assert drawn.get_xlabel() == axis and drawn.get_legend().get_title().get_text() == where
    assert f"| {where} " in render(path).splitlines()[0]


@pytest.mark.parametrize(
    "paper, setting, ipc, name, target, number",
    [
        ("digits_dg", "MDG", 10, "DM + SGS", "average", 67.7),
        ("digits_dg", "MDG", 10, "g_dom only", "average", 44.7),
        ("digits_dg", "MDG", 20, "g_dom only", "average", None),
        ("pacs", "MDG", 10, "DM + SGS", "photo", 53.8),
        ("pacs", "SDG", 10, "whole", "average", None),
        (None, "MDG", 10, "DM", "average", None),
    ],
)
def test_published_numbers(paper, setting, ipc, name, target, number):
    assert published(paper, setting, ipc, name, target) == number


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_results_can_be_read(path):
    rows = read_results(path)
    assert len(rows) and f"{rows.attrs['study']['name']}: " in what_ran(path)
    assert {rows.attrs["study"]["baseline"]} <= {None, *rows.method}  # None: nothing is compared
    assert (ROOT / "benchmarks" / "results" / path.name).is_file() and render(rows)


NAMES = ["a|b", "<img src=x onerror=alert(1)>", "_x_", "p & q", "$5_to_$10", "two\nlines", "=1+1"]
SHOWN = {
    "markdown": [
        r"a\|b",
        "&lt;img src=x",
        r"\_x\_",
        "p &amp; q",
        r"\$5_to\_\$10",
        "two lines",
        "=1+1",
    ],
    "latex": [
        "a|b",
        r"\ensuremath{<}img",
        r"\_x\_",
        r"p \& q",
        r"\$5\_to\_\$10",
        "two lines",
        "=1+1",
    ],
    "csv": ["a|b", "<img src=x", "_x_", "p & q", "$5_to_$10", "two lines", "'=1+1"],
}


@pytest.mark.parametrize("form", SHOWN)
def test_names_are_no_markup(form, tmp_path):
    methods = [method(name) for name in NAMES]
    found = [(n, "t|u", 0, {"t|u": [10.0 + n, 20.0]}) for n in range(len(NAMES))]
    path = packed(tmp_path / "names.jsonl", "MDG", methods, found, baseline="a|b")
    text = render(path, form)
    for shown in SHOWN[form]:
        assert shown in text, text
    assert (
        len({line.replace(r"\|", "").count("|") for line in text.splitlines()}) == 1
        or form != "markdown"
    )


def test_a_formula_among_the_names_is_a_text_in_a_table_for_spreadsheets(tmp_path):
    path = packed(tmp_path / "x.jsonl", "MDG", [method("=1+1")], [(0, "-t", 0, {"-t": [1, 2]})])
    done = CliRunner().invoke(app, ["table", str(path), "--csv", str(tmp_path / "x.csv")])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()))
    assert {(row["method"], row["target"]) for row in rows} == {("'=1+1", "'-t")}
    assert [float(row["accuracy"]) for row in rows] == [1, 2]


def change(*path, value):
    """What sets one entry of a stored trial."""

    def changed(one: dict) -> object:
        if not path:
            return value
        place = one
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return one

    return changed


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [[1]], {"x": None}], ids=str)
@pytest.mark.parametrize(
    "place",
    [(), ("trial",), ("rows",), ("seconds",), ("ran",), ("trial", "method"), ("trial", "seed")],
)
def test_a_stored_trial_is_checked_as_a_whole(place, value, tmp_path):
    if (place, value) in [(("trial", "seed"), 3), (("seconds",), {}), (("ran",), {})]:
        return
    path = packed(tmp_path / "x.jsonl", "MDG", [method("random")], [(0, "a", 0, {"a": [1, 2]})])
    study, trial = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    trial = change(*place, value=value)(trial)
    path.write_text(json.dumps(study) + "\n" + json.dumps(trial), encoding="utf-8")
    with pytest.raises(ValueError, match="is no packed study .*: pack it again"):
        read_results(path)
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "one.json").write_text(json.dumps(trial), encoding="utf-8")
    with pytest.raises(ValueError, match="one.json is no .*: delete it and run the study again"):
        read_results(tmp_path)


@pytest.mark.parametrize("name", ["methods", "evaluations", "setting", "ipc", "seeds", "targets"])
@pytest.mark.parametrize("value", [None, 0.5, {"x": 1}], ids=str)
def test_stored_settings_are_checked_as_a_whole(name, value, tmp_path):
    path = packed(tmp_path / "x.jsonl", "MDG", [method("random")], [(0, "a", 0, {"a": [1, 2]})])
    study, trial = path.read_text(encoding="utf-8").splitlines()
    study = json.dumps({**json.loads(study), name: value})
    path.write_text(f"{study}\n{trial}", encoding="utf-8")
    with pytest.raises(ValueError, match="is no packed study"):
        read_results(path)


def test_a_pack_of_other_trials_stays(folder, tmp_path):
    path = packed(tmp_path / "x.jsonl", "MDG", [method("random")], [(0, "a", 0, {"a": [1, 2]})])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="has trials that .* has not: choose another file"):
        pack(folder, path)
    assert path.read_bytes() == before
    assert pack(folder, tmp_path / "y.jsonl") == pack(folder, tmp_path / "y.jsonl")


def test_a_home_folder_is_found(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    packed(tmp_path / "x.jsonl", "MDG", [method("random")], [(0, "a", 0, {"a": [1, 2]})])
    with pytest.raises(ValueError, match="choose another file"):
        pack(folder, "~/x.jsonl")
    assert save_plot(folder, None, "~/p.png") == tmp_path / "p.png"
    assert (tmp_path / "p.png").exists() and not Path("~").exists()
    shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own" / "selection.json").write_text('["chosen"]', encoding="utf-8")
    first, *_ = pack("~/own", "~/own.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(first)["selection"] == ["chosen"]


def test_prices_on_a_line_are_those_of_its_target():
    table = lines(read_results(ROOT / "benchmarks" / "results" / "pacs_small.jsonl"))
    sizes = table[table.method == "whole"].set_index("target").kilobytes
    assert sizes["sketch"] < sizes["average"] < sizes["photo"]
