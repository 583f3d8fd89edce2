"""Grids: the same bits on every backend, after any interruption, with several processes at once."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dgdd_nb.experiments import Grid, Judge, Method, cells, run_cell
from dgdd_nb.runs import missing, run_grid, workers
from dgdd_nb.stored import read_cells, results

ROOT = Path(__file__).resolve().parent.parent
TINY = Grid(
    name="eight small cells",
    data={"name": "mini_digits", "train": 120, "test": 60},
    targets=("street", "print"),
    ipc=(1,),
    seeds=2,
    distill={"steps": 4, "real_batch": 12, "width": 8},
    evaluate=Judge(networks=2, width=8, recipe={"name": "quick", "epochs": 3}),
    methods=(Method("DM"), Method("DM + SGS", surgery={"name": "SGS", "alpha": 1.0, "beta": 0.1})),
)
ONE = replace(TINY, methods=(Method("DM"),), targets=("street",), seeds=1)
RUN = """
import sys, json
from dgdd_nb.experiments import Grid
from dgdd_nb.files import load_settings
from dgdd_nb.runs import run_grid
if __name__ == "__main__":
    run_grid(load_settings(Grid, sys.argv[1]), sys.argv[2], jobs=int(sys.argv[3]), progress=False)
"""


def fresh(folder: Path) -> list:
    """All that two runs must share: settings, rows, bytes of each cell."""
    return [(c["cell"], c["rows"], c["bytes"]) for c in read_cells(folder)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list:
    folder = tmp_path_factory.mktemp("undisturbed")
    run_grid(TINY, folder, backend="sequential", progress=False)
    return fresh(folder)


@pytest.fixture
def start(tmp_path):
    """Start a run in a process of its own; every one is ended after the test."""
    from dgdd_nb.files import settings_dict, write_json

    write_json(tmp_path / "grid.json", settings_dict(TINY))
    (tmp_path / "run.py").write_text(RUN, encoding="utf-8")
    begun = []

    def go(folder: Path, jobs: int = 1) -> subprocess.Popen:
        command = [
            sys.executable,
            str(tmp_path / "run.py"),
            str(tmp_path / "grid.json"),
            str(folder),
            str(jobs),
        ]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        begun.append(
            subprocess.Popen(
                command,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return begun[-1]

    yield go
    for process in begun:
        end(process)


def end(process: subprocess.Popen) -> None:
    """SIGKILL for a run and its workers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def done(folder: Path) -> int:
    return len(list((folder / "cells").glob("*.json")))


@pytest.mark.parametrize("backend", ["loky", "dask", "ray"])
def test_backends_agree_to_the_last_bit(backend, tmp_path, undisturbed):
    if backend != "loky":
        pytest.importorskip(
            "ray" if backend == "ray" else "distributed",
            reason="the extra `cluster` is not installed",
        )
    outcomes = run_grid(TINY, tmp_path, backend=backend, jobs=2, progress=False)
    assert [o.word for o in outcomes] == ["done"] * 8
    assert fresh(tmp_path) == undisturbed


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_three_times(tmp_path, undisturbed, start):
    folder, seed = tmp_path / "out", time.time_ns()
    print("seed of the moments:", seed)
    moments = random.Random(seed)
    for kill in range(3):
        before, process = done(folder), start(folder)
        limit = time.monotonic() + 120
        while done(folder) < before + 1 and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.4))  # the next cell, or the one after it, is under way
        end(process)
        assert before < done(folder) and (kill or done(folder) < 8)
    last = start(folder)
    assert last.wait(180) == 0, last.stdout.read()
    assert fresh(folder) == undisturbed
    assert not list((folder / "work").glob("*.safetensors"))


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_within_a_distillation(tmp_path, start):
    """The next run goes on from the checkpoint, and ends with the bits of a run that nobody killed."""
    from dgdd_nb.files import settings_dict, write_json

    long = replace(ONE, distill={**TINY.distill, "steps": 60, "checkpoint_every": 1})
    run_grid(long, tmp_path / "quiet", backend="sequential", progress=False)
    write_json(tmp_path / "grid.json", settings_dict(long))  # what `start` runs
    folder, limit = tmp_path / "out", time.monotonic() + 120
    process = start(folder)
    while (
        not list(folder.glob("work/*.safetensors"))
        and process.poll() is None
        and time.monotonic() < limit
    ):
        time.sleep(0.01)
    end(process)
    assert done(folder) == 0 and list(folder.glob("work/*.safetensors"))
    last = start(folder)
    assert last.wait(180) == 0, last.stdout.read()
    assert fresh(folder) == fresh(tmp_path / "quiet")
    assert [c["resumed"] for c in read_cells(folder)] == [True]


