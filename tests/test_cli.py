"""The command, called as a shell calls it: every command once, and what goes wrong in one sentence."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from fake_trees import grow
from typer.testing import CliRunner

from dgdd_nb.cli import OPTIONS, THEMES, app, in_shell_words, origin, plug_of, told, usual_target
from dgdd_nb.distilled import DistilledSet

TINY = ("--ipc", 3, "--steps", 2, "--width", 8, "--device", "cpu")
STUDY = """
name = "tiny"
targets = ["print"]
ipc = [3]
seeds = 1
baseline = "DM"
[data]
name = "mini_digits"
size = 16
train = 60
test = 20
[distill]
steps = 1
width = 8
[[evaluations]]
networks = 1
width = 8
recipe = {name = "quick", epochs = 2}
[[methods]]
name = "random"
[[methods]]
name = "DM"
[[methods]]
name = "DM, no momentum"
make = "DM"
options = {momentum = 0.0}
"""


def dgdd(*words) -> tuple[int, str]:
    "Exit status, and everything that was said; a traceback is an error of the test."
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert "Traceback" not in done.output
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    "A finished study."
    home = tmp_path_factory.mktemp("study")
    (home / "tiny.toml").write_text(STUDY, encoding="utf-8")
    status, said = dgdd(
        "run", home / "tiny.toml", "--results", home / "r", "--backend", "sequential"
    )
    assert status == 0 and "3 trials run" in said and "3 trials, " in said
    return home


def test_a_study_is_run_once_and_shown_in_four_ways(study):
    status, said = dgdd(
        "run", study / "tiny.toml", "--results", study / "r", "--backend", "sequential"
    )
    assert status == 0 and "0 trials run" in said and "Nothing is missing" in said
    status, said = dgdd("table", study / "r", "--csv", study / "rows.csv")
    assert status == 0 and "minus DM" in said and len(pd.read_csv(study / "rows.csv")) > 2
    assert "toprule" in dgdd("table", study / "r", "--format", "latex")[1]
    assert dgdd("pack", study / "r", study / "r.jsonl")[0] == 0
    assert dgdd("table", study / "r.jsonl")[1] == dgdd("table", study / "r")[1]
    assert dgdd("unpack", study / "r.jsonl", "--results", study / "again")[0] == 0
    names = [sorted(x.name for x in (study / at / "trials").iterdir()) for at in ("r", "again")]
    assert names[0] == names[1]
    status, said = dgdd("unpack", study / "r.jsonl", "--results", study / "again")
    assert status == 1 and "another folder" in said
    assert dgdd("plot", study / "r.jsonl")[0] == 0 and (study / "r.png").stat().st_size > 1000
    assert dgdd("plot", study / "r", "--over", "momentum", "--out", study / "m.svg")[0] == 0
    status, said = dgdd("plot", study / "r", "--over", "momentun")
    assert status == 1 and "did you mean 'momentum'" in said and "what varies is momentum." in said
    other = STUDY.replace("test = 20", "test = 30")
    (study / "other.toml").write_text(other, encoding="utf-8")
    status, said = dgdd("run", study / "other.toml", "--out", study / "r")
    assert status == 1 and "choose another folder with --out" in said


def test_scores_of_a_set_in_a_closed_folder_are_printed(tmp_path, monkeypatch):
    def closed(folder):
        raise PermissionError(f"{folder} could not be written: choose a folder.")

    where = "--method", "random", "--out", tmp_path / "set"
    assert dgdd("distill", *TINY, *where)[0] == 0
    monkeypatch.setattr("dgdd_nb.files.try_folder", closed)
    options = "--networks", 1, "--width", 4, "--workers", 1, "--set", "epochs=1"
    status, said = dgdd("evaluate", tmp_path / "set", *options)
    assert status == 0 and "chance 10.0" in said and "name a folder with --out" in said
    assert not (tmp_path / "set" / "scores.csv").exists()
    status, said = dgdd("evaluate", tmp_path / "set", *options, "--out", tmp_path / "else")
    assert status == 1 and "chance" not in said  # before the work


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_python_imports_ends_with_a_sentence(name):
    code = "import os, signal, dgdd_nb.cli as cli\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # as at a prompt
    code += f"cli.app = lambda: os.kill(os.getpid(), signal.{name})\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (128 + getattr(signal, name), "Stopped.")


def test_a_dry_run_says_what_it_would_take_and_makes_nothing(study, tmp_path):
    status, said = dgdd("run", study / "tiny.toml", "--results", tmp_path / "r", "--dry-run")
    assert status == 0 and "3 trials, " in said and not (tmp_path / "r" / "trials").exists()
    status, said = dgdd("distill", *TINY, "--out", tmp_path / "set", "--dry-run")
    assert status == 0 and "2 steps" in said and "MiB" in said and not (tmp_path / "set").exists()


def test_sets_of_one_method_are_its_seeds(tmp_path):
    sets = []
    for method in ("DM", "DM-matched"):
        for seed in (0, 1):
            sets.append(tmp_path / f"{method}-{seed}")
            where = "--method", method, "--seed", seed, "--out", sets[-1]
            assert dgdd("distill", *TINY, *where)[0] == 0
    assert not list(tmp_path.glob("*/checkpoint*"))
    options = "--networks", 2, "--width", 8, "--workers", 1, "--device", "cpu", "--out", tmp_path
    status, said = dgdd("evaluate", *sets, *options, "--size", 32)  # refused before any is scored
    assert status == 1 and "--size" in said and "on street" not in said
    status, said = dgdd("evaluate", *sets, tmp_path / "nowhere", *options)
    assert status == 1 and "nowhere" in said and "on street" not in said
    status, said = dgdd("evaluate", *sets, *options)
    assert status == 0 and "DM-matched - DM" in said and "chance 10.0" in said and "quick" in said
    rows = pd.read_csv(tmp_path / "scores.csv")
    assert rows.groupby(["method", "distillation_seed"]).size().tolist() == [2, 2, 2, 2]
    assert sorted(rows.network_seed.unique()) == [0, 1, 1000, 1001]
    apart = "--set", "epochs=1", "--out", tmp_path / "apart"  # no seed in common
    status, said = dgdd("evaluate", sets[0], sets[3], *options, *apart)
    assert status == 0 and "share no distillation seed" in said
    assert len(pd.read_csv(tmp_path / "apart" / "scores.csv")) == 4
    status, said = dgdd("show", sets[3])
    assert status == 0 and "method: DM-matched" in said and "target: street" in said
    assert (sets[3] / "overview.png").exists()


def test_the_file_beside_a_set_makes_it_again(tmp_path):
    assert dgdd("distill", *TINY, "--method", "DM", "--out", tmp_path / "a")[0] == 0
    config = "--config", tmp_path / "a" / "distill.json"
    assert dgdd("distill", *config, "--out", tmp_path / "b")[0] == 0
    assert dgdd("distill", *config, "--out", tmp_path / "c", "--seed", 5)[0] == 0
    a, b, c = (DistilledSet.load(tmp_path / name).images for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_compare_on_a_folder(tmp_path):
    grow(tmp_path / "own", ("art", "photo", "sketch"), ("cat", "dog", "fox"), n=4)
    where = tmp_path / "own", "--target", "sketch", "--out", tmp_path / "out"
    tiny = "--ipc", 2, "--steps", 1, "--seeds", 1, "--networks", 1, "--size", 16
    status, said = dgdd("compare", *where, *tiny, "--dry-run")
    assert status == 0 and "4 trials, " in said and not (tmp_path / "out" / "trials").exists()
    status, said = dgdd(
        "compare", *where, *tiny, "--classes", "cat,fox", "--domains", "art,photo,sketch"
    )
    assert status == 0 and "DM + SGS - DM, matched step" in said
    trials = [json.loads(p.read_text()) for p in (tmp_path / "out" / "trials").glob("*.json")]
    assert len(trials) == 4 and {t["images"] for t in trials} == {4}
    where = tmp_path / "own", "--target", "sketch", "--out", tmp_path / "more"
    status, said = dgdd("compare", *where, *tiny, "--methods", "random,whole")
    assert status == 0 and "whole" in said and "DM" not in said


def test_demo_leaves_sets_a_figure_and_a_table(tmp_path, monkeypatch):
    tiny = "--train", 60, "--ipc", 3, "--steps", 1, "--seeds", 1, "--networks", 1, "--jobs", 1
    status, said = dgdd("demo", *tiny, "--out", tmp_path / "demo")
    assert status == 0 and "DM + SGS - DM, matched step:" in said and "whole" in said
    assert (tmp_path / "demo" / "figure.png").stat().st_size > 1000
    sets = list((tmp_path / "demo" / "sets").glob("*"))
    assert len(sets) == 4 and "target: street" in dgdd("show", sets[0])[1]
    drawn = []
    monkeypatch.setattr("dgdd_nb.cli.demo_figure", lambda _, rows, *more: drawn.append(rows))
    assert dgdd("demo", *tiny, "--out", tmp_path / "demo", "--target", "photo")[0] == 0
    assert set(drawn[0].target) == {"photo"}


def test_one_source_domain(tmp_path):
    status, said = dgdd("distill", *TINY, "--source", "scan", "--out", tmp_path / "x")
    assert status == 1 and "--pseudo-domains 3" in said
    words = "--source", "scan", "--pseudo-domains", 3, "--ipc", 3, "--out", tmp_path / "x"
    assert dgdd("distill", *TINY, *words)[0] == 0
    options = "--networks", 1, "--width", 8, "--workers", 1, "--device", "cpu"
    status, said = dgdd("evaluate", tmp_path / "x", *options)
    assert status == 0 and all(name in said for name in ("photo", "street", "print"))


def test_size_travels_as_height_and_width(tmp_path):
    grow(tmp_path / "own", ("art", "photo", "sketch"), ("cat", "dog"), n=4)
    words = "--data", tmp_path / "own", "--target", "art", "--method", "DM", "--steps", 1
    quick = "--networks", 1, "--workers", 1, "--device", "cpu", "--width", 4, "--set", "epochs=1"
    where = "--size", "8x16", "--width", 4, "--ipc", 1, "--out", tmp_path / "a"
    assert dgdd("distill", *words, *where)[0] == 0
    config = "--config", tmp_path / "a" / "distill.json", "--out", tmp_path / "b"
    assert dgdd("distill", *config)[0] == 0
    a, b = (DistilledSet.load(tmp_path / name).images for name in "ab")
    assert torch.equal(a, b) and a.shape[2:] == (8, 16)
    status, said = dgdd("evaluate", tmp_path / "a", *quick)
    assert status == 0 and "| art |" in said and "epochs 1" in said and "chance 50.0" in said
    status, said = dgdd("evaluate", tmp_path / "a", *quick, "--target", "photo")
    assert status == 0 and "photo (seen in training)" in said
    assert dgdd("distill", *words, "--size", "8y16")[0] == 1


@pytest.mark.parametrize("domains", [("photo",), ("photo", "art")])
def test_what_was_learned_whole_is_scored_on_its_test_split_or_not_at_all(domains, tmp_path):
    words = "--method", "random", "--size", 8, "--ipc", 1, "--target", "none", "--out"
    quick = "--networks", 1, "--workers", 1, "--device", "cpu", "--width", 4, "--set", "epochs=1"
    grow(tmp_path / "split", domains, ("cat", "dog"), 4, ("train", "test"))
    assert dgdd("distill", "--data", tmp_path / "split", *words, tmp_path / "a")[0] == 0
    status, said = dgdd("evaluate", tmp_path / "a", *quick)
    assert status == 0 and "photo (known domain)" in said and "seen in" not in said
    grow(tmp_path / "whole", domains, ("cat", "dog"), 4)
    status, said = dgdd("distill", "--data", tmp_path / "whole", *words, tmp_path / "b")
    assert status == 0 and "Note: all images are learned from" in said
    status, said = dgdd("evaluate", tmp_path / "b", *quick)
    assert status == 1 and "name others with --data" in said


def test_every_setting_is_within_reach_and_none_is_passed_over(tmp_path):
    grow(tmp_path / "own", ("art", "photo", "sketch"), ("cat", "dog, wet"), n=4)
    words = "--data", tmp_path / "own", "--target", "art", "--size", 8, "--ipc", 1, "--steps", 1
    (tmp_path / "c.toml").write_text('init = "noise"\n[set]\ndraw = "mixture"\nwidth = 4\n')
    more = "--config", tmp_path / "c.toml", "--augment", "flip", "--real-batch", 3, "--momentum", 0
    one = "--classes", 'cat,"dog, wet"', "--method", "DM", "--out", tmp_path / "a"
    assert dgdd("distill", *words, *more, *one)[0] == 0
    recipe = DistilledSet.load(tmp_path / "a").recipe
    assert (recipe["init"], recipe["momentum"], recipe["engine.draw"]) == ("noise", 0, "mixture")
    for wrong in (("--method", "random", "--lr", 1), ("--method", "DM", "--alpha", 1)):
        status, said = dgdd("distill", *words, *wrong, "--out", tmp_path / wrong[2])
        assert status == 0 and f"no use for {wrong[2]}" in said
    more = "--network", "nosuch", "--steps", 7, "--budget", "paper"
    status, said = dgdd("distill", *words, "--method", "herding", *more, "--dry-run")
    assert status == 0 and "no use for --budget, --steps, --network: passed over" in said
    (tmp_path / "c.toml").write_text("seed = 2.5\n")
    assert dgdd("distill", *words, "--config", tmp_path / "c.toml")[0] == 2


@pytest.mark.parametrize(
    "text, here",
    [
        ("Pass classes=[...] with all.", "Pass --classes with all."),
        ("K=1 is none; pass surgery=None.", "--pseudo-domains 1 is none; take the method DM."),
        ("Lower lr, now 3.", "Lower --lr, now 3."),
        ("Use device='auto' here.", "Use --device auto here."),
        ("/a/lr=3/b has other classes.", "/a/lr=3/b has other classes."),
    ],
)
def test_python_words_become_shell_words(text, here):
    assert in_shell_words(text, ["classes", "lr", "device", "pseudo_domains"]) == here


@pytest.mark.parametrize(
    "words, says",
    [
        (("distill", "--method", "DMM"), "did you mean"),
        (("distill", "--target", "strret"), "did you mean 'street'"),
        (("distill", "--data", "nowhere"), "There is no folder nowhere"),
        (("distill", "--data", "pacs:nowhere", "--target", "photo"), "nowhere"),
        (("distill", "--classes", "eleven"), "Unknown class 'eleven'"),
        (("distill", "--source", "scan", "--target", "scan"), "leave --target out"),
        (("evaluate", "nowhere"), "nowhere"),
        (("show", "nowhere"), "nowhere"),
        (("table", "nowhere"), "nowhere"),
        (("run", "nowhere.toml"), "nowhere.toml"),
        (("compare", "nowhere", "--target", "x"), "There is no folder nowhere"),
        (("compare", "mini-digits", "--target", "strret", "--dry-run"), "did you mean 'street'"),
        (("distill", "--classes", "1,1"), "Name each class to keep once"),
    ],
)
def test_one_sentence(words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said = dgdd(*words)
    assert status == 1 and says in said and said.count("dgdd:") == 1, said


def test_wrong_settings_in_a_file(tmp_path):
    (tmp_path / "wrong.toml").write_text("stesp = 3", encoding="utf-8")
    status, said = dgdd("distill", "--config", tmp_path / "wrong.toml")
    assert status == 1 and "did you mean 'steps'" in said
    assert dgdd("distill", "--steps", "many")[0] == 2
    (tmp_path / "wrong.toml").write_text(STUDY.replace("seeds", "sedes"), encoding="utf-8")
    status, said = dgdd("run", tmp_path / "wrong.toml")
    assert status == 1 and "sedes" in said


@pytest.mark.skipif(os.name == "nt", reason="signals to a group of processes")
@pytest.mark.parametrize(
    "words, until",
    [
        (("distill", "--steps", 100_000, "--width", 8, "--device", "cpu"), "memory"),
        (("evaluate", "set", "--networks", 50, "--workers", 2, "--device", "cpu"), "on street"),
    ],
)
def test_ctrl_c_is_one_sentence(words, until, tmp_path):
    assert dgdd("distill", *TINY, "--method", "random", "--out", tmp_path / "set")[0] == 0
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # background
    code += "from dgdd_nb.cli import main; main()"
    call = [sys.executable, "-c", code, *map(str, words)]
    env = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    how = {"stderr": subprocess.PIPE, "cwd": tmp_path, "env": env, "start_new_session": True}
    with subprocess.Popen(call, text=True, **how) as running:
        said = ""
        while until not in said and (letter := running.stderr.read(1)):
            said += letter
        time.sleep(2)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        said += running.stderr.read()
    assert running.returncode == 130 and "Traceback" not in said
    told = "after step" in said and "the same command goes on" in said
    assert said.count("Stopped") == 1 and (told or "begins anew" in said)


def test_classes_without_domains_from_the_shell(tmp_path, monkeypatch):
    """Classes in train/ and test/: distilled as one domain, scored on its split test, also beside the set."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        grow(tmp_path / "pets", (split,), ("cat", "dog"), n=4)
    words = "--data", "pets", "--size", 8, "--method", "DM", "--ipc", 1, "--steps", 1
    for out in ("one", "another"):  # the pictures of the first lie beside the data
        assert dgdd("distill", *words, "--out", out)[0] == 0
    status, said = dgdd("evaluate", "one", "--networks", 1, "--workers", 1)
    assert status == 0 and "| pets" in said
    status, said = dgdd(
        "compare", "pets", "--size", 8, *"--seeds 1 --networks 1 --steps 1 --ipc 1".split()
    )
    assert status == 0 and "| random" in said and "| DM" in said
    grow(tmp_path, ("birds",), ("cat", "dog"), n=1)  # another folder with these classes
    words = *words, "--size", 16  # not those that are in memory
    status, said = dgdd("distill", *words, "--out", "two")
    assert status == 1 and "to read it alone, pass --domains pets" in said
    status, said = dgdd("distill", *words, "--domains", "pets", "--out", "two")
    assert status == 0, said


