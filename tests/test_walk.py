"""A walk past every door: each option of each command and each public function gets what people give.

It works, or it says one sentence; never a traceback of the inside, never without an end.
"""

import json
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fake_trees import grow
from typer.testing import CliRunner

import dgdd_nb as dg
from dgdd_nb.cli import OPTIONS, app
from dgdd_nb.engine import EngineSettings
from dgdd_nb.evaluate import network_seeds, paired_difference, summarise
from dgdd_nb.methods import METHODS
from dgdd_nb.networks import FreshEncoders
from dgdd_nb.study import Evaluation, Method
from dgdd_nb.train import Recipe

ODD = (
    "two words",
    'a"b',
    "it's",
    "$x",
    "a|b",
    "<img src=x>",
    "🦊",
    "x" * 200,
    "",
    "..",
    "[",
    "a,b",
)
NUMBERS = ("0", "-1", "1000000", "1" + "0" * 20, "nan", "inf", "2.5", "x", "")
TINY = "--ipc 1 --steps 1 --width 4 --device cpu --method DM --dry-run".split()
FAST = "--networks 1 --workers 1 --device cpu --width 4 --set epochs=1".split()
SMALL = "--ipc 1 --steps 1 --networks 1 --seeds 1 --dry-run".split()


def is_sentence(text: str, given: tuple = ()) -> bool:
    "Short, a full stop at the end, a capital at the start or something that was given."
    text = text.strip()
    known = any(text.startswith(str(one)[:9]) for one in given if str(one))
    return (known or not text[:1].islower()) and text[-1:] in (".", ")") and len(text) < 700


def at_shell(words: list) -> tuple[int, str]:
    "Status and words of a call; the rule is checked."
    done = CliRunner().invoke(app, [str(word) for word in words])
    trace = done.exception is not None and not isinstance(done.exception, SystemExit)
    assert not trace and "Traceback" not in done.output, (words, repr(done.exception))
    assert done.exit_code in (0, 1, 2), (words, done.output)
    said = [line for line in done.output.splitlines() if line.startswith("dgdd: ")]
    if done.exit_code == 1 and words[0] != "check":
        assert len(said) == 1 and "fails inside" not in said[0], (words, done.output)
        assert is_sentence(done.output.partition("dgdd: ")[2], words), (words, done.output)
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    "A folder of images, a set made of it, and the results of a comparison."
    home = tmp_path_factory.mktemp("walk")
    grow(home / "own", ("art", "photo"), ("cat", "dog"), n=4)
    words = ["--data", home / "own", "--target", "art", "--size", 8, "--method", "random"]
    at_shell(["distill", *words, "--ipc", 1, "--out", home / "set"])
    at_shell(["export", home / "set", home / "svhn.pt"])
    study = {"methods": [{"name": "random"}, {"name": "whole"}], "targets": ["art"], "seeds": 1}
    study |= {"data": {"name": "from_folder", "root": str(home / "own"), "size": 8}}
    study |= {"ipc": [1], "evaluations": [{"networks": 1, "width": 4, "recipe": {"epochs": 1}}]}
    (home / "study.json").write_text(json.dumps(study), encoding="utf-8")
    words = ["run", home / "study.json", "--out", home / "results", "--backend", "sequential"]
    status, said = at_shell(words)
    assert status == 0, said
    at_shell(["pack", home / "results", home / "packed.jsonl"])
    return home


def calls(home: Path) -> dict[str, list]:
    "A call of each command that works, quick and without a trace elsewhere."
    own = home / "own"
    return {
        "distill": ["--data", own, "--target", "art", "--size", 8, *TINY],
        "evaluate": [home / "set", *FAST, "--out", home / "scores"],
        "show": [home / "set", "--out", home / "x.png"],
        "compare": [own, "--target", "art", "--size", 8, *SMALL, "--methods", "random"],
        "demo": ["--train", 20, "--size", 8, *SMALL],
        "publish": [home / "set", "--to", "me/x", "--licence", "mit", "--dry-run"],
        "import": [home / "svhn.pt", "--out", home / "theirs"],
        "export": [home / "set", home / "e.pt"],
        "table": [home / "results"],
        "plot": [home / "results", "--out", home / "y.png"],
        "pack": [home / "results", home / "z.jsonl"],
        "unpack": [home / "packed.jsonl", "--results", home / "unpacked"],
        "check": [own],
        "notebooks": [home / "nb"],
        "run": [home / "study.json", "--out", home / "r", "--dry-run"],
    }