def test_two_processes_share_a_grid(tmp_path, undisturbed, start):
    folder = tmp_path / "out"
    both = [start(folder), start(folder)]
    for process in both:
        assert process.wait(240) == 0, process.stdout.read()
    assert fresh(folder) == undisturbed


def die(source, ipc, seed):
    """A method that takes its process with it."""
    os._exit(3)


def fall(source, ipc, seed):
    """A method that fails for one seed."""
    from dgdd_nb.coresets import random

    if seed == 1:
        raise ZeroDivisionError("seed one")
    return random(source, ipc, seed=seed)


def test_a_worker_that_dies_leaves_the_finished_cells(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    good = replace(TINY, methods=(Method("random", make="random"),), targets=("street",))
    bad = replace(good, methods=(*good.methods, Method("dies", make="test_experiments:die")))
    with pytest.raises(RuntimeError, match="workers stopped.*Finished cells are kept"):
        run_grid(bad, tmp_path, jobs=2, progress=False)
    run_grid(good, tmp_path, jobs=1, backend="sequential", progress=False)
    assert done(tmp_path) == 2


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path):
    grid = replace(
        TINY, methods=(Method("falls", make="test_experiments:fall"),), targets=("street",)
    )
    with pytest.raises(RuntimeError, match="1 of 2 cells failed.*ZeroDivisionError: seed one"):
        run_grid(grid, tmp_path, backend="sequential", progress=False)
    assert done(tmp_path) == 1 and len(missing(grid, tmp_path)) == 1


def test_other_settings_need_another_folder(tmp_path):
    small = replace(TINY, methods=(Method("random", make="random"),), targets=("street",), seeds=1)
    run_grid(small, tmp_path, backend="sequential", progress=False)
    with pytest.raises(ValueError, match="was made with distill.*choose another folder"):
        run_grid(replace(small, distill={"steps": 5}), tmp_path, progress=False)
    more = replace(small, seeds=2)
    assert len(run_grid(more, tmp_path, backend="sequential", progress=False)) == 1


def test_damaged_files_are_named(tmp_path):
    cell = cells(replace(TINY, methods=(Method("random", make="random"),)))[0]
    (tmp_path / "cells").mkdir()
    with pytest.raises(ValueError, match="no finished cell"):
        read_cells(tmp_path)
    run_grid(
        replace(TINY, methods=(Method("random", make="random"),), targets=("street",), seeds=1),
        tmp_path,
        backend="sequential",
        progress=False,
    )
    path = next((tmp_path / "cells").glob("*.json"))
    path.write_text(json.dumps({"kind": "else"}), encoding="utf-8")
    with pytest.raises(ValueError, match="delete it and run the grid again"):
        read_cells(tmp_path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=path.name):
        results(tmp_path)
    assert run_cell(cell, tmp_path / "other").word == "done"


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    import dgdd_nb.files as files

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    outcome = run_cell(
        cells(replace(TINY, methods=(Method("random", make="random"),)))[0], tmp_path
    )
    assert outcome.word == "failed" and "No space left" in outcome.why and done(tmp_path) == 0


def test_backend_words():
    with pytest.raises(ValueError, match="did you mean 'dask'"), workers("dsk"):
        pass
    with pytest.raises(ValueError, match="at least one job"), workers("loky", 0):
        pass


def test_other_versions_are_asked_about(tmp_path):
    small = replace(TINY, methods=(Method("random", make="random"),), targets=("street",))
    run_grid(replace(small, seeds=1), tmp_path, backend="sequential", progress=False)
    path = next((tmp_path / "cells").glob("*.json"))
    path.write_text(
        path.read_text(encoding="utf-8").replace('"torch": "', '"torch": "1.'), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="torch: 1.*resume=.anyway."):
        run_grid(small, tmp_path, backend="sequential", progress=False)
    assert (
        len(run_grid(small, tmp_path, backend="sequential", progress=False, resume="anyway")) == 1
    )