def test_a_folder_belongs_to_one_run(tmp_path):
    """Another method or seed is refused with a sentence, and takes the folder where it is asked to."""
    first = "distill", "--method", "random", "--ipc", 1, "--out", tmp_path / "set"
    assert dgdd(*first)[0] == 0
    whole = (tmp_path / "set" / "distilled.safetensors").read_bytes()
    for other, word in (("--seed", "seed 0"), ("--ipc", "ipc 1")):
        status, said = dgdd(*first, other, 2)
        assert status == 1 and f"holds a set with {word}: choose another folder with --out" in said
    assert (tmp_path / "set" / "distilled.safetensors").read_bytes() == whole
    assert "replaced by the same one" in dgdd(*first)[1]
    assert dgdd(*first, "--seed", 1, "--replace")[0] == 0
    assert DistilledSet.load(tmp_path / "set").recipe["seed"] == 1
    (tmp_path / "set" / "checkpoint.safetensors").touch()
    (tmp_path / "set" / "begun.json").write_text('{"method": "DM"}', encoding="utf-8")
    status, said = dgdd(*first, "--seed", 1)
    assert status == 1 and "holds an unfinished set with " in said
    assert (tmp_path / "set" / "checkpoint.safetensors").exists()


def test_scores_of_other_networks_stay(tmp_path):
    assert dgdd("distill", "--method", "random", "--ipc", 1, "--out", tmp_path / "set")[0] == 0
    score = "evaluate", tmp_path / "set", "--networks", 1, "--workers", 1, "--device", "cpu"
    for width in (8, 16, 8):
        assert dgdd(*score, "--width", width)[0] == 0
    rows = pd.read_csv(tmp_path / "set" / "scores.csv")
    assert rows.width.tolist() == [16, 8] and set(rows.network) == {"convnet"}


