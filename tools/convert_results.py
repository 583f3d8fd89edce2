"""Convert results of earlier versions, cell by cell, to trials of a study; every number is kept.

    python tools/convert_results.py RESULTS FILE.jsonl       # RESULTS: a folder with cells/, or a packed .jsonl
    python tools/convert_results.py A B FILE.jsonl --take C "DM" "random"    # several with equal settings become one study;
                                                                              # of C only these methods
Methods, evaluations and the words of the settings are translated, so that a run of the same study with the present version
finds its trials done.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dgdd_nb.files import replace_atomically
from dgdd_nb.study import KIND

MAKE = {None: "DM", "SGS": "DM+SGS", "MatchedDM": "DM-matched"}  # surgery -> method
RENAMED = {"k_centre": "k_center"}
PREPARE = {"shuffled_tags:shuffled": "shuffled_domains"}


def method_of(old: dict[str, Any]) -> dict[str, Any]:
    "A method in the words of a study."
    make, options = RENAMED.get(old["make"], old["make"]), dict(old.get("options", {}))
    selected = {path.rpartition(".")[2]: x for path, x in old.get("choose", {}).items()}
    prepare = old.get("prepare")
    if isinstance(prepare, dict):
        prepare = {**prepare, "name": PREPARE.get(prepare["name"], prepare["name"])}
    if make == "distill":
        surgery = old.get("surgery")
        name = surgery["name"] if isinstance(surgery, dict) else surgery
        make = MAKE.get(name, "DM")
        if name not in MAKE:
            options = {"surgery": surgery} | options
        elif isinstance(surgery, dict):
            options = {key: value for key, value in surgery.items() if key != "name"} | options
        if old.get("objective", "DM") != "DM":
            options["matcher"] = old["objective"]
    made = {"name": old["name"], "make": make, "options": options}
    return made | {"prepare": prepare, "select": selected}


def evaluations_of(old: dict[str, Any]) -> list[dict[str, Any]]:
    "One evaluation per architecture."
    common = {key: old.get(key) for key in ("networks", "recipe", "width", "depth")}
    return [{"name": name, "network": name, **common} for name in old["architectures"]]


def study_of(old: dict[str, Any]) -> dict[str, Any]:
    "The settings of a grid as those of a study."
    same = "name data setting targets ipc seeds distill baseline threads paper".split()
    made = {"methods": [method_of(x) for x in old["methods"]], **{x: old.get(x) for x in same}}
    made |= {"domains": [], "evaluations": evaluations_of(old["evaluate"])}
    return made | {"trials": old.get("cells", 0), "selection_seeds": old.get("choice_seeds", 3)}


def trial_of(old: dict[str, Any]) -> dict[str, Any]:
    "A cell as a trial."
    cell = old["cell"]
    same = {x: cell[x] for x in "data setting target ipc seed distill threads".split()}
    method = method_of(cell["method"])
    fixed = method["make"] == "whole" or method["options"].get("features") == "pixels"
    trial = {**same, "domains": [], "method": method}
    trial["evaluations"] = evaluations_of(cell["evaluate"])
    rest = {key: value for key, value in old.items() if key not in ("kind", "cell")}
    return {"kind": KIND, "trial": trial, **rest, "fixed": fixed}


def read(path: Path) -> list[dict[str, Any]]:
    "Settings and cells of a folder or a packed file."
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    files = [path / "grid.json", *sorted((path / "cells").glob("*.json"))]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, help="folders or packed files")
    parser.add_argument("out", type=Path, help="file to write, ending in .jsonl")
    parser.add_argument(
        "--take", nargs="+", action="append", default=[], metavar=("PATH", "METHOD")
    )
    parser.add_argument("--rename", nargs=2, action="append", default=[], metavar=("OLD", "NEW"))
    parser.add_argument("--name", help="of the study")
    parser.add_argument("--baseline", help="of the study")
    given = parser.parse_args()
    taken = [(path, None) for path in given.results] + [(Path(x), y) for x, *y in given.take]
    study, methods, found = None, {}, []
    for path, names in taken:
        grid, *cells = read(path)
        new = study_of(grid)
        study = study or new
        for key in ("data", "setting", "distill", "evaluations", "threads"):
            if study[key] != new[key]:
                sys.exit(f"{path} has another {key} than the first: convert it alone.")
        mine = [x for x in new["methods"] if names is None or x["name"] in names]
        for method in mine:
            if methods.setdefault(method["name"], method) != method:
                sys.exit(f"{path} has another method called {method['name']!r}.")
        targets = study["targets"] if names else []
        new_trials = [
            trial_of(x) for x in cells if x["cell"]["target"] in (targets or [x["cell"]["target"]])
        ]
        known = {x["name"] for x in mine}
        found += [x for x in new_trials if x["trial"]["method"]["name"] in known]
    for method in (*methods.values(), *(x["trial"]["method"] for x in found)):
        method["name"] = dict(given.rename).get(method["name"], method["name"])
    study |= {"methods": list(methods.values()), "trials": len(found)}
    study["seeds"] = max(x["trial"]["seed"] for x in found) + 1
    study["name"] = given.name or study["name"]
    study["baseline"] = given.baseline or study["baseline"]
    with replace_atomically(given.out) as temporary:
        lines = "".join(json.dumps(entry) + "\n" for entry in (study, *found))
        temporary.write_text(lines, encoding="utf-8")
    print(f"{given.out}: {len(found)} trials")
    return 0


if __name__ == "__main__":
    sys.exit(main())