@pytest.mark.parametrize(
    "changed, says",
    [
        ("where_it_ran", "torch: .* there, 0.1 here"),
        ("data_hash", "other images than the data has now"),
    ],
)
def test_a_worker_with_other_versions_or_images_refuses(tmp_path, monkeypatch, changed, says):
    """What the driver cannot see: the machine of a worker is asked by the worker itself."""
    import dgdd_nb.experiments as module

    first, second = cells(replace(ONE, methods=(Method("random", make="random"),), seeds=2))
    assert run_cell(first, tmp_path).word == "done"
    other = {**module.where_it_ran(), "torch": "0.1"} if changed == "where_it_ran" else "0" * 64
    monkeypatch.setattr(module, changed, lambda *a: other)
    refused = run_cell(second, tmp_path)
    assert refused.word == "failed" and re.search(says, refused.why) and done(tmp_path) == 1
    if changed == "where_it_ran":
        assert run_cell(second, tmp_path, resume="anyway").word == "done"


def test_workers_elsewhere_need_not_be_like_this_machine(tmp_path, monkeypatch):
    """With an address, finished cells are compared with each other: the driver may have no GPU."""
    import dgdd_nb.runs as module

    small = replace(ONE, methods=(Method("random", make="random"),))
    run_grid(small, tmp_path, backend="sequential", progress=False)
    monkeypatch.setattr(module, "where_it_ran", lambda: {"device": "another"})
    module.check_cells(small, tmp_path, "exact", elsewhere=True)
    with pytest.raises(ValueError, match="another here"):
        module.check_cells(small, tmp_path, "exact")


def test_a_list_to_choose_from_may_grow(tmp_path):
    """Equal candidates: the first stays the choice, and the cells made with it stay in the table."""
    from dgdd_nb.choice import run_study

    def study(*rates):
        grid = replace(
            ONE, choice_seeds=1, methods=(Method("DM", choose={"options.lr": list(rates)}),)
        )
        choices, outcomes = run_study(grid, tmp_path, backend="sequential", progress=False)
        return choices[0], len(outcomes)

    (one, new), (two, more) = study(1.0), study(1.0, 1.0 + 1e-9)
    assert (new, more, len(one.accuracy), len(two.accuracy)) == (1, 0, 1, 2)
    assert one.options == two.options == {"options.lr": 1.0}
    assert len(read_cells(tmp_path)) == 1 and len(read_cells(tmp_path / "choice")) == 2


def test_a_running_grid_holds_its_folder(tmp_path):
    """No cell is there yet, so only the lock of the run says whose folder it is; killed runs leave no claim."""
    from dgdd_nb.runs import claim

    other = replace(TINY, distill={"steps": 5})
    refused = pytest.raises(ValueError, match="was made with distill.*choose another folder")
    with claim(TINY, tmp_path, 8), claim(TINY, tmp_path, 8), refused:
        run_grid(other, tmp_path, backend="sequential", progress=False)
    left = tmp_path / "work" / "run-0.lock"
    left.touch()  # of a killed run
    with claim(other, tmp_path, 8):
        assert not left.exists()
    assert not list((tmp_path / "work").glob("run-*"))


def test_a_choice_that_changes_is_refused_before_it_is_written(tmp_path):
    """Else the record would say what no cell was made with."""
    from dgdd_nb.choice import run_study

    def study(*rates):
        method = Method("DM", choose={"options.lr": list(rates)})
        return run_study(
            replace(ONE, choice_seeds=1, methods=(method,)),
            tmp_path,
            backend="sequential",
            progress=False,
        )

    (worse,), _ = study(3000.0)
    before = (tmp_path / "choices.json").read_bytes()
    with pytest.raises(ValueError, match="other options than are chosen now"):
        study(3000.0, 1.0)
    assert (
        worse.options == {"options.lr": 3000.0}
        and (tmp_path / "choices.json").read_bytes() == before
    )


