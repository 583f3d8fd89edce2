"""The ready tables load and plan what they say; the commands read what a grid left."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dgdd_nb.cli import app
from dgdd_nb.experiments import Grid, Judge, Method, cells, find
from dgdd_nb.files import load_settings
from dgdd_nb.result_plots import sensitivity, sensitivity_plot
from dgdd_nb.runs import run_grid
from dgdd_nb.stored import read_cells, results, what_ran
from dgdd_nb.tables import PAPER, lines, prices, published, render

TABLES = sorted((Path(__file__).parents[1] / "benchmarks" / "tables").glob("*.toml"))
ON_DISK = {
    "main_digits_dg",
    "main_pacs",
    "main_core50_hard",
    "pacs_photo_gpu",
    "pacs_small",
    "digits_small",
    "ablation_digits_dg",
    "init_digits_dg",
}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_ready_table_loads(path):
    """Every key is known, every part can be imported, the comment names the file's own command."""
    grid = load_settings(Grid, path)
    assert f"dgdd run benchmarks/tables/{path.name}" in path.read_text(encoding="utf-8")
    assert callable(find(grid.data["name"]))
    assert grid.paper is None or any(key[0] == grid.paper for key in PAPER)
    assert (path.stem in ON_DISK) == ("root" in grid.data)


def test_there_is_a_table_for_each_study():
    wanted = {
        "main_mini",
        "ablation_mini",
        "alpha_mini",
        "beta_mini",
        "K_mini",
        "init_mini",
        "ID_mini",
        "SDG_mini",
        "architectures_mini",
        *ON_DISK,
    }
    assert {path.stem for path in TABLES} == wanted


@pytest.mark.parametrize(
    "name, number",
    [
        ("main_mini", 4 * (5 * 5 + 1)),
        ("ablation_mini", 4 * 5 * 5),
        ("alpha_mini", 4 * 7 * 5),
        ("beta_mini", 4 * 7 * 5),
        ("K_mini", 4 * 7 * 5),
        ("init_mini", 4 * 6 * 5),
        ("architectures_mini", 4 * (5 * 5 + 1)),
    ],
)
def test_cells_of_ready_tables(name, number):
    grid = load_settings(Grid, next(path for path in TABLES if path.stem == name))
    assert len(cells(grid)) == number