QUICK = "--networks", 1, "--workers", 1, "--device", "cpu", "--width", 4, "--set", "epochs=1"


def test_scores_know_their_set_and_their_data(tmp_path):
    grow(tmp_path / "own", ("art", "photo", "sketch"), ("cat", "dog"), n=4)
    words = "distill", "--data", tmp_path / "own", "--size", 8, "--method", "random"
    for n in (1, 2):
        assert dgdd(*words, "--target", "art", "--ipc", n, "--out", tmp_path / f"m{n}")[0] == 0
        assert dgdd("evaluate", tmp_path / f"m{n}", *QUICK, "--out", tmp_path)[0] == 0
    rows = pd.read_csv(tmp_path / "scores.csv")
    assert len(rows) == rows.set.nunique() == 2
    rows.drop(columns="set").to_csv(tmp_path / "scores.csv", index=False)  # as it was once
    assert dgdd("evaluate", tmp_path / "m1", *QUICK, "--out", tmp_path)[0] == 0
    (tmp_path / "own").rename(tmp_path / "moved")
    grow(tmp_path / "new", ("photo", "city"), ("cat", "dog"), n=3)
    for data, target, shown in (
        ("moved", "photo", "| photo of moved (seen in training) |"),
        ("new", "photo", "| photo of new |"),
    ):
        more = "--data", tmp_path / data, "--target", target
        status, said = dgdd("evaluate", tmp_path / "m1", *QUICK, *more)
        assert status == 0 and shown in " ".join(said.split()), said
    (tmp_path / "moved").rename(tmp_path / "own")
    for n in (1, 2):
        assert dgdd("evaluate", tmp_path / f"m{n}", *QUICK, "--out", tmp_path / "m1")[0] == 0
    assert len(pd.read_csv(tmp_path / "m1" / "scores.csv")) == 4
    how = "--to", "me/x", "--licence", "mit", "--dry-run"
    assert dgdd("publish", tmp_path / "m1", *how)[0] == 0
    card = (tmp_path / "m1" / "to-publish" / "README.md").read_text()
    lines = [line.split() for line in card.splitlines() if line.startswith("| random")]
    assert [line[-2] for line in lines] == ["1"] * 3, card  # networks each


