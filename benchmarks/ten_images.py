"""Three uses of ten images per class, with their seconds: built-in digits 16x16, the domain street unseen.

    python benchmarks/ten_images.py --networks 5

CPU seconds of one thread. Writes benchmarks/results/ten_images.csv; the tutorial use_a_distilled_set shows it.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import dgdd_nb as dg  # noqa: E402
from dgdd_nb.augment import strategy_for  # noqa: E402
from dgdd_nb.data import Batch  # noqa: E402
from dgdd_nb.distilled import ready_set  # noqa: E402
from dgdd_nb.train import Recipe, predict, train  # noqa: E402


def recipe(epochs: int, lr: float = 0.05) -> Recipe:
    """Passes over the training set, batches of 32, a rate that falls to zero, no flips of digits."""
    how = {"augment": strategy_for("auto", source.classes), "batch": 32, "schedule": "cosine"}
    return Recipe(f"{epochs} epochs", epochs=epochs, lr=lr, **how)


def fresh(seed: int) -> torch.nn.Module:
    """The network that the small images are judged with."""
    return dg.network("convnet", classes=10, size=16, seed=seed)


def score(net: torch.nn.Module) -> float:
    """Per cent right on the unseen domain."""
    found = predict(net, target.images, normalise=normalise)
    return 100 * float((found == target.labels).double().mean())


def batch(data, classes: torch.Tensor | None = None) -> Batch:
    """Normalised images with labels, of some classes."""
    keep = torch.ones(len(data), dtype=torch.bool)
    keep = keep if classes is None else torch.isin(data.labels, classes)
    images = data.images[keep]
    images = normalise(images) if images.dtype == torch.uint8 else images
    return Batch(images, data.labels[keep], data.domains[keep], data.K, data.C)


def joined(a: Batch, b: Batch | None) -> Batch:
    """Two training sets as one."""
    if b is None or not len(b):
        return a
    parts = [
        torch.cat([getattr(x, key) for x in (a, b)]) for key in ("images", "labels", "domains")
    ]
    return Batch(*parts, a.K, a.C)


def repeated(data: Batch, times: int) -> Batch:
    """Each image several times."""
    parts = [getattr(data, key) for key in ("images", "labels", "domains")]
    return Batch(*(torch.cat([x] * times) for x in parts), data.K, data.C)


def from_scratch(seed: int, name: str, data) -> tuple[int, float]:
    """Use 1: as many passes over each set."""
    train(net := fresh(seed), batch(data), recipe(60), seed)
    return len(data), score(net)


def warm(seed: int, name: str, data) -> tuple[int, float]:
    """Use 2: first the small set, then three passes over all images."""
    net = fresh(seed)
    if data is not None:
        train(net, batch(data), recipe(60), seed)
    train(net, batch(source), recipe(7 if "7 passes" in name else 3, 0.02), seed)
    return 0 if data is None else len(data), score(net)


def in_turn(seed: int, name: str, data) -> tuple[int, float]:
    """Use 3: five tasks of two classes; what is gone is remembered by the small set alone."""
    net, memory = fresh(seed), 0
    for task in torch.arange(10).split(2):
        old = None if data is None else batch(data, torch.arange(int(task[0])))
        memory = 0 if old is None else len(old)
        new, times = batch(source, task), 1
        if old is not None and len(old):  # an old class is seen as often as a new one
            times = len(new) // 2 // (len(old) // int(task[0]))
        train(net, joined(new, old and repeated(old, times)), recipe(8, 0.02), seed)
    return memory, score(net)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--networks", type=int, default=5)
args = parser.parse_args()
torch.set_num_threads(1)
source, target = dg.mini_digits(size=16).leave_out("street")
ready = {name: ready_set(name) for name in ("digits-dm", "digits-sgs")}
normalise = source.normalisation()
real = dg.random(source, ipc=10, seed=0)
sets = {"10 per class, random real": real, "10 per class, DM": ready["digits-dm"]}
sets |= {"10 per class, DM + SGS": ready["digits-sgs"]}
uses = {
    "train a network, 60 passes": (from_scratch, {"all images": source, **sets}),
    "warm start, then 3 passes over all": (
        warm,
        {"nothing before": None, "nothing before, 7 passes": None, **sets},
    ),
    "five tasks of two classes": (in_turn, {"no memory": None, **sets}),
}
assert all(one.normalisation == normalise for one in ready.values())
rows = []
for use, (run, choices) in uses.items():
    for name, data in choices.items():
        data = replace(data, images=data.images.float()) if hasattr(data, "recipe") else data
        for seed in range(args.networks):
            began = time.process_time()
            images, accuracy = run(seed, name, data)
            rows.append((use, name, images, seed, time.process_time() - began, accuracy))
            print(*rows[-1], sep=", ", flush=True)
columns = ["use", "set", "images", "seed", "seconds", "accuracy"]
table = pd.DataFrame(rows, columns=columns).round({"seconds": 2, "accuracy": 2})
table["about"] = f"torch {torch.__version__}, 1 thread"
table.to_csv(ROOT / "benchmarks" / "results" / "ten_images.csv", index=False, lineterminator="\n")