def test_ablation_has_the_five_rows_of_the_paper():
    from dgdd_nb.experiments import call

    grid = load_settings(Grid, next(path for path in TABLES if path.stem == "ablation_mini"))
    made = [None if method.surgery is None else call(method.surgery) for method in grid.methods]
    assert [type(surgery).__name__ for surgery in made] == [
        "NoneType",
        "PartsAlone",
        "PartsAlone",
        "PartsAlone",
        "SGS",
    ]
    assert [(s.alpha, s.beta) for s in made[1:4]] == [(1, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize(
    "name, numbers",
    [
        ("ablation_digits_dg", [65.1, 64.9, 44.7, 65.1, 67.7]),
        ("init_digits_dg", [None, None, None, 67.7, 66.2, 66.1]),
        ("main_digits_dg", [83.1, 36.3, 49.8, 65.1, None, 67.7]),
    ],
)
def test_published_numbers_are_found_by_name(name, numbers):
    grid = load_settings(Grid, next(path for path in TABLES if path.stem == name))
    assert [
        published(grid.paper, grid.setting, 10, method.name) for method in grid.methods
    ] == numbers


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("table")
    grid = Grid(
        name="small",
        targets=("print",),
        ipc=(1,),
        seeds=2,
        baseline="random",
        data={"name": "mini_digits", "train": 60, "test": 20},
        distill={"steps": 2, "real_batch": 12, "width": 8},
        evaluate=Judge(networks=2, width=8, recipe={"name": "quick", "epochs": 2}),
        methods=(
            Method("random", make="random"),
            Method("alpha 0", surgery={"name": "SGS", "alpha": 0.0}),
            Method("alpha 1", surgery={"name": "SGS", "alpha": 1.0}),
        ),
    )
    run_grid(grid, place, backend="sequential", progress=False)
    return place


def command(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output


def test_commands_read_folder_and_pack_alike(folder, tmp_path):
    packed = tmp_path / "small.jsonl"
    assert command("pack", folder, packed)[0] == 0
    for form in ("markdown", "csv", "latex"):
        one, other = (
            command("table", folder, "--format", form),
            command("table", packed, "--format", form),
        )
        assert one == other and one[0] == 0 and "alpha 1" in one[1]
    assert command("plot", packed, "--over", "surgery.alpha", "--out", tmp_path / "a.png")[0] == 0
    assert command("plot", folder)[0] == 0 and (folder / "figure.png").stat().st_size > 5000
    assert [line.accuracy.mean for line in lines(packed)] == [
        line.accuracy.mean for line in lines(folder)
    ]


@pytest.mark.parametrize(
    "words, says",
    [
        (("table", "FOLDER", "--format", "latecks"), "did you mean 'latex'"),
        (("table", "nowhere"), "nowhere holds no results"),
        (("table", "nowhere.jsonl"), "check the path"),
        (("plot", "FOLDER", "--over", "surgery.gamma"), "surgery.gamma"),
        (("pack", "FOLDER", "table.txt"), ".jsonl"),
        (("run", "nowhere.toml"), "nowhere.toml"),
        (("table", "FOLDER", "--baseline", "radnom"), "random"),
    ],
)
def test_mistakes_get_a_sentence(folder, words, says):
    status, output = command(*(str(folder) if word == "FOLDER" else word for word in words))
    assert status != 0 and says in " ".join(output.split()) and "Traceback" not in output


def test_damaged_pack_is_named(folder, tmp_path):
    packed = tmp_path / "small.jsonl"
    command("pack", folder, packed)
    text = packed.read_text(encoding="utf-8").splitlines()
    packed.write_text("\n".join([text[0], text[1][:40]]), encoding="utf-8")
    status, output = command("table", packed)
    assert status != 0 and "no packed grid" in " ".join(output.split())
    packed.write_text("\n".join([text[0], json.dumps({"kind": "else"})]), encoding="utf-8")
    status, output = command("table", packed)
    assert status != 0 and "no result of a grid" in " ".join(output.split())


def test_average_needs_every_target(folder, tmp_path):
    """A method that lacks a target must not get an average over the others."""
    packed = tmp_path / "two.jsonl"
    command("pack", folder, packed)
    grid, *found = [json.loads(line) for line in packed.read_text(encoding="utf-8").splitlines()]
    again = json.loads(
        json.dumps([cell for cell in found if cell["cell"]["method"]["name"] == "random"])
    )
    for cell in again:
        cell["cell"]["target"] = "scan"
        cell["rows"] = [
            [name, "scan" if domain == "print" else domain, seed, value]
            for name, domain, seed, value in cell["rows"]
        ]
    packed.write_text("\n".join(map(json.dumps, [grid, *found, *again])), encoding="utf-8")
    assert {
        line.accuracy.method for line in lines(packed) if line.accuracy.target == "average"
    } == {"random"}
    assert "scan" in render(packed)


def test_an_unfinished_seed_is_not_averaged(folder, tmp_path):
    """A paired difference of averages takes only seeds that have every target, like the averages themselves."""
    from dgdd_nb.evaluate import Row, paired_difference, summarise

    rows = [
        Row(
            method,
            target,
            seed,
            network,
            50.0 + 10 * (target == "b") + (method == "x") * (1 + seed),
        )
        for method in ("x", "y")
        for target in ("a", "b")
        for seed in range(3)
        for network in range(2)
        if (target, seed) != ("b", 2)
    ]
    assert paired_difference(rows, "x", "y").values == (1.0, 2.0)
    assert summarise(rows, "x").mean - summarise(rows, "y").mean == 1.5
    assert paired_difference(rows, "x", "y", "a").values == (1.0, 2.0, 3.0)


def packed_grid(
    path: Path, setting: str, methods: list[dict], found: list[tuple], **changes
) -> Path:
    """A packed grid as a run would leave it; cells are (method number, target, seed, {domain: accuracies})."""
    grid = {
        "name": "by hand",
        "data": "mini_digits",
        "setting": setting,
        "targets": [],
        "ipc": [1],
        "seeds": 2,
        "distill": {},
        "evaluate": {"networks": 2, "architectures": ["convnet"], "recipe": "quick"},
        "baseline": None,
        "threads": 1,
        "paper": None,
        "cells": len(found),
        "methods": methods,
        **changes,
    }
    made = [grid]
    for number, target, seed, scores in found:
        rows = [
            ["convnet", domain, network, value]
            for domain, values in scores.items()
            for network, value in enumerate(values)
        ]
        where = {
            "method": methods[number],
            "target": target,
            "seed": seed,
            "setting": setting,
            "ipc": 1,
            "evaluate": grid["evaluate"],
        }
        made.append(
            {
                "kind": "dgdd_nb cell",
                "cell": where,
                "rows": rows,
                "bytes": 1000,
                "seconds": {"make": 2.0},
                "ran": {"torch": "2", "device": "cpu"},
            }
        )
    path.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    return path


def method(name: str, make: str = "random", **options) -> dict:
    return {"name": name, "make": make, "options": options}


def by_target(path: Path) -> dict:
    return {line.accuracy.target: line for line in lines(path)}


def test_single_source_scores_the_other_domains(tmp_path):
    """SDG: the mean over the domains not trained on, network by network; the gap from the source's own images."""
    cells = [
        (0, "a", 0, {"b": [10, 20], "c": [30, 50], "a": [90, 70]}),
        (0, "a", 1, {"b": [20, 40], "c": [40, 60], "a": [80, 80]}),
        (0, "b", 0, {"a": [50, 50], "c": [70, 90], "b": [100, 80]}),
        (0, "b", 1, {"a": [30, 30], "c": [30, 50], "b": [100, 100]}),
    ]
    path = packed_grid(tmp_path / "sdg.jsonl", "SDG", [method("random")], cells)
    found = by_target(path)
    a, average = found["a"].accuracy, found["average"].accuracy
    assert [row.accuracy for row in results(path).rows] == [20, 35, 30, 50, 60, 70, 30, 40]
    assert (a.mean, found["b"].accuracy.mean, average.mean) == (33.75, 50, 41.875)
    assert a.std_seeds == pytest.approx(statistics.stdev([27.5, 40]))
    assert average.std_seeds == pytest.approx(statistics.stdev([(27.5 + 65) / 2, (40 + 35) / 2]))
    assert a.std_networks == pytest.approx(statistics.fmean([15**2 / 2, 20**2 / 2]) ** 0.5)
    assert (found["a"].gap, found["b"].gap, found["average"].gap) == (
        80 - 33.75,
        95 - 50,
        87.5 - 41.875,
    )
    table = render(path).splitlines()
    assert "| source " in table[0] and "| a " in table[2] and "target" not in table[0]


def test_known_domains_alone_have_no_gap(tmp_path):
    """ID: every score counts, and there is no unseen domain to compare with."""
    cells = [
        (0, "a", 0, {"b": [10, 20], "c": [30, 50]}),
        (0, "b", 0, {"a": [50, 50], "c": [70, 90]}),
    ]
    path = packed_grid(tmp_path / "id.jsonl", "ID", [method("random")], cells)
    found = by_target(path)
    assert [row.accuracy for row in results(path).rows] == [20, 35, 60, 70] and not results(
        path, seen=True
    ).rows
    assert (found["a"].accuracy.mean, found["average"].accuracy.mean) == (27.5, 46.25)
    assert {line.gap for line in found.values()} == {None}
    table = render(path)
    assert "| left out " in table and "seen" not in table and "target" not in table
    assert command("plot", path, "--out", tmp_path / "id.svg")[0] == 0
    assert "left out" in (tmp_path / "id.svg").read_text(encoding="utf-8")


def test_one_set_is_compared_without_pairs(tmp_path):
    """A method that draws nothing has seed 0 only: its difference is that of the two means the table shows."""
    methods = [
        method("random"),
        method("whole", "whole"),
        method("herding", "herding", features="pixels"),
    ]
    cells = [
        *((0, "a", seed, {"a": [10 * seed, 10 * seed]}) for seed in range(3)),
        (1, "a", 0, {"a": [50, 60]}),
        (2, "a", 0, {"a": [20, 20]}),
    ]
    path = packed_grid(tmp_path / "one.jsonl", "MDG", methods, cells, baseline="random")
    found = {line.accuracy.method: line for line in lines(path)}
    assert (
        found["whole"].difference == found["whole"].over_random == 45
        and found["herding"].difference == 10
    )
    text = render(path)
    assert (
        text.count("+45.0, no interval") == text.count("+10.0, no interval") == 1
        and "pair" not in text
    )
    table = {line["method"]: line for line in csv.DictReader(render(path, "csv").splitlines())}
    assert [
        table["whole"][key] for key in ("minus_baseline", "baseline_low", "baseline_pairs")
    ] == ["45.0", "", "0"]
    assert table["random"]["baseline_pairs"] == ""
    assert {line.accuracy.method: line for line in lines(path, "whole")}["random"].difference == -45


def partial_study(path: Path) -> Path:
    methods = [
        {**method("DM"), "surgery": None},
        *({**method(f"alpha {a}"), "surgery": {"alpha": a}} for a in (0, 1)),
    ]
    cells = [
        (n, target, 0, {target: [10 * n + 5 * (target == "b")] * 2})
        for n in range(3)
        for target in ("a", "b")
        if (n, target) not in ((0, "b"), (2, "a"))
    ]
    return packed_grid(path, "MDG", methods, cells, baseline="DM")


def test_sensitivity_and_differences_need_every_target(tmp_path):
    """An average over some targets is no point of the curve, no dashed line, and nothing to subtract."""
    path = partial_study(tmp_path / "partial.jsonl")
    assert {value: found.mean for value, found in sensitivity(path, "surgery.alpha").items()} == {
        0: 12.5
    }
    axes = sensitivity_plot(path, "surgery.alpha")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["surgery.alpha"]
    averages = {
        line.accuracy.method: line for line in lines(path) if line.accuracy.target == "average"
    }
    assert set(averages) == {"alpha 0"} and averages["alpha 0"].difference is None
    grid, *found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [
        cell
        for cell in found
        if cell["cell"]["method"]["name"] != "alpha 0" or cell["cell"]["target"] == "a"
    ]
    path.write_text("\n".join(map(json.dumps, [grid, *found])), encoding="utf-8")
    with pytest.raises(ValueError, match="let the grid finish"):
        sensitivity(path, "surgery.alpha")


def test_heading_counts_what_is_stored(tmp_path):
    """Cells that an earlier, larger grid left in the same folder count too."""
    cells = [(0, "a", seed, {"a": [10, 20]}) for seed in range(8)]
    text = what_ran(
        packed_grid(tmp_path / "narrow.jsonl", "MDG", [method("random")], cells, cells=1, seeds=1)
    )
    assert "8 of 8 cells" in text and "8 seeds" in text
    text = what_ran(
        packed_grid(tmp_path / "one.jsonl", "MDG", [method("random")], cells[:1], cells=1, seeds=1)
    )
    assert (
        "1 of 1 cell\n" in text and "1 image per class, 1 seed\n" in text and "1 thread per" in text
    )
    assert "{" not in text and "recipe quick" in text


def test_price_leaves_out_what_was_interrupted(tmp_path):
    path = packed_grid(
        tmp_path / "price.jsonl",
        "MDG",
        [method("random")],
        [(0, "a", seed, {"a": [10, 20]}) for seed in range(3)],
    )
    found = read_cells(path)
    for cell, seconds in zip(found, (2.0, 4.0, 0.1)):
        cell |= {"seconds": {"make": seconds}, "resumed": seconds < 1}
    assert prices(found, "random", 1) == (1.0, 3.0)
    assert prices([{**cell, "resumed": True} for cell in found], "random", 1) == (1.0, 2.0)
