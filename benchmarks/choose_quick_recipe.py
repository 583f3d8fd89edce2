"""Which short recipe scores training sets like the recipe of the paper? The numbers behind `RECIPES["quick"]`.

For each of the four digit domains: leave it out (it is not touched again), split the other three into a train and a
held-out part, draw 10 training images per class, train networks by every candidate and score them on the held-out
part. Wanted: accuracy and order of the sets as with the paper's recipe, in a small share of its time.

    python benchmarks/choose_quick_recipe.py [--networks 3] [--out benchmarks/results/quick_recipe.csv]
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch

from dgdd_nb.data import MultiDomain, mini_digits
from dgdd_nb.evaluate import RECIPES, Recipe, evaluate
from dgdd_nb.files import generator, replace_atomically

CANDIDATES = [
    (epochs, lr, batch, schedule)
    for epochs, lr, batch, schedule in (
        (60, 0.03, 32, "cosine"),
        (60, 0.05, 32, "cosine"),
        (60, 0.1, 32, "cosine"),
        (60, 0.05, 32, "drop"),
        (40, 0.05, 32, "cosine"),
        (40, 0.05, 16, "cosine"),
        (100, 0.05, 100, "cosine"),
    )
]
FIELDS = ("recipe", "left_out", "network_seed", "accuracy", "train_accuracy", "cpu_seconds")


def recipes() -> list[Recipe]:
    found = [RECIPES["paper"]]
    for epochs, lr, batch, schedule in CANDIDATES:
        name = f"{epochs} epochs, rate {lr}, batch {batch}, {schedule}"
        found.append(Recipe(name, epochs, lr, batch, schedule=schedule, max_steps=400))
    return found


def few_per_class(data: MultiDomain, ipc: int, rng: torch.Generator) -> MultiDomain:
    """A training set of ipc real images per class, whatever their domain."""
    chosen = []
    for c in range(data.C):
        index = (data.labels == c).nonzero()[:, 0]
        chosen.append(index[torch.randperm(len(index), generator=rng)[:ipc]])
    return data.select(torch.cat(chosen))


def measure(networks: int) -> list[tuple]:
    digits, rows = mini_digits(16), []
    for recipe in recipes():
        for name in digits.domain_names:
            rest, held_out = digits.leave_out(name)[0].split()
            small = few_per_class(rest, 10, generator(0, f"choose-{name}"))
            for seed in range(networks):
                start = time.process_time()
                scores = evaluate(
                    small, held_out, seeds=[seed], recipe=recipe, width=32, device="cpu"
                )
                spent = time.process_time() - start
                learned = float(scores.train_accuracy[0])
                rows.append(
                    (
                        recipe.name,
                        name,
                        seed,
                        round(scores.mean, 3),
                        round(learned, 3),
                        round(spent, 2),
                    )
                )
        show(rows, recipe.name)
    return rows


def show(rows: list[tuple], name: str) -> None:
    """Mean over the sets, correlation with the paper's recipe over the sets, and the time of one training."""

    def by_set(recipe: str) -> np.ndarray:
        names = dict.fromkeys(row[1] for row in rows)
        return np.array(
            [np.mean([r[3] for r in rows if r[0] == recipe and r[1] == n]) for n in names]
        )

    own, paper = by_set(name), by_set("paper")
    spent = np.median([row[5] for row in rows if row[0] == name])
    print(
        f"{name:>40}: {own.mean():5.1f} %, minus paper {np.mean(own - paper):+5.1f}, correlation over sets "
        f"{np.corrcoef(own, paper)[0, 1]:.2f}, {spent:.1f} s of processor time",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=3, help="networks per set and recipe")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "quick_recipe.csv"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.networks)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(arguments.out) as temporary, open(temporary, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([FIELDS, *rows])
