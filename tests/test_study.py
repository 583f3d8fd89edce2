"""Studies: the same bits on every backend, after any interruption, with several processes at once; mistakes found early."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_trees import grow, picture

import dgdd_nb.study as module
from dgdd_nb import methods
from dgdd_nb.cost import front, price_list
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.evaluate import evaluate, network_seeds
from dgdd_nb.files import load_settings, settings_dict, write_json
from dgdd_nb.results import lines, pack, render, unpack
from dgdd_nb.study import (
    Evaluation,
    Method,
    Study,
    candidates,
    claim,
    compare,
    data_of,
    data_plug,
    forecast,
    missing,
    prepared,
    rehearse,
    run_study,
    run_trial,
    stored,
    task_of,
    tidy,
    trials,
)

ROOT = Path(__file__).resolve().parent.parent
TABLES = sorted((ROOT / "benchmarks" / "tables").glob("*.toml"))
TINY = Study(
    name="eight small trials",
    data={"name": "mini_digits", "train": 120, "test": 60},
    targets=("street", "print"),
    ipc=(1,),
    seeds=2,
    distill={"steps": 4, "real_batch": 12, "width": 8},
    evaluations=(Evaluation(networks=2, width=8, recipe={"name": "quick", "epochs": 3}),),
    methods=(Method("DM"), Method("DM + SGS", "DM+SGS", {"alpha": 1.0, "beta": 0.1})),
)
ONE = replace(TINY, methods=(Method("DM"),), targets=("street",), seeds=1)
CHEAP = replace(ONE, methods=(Method("random"),))
RUN = """
import sys
from dgdd_nb.files import load_settings
from dgdd_nb.study import Study, run_study
run_study(load_settings(Study, sys.argv[1]), sys.argv[2], progress=False)
"""


def run(study: Study, folder: Path, **more) -> int:
    """Number of trials that were run."""
    more = {"backend": "sequential", "progress": False, **more}
    return run_study(study, folder, **more).attrs["trials run"]


def fresh(folder: Path) -> list:
    """All that two runs must share: settings, rows, bytes of each trial."""
    return [(x["trial"], x["rows"], x["bytes"]) for x in stored(folder)[1]]


def done(folder: Path) -> int:
    return len(list((folder / "trials").glob("*.json")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(TINY, folder)
    return fresh(folder)


@pytest.fixture
def start(tmp_path):
    """Start a run in a process of its own; every one is ended after the test."""
    begun = []

    def go(folder: Path, study: Study = TINY, *command: str) -> subprocess.Popen:
        write_json(tmp_path / "study.json", settings_dict(study))
        words = [*(command or ("-c", RUN)), tmp_path / "study.json", folder]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": env}
        begun.append(subprocess.Popen([sys.executable, *words], start_new_session=True, **pipes))
        return begun[-1]

    yield go
    for process in begun:
        end(process)


def end(process: subprocess.Popen) -> None:
    """SIGKILL for a run and its workers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(process: subprocess.Popen, condition, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)


@pytest.mark.parametrize("backend", ["loky", "dask", "ray"])
def test_backends_agree_to_the_last_bit(backend, tmp_path, undisturbed):
    if backend != "loky":
        pytest.importorskip("ray" if backend == "ray" else "distributed")
    assert run(TINY, tmp_path, backend=backend, jobs=2) == 8
    assert fresh(tmp_path) == undisturbed


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_one_job_on_a_cluster(backend, tmp_path):
    pytest.importorskip("ray" if backend == "ray" else "distributed")
    assert run(CHEAP, tmp_path, backend=backend) == 1


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_three_times(tmp_path, undisturbed, start):
    folder, seed = tmp_path / "out", time.time_ns()
    print("seed of the moments:", seed)
    moments = random.Random(seed)
    for kill in range(3):
        before, process = done(folder), start(folder)
        wait_for(process, lambda least=before: done(folder) > least)
        time.sleep(moments.uniform(0, 0.4))  # the next trial, or the one after it, is under way
        end(process)
        assert before < done(folder) and (kill or done(folder) < 8)
    last = start(folder)
    assert last.wait(180) == 0, last.stdout.read()
    assert fresh(folder) == undisturbed
    assert not list((folder / "work").glob("*.safetensors"))


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_within_a_distillation(tmp_path, start):
    """The next run goes on from the checkpoint, and ends with the bits of a run that nobody killed."""
    long = replace(ONE, distill={**TINY.distill, "steps": 60, "checkpoint_every": 1})
    run(long, tmp_path / "quiet")
    folder = tmp_path / "out"
    process = start(folder, long)
    wait_for(process, lambda: list(folder.glob("work/*.safetensors")))
    end(process)
    assert done(folder) == 0 and list(folder.glob("work/*.safetensors"))
    last = start(folder, long)
    assert last.wait(180) == 0, last.stdout.read()
    assert fresh(folder) == fresh(tmp_path / "quiet")
    assert [x["resumed"] for x in stored(folder)[1]] == [True]


def test_two_processes_share_a_study(tmp_path, undisturbed, start):
    both = [start(tmp_path / "out"), start(tmp_path / "out")]
    for process in both:
        assert process.wait(240) == 0, process.stdout.read()
    assert fresh(tmp_path / "out") == undisturbed


@pytest.mark.skipif(os.name == "nt", reason="SIGINT")
def test_an_interrupted_command_ends_with_one_sentence(tmp_path, start):
    """Ctrl-C goes to the workers too; finished trials are there, and no traceback is shown."""
    command = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command += "from dgdd_nb.cli import app; study, results = sys.argv[1:]; "
    command += "app(['run', study, '--results', results, '--jobs', '2'])"
    process = start(tmp_path / "out", replace(TINY, seeds=50), "-c", command)
    wait_for(process, lambda: done(tmp_path / "out"))
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and done(tmp_path / "out") < 200
    last = said.strip().splitlines()[-1]
    assert "finished trials" in last and "the same command goes on" in last
    assert "Traceback" not in said and "resource_tracker" not in said