def test_choices_of_other_targets_stay(tmp_path):
    from dgdd_nb.choice import Choice, record

    record(
        tmp_path, [Choice("DM", name, 1, {"lr": 1.0}, {}, "", 1) for name in ("street", "print")]
    )
    record(tmp_path, [Choice("DM", "print", 1, {"lr": 2.0}, {}, "", 1)])
    found = json.loads((tmp_path / "choices.json").read_text(encoding="utf-8"))
    assert [(c["target"], c["options"]["lr"]) for c in found] == [("street", 1.0), ("print", 2.0)]


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_one_job_on_a_cluster(backend, tmp_path):
    """`--jobs 1` is the default of every backend."""
    pytest.importorskip(
        "ray" if backend == "ray" else "distributed", reason="the extra `cluster` is not installed"
    )
    small = replace(ONE, methods=(Method("random", make="random"),))
    assert [o.word for o in run_grid(small, tmp_path, backend=backend, progress=False)] == ["done"]


def test_one_name_stands_for_one_method(tmp_path):
    small = replace(TINY, methods=(Method("random", make="random"),), targets=("street",), seeds=1)
    run_grid(small, tmp_path, backend="sequential", progress=False)
    with pytest.raises(ValueError, match="another method called 'random'"):
        run_grid(
            replace(small, methods=(Method("random", make="herding"),)), tmp_path, progress=False
        )
    run_grid(
        replace(small, methods=(Method("any", make="random", options={"per_domain": False}),)),
        tmp_path,
        backend="sequential",
        progress=False,
    )
    assert [row.method for row in results(tmp_path).rows] == ["any", "any", "random", "random"]


def test_names_of_files_hold_no_separators():
    cell = replace(cells(replace(TINY, seeds=1))[0], target="a/b: c")
    assert cell.stem.startswith("a-b-c_DM_ipc1_seed0_")


def test_a_full_disk_at_the_last_write_keeps_the_distillation(tmp_path, monkeypatch):
    """The checkpoint goes only when the cell's file is there; the next run does not distil again."""
    import dgdd_nb.experiments as module

    def full(path, value):
        raise OSError(28, "No space left on device")

    (cell,) = cells(ONE)
    monkeypatch.setattr(module, "write_json", full)
    assert run_cell(cell, tmp_path).word == "failed"
    assert module.checkpoint_of(cell, tmp_path).exists()
    monkeypatch.undo()
    assert (
        run_cell(cell, tmp_path).word == "done"
        and not module.checkpoint_of(cell, tmp_path).exists()
    )
    (path,) = (tmp_path / "cells").glob("*.json")
    assert json.loads(path.read_text(encoding="utf-8"))["resumed"]