def asked_of(command: str) -> list[tuple[str, tuple]]:
    "The options of a command, with what is tried."
    parameters = next(
        c for c in app.registered_commands if c.name == command
    ).callback.__signature__
    found = []
    for key in parameters.parameters:
        kind, default, *_ = OPTIONS.get(f"{command} {key}") or OPTIONS[key]
        if default is ... or kind is bool or key in ("out", "folder"):
            continue
        tried = NUMBERS if kind in (int, float) else ODD
        slow = command == "demo" or (command, key) == ("evaluate", "networks")
        tried = tried[1:5] if slow else tried
        found.append((key, tried))
    return found


NAMES = [command.name for command in app.registered_commands]
CASES = [(c, key, tried) for c in NAMES for key, tried in asked_of(c)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command, key, tried", CASES, ids=[f"{c} {k}" for c, k, _ in CASES])
def test_every_option_works_or_says_one_sentence(command, key, tried, place, monkeypatch):
    monkeypatch.chdir(place)
    option = {"form": "--format"}.get(key, "--" + key.replace("_", "-"))
    for value in tried:
        at_shell([command, *calls(place)[command], option, value])


@pytest.mark.parametrize("command", sorted({*NAMES} - {"demo", "distill", "notebooks"}))
def test_every_path_works_or_says_one_sentence(command, place, monkeypatch):
    monkeypatch.chdir(place)
    for path in [*ODD, "nowhere", "/dev/null", "~/nowhere", "$NOWHERE/x"]:
        at_shell([command, path, *calls(place)[command][1:]])


SIGN = 'a "b" $x$ | < & \' 🦊 '


def test_names_with_signs_go_all_the_way(tmp_path):
    classes = ("<img src=x onerror=alert(1)>".replace("/", ""), SIGN.strip())
    grow(tmp_path / "own", ("$1|2", "_<b>", "x" * 150), classes, n=4)
    words = ["--data", tmp_path / "own", "--target", "_<b>", "--size", 8, "--method", "random"]
    assert at_shell(["distill", *words, "--ipc", 1, "--out", tmp_path / "set"])[0] == 0
    assert at_shell(["evaluate", tmp_path / "set", *FAST])[0] == 0
    assert at_shell(["show", tmp_path / "set"])[0] == 0
    assert len(list((tmp_path / "set" / "pictures").glob("*/*"))) == 2


def tiny() -> dg.MultiDomain:
    "Two classes in two domains."
    dice = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=dice)
    labels, domains = torch.arange(16) % 2, torch.arange(16) // 2 % 2
    return dg.MultiDomain.from_arrays(pictures, labels, domains)


COUNTS = (0, -1, float("nan"), 2.5, "x", None, np.int64(1), torch.tensor(1), [], [1], True)
WORDS = (*ODD, None, 3, [], Path("x"), np.str_("x"))
ANY = (*COUNTS, *WORDS, 10**20, 10**30, float("inf"), -0.5, np.float32("nan"), (1, 1), {}, {"x": 1})
ANY += (np.array(["0", "1"]), torch.ones(2), torch.ones(0), object())
data = tiny()
QUICK = {"ipc": 2, "steps": 1, "width": 4, "device": "cpu", "progress": False}
made = dg.random(data, 2)


def each(names: str, tried: tuple = ANY) -> dict:
    "Arguments, each of which gets these values."
    return dict.fromkeys(names.split(), tried)


class At(str):
    "A path in the place of the walk."


