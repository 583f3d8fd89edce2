"""The ready tables load and plan what they say; the commands read what a grid left."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dgdd_nb.cli import app
from dgdd_nb.experiments import Grid, Judge, Method, cells, find
from dgdd_nb.files import load_settings
from dgdd_nb.runs import run_grid
from dgdd_nb.tables import PAPER, lines, render

TABLES = sorted((Path(__file__).parents[1] / "benchmarks" / "tables").glob("*.toml"))
ON_DISK = {"main_digits_dg", "main_pacs", "main_core50_hard", "pacs_photo_gpu", "pacs_small", "digits_small"}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_ready_table_loads(path):
    """Every key is known, every part can be imported, the comment names the file's own command."""
    grid = load_settings(Grid, path)
    assert f"dgdd run benchmarks/tables/{path.name}" in path.read_text(encoding="utf-8")
    assert callable(find(grid.data["name"]))
    assert grid.paper is None or any(key[0] == grid.paper for key in PAPER)
    assert (path.stem in ON_DISK) == ("root" in grid.data)


def test_there_is_a_table_for_each_study():
    wanted = {"main_mini", "ablation_mini", "alpha_mini", "beta_mini", "K_mini", "init_mini", "ID_mini", "SDG_mini",
              "architectures_mini", *ON_DISK}
    assert {path.stem for path in TABLES} == wanted


@pytest.mark.parametrize("name, number", [
    ("main_mini", 4 * (5 * 5 + 1)), ("ablation_mini", 4 * 5 * 5), ("alpha_mini", 4 * 7 * 5), ("beta_mini", 4 * 7 * 5),
    ("K_mini", 4 * 7 * 5), ("init_mini", 4 * 6 * 5), ("architectures_mini", 4 * (5 * 5 + 1))])
def test_cells_of_ready_tables(name, number):
    grid = load_settings(Grid, next(path for path in TABLES if path.stem == name))
    assert len(cells(grid)) == number


def test_ablation_has_the_five_rows_of_the_paper():
    from dgdd_nb.experiments import call

    grid = load_settings(Grid, next(path for path in TABLES if path.stem == "ablation_mini"))
    made = [None if method.surgery is None else call(method.surgery) for method in grid.methods]
    assert [type(surgery).__name__ for surgery in made] == ["NoneType", "PartsAlone", "PartsAlone", "PartsAlone", "SGS"]
    assert [(s.alpha, s.beta) for s in made[1:4]] == [(1, 0), (0, 1), (1, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("table")
    grid = Grid(
        name="small", targets=("print",), ipc=(1,), seeds=2, baseline="random",
        data={"name": "mini_digits", "train": 60, "test": 20}, distill={"steps": 2, "real_batch": 12, "width": 8},
        evaluate=Judge(networks=2, width=8, recipe={"name": "quick", "epochs": 2}),
        methods=(Method("random", make="random"), Method("alpha 0", surgery={"name": "SGS", "alpha": 0.0}),
                 Method("alpha 1", surgery={"name": "SGS", "alpha": 1.0})))
    run_grid(grid, place, backend="sequential", progress=False)
    return place


def command(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output


def test_commands_read_folder_and_pack_alike(folder, tmp_path):
    packed = tmp_path / "small.jsonl"
    assert command("pack", folder, packed)[0] == 0
    for form in ("markdown", "csv", "latex"):
        one, other = command("table", folder, "--format", form), command("table", packed, "--format", form)
        assert one == other and one[0] == 0 and "alpha 1" in one[1]
    assert command("plot", packed, "--over", "surgery.alpha", "--out", tmp_path / "a.png")[0] == 0
    assert command("plot", folder)[0] == 0 and (folder / "figure.png").stat().st_size > 5000
    assert [line.accuracy.mean for line in lines(packed)] == [line.accuracy.mean for line in lines(folder)]


@pytest.mark.parametrize("words, says", [
    (("table", "FOLDER", "--format", "latecks"), "did you mean 'latex'"),
    (("table", "nowhere"), "check the path"),
    (("table", "nowhere.jsonl"), "check the path"),
    (("plot", "FOLDER", "--over", "surgery.gamma"), "surgery.gamma"),
    (("pack", "FOLDER", "table.txt"), ".jsonl"),
    (("run", "nowhere.toml"), "nowhere.toml"),
    (("table", "FOLDER", "--baseline", "radnom"), "random"),
])
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
    again = json.loads(json.dumps([cell for cell in found if cell["cell"]["method"]["name"] == "random"]))
    for cell in again:
        cell["cell"]["target"] = "scan"
        cell["rows"] = [[name, "scan" if domain == "print" else domain, seed, value]
                        for name, domain, seed, value in cell["rows"]]
    packed.write_text("\n".join(map(json.dumps, [grid, *found, *again])), encoding="utf-8")
    assert {line.accuracy.method for line in lines(packed) if line.accuracy.target == "average"} == {"random"}
    assert "scan" in render(packed)


def test_an_unfinished_seed_is_not_averaged(folder, tmp_path):
    """A paired difference of averages takes only seeds that have every target, like the averages themselves."""
    from dgdd_nb.evaluate import Row, paired_difference, summarise

    rows = [Row(method, target, seed, network, 50.0 + 10 * (target == "b") + (method == "x") * (1 + seed))
            for method in ("x", "y") for target in ("a", "b") for seed in range(3) for network in range(2)
            if (target, seed) != ("b", 2)]
    assert paired_difference(rows, "x", "y").values == (1.0, 2.0)
    assert summarise(rows, "x").mean - summarise(rows, "y").mean == 1.5
    assert paired_difference(rows, "x", "y", "a").values == (1.0, 2.0, 3.0)