def test_anyway_reaches_a_half_finished_cell(tmp_path):
    """A checkpoint written with other threads: refused with resume="exact", continued with "anyway"."""
    from dgdd_nb.experiments import checkpoint_of, data_of, make_set, split_of, torch_threads

    (cell,) = cells(ONE)
    source = split_of(data_of(cell.data), cell.setting, cell.target).source
    with torch_threads(2):
        make_set(
            cell.method,
            source,
            ipc=cell.ipc,
            seed=cell.seed,
            checkpoint=checkpoint_of(cell, tmp_path),
            **{**cell.distill, "steps": 2},
        )
    refused = run_cell(cell, tmp_path)
    assert refused.word == "failed" and "anyway" in refused.why
    assert run_cell(cell, tmp_path, resume="anyway").word == "done"


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"distill": {"stpes": 3}}, "did you mean 'steps'"),
        (
            {"methods": (Method("x", surgery={"name": "SGS", "alhpa": 1.0}),)},
            "did you mean 'alpha'",
        ),
        ({"methods": (Method("x", surgery={"nmae": "SGS"}),)}, "needs a name"),
        ({"methods": (Method("x", make="randm"),)}, "did you mean 'random'"),
        ({"data": {"name": "mini_digits", "trian": 60}}, "did you mean 'train'"),
        ({"data": {"name": "pacs", "root": "nowhere", "lsits": False}}, "did you mean 'lists'"),
        ({"methods": (Method("x", make="random"),), "ipc": (500,)}, "lower ipc"),
        ({"evaluate": Judge(architectures=("resnet81",), networks=1)}, "resnet18"),
        ({"evaluate": Judge(networks=1, depth=9)}, "depth"),
        (
            {"methods": (Method("x", prepare={"name": "pseudo_domains", "withd": 8}),)},
            "did you mean 'width'",
        ),
        (
            {"methods": (Method("x", make="test_experiments:fall", options={"sede": 1}),)},
            "did you mean 'seed'",
        ),
        ({"methods": (Method("x", make="whole", options={"ipc2": 1}),)}, "ipc2"),
        ({"data": {"name": "mini_digits", "train": "sixty"}}, "value of the wrong type"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        run_grid(replace(TINY, **changes), tmp_path / "grid", backend="sequential", progress=False)
    assert not (tmp_path / "grid" / "grid.json").exists() and not list(tmp_path.rglob("cells/*"))


@pytest.mark.parametrize("place", ["distill", "options", "choose"])
@pytest.mark.parametrize("name", ["ipc", "seed", "only"])
def test_what_a_cell_decides_cannot_be_set(place, name):
    """Else cells would hold other sets than they say."""
    with pytest.raises(ValueError, match=f"sets '{name}', which the grid decides"):
        if place == "distill":
            replace(TINY, distill={name: 1})
        else:
            replace(
                TINY,
                methods=(
                    Method(
                        "x",
                        **{place: {name: 1} if place == "options" else {f"options.{name}": [1]}},
                    ),
                ),
            )


def test_a_method_without_cells_may_be_corrected(tmp_path):
    """One that has cells, or is being run, may not."""
    small = replace(
        ONE,
        methods=(
            Method("random", make="random"),
            Method("fails", make="test_experiments:fall", options={}),
        ),
        seeds=2,
    )
    with pytest.raises(RuntimeError, match="1 of 4 cells failed"):
        run_grid(small, tmp_path, backend="sequential", progress=False)
    shutil.rmtree(tmp_path / "cells")
    run_grid(
        replace(small, methods=(small.methods[0],)), tmp_path, backend="sequential", progress=False
    )
    other = Method("fails", make="herding", options={"features": "pixels"})
    run_grid(replace(small, methods=(other,)), tmp_path, backend="sequential", progress=False)
    with pytest.raises(ValueError, match="another method called 'random'"):
        run_grid(
            replace(small, methods=(replace(small.methods[0], make="k_center"),)),
            tmp_path,
            backend="sequential",
            progress=False,
        )


def test_a_narrower_run_keeps_the_whole_table(tmp_path):
    wide = replace(TINY, methods=(Method("random", make="random"),))
    run_grid(wide, tmp_path, backend="sequential", progress=False)
    assert (
        run_grid(
            replace(wide, targets=("street",), seeds=1),
            tmp_path,
            backend="sequential",
            progress=False,
        )
        == []
    )
    found = json.loads((tmp_path / "grid.json").read_text(encoding="utf-8"))
    assert (found["targets"], found["seeds"], found["cells"]) == (["street", "print"], 2, 4)


def test_a_file_is_no_folder_for_results(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="name a folder for the results"):
        run_grid(ONE, tmp_path / "out", backend="sequential", progress=False)


def test_pseudo_domains_follow_the_seed():
    """Five distillation seeds see five clusterings, as in the study of 32_pseudo_domains."""
    from dgdd_nb.experiments import data_of, prepared

    source = data_of(TINY.data).only("print").split("train")
    method = Method("K", prepare={"name": "pseudo_domains", "K": 2, "width": 8, "min_size": 1})
    first, again, second = (prepared(method, source, seed).domains for seed in (0, 0, 1))
    assert bool((first == again).all()) and bool((first != second).any())
    fixed = replace(method, prepare={**method.prepare, "seed": 0})
    assert bool((prepared(fixed, source, 1).domains == first).all())


@pytest.mark.parametrize("part", ["val", "crossval"])
def test_the_held_out_part_is_what_options_are_chosen_on(part):
    from dgdd_nb.data import MultiDomain
    from dgdd_nb.experiments import split_of

    images = torch.randint(256, (24, 3, 8, 8)).to(torch.uint8)
    data = MultiDomain.from_tensors(
        images,
        ["a", "b"] * 12,
        ["x"] * 12 + ["y"] * 12,
        splits=(["train"] * 4 + [part] * 2) * 4,
        split_names=("train", part),
    )
    split = split_of(data, "validation", "y")
    assert len(split.source) == 8 and [len(p) for p in split.targets.values()] == [4]


def test_a_mistyped_benchmark_of_the_paper_is_named():
    with pytest.raises(ValueError, match="did you mean 'pacs'"):
        replace(TINY, paper="pasc")