def die(source, ipc, seed, work):
    """A method that takes its process with it."""
    os._exit(3)


def fall(source, ipc, seed, work):
    """A method that fails for one seed."""
    if seed == 1:
        raise ZeroDivisionError("seed one")
    return methods.make_set("random", source, ipc, seed)


def test_a_worker_that_dies_leaves_the_finished_trials(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    good = replace(CHEAP, seeds=2)
    bad = replace(good, methods=(*good.methods, Method("dies", "test_study:die")))
    with pytest.raises(RuntimeError, match="workers stopped.*Finished trials are kept"):
        run(bad, tmp_path, backend="loky", jobs=2)
    run(good, tmp_path)
    assert done(tmp_path) == 2


def test_a_trial_that_fails_does_not_stop_the_others_and_may_be_corrected(tmp_path):
    study = replace(CHEAP, methods=(Method("falls", "test_study:fall"),), seeds=2)
    with pytest.raises(RuntimeError, match="1 of 2 trials failed.*ZeroDivisionError: seed one"):
        run(study, tmp_path)
    assert done(tmp_path) == 1 and len(missing(study, tmp_path)) == 1
    for path in (tmp_path / "trials").glob("*.json"):
        path.unlink()
    assert run(replace(study, methods=(Method("falls", "random"),)), tmp_path) == 2


def test_a_method_registered_here_reaches_the_workers(tmp_path):
    here = lambda source, ipc, seed, work: methods.make_set("random", source, ipc, seed + 5)  # noqa: E731
    methods.register("mine", here)
    try:
        assert (
            run(
                replace(CHEAP, methods=(Method("mine"),), seeds=2), tmp_path, backend="loky", jobs=2
            )
            == 2
        )
    finally:
        methods.METHODS.pop("mine")


def test_what_may_change_in_a_folder(tmp_path):
    """More seeds, targets and methods are welcome; other budgets, and other methods of the same name, are not."""
    run(CHEAP, tmp_path)
    for change in (
        {"distill": {"steps": 5}},
        {"evaluations": (Evaluation(),)},
        {"domains": ("scan", "street")},
    ):
        for call in (forecast, run):  # nothing is measured before
            with pytest.raises(ValueError, match="choose another folder"):
                call(replace(CHEAP, **change), tmp_path)
    with pytest.raises(ValueError, match="another method called 'random'"):
        run(replace(CHEAP, methods=(Method("random", "herding"),)), tmp_path)
    more = Method("any", "random", {"per_domain": False})
    assert run(replace(CHEAP, methods=(more,), seeds=2, targets=("street", "print")), tmp_path) == 4
    assert run(CHEAP, tmp_path) == 0
    found = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert (found["targets"], found["seeds"]) == (["street", "print"], 2)
    assert tidy(*stored(tmp_path)).method.unique().tolist() == ["random", "any"]


def test_a_running_study_holds_its_folder(tmp_path):
    """No trial is there yet, so only the lock of the run says whose folder it is; killed runs leave no claim."""
    other = replace(TINY, distill={"steps": 5})
    refused = pytest.raises(ValueError, match="was made with distill.*choose another folder")
    with claim(TINY, tmp_path), claim(TINY, tmp_path), refused:
        run(other, tmp_path)
    with claim(other, tmp_path):  # of a killed run nothing is left
        pass


def test_damaged_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no finished trial"):
        stored(tmp_path)
    run(CHEAP, tmp_path)
    path = next((tmp_path / "trials").glob("*.json"))
    path.write_text(json.dumps({"kind": "else"}), encoding="utf-8")
    with pytest.raises(ValueError, match="delete it and run the study again"):
        stored(tmp_path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=path.name):
        stored(tmp_path)
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="name a folder for the results"):
        run(ONE, tmp_path / "out")


def test_full_disk_is_one_sentence_and_keeps_the_distillation(tmp_path, monkeypatch):
    """The checkpoint goes only when the trial's file is there; the next run does not distil again."""

    def full(*_):
        raise OSError(28, "No space left on device")

    (trial,) = trials(ONE)
    monkeypatch.setattr(module, "write_json", full)
    outcome = run_trial(trial, tmp_path)
    assert "No space left" in outcome and done(tmp_path) == 0
    assert list(tmp_path.glob("work/*.safetensors"))
    monkeypatch.undo()
    assert run_trial(trial, tmp_path) == "done" and not list(tmp_path.glob("work/*.safetensors"))
    assert json.loads(trial.file(tmp_path).read_text(encoding="utf-8"))["resumed"]


def test_other_versions_are_asked_about(tmp_path):
    run(CHEAP, tmp_path)
    path = next((tmp_path / "trials").glob("*.json"))
    text = path.read_text(encoding="utf-8").replace('"torch": "', '"torch": "1.')
    path.write_text(text, encoding="utf-8")
    more = replace(CHEAP, seeds=2)
    with pytest.raises(ValueError, match="torch: 1.*resume=.anyway."):
        run(more, tmp_path)
    assert run(more, tmp_path, resume="anyway") == 1


@pytest.mark.parametrize(
    "changed, says", [("where_it_ran", "torch: .* there, 0.1 here"), ("data_of", "other images")]
)
def test_a_worker_with_other_versions_or_images_refuses(tmp_path, monkeypatch, changed, says):
    """What the driver cannot see: the machine of a worker is asked by the worker itself."""
    first, second = trials(replace(CHEAP, seeds=2))
    assert run_trial(first, tmp_path) == "done"
    real = getattr(module, changed)
    other = {
        "where_it_ran": lambda: {**real(), "torch": "0.1"},
        "data_of": lambda study: (real(study)[0], "0" * 64),
    }
    monkeypatch.setattr(module, changed, other[changed])
    refused = run_trial(second, tmp_path)
    assert re.search(says, refused) and done(tmp_path) == 1
    if changed == "where_it_ran":
        assert run_trial(second, tmp_path, resume="anyway") == "done"