def test_a_set_of_some_domains_is_scored_on_others(tmp_path):
    grow(tmp_path / "own", ("art", "photo", "sketch"), ("cat", "dog"), n=4)
    grow(tmp_path / "new", ("city", "farm"), ("cat", "dog"), n=3)
    grow(tmp_path, ("one",), ("cat", "dog"), n=3)
    words = "--data", tmp_path / "own", "--size", 8, "--method", "random", "--ipc", 1
    some = ("--domains", "art,photo", "--target", "photo"), ("--source", "art")
    new = "--data", tmp_path / "new", "--target", "city"
    one = "--data", tmp_path / "one", "--target", "one"
    for i, how in enumerate(some):
        assert dgdd("distill", *words, *how, "--out", tmp_path / f"{i}")[0] == 0
        for more in (("--target", "sketch"), new, ("--target", "art"), one):
            status, said = dgdd("evaluate", tmp_path / f"{i}", *QUICK, *more)
            assert status == 0 and ("seen in training" in said) == ("art" in more), said
    status, said = dgdd("evaluate", tmp_path / "0", *QUICK, "--data", tmp_path / "new")
    assert status == 1 and "choose from city, farm" in said, said


def test_the_same_command_keeps_the_scores(tmp_path):
    words = "distill", "--method", "random", "--ipc", 1, "--out", tmp_path / "set"
    scores = tmp_path / "set" / "scores.csv"
    dgdd(*words), dgdd("evaluate", tmp_path / "set", *QUICK)
    assert dgdd(*words)[0] == 0 and scores.exists()
    status, said = dgdd(*words, "--seed", 1, "--replace")
    assert status == 0 and "scores.csv had no score of this set" in said and not scores.exists()