OWN_FOLDER = At("own")
OWN = [f.name for f in fields(EngineSettings)]
real = dg.Batch(data.images.float()[:4], torch.arange(4) // 2, torch.arange(4) % 2, 2, 2)
fake = dg.Batch(torch.randn(2, 3, 8, 8), torch.arange(2), torch.arange(2), 2, 2)
net, g = dg.network(classes=2, size=8, seed=0, width=4), torch.randn(2, 2, 3, 8, 8)
RUN = {"source": data, "matcher": dg.DM(), **QUICK}
LEARNED = f"source matcher surgery encoders ipc steps seed lr momentum init {' '.join(OWN)}"
HELPED = {  # what is no keyword of a function
    "only": lambda names: data.only(names),
    "real": lambda **odd: dg.domain_gradients(net, dg.DM(), replace(real, **odd), fake),
    "fake": lambda **odd: dg.domain_gradients(net, dg.DM(), real, replace(fake, **odd)),
    "layers": lambda layers: dg.distill(**{**RUN, "matcher": dg.DM(layers)}),
    "fresh": lambda **odd: FreshEncoders(lambda seed: net, **odd),
    "Method": Method,
    "Evaluation": Evaluation,
    "network_seeds": network_seeds,
    "paired_difference": paired_difference,
    "summarise": summarise,
}
SCORES = {"target": "t", "distillation_seed": [0, 0, 1, 1], "network_seed": [0, 0, 1, 1]}
SCORES = pd.DataFrame({"method": ["DM", "RR"] * 2, **SCORES, "accuracy": [1.0, 2, 3, 4]})
RECIPE = [f.name for f in fields(Recipe)]
CHOICE = "source ipc seed per_domain"
ONE = {"networks": 1, "recipe": {"epochs": 1}}
STUDY = dg.Study("random", data="test_walk:tiny", targets="0", ipc=1, seeds=1)
STUDY = replace(STUDY, evaluations=Evaluation(**ONE, width=4))
HERE = {"folder": "out", "backend": "sequential", "progress": False}
DOORS = {  # name: what works, and what else is given to each argument
    "MultiDomain.from_arrays": (
        {"images": data.images, "labels": data.labels, "domains": data.domains},
        each("images labels domains classes domain_names splits split_names groups"),
    ),
    "MultiDomain.select": ({"self": data, "which": [0]}, each("which")),
    "MultiDomain.leave_out": ({"self": data, "name": "1"}, each("name")),
    "MultiDomain.split": ({"self": data, "name": "train"}, each("name")),
    "MultiDomain.hold_out": ({"self": data}, each("fraction seed")),
    "only": ({"names": "1"}, each("names", (*ANY, ("1", "1"), ["1", "0"]))),
    "real": ({}, each("images labels domains K C")),
    "fake": ({}, each("images labels domains K C")),
    "domain_gradients": (
        {"net": net, "matcher": dg.DM(), "real": real, "synthetic": fake},
        each("net matcher real synthetic dice"),
    ),
    "layers": ({"layers": ("embed",)}, each("layers", (*ANY, "embed", ["embed", "pool1"]))),
    "mini_digits": ({"size": 8, "train": 10, "test": 0}, each("size train test seed domains")),
    "from_folder": (
        {"root": OWN_FOLDER, "size": 8, "cache": False},
        each("root size domains classes split_names workers cache"),
    ),
    "check": ({"root": OWN_FOLDER}, each("root name most workers")),
    "resultant_length": ({"G": g}, each("G eps weight")),
    "null_level": ({"K": 2, "samples": 9}, each("K moduli samples seed scale")),
    "SGS": ({}, each("alpha beta eps reading agreement")),
    "MatchedDM": ({}, each("alpha eps")),
    "OwnDomain": ({}, each("beta")),
    "decompose": (
        {"g_domain": g, "agreement": "shuffled", "dice": torch.Generator()},
        each("g_domain eps reading agreement weight dice"),
    ),
    "distill": (RUN, each(f"{LEARNED} checkpoint checkpoint_every resume keep_every callback")),
    "estimate": (RUN, each(f"{LEARNED} measure")),
    "network": (
        {"name": "convnet", "classes": 2, "size": 8, "seed": 0, "width": 4},
        each("name classes size seed width depth"),
    ),
    "pseudo_domains": (
        {"dataset": data, "K": 2, "width": 4},
        each("dataset K layers min_size seed features width depth encoder device"),
    ),
    "evaluate": (
        {"train_set": made, "target": data, "seeds": 1, "recipe": {"epochs": 1}, "width": 4},
        each("train_set target", (*ANY, {}, {"a": 3}, {3: data}, [data], data, real))
        | each("seeds", (*ANY, 10**6, [1, 1], range(2), [10**30], "12", [2.5]))
        | each("recipe", (*ANY, *({key: value} for key in RECIPE for value in (0, "x", 10**30))))
        | each("network width depth transform loss hooks device together workers progress"),
    ),
    "leave_one_out": ({"data": data}, each("data setting", (*ANY, made, [data], "mdg"))),
    "train": (
        {"net": net, "data": real, "recipe": {"epochs": 1}, "seed": 0},
        each("net data", (*ANY, [net], [net, net], dict, [3], data, made, [real]))
        | each("recipe seed normalise loss transform hooks"),
    ),
    "whole": ({"source": data}, each("source", (*ANY, made, (data, data), [data]))),
    "random": ({"source": data, "ipc": 1}, each(CHOICE, (*ANY, 10**6, [10**20, 1], {"0": 1}))),
    "herding": ({"source": data, "ipc": 1, "features": "pixels"}, each(f"{CHOICE} features")),
    "k_center": ({"source": data, "ipc": 1, "features": "pixels"}, each(f"{CHOICE} features")),
    "register": ({"name": "mine", "make": "random"}, each("name make")),
    "fresh": ({"seed": 0, "life": 1}, each("seed life")),
    "Method": ({"name": "DM"}, each("name make options prepare select")),
    "Evaluation": (ONE, each("name network networks recipe width depth")),
    "Study": (
        vars(STUDY),
        each(" ".join(vars(STUDY)), (*ANY, "DM", ["DM", "DM"], [Method("DM")], (10**20,), [2.5])),
    ),
    "run_study": ({"study": STUDY, **HERE}, each("study folder backend jobs address resume")),
    "compare": (
        {"source": data, "target": "0", "methods": ["random"], "ipc": 1, "seeds": 1, **ONE, **HERE},
        each("source target folder methods baseline size ipc seeds networks recipe distill jobs"),
    ),
    "read_results": ({"results": At("results")}, each("results", (*ANY, SCORES, SCORES[:0]))),
    "render": ({"results": At("results")}, each("results form baseline leave targets")),
    "explore": (
        {"source": data, "per_domain": 2},
        each("source label image alpha beta title distilled matcher ipc per_domain shown seed"),
    ),
    "DistilledSet": (vars(made), each(" ".join(vars(made)), (*ANY, ["a", "b"], [-1] * 4))),
    "DistilledSet.load": ({"folder": At("set")}, each("folder device")),
    "DistilledSet.save": ({"self": made, "folder": "x"}, each("folder pictures")),
    "DistilledSet.to": ({"self": made, "device": "cpu"}, each("device")),
    "DistilledSet.show": ({"self": made}, each("per_class")),
    "network_seeds": ({"networks": 1, "distillation_seed": 0}, each("networks distillation_seed")),
    "paired_difference": (
        {"rows": SCORES, "a": "DM", "b": "RR"},
        each("rows a b target level", (*ANY, SCORES[:0], SCORES[["method"]])),
    ),
    "summarise": ({"rows": SCORES}, each("rows baseline", (*ANY, SCORES[:0], SCORES[["method"]]))),
}
TOUCHED = [(name, key) for name, (_, odd) in DOORS.items() for key in odd]


def natural(function, good: dict, key: str) -> list:
    "What works, in other types that mean the same."
    known = signature(function).parameters.get(key)
    value = good.get(key, known and known.default)
    kinds = {int: (np.int64, torch.tensor), float: (np.float64, np.float32, torch.tensor)}
    kinds |= {str: (np.str_,), tuple: (list,), list: (tuple, np.array), torch.Tensor: (np.asarray,)}
    return [kind(value) for kind in kinds.get(type(value), ())]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, key", TOUCHED, ids=[" ".join(case) for case in TOUCHED])
def test_every_function_works_or_says_one_sentence(name, key, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, wrong = HELPED.get(name) or dg, []
    for part in () if name in HELPED else name.split("."):
        function = getattr(function, part)
    good, odd = DOORS[name]
    monkeypatch.setattr("dgdd_nb.methods.METHODS", dict(METHODS))
    good = {k: place / value if isinstance(value, At) else value for k, value in good.items()}
    meant = natural(function, good, key)
    for value in (*meant, *odd[key]):
        try:
            found = function(**{**good, key: value})
            list(found) if name == "leave_one_out" else None
        except Exception as error:
            known = isinstance(error, (ValueError, TypeError, OSError, RuntimeError, ImportError))
            fine = known and is_sentence(str(error), (key, value))
            if not fine or any(value is one for one in meant):
                wrong.append((value, f"{type(error).__name__}: {str(error)[:150]}"))
    assert not wrong, "\n".join(map(str, wrong))
