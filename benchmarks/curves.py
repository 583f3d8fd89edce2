"""Accuracy on the unseen domain over the steps of a run: one set of each distilled row of a study, run twice as long as there.

    python benchmarks/curves.py benchmarks/tables/trial_test_street.toml street
    DGDD_DATA=FOLDER python benchmarks/curves.py benchmarks/tables/trial_digits.toml mnist_m

Set and networks are of a seed that no study here has, so no result of a study shows early. Rows go to results/curves.csv, a
method at a time; what is there already is not computed again. Notebook 34 shows them.
Columns: study, target, ipc, method, step, network_seed, accuracy.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dgdd_nb.files import load_settings, replace_atomically  # noqa: E402
from dgdd_nb.methods import Work, distils  # noqa: E402
from dgdd_nb.study import Study, score, task_of, trials  # noqa: E402

FILE = Path(__file__).parent / "results" / "curves.csv"
PARTS = (0.1, 0.2, 0.3, 0.5, 1.0, 1.5, 2.0)  # of the study's steps
SEED = 1000  # of set and networks
KEYS = ["study", "target", "ipc", "method"]


def curve(trial) -> pd.DataFrame:
    """Accuracies of the networks of one trial after several numbers of steps, start images included."""
    task, way = task_of(trial.study, trial.target), trial.study.evaluations[0]
    task = replace(task, targets={trial.target: task.targets[trial.target]})
    steps = trial.settings["distill"]["steps"]
    made = trial.make(task.source, Work(), steps=2 * steps, keep_every=max(1, steps // 10))
    kept = dict(zip(made.history["kept_at"], made.history["kept"]))
    rows = []
    for step in [0, *(round(part * steps) for part in PARTS)]:
        found = score(way, replace(made, images=kept[step], history=None), task, trial.seed)
        rows += [(step, seed, accuracy) for _, _, seed, accuracy in found]
        mean = sum(row[-1] for row in found) / len(found)
        print(f"{trial.method.name}, step {step}: {mean:.1f} %", flush=True)
    return pd.DataFrame(rows, columns=["step", "network_seed", "accuracy"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path, help="TOML file")
    parser.add_argument("target", help="domain left out")
    parser.add_argument("--methods", nargs="*", help="rows; all distilled ones")
    options = parser.parse_args()

    study = load_settings(Study, options.study)
    torch.set_num_threads(study.threads)
    study = replace(study, seeds=1, targets=(options.target,))
    for trial in trials(study):
        place = [options.study.stem, trial.target, trial.ipc, trial.method.name]
        there = pd.read_csv(FILE) if FILE.exists() else pd.DataFrame(columns=KEYS)
        wanted = not options.methods or trial.method.name in options.methods
        if not wanted or not distils(trial.function) or (there[KEYS] == place).all(axis=1).any():
            continue
        found = curve(replace(trial, seed=SEED)).assign(**dict(zip(KEYS, place)))
        rows = pd.concat([there, found]) if len(there) else found
        with replace_atomically(FILE) as path:
            rows[[*KEYS, "step", "network_seed", "accuracy"]].to_csv(path, index=False)