def test_what_a_reader_notes_is_said(tmp_path):
    grow(tmp_path / "own", ("art", "photo", "sketch"), ("cat", "dog"), n=4)
    grow(tmp_path / "own" / "art" / "cat", ("more",), ("deep",), n=3)
    words = "--target", "art", "--ipc", 1, "--dry-run", "--size"
    for size, command in (8, ("distill", "--data")), (16, ("compare",)):  # each reads anew
        status, said = dgdd(*command, tmp_path / "own", *words, size)
        assert status == 0 and "Note: passed over 3 images" in said and "too deep" in said


def test_a_size_that_is_halved_too_often_is_named_as_one_types_it():
    says = "16 is not 17; resize the images to 16 x 16 or lower the depth."
    for names, here in ((["size"], "depth"), (["size", "depth"], "--depth")):
        assert in_shell_words(says, names) == f"16 is not 17; take --size 16 or lower {here}."


def test_the_target_of_the_digits_needs_no_word():
    assert usual_target("Mini-Digits") == "street" and "or none" not in dgdd("compare", "--help")[1]


def test_what_made_a_set_names_zeros_too():
    known = {"data": "mini-digits", "beta": 0.0, "alpha": None, "set": [], "steps": 0, "seed": 0}
    assert told(known) == "dgdd distill --data mini-digits --beta 0.0 --steps 0 --seed 0"
    for place in ("pacs:/home/x/PACS", "pacs:/home/x:y/PACS/"):
        assert told({"data": place}) == "dgdd distill --data pacs:PACS"
    assert told({"data": "/home/x:y/own"}) == "dgdd distill --data own"