def test_workers_elsewhere_need_not_be_like_this_machine(tmp_path, monkeypatch):
    """With an address, finished trials are compared with each other: the driver may have no GPU."""
    run(CHEAP, tmp_path)
    monkeypatch.setattr(module, "where_it_ran", lambda: {"device": "another"})
    assert module._run_trials(CHEAP, tmp_path, address="tcp://there") == 0
    with pytest.raises(ValueError, match="another here"):
        module._run_trials(CHEAP, tmp_path)


def test_anyway_reaches_a_half_finished_trial(tmp_path):
    """A checkpoint written with other threads: refused with resume="exact", continued with "anyway"."""
    (trial,) = trials(ONE)
    source = task_of(ONE, "street").source
    with module._torch_threads(2):
        work = methods.Work(tmp_path / "work" / f"{trial.stem}.safetensors")
        trial.make(source, work, steps=2)
    refused = run_trial(trial, tmp_path)
    assert "anyway" in refused
    assert run_trial(trial, tmp_path, resume="anyway") == "done"


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"distill": {"stpes": 3}}, "did you mean 'steps'"),
        ({"methods": (Method("x", "DM+SGS", {"alhpa": 1.0}),)}, "did you mean 'alpha'"),
        ({"methods": (Method("x", "DM", {"surgery": {"nmae": "SGS"}}),)}, "needs a name"),
        ({"methods": (Method("x", "randm"),)}, "did you mean 'random'"),
        ({"methods": (Method("x", "random", {"per_doman": True}),)}, "did you mean 'per_domain'"),
        ({"data": {"name": "mini_digits", "trian": 60}}, "did you mean 'train'"),
        ({"data": {"name": "mini_digits", "train": "sixty"}}, "train must be a whole number"),
        ({"data": {"name": "mini_digits", "domains": 3}}, "value of the wrong type"),
        ({"methods": (Method("x", "random"),), "ipc": (500,)}, "lower ipc"),
        ({"evaluations": (Evaluation(network="resnet81"),)}, "resnet18"),
        ({"evaluations": (Evaluation(depth=9),)}, "depth"),
        (
            {"methods": (Method("x", "DM", prepare={"name": "pseudo_domains", "withd": 8}),)},
            "'width'",
        ),
        ({"methods": (Method("x", "test_study:fall", {"sede": 1}),)}, "did you mean 'seed'"),
        ({"targets": ("stret",)}, "did you mean 'street'"),
        ({"domains": ("scn", "street")}, "did you mean 'scan'"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        run(replace(TINY, **changes), tmp_path / "out")
    assert not (tmp_path / "out" / "study.json").exists() and not list(tmp_path.rglob("trials/*"))


def test_mistakes_of_a_study_itself():
    for changes, says in (
        ({"paper": "pasc"}, "did you mean 'pacs'"),
        ({"setting": "SGD"}, "did you mean 'SDG'"),
        ({"baseline": "SGS"}, "DM"),
        ({"methods": TINY.methods * 2}, "its own name"),
        ({"ipc": (0,)}, "ipc must be a whole number from 1"),
        ({"seeds": 10**20}, "seeds must be a whole number from 1 to 1,000"),
        ({"evaluations": ()}, "needs methods, evaluations"),
        ({"methods": (Method("DM", select={"lr": []}),)}, "values to select from"),
        ({"methods": (Method("x", options={"seed": 1}),)}, "which the study decides"),
        ({"methods": (Method("x", select={"ipc": [1]}),)}, "which the study decides"),
        *(
            ({"distill": {name: 1}}, f"sets '{name}', which the study decides")
            for name in ("ipc", "seed", "share")
        ),
    ):
        with pytest.raises(ValueError, match=says):
            replace(TINY, **changes)
    with pytest.raises(ValueError, match="quick"):
        Evaluation(recipe="quikc")
    with pytest.raises(ValueError, match="networks must be a whole number from 1"):
        Evaluation(networks=0)
    with pytest.raises(ValueError, match="not set"):
        data_of(replace(TINY, data={"name": "from_folder", "root": "$DGDD_NOWHERE/x"}))


def test_options_are_set_by_their_path():
    method = Method("x", options={"surgery": "SGS"}, prepare="pseudo_domains", select={"lr": [1]})
    made = module.with_options(method, {"surgery.alpha": 1, "prepare.K": 3, "lr": 2})
    assert made.options == {"surgery": {"name": "SGS", "alpha": 1}, "lr": 2}
    assert made.prepare == {"name": "pseudo_domains", "K": 3} and made.select == {}


def test_the_whole_source_has_neither_ipc_nor_seed():
    both = replace(TINY, methods=(*TINY.methods, Method("whole")), ipc=(1, 2))
    assert len(trials(both)) == 2 * 2 * 2 * 2 + 2


def test_names_of_files_hold_no_separators_and_stand_for_all_settings():
    trial = replace(trials(ONE)[0], target="a/b: c")
    assert trial.stem.startswith("a-b-c_DM_ipc1_seed0_")
    stem = trials(ONE)[0].stem
    assert trials(replace(ONE, name="other", seeds=3, baseline="DM"))[0].stem == stem
    for change in ({"distill": {"steps": 5}}, {"threads": 2}, {"evaluations": (Evaluation(),)}):
        assert trials(replace(ONE, **change))[0].stem != stem


def study_of_rates(*rates: float) -> Study:
    return replace(ONE, selection_seeds=1, methods=(Method("DM", select={"lr": list(rates)}),))


def test_a_list_to_select_from_may_grow(tmp_path):
    """Equal candidates: the first stays selected, and the trials made with it stay in the table."""
    assert run(study_of_rates(1.0), tmp_path) == 1
    assert run(study_of_rates(1.0, 1.0 + 1e-9), tmp_path) == 0
    (one,) = json.loads((tmp_path / "selection.json").read_text(encoding="utf-8"))
    assert one["options"] == {"lr": 1.0} and len(one["accuracy"]) == 2
    assert done(tmp_path) == 1 and done(tmp_path / "selection") == 2
    method = stored(tmp_path)[1][0]["trial"]["method"]
    assert method["options"] == {"lr": 1.0} and method["select"] == {}


def test_an_unpacked_study_goes_on_with_what_it_selected(tmp_path):
    study = study_of_rates(1.0, 2.0)
    run(study, tmp_path / "first")
    pack(tmp_path / "first", tmp_path / "packed.jsonl")
    assert "candidates" not in tidy(*stored(tmp_path / "packed.jsonl")).attrs["study"]
    folder = unpack(tmp_path / "packed.jsonl", tmp_path / "second")
    files = [sorted((tmp_path / x).glob("**/trials/*.json")) for x in ("first", "second")]
    assert [x.name for x in files[0]] == [x.name for x in files[1]]
    assert run(replace(study, seeds=2), folder) == 1 and done(folder / "selection") == 2
    with pytest.raises(ValueError, match="setting = validation, this study has two out"):
        run(replace(study, select_on="two out"), folder)
    with pytest.raises(ValueError, match="another folder"):
        unpack(tmp_path / "packed.jsonl", folder)
    with pytest.raises(ValueError, match="ends in .jsonl"):
        unpack(folder, tmp_path / "third")


@pytest.mark.parametrize("change", [{"seed": "/../../../evil"}, {"seed": None}, None, "x"])
def test_a_pack_with_odd_candidates_is_refused_at_the_door(change, tmp_path):
    run(study_of_rates(1.0), tmp_path / "first")
    path = pack(tmp_path / "first", tmp_path / "packed.jsonl")
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    table = json.loads(first)
    if isinstance(change, dict):
        table["candidates"][1][0]["trial"] |= change
    else:
        table["candidates"] = [change, 1, 2]
    path.write_text("\n".join([json.dumps(table), *rest]), encoding="utf-8")
    with pytest.raises(ValueError, match="no packed study"):
        unpack(path, tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_a_selection_that_changes_is_refused_before_it_is_written(tmp_path):
    """Else the record would say what no trial was made with."""
    run(study_of_rates(3000.0), tmp_path)
    before = (tmp_path / "selection.json").read_bytes()
    with pytest.raises(ValueError, match="or one with other options than are selected now"):
        run(study_of_rates(3000.0, 1.0), tmp_path)
    assert (tmp_path / "selection.json").read_bytes() == before


@pytest.mark.parametrize("text", ["{}", "[3]", '[{"method": "DM"}]', "[", '"x"'])
def test_a_damaged_selection_is_named(tmp_path, text):
    """By its path, whatever shape it has."""
    (tmp_path / "selection.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="selection.json is (damaged|not valid JSON)"):
        module.recorded(tmp_path)


def test_selections_of_other_targets_stay(tmp_path):
    first = {"method": "DM", "ipc": 1, "options": {"lr": 1.0}}
    made = [{**first, "target": name} for name in ("street", "print")]
    for selected in (made, [{**made[1], "options": {"lr": 2.0}}]):
        with claim(study_of_rates(1.0, 2.0), tmp_path, selected):
            pass
    found = json.loads((tmp_path / "selection.json").read_text(encoding="utf-8"))
    assert [(x["target"], x["options"]["lr"]) for x in found] == [("street", 1.0), ("print", 2.0)]


def test_selection_never_sees_the_target():
    for setting, names in (("MDG", {"scan", "photo", "print"}), ("SDG", {"street"})):
        trial = module.selection_study(replace(study_of_rates(1.0), setting=setting))
        task = task_of(trial, "street")
        assert set(task.source.domain_names) == set(task.targets) == names


def test_options_may_be_selected_on_a_whole_source_domain(tmp_path):
    """What is chosen for a target is scored on a domain that is left out with it."""
    study = replace(study_of_rates(1.0, 2.0), select_on="two out")
    names = module.task_names(module.selection_study(study))
    assert names == ("scan + street", "photo + street", "street + print")
    task = task_of(module.selection_study(study), names[0])
    assert task.source.domain_names == ("photo", "print") and set(task.targets) == {
        "scan",
        "street",
    }
    run(study, tmp_path)
    rows = tidy(*stored(tmp_path / "selection"))
    chosen, (one,) = rows[rows.target == "street"], stored(tmp_path)[1]
    assert set(chosen.domain) == {"scan", "photo", "print"} and not chosen.seen.any()
    best = chosen.groupby("method").accuracy.mean().idxmax()
    assert best == f"DM: lr {one['trial']['method']['options']['lr']}"
    with pytest.raises(ValueError, match="at least three"):
        trials(replace(study, setting="two out", domains=("street", "print"), methods=ONE.methods))


def test_an_oracle_learns_from_the_target_and_is_scored_on_other_images_of_it():
    data = data_of(ONE)[0]
    task = task_of(replace(ONE, setting="oracle"), "street")
    assert task.source.domain_names == data.domain_names and set(task.targets) == {"street"}
    assert len(task.source) == 4 * 120 and len(task.targets["street"]) == 60
    with pytest.raises(ValueError, match="in two splits"):
        one_split = {"name": "mini_digits", "train": 120, "test": 0}
        task_of(replace(ONE, setting="oracle", data=one_split), "street")


@pytest.mark.parametrize("split", ["val", "crossval"])
def test_the_held_out_split_is_what_options_are_selected_on(split, monkeypatch):
    from dgdd_nb.data import MultiDomain

    images = torch.randint(256, (24, 3, 8, 8)).to(torch.uint8)
    splits = {"splits": (["train"] * 4 + [split] * 2) * 4, "split_names": ("train", split)}
    data = MultiDomain.from_arrays(images, ["a", "b"] * 12, ["x"] * 12 + ["y"] * 12, **splits)
    monkeypatch.setattr(module, "data_of", lambda study: (data, ""))
    task = task_of(replace(ONE, setting="validation"), "y")
    assert len(task.source) == 8 and [len(part) for part in task.targets.values()] == [4]


def test_pseudo_domains_follow_the_seed():
    """Five distillation seeds see five clusterings, as in the study of 32_pseudo_domains."""
    source = data_of(ONE)[0].only("print").split("train")
    method = Method(
        "K", "DM", prepare={"name": "pseudo_domains", "K": 2, "width": 8, "min_size": 1}
    )
    first, again, second = (prepared(method, source, seed).domains for seed in (0, 0, 1))
    assert bool((first == again).all()) and bool((first != second).any())
    fixed = replace(method, prepare={**method.prepare, "seed": 0})
    assert bool((prepared(fixed, source, 1).domains == first).all())


def negative(batch, net, dice):
    """A transform that a study names."""
    return replace(batch, images=-batch.images)


def test_an_evaluation_sets_each_part_by_name(tmp_path):
    base = {"name": "quick", "epochs": 20}
    changes = {"plain": {}, "negative": {"transform": "test_study:negative"}}
    changes["adam"] = {"optimiser": "adam", "lr": 0.001}
    ways = tuple(
        Evaluation(name, networks=1, width=8, recipe=base | x) for name, x in changes.items()
    )
    ways += (Evaluation("deep", networks=1, network="convnet-bn", width=8, depth=1, recipe=base),)
    rows = run_study(
        replace(CHEAP, ipc=(3,), evaluations=ways), tmp_path, backend="sequential", progress=False
    )
    each = rows.groupby("evaluation", sort=False).accuracy.agg(tuple)
    assert list(each.index) == [way.name for way in ways] and each.nunique() == 4


def test_networks_are_drawn_anew_for_each_distillation_seed(tmp_path):
    rows = run_study(replace(CHEAP, seeds=2), tmp_path, backend="sequential", progress=False)
    seeds = rows.groupby("distillation_seed").network_seed.unique().map(list).to_dict()
    assert seeds == {0: [0, 1], 1: [1000, 1001]}


def test_rows_of_folds_are_the_score_in_parts(tmp_path):
    """Their mean is the score; a study without folds has the settings that it had before them."""
    way = CHEAP.evaluations[0]
    parts = replace(CHEAP, evaluations=(replace(way, folds=4),))
    assert run(CHEAP, tmp_path / "a") == run(parts, tmp_path / "b") == 1
    whole, split = (tidy(*stored(tmp_path / name)) for name in "ab")
    keys = ["domain", "network_seed"]
    sizes = split.groupby(keys).size()
    assert set(sizes) == {4} and whole.groupby(keys).size().max() == 1
    both = [rows.groupby(keys).accuracy.mean() for rows in (whole, split)]
    assert both[0].to_numpy() == pytest.approx(both[1].to_numpy(), abs=1e-3)
    settings = [trials(study)[0].settings["evaluations"][0] for study in (CHEAP, parts)]
    assert "folds" not in settings[0] and settings[1]["folds"] == 4


def test_rows_of_classes_are_the_score_in_parts(tmp_path):
    """As many test images of each class: their mean is the score, each is that of `evaluate`."""
    way = CHEAP.evaluations[0]
    parts = replace(CHEAP, evaluations=(replace(way, by_class=True),))
    assert run(CHEAP, tmp_path / "a") == run(parts, tmp_path / "b") == 1
    whole, split = (tidy(*stored(tmp_path / name)) for name in "ab")
    assert "class" not in whole and split["class"].nunique() == 10
    keys = ["domain", "network_seed"]
    both = [rows.groupby(keys).accuracy.mean() for rows in (whole, split)]
    assert both[0].to_numpy() == pytest.approx(both[1].to_numpy(), abs=1e-3)
    trial = trials(parts)[0]
    made = DistilledSet.load(tmp_path / "b" / "sets" / trial.stem)
    target = task_of(parts, trial.target).targets[trial.target]
    how = {"recipe": way.recipe, "width": way.width}
    each = evaluate(made, target, seeds=network_seeds(way.networks, 0), **how).per_class
    mine = split[split.domain == trial.target]
    found = mine.pivot_table(index="network_seed", columns="class", values="accuracy", sort=False)
    assert found.to_numpy() == pytest.approx(each, abs=1e-3)
    with pytest.raises(ValueError, match="take one"):
        replace(way, by_class=True, folds=2)


def test_seconds_of_the_processor_stand_beside_those_of_the_clock(tmp_path):
    run(ONE, tmp_path)
    (one,) = stored(tmp_path)[1]
    assert set(one["cpu"]) == set(one["seconds"]) and 0 < sum(one["cpu"].values())
    assert float(tidy(*stored(tmp_path)).cpu_seconds.iloc[0]) == one["cpu"]["make"]


def test_forecast_counts_what_is_missing(tmp_path):
    study = replace(TINY, methods=(*TINY.methods, Method("mine", "test_study:fall")))
    plan = forecast(study, tmp_path, jobs=2)
    assert plan.trials == 12 and plan.unknown == ("mine",) and plan.memory > 10**8
    assert plan.seconds > 0 and plan.hours == pytest.approx(plan.seconds * 12 / 2 / 3600)
    assert "12 trials" in str(plan) and "without the time of mine" in str(plan)
    run(TINY, tmp_path)
    assert str(forecast(TINY, tmp_path)) == "Nothing is missing."
    assert forecast(study_of_rates(1.0, 2.0), tmp_path / "none").trials == 3
    measured = [sum(x["seconds"].values()) for x in stored(tmp_path)[1]]
    assert forecast(replace(TINY, seeds=3), tmp_path).seconds <= max(measured)


def test_forecast_measures_each_row_once_and_candidates_as_their_row(monkeypatch, tmp_path):
    timed = []
    monkeypatch.setattr(module, "_measure", lambda trial, _: timed.append(trial.method.name) or 1.0)
    rows = [Method("DM: a", "DM"), Method("DM: b", "DM", {"lr": 2.0})]
    rows += [Method("DM", select={"lr": [1.0, 2.0]})]
    assert forecast(replace(ONE, methods=rows, selection_seeds=1), tmp_path).trials == 5
    assert timed == ["DM: lr 1.0", "DM: a", "DM: b"]


def test_compare_shows_its_own_target_where_a_folder_holds_two(tmp_path, capsys):
    how = {"folder": tmp_path, "methods": ("random",), "backend": "sequential", "progress": False}
    how |= {"ipc": 1, "seeds": 1, "networks": 1, "recipe": {"name": "quick", "epochs": 1}}
    for target in TINY.targets:
        rows = compare(TINY.data, target, **how)
        assert capsys.readouterr().out.count("| random ") == 1
    assert set(rows.target) == {"street", "print"}


def test_compare_on_one_domain_says_that_none_is_unseen(tmp_path, capsys):
    one, short = data_of(TINY)[0].only("street"), {"ipc": 1, "seeds": 1, "networks": 1}
    short |= {"recipe": {"name": "quick", "epochs": 1}, "backend": "sequential", "progress": False}
    compare(one, "street", folder=tmp_path / "one", methods=("random",), baseline=None, **short)
    assert "per cent on new images of street (no domain is unseen)" in capsys.readouterr().out


def test_a_wrong_target_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'street'"):
        compare("mini-digits", "stret", folder=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_compare_gives_alpha_to_those_that_have_one(tmp_path):
    few = {"ipc": 1, "seeds": 1, "networks": 1, "recipe": {"name": "quick", "epochs": 1}}
    given = {"alpha": 2.0, "beta": 0.1, "steps": 1, "width": 8}
    methods = ("DM", "DM-matched", "DM+SGS")
    data = {"name": "mini_digits", "size": 8, "train": 60, "test": 20}
    how = {"folder": tmp_path, "methods": methods, "distill": given, "backend": "sequential"}
    module.compare(data, "street", **how, **few)
    study, _ = module.stored(tmp_path)
    own = [x["options"] for x in study["methods"]]
    assert own == [{}, {"alpha": 2.0}, {"alpha": 2.0, "beta": 0.1}]
    assert study["distill"] == {"steps": 1, "width": 8}


def test_data_in_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = {"root": str(tmp_path / "pics")}
    assert data_plug("mini-digits", size=8) == {"name": "mini_digits", "size": 8}
    assert data_plug("PACS:pics", size=8) == {"name": "pacs", **place, "size": 8}
    assert data_plug("mine.digits:load") == {"name": "mine.digits:load"}
    for text in ("pics", "", "pasc:/data", "C:\\pictures", "vlcs"):
        with pytest.raises(FileNotFoundError, match="READER:FOLDER"):
            data_plug(text)
    for folder in (tmp_path / "pics", tmp_path / "mini-digits"):
        folder.mkdir()
    assert data_plug("pics") == {"name": "from_folder", **place, "quiet": True}
    with pytest.raises(ValueError, match="write ./mini-digits for the folder, mini_digits for the"):
        data_plug("mini-digits")
    assert data_plug("digits") == data_plug("mini_digits") == {"name": "mini_digits"}
    assert data_plug("./mini-digits")["name"] == "from_folder"


def test_compare_a_folder_images_in_memory_and_by_name(tmp_path, capsys):
    from torchvision.utils import save_image

    digits = data_of(TINY)[0]
    few = digits.split("train").select(torch.arange(0, len(digits.split("train")), 2))
    for i, image in enumerate(few.images):
        place = tmp_path / "photos" / few.domain_names[few.domains[i]] / few.classes[few.labels[i]]
        place.mkdir(parents=True, exist_ok=True)
        save_image(image / 255, place / f"{i}.png")
    short = {"ipc": 1, "seeds": 2, "networks": 1, "backend": "sequential", "progress": False}
    short |= {"distill": TINY.distill, "recipe": {"name": "quick", "epochs": 2}}
    for name, source in {
        "memory": digits,
        "folder": tmp_path / "photos",
        "name": "mini-digits",
    }.items():
        budget = {**short, "methods": ("random",), "baseline": None} if name == "name" else short
        rows = compare(source, "street", folder=tmp_path / name, **budget)
        assert set(rows[~rows.seen].domain) == {"street"} and rows.attrs["trials run"] in (2, 8)
        again = compare(source, "street", folder=tmp_path / name, **budget)
        assert again.attrs["trials run"] == 0 and again.accuracy.equals(rows.accuracy)
    text = capsys.readouterr().out
    assert (
        "DM + SGS - DM, matched step:" in text and "not enough seeds to claim a difference" in text
    )
    assert compare(digits, "street", folder=tmp_path / "dry", dry_run=True, **short) is None
    assert "8 trials" in capsys.readouterr().out and not (tmp_path / "dry" / "study.json").exists()


ON_DISK = set(
    "main_digits_dg main_pacs main_core50_hard pacs_photo_gpu pacs_small digits_small dtl_pacs".split()
)
ON_DISK |= {"ablation_digits_dg", "init_digits_dg", "cost_digits", "ID_digits_dg", "sdg_digits_dg"}
ON_DISK |= {"trial_digits", "trial_digits_hdd", "trial_pacs_photo"}


def ready(name: str) -> Study:
    return load_settings(Study, ROOT / "benchmarks" / "tables" / f"{name}.toml")


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_ready_study_loads(path):
    """Every key is known, every name can be found, the comment names the file's own command."""
    study = load_settings(Study, path)
    assert f"dgdd run benchmarks/tables/{path.name}" in path.read_text(encoding="utf-8")
    assert callable(methods.find(study.data["name"]))
    assert all(callable(methods.resolve(method.make)[0]) for method in study.methods)
    assert (path.stem in ON_DISK) == ("root" in study.data)
    if path.stem.startswith("main"):
        needed = (5, 10)
        assert (study.seeds, study.evaluations[0].networks) >= needed


@pytest.mark.parametrize("name", sorted({path.stem for path in TABLES} - ON_DISK))
def test_ready_study_of_built_in_digits_can_run(name):
    rehearse(ready(name))


@pytest.mark.parametrize(
    "name, number",
    [
        ("main_mini", 4 * (5 * 5 + 1)),
        ("ablation_mini", 8 * 5),
        ("alpha_mini", 4 * 7 * 5),
        ("controls_mini", 17 * 5),
    ],
)
def test_trials_of_ready_studies(name, number):
    assert len(trials(ready(name))) == number


def test_the_ablation_has_one_pair_in_all_rows():
    rows = ready("ablation_mini").methods
    assert rows == ready("ablation_digits_dg").methods and rows[0] == Method("DM")
    pairs = {
        (x.options.get("surgery", x.options)["alpha"], x.options.get("surgery", x.options)["beta"])
        for x in rows[1:]
    }
    assert pairs == {(1.0, 0.0), (0.0, 0.5), (1.0, 0.5)}


@pytest.mark.parametrize("study", ["ablation", "init"])
def test_studies_of_digits_dg_have_the_budget_of_the_main_table(study):
    main, full = ready("main_digits_dg"), ready(f"{study}_digits_dg")
    for name in ("data", "distill", "evaluations", "seeds", "setting", "paper", "threads"):
        assert getattr(full, name) == getattr(main, name), name


def test_every_method_has_as_many_candidates():
    assert {len(candidates(x)) for x in ready("pacs_photo_gpu").methods if x.select} == {6}


@pytest.mark.parametrize("name", ["sdg_mini", "K_mini"])
def test_one_source_has_more_images_than_a_step_takes(name):
    study = ready(name)
    assert int(task_of(study, "print").source.counts().min()) > study.distill["real_batch"]


def test_a_failed_score_loses_no_other(tmp_path, monkeypatch):
    """The table shows what there is; the next run scores what is missing, and nothing else."""
    good = CHEAP.evaluations[0]
    study = replace(CHEAP, evaluations=(replace(good, name="bad"), good))
    real = module.score
    asked = []

    def scored(way, *rest):
        asked.append(way.name)
        if way.name == "bad" and "DGDD_MENDED" not in os.environ:
            raise ZeroDivisionError("no such network")
        return real(way, *rest)

    monkeypatch.setattr(module, "score", scored)
    with pytest.raises(RuntimeError, match="bad: ZeroDivisionError: no such network .its other"):
        run(study, tmp_path)
    first = tidy(*stored(tmp_path))
    assert first.evaluation.unique().tolist() == ["convnet"] and len(missing(study, tmp_path)) == 1
    monkeypatch.setenv("DGDD_MENDED", "1")
    asked.clear()
    rows = run_study(study, tmp_path, backend="sequential", progress=False)
    assert asked == ["bad"] and rows.attrs["trials run"] == 1
    assert set(rows.evaluation) == {"bad", "convnet"} and not missing(study, tmp_path)
    kept = rows[rows.evaluation == "convnet"].accuracy
    assert kept.tolist() == first.accuracy.tolist()


LONG = replace(TINY, distill={**TINY.distill, "steps": 100_000, "checkpoint_every": 200})
COMMAND = """
import sys
from dgdd_nb.cli import app
study, results = sys.argv[1:]
app(['run', study, '--results', results, '--jobs', '2'])
"""


def ends(group: int, seconds: float = 60) -> bool:
    """Whether all processes of a group end within some seconds."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    return False


def begun(folder: Path) -> bool:
    """Whether two trials are under way, each with a first checkpoint."""
    return len(list(folder.glob("work/*.safetensors"))) == 2


def steps(folder: Path) -> list[int]:
    return [module.load_tensors(x)[1]["step"] for x in folder.glob("work/*.safetensors")]


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM")
def test_sigterm_leaves_the_state_of_each_worker(tmp_path, start):
    """A cluster sends it to the first process: workers save, the status is 143, none lives on."""
    process = start(tmp_path / "out", LONG, "-c", COMMAND)
    wait_for(process, lambda: begun(tmp_path / "out"))
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=90)[0]
    assert process.returncode == 143, said
    assert "the same command goes on" in said and "Traceback" not in said
    kept = steps(tmp_path / "out")
    assert len(kept) == 2 and any(step % 200 for step in kept)
    assert ends(process.pid)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_workers_do_not_outlive_a_killed_run(tmp_path, start):
    process = start(tmp_path / "out", LONG, "-c", COMMAND)
    wait_for(process, lambda: begun(tmp_path / "out"))
    process.kill()
    process.wait()
    assert ends(process.pid)
    kept = steps(tmp_path / "out")
    assert len(kept) == 2 and any(step % 200 for step in kept)


def test_a_stop_that_cannot_be_saved_stops_all_the_same(tmp_path, monkeypatch):
    """Else the trial would count as failed, and the next one would begin."""
    inner = sys.modules["dgdd_nb.distill"]

    def full(*_):
        raise OSError(28, "No space left on device")

    def stop(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(inner, "save_tensors", full)
    monkeypatch.setattr(inner.Run, "step", lambda run, real=inner.Run.step: (stop(), real(run))[1])
    with pytest.raises(KeyboardInterrupt, match="the same call goes on"):
        run(TINY, tmp_path)
    assert len(list((tmp_path / "work").glob("*_seed*.lock"))) == 1 and done(tmp_path) == 0


def test_a_place_that_cannot_be_written_is_found_first(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "forecast", lambda *_: pytest.fail("measured before"))
    with pytest.raises(OSError, match="could not be written"):
        run_study(CHEAP, tmp_path / "file" / "x")


def test_a_folder_that_grew_is_read_again(tmp_path):
    grow(tmp_path / "own", ("art", "photo"), ("cat", "dog"), n=3)
    data = {"name": "from_folder", "root": str(tmp_path / "own"), "quiet": True, "size": 8}
    study = Study("random", data=data, targets="art", ipc=1, seeds=1)
    assert len(data_of(study)[0]) == 12
    picture(tmp_path / "own" / "art" / "cat" / "new.png")
    module.missing(study, tmp_path / "out")
    assert len(data_of(study)[0]) == 13


def test_images_of_other_results_stay(tmp_path):
    digits = data_of(TINY)[0]
    short = {"ipc": 1, "seeds": 1, "networks": 1, "backend": "sequential", "progress": False}
    short |= {"methods": ["random"], "recipe": {"name": "quick", "epochs": 2}}
    compare(digits, "street", folder=tmp_path, **short)
    before = (tmp_path / "images.safetensors").read_bytes()
    with pytest.raises(ValueError, match="results of other images: choose another folder"):
        compare(digits.only("scan", "street"), "street", folder=tmp_path, **short)
    assert (tmp_path / "images.safetensors").read_bytes() == before


def test_a_relative_root_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = replace(CHEAP, data={"name": "from_folder", "root": "photos"})
    with pytest.raises((ValueError, FileNotFoundError), match=f"{tmp_path}/photos"):
        data_of(study)


def test_rows_that_share_features_have_the_same_bits_and_no_price(tmp_path):
    study = replace(ONE, methods=(Method("DM"), Method("DM+SGS"), Method("random")))
    each = run_study(study, tmp_path / "each", backend="sequential", progress=False)
    shared = replace(study, share=True)
    rows = run_study(shared, tmp_path / "shared", backend="sequential", progress=False)
    assert rows.accuracy.tolist() == each.accuracy.tolist()
    assert "DM+SGS" in render(rows) and "nan" not in render(rows).lower()
    again = run_study(study, tmp_path / "shared", backend="sequential", progress=False)
    for made in (rows, again):  # the trials know it, whatever the study says later
        assert made.seconds.isna().all() and each.seconds.notna().all()
    for refuses in (lambda: price_list(rows, "DM"), lambda: front(lines(rows))):
        with pytest.raises(ValueError, match="no prices|leave it out"):
            refuses()
    bad = replace(shared, methods=(Method("DM", options={"width": 0}),))
    with pytest.raises((RuntimeError, ValueError)):
        run_study(bad, tmp_path / "bad", backend="sequential", progress=False)
    for name in ("shared", "bad"):
        assert not (tmp_path / name / "work" / "features").exists()
    with pytest.raises(ValueError, match="share at the top"):
        replace(study, distill={"share": "here"})


def test_images_with_other_splits_are_other_images(tmp_path):
    data = data_of(TINY)[0]
    turned = replace(data, splits=1 - data.splits)
    data.counts(), data.sample(1, torch.Generator())  # leave what they found in the object
    kept = module._plug_of(data, None, tmp_path)["root"]
    assert module._plug_of(turned, None, tmp_path)["root"] == kept
    assert torch.equal(module.stored_images(kept).splits, turned.splits)
    (tmp_path / "study.json").write_text("{}")
    assert module._plug_of(turned, None, tmp_path)["root"] == kept
    with pytest.raises(ValueError, match="results of other images"):
        module._plug_of(data, None, tmp_path)


def test_a_source_that_is_drawn_leaves_something_to_chance():
    drawn = Method("whole", prepare={"name": "long_tail", "factor": 5})
    study = replace(TINY, methods=(Method("all", "whole"), drawn), targets=("street",))
    assert [(x.method.name, x.seed) for x in trials(study)] == [
        ("all", 0),
        ("whole", 0),
        ("whole", 1),
    ]


def test_a_forecast_finds_a_folder_at_home(tmp_path, monkeypatch):
    run_study(CHEAP, tmp_path / "r", progress=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert forecast(CHEAP, "~/r").trials == 0


def test_an_unpacked_folder_says_first_what_it_is_for(tmp_path, monkeypatch):
    run_study(CHEAP, tmp_path / "r", progress=False)
    packed = pack(tmp_path / "r", tmp_path / "r.jsonl")

    def stopped(path, *_):
        if path.parent.name == "trials":
            raise KeyboardInterrupt
        write_json(path, *_)

    monkeypatch.setattr("dgdd_nb.results.write_json", stopped)
    with pytest.raises(KeyboardInterrupt):
        unpack(packed, tmp_path / "half")
    assert (tmp_path / "half" / "study.json").exists()