def test_every_option_has_a_theme_in_the_help():
    themed = {name for names in THEMES.values() for name in names.split()}
    assert themed == {name.split()[-1] for name, one in OPTIONS.items() if one[1] is not ...}


def test_notebooks_are_copied_as_they_are(tmp_path):
    home = Path(__file__).resolve().parents[1] / "nbs"
    assert dgdd("notebooks", tmp_path)[0] == 0
    for name in ("61_cli.ipynb", "tutorials/reading_guide.ipynb"):
        assert (tmp_path / name).read_bytes() == (home / name).read_bytes()


def test_out_to_the_scripts_of_others_and_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dgdd("distill", "--method", "random", "--ipc", 1, "--out", "mine")
    status, said = dgdd("export", "mine", "x.pt")
    six = said.rpartition(" ")[2].rstrip(".")
    assert status == 0 and "classes are 0, 1," in said and six.count(",") == 5
    status, said = dgdd("import", "x.pt")
    assert status == 1 and "or its six numbers" in said and "Normalisation(" not in said
    status, said = dgdd("import", "x.pt", "--normalisation", six)
    assert status == 0 and "--size 16" in said
    status, said = dgdd("import", "x.pt", "--normalisation", "1,2", "--out", "other")
    assert status == 1 and "six numbers such as" in said
    status, said = dgdd("evaluate", "imported", "--data", "mini-digits", "--size", 8)
    assert status == 1 and said.endswith("add --size 16x16.")


def test_domains_are_part_of_what_a_study_reads():
    for data in ("mini-digits", f"pacs:{Path(__file__).parent}", str(Path(__file__).parent)):
        assert plug_of(data, None, "scan,print")["domains"] == ["scan", "print"], data
        assert "domains" not in plug_of(data, None)


def test_another_folder_is_out_only_where_there_is_out():
    says = "This is there: choose another folder."
    assert in_shell_words(says, ["out"]) == "This is there: choose another folder with --out."
    for text, names in ((says, ["results"]), ("choose another folder in DGDD_CACHE", ["out"])):
        assert in_shell_words(text, names) == text


def test_a_set_below_the_root_has_an_origin():
    assert origin(Path("/no-such-set")) == {}


def test_plots_of_a_pack_have_names_of_their_own(tmp_path):
    stored = Path(__file__).parents[1] / "benchmarks/results/trial_lr.jsonl"
    (tmp_path / "x.jsonl").write_bytes(stored.read_bytes())
    for more in ((), ("--over", "lr")):
        found = CliRunner().invoke(app, ["plot", str(tmp_path / "x.jsonl"), *more])
        assert not found.exit_code, found.output
    assert {x.name for x in tmp_path.glob("*.png")} == {"x.png", "x-lr.png"}


def test_an_option_of_a_method_is_not_passed_over_and_a_dry_run_looks_at_all(tmp_path):
    where = "--out", tmp_path / "mine", "--dry-run"
    status, said = dgdd("distill", "--method", "DTL", "--lr", 0.05, "--momentum", 0.5, *where)
    assert status == 0 and "no use for --momentum" in said and "--lr" not in said
    status, said = dgdd("distill", "--method", "DTL", "--set", "stylse=mixed", *where)
    assert status == 1 and "did you mean 'styles'" in said
    assert not (tmp_path / "mine").exists()


def test_a_wrong_target_of_a_comparison_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said = dgdd("compare", "mini-digits", "--classes", "3,5", "--target", "stret")
    assert status == 1 and "did you mean 'street'" in said and not [*tmp_path.iterdir()]
