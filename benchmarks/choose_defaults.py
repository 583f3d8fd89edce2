"""Choose lr, alpha and beta without looking at the target: leave one *source* domain out.

SGS() takes the best pair with both parts on (alpha and beta above 0), so that its defaults show the whole method; that no
pair stands out from plain DM is part of the result.

The target domain (street) is set aside and never read. Of the other three domains each is held out in turn: distil the
two that remain, train networks on the result, test on the held-out source domain. One row per network is appended to
`results/choose_defaults.csv`; rows that are there already are not computed again, so the script can be stopped and resumed.

    python benchmarks/choose_defaults.py                 # stage 1: lr of DM; stage 2: alpha and beta of SGS
    python benchmarks/choose_defaults.py --jobs 1
"""

import argparse
import csv
from pathlib import Path

import torch
from joblib import Parallel, delayed

from dgdd_nb.data import mini_digits
from dgdd_nb.distill import distill
from dgdd_nb.evaluate import evaluate
from dgdd_nb.matching import DM
from dgdd_nb.surgery import SGS

FILE = Path(__file__).parent / "results" / "choose_defaults.csv"
FIELDS = [
    "stage",
    "target_set_aside",
    "held_out_source",
    "lr",
    "alpha",
    "beta",
    "distill_seed",
    "network_seed",
    "accuracy",
    "steps",
    "ipc",
    "real_batch",
    "size",
    "recipe",
]
BUDGET = {"steps": 300, "ipc": 10, "real_batch": 96}
RATES = (3.0, 10.0, 30.0)
PAIRS = ((1.0, 0.0), (0.0, 0.03), (0.5, 0.01), (0.5, 0.03), (1.0, 0.03), (1.0, 0.1))


def run(job: dict, networks: int) -> list[dict]:
    "Distil two sources, score the third."
    torch.set_num_threads(1)
    data = mini_digits(size=16)
    names = [
        n for n in data.domain_names if n not in (job["target_set_aside"], job["held_out_source"])
    ]
    pair, held_out = data.only(*names).split("train"), data.only(job["held_out_source"]).split("test")
    surgery = SGS(alpha=job["alpha"], beta=job["beta"]) if job["alpha"] or job["beta"] else None
    made = distill(
        pair, DM(), surgery, lr=job["lr"], seed=job["distill_seed"], progress=False, **BUDGET
    )
    scores = evaluate(made, held_out, seeds=networks, recipe="quick")
    rest = {**BUDGET, "size": 16, "recipe": "quick"}
    return [
        {**job, "network_seed": i, "accuracy": round(float(a), 5), **rest}
        for i, a in enumerate(scores.values)
    ]


def done() -> list[dict]:
    "Rows so far."
    return list(csv.DictReader(FILE.open())) if FILE.exists() else []


def stage(
    number: int,
    settings: list[tuple[float, ...]],
    target: str,
    seeds: int,
    networks: int,
    jobs: int,
) -> list[tuple]:
    "Run what is missing; mean accuracy of each (lr, alpha, beta), best first."
    key = ("stage", "target_set_aside", "held_out_source", "lr", "alpha", "beta", "distill_seed")
    have = {tuple(str(r[k]) for k in key) for r in done()}
    sources = [n for n in ("scan", "photo", "street", "print") if n != target]
    todo = [
        dict(zip(key, (number, target, h, *s, seed)))
        for s in settings
        for h in sources
        for seed in range(seeds)
    ]
    todo = [j for j in todo if tuple(str(j[k]) for k in key) not in have]
    if not FILE.exists():
        FILE.parent.mkdir(exist_ok=True)
        csv.DictWriter(FILE.open("w", newline=""), FIELDS, lineterminator="\n").writeheader()
    for rows in Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(run)(j, networks) for j in todo
    ):
        with FILE.open("a", newline="") as file:
            csv.DictWriter(file, FIELDS, lineterminator="\n").writerows(rows)
    means = []
    for s in settings:
        rows = [
            r
            for r in done()
            if int(r["stage"]) == number
            and r["target_set_aside"] == target
            and tuple(float(r[k]) for k in ("lr", "alpha", "beta")) == s
        ]
        values = torch.tensor([float(r["accuracy"]) for r in rows])
        means.append((values.mean().item(), *s, len(rows)))
    for mean, lr, alpha, beta, n in sorted(means, reverse=True):
        print(
            f"stage {number}: lr {lr:g} alpha {alpha:g} beta {beta:g}: {mean:.1f} % ({n} networks)"
        )
    return sorted(means, reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--target", default="street", help="domain that is set aside and never read"
    )
    parser.add_argument("--seeds", type=int, default=2, help="distillation seeds")
    parser.add_argument("--networks", type=int, default=3, help="networks per distilled set")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    rest = (options.target, options.seeds, options.networks, options.jobs)
    plain = stage(1, [(r, 0.0, 0.0) for r in RATES], *rest)
    lr = plain[0][1]
    best = sorted([plain[0], *stage(2, [(lr, a, b) for a, b in PAIRS], *rest)], reverse=True)
    print("best:", dict(zip(("accuracy", "lr", "alpha", "beta"), best[0])))
    chosen = next(m for m in best if m[2] and m[3])
    print("best with both parts on:", dict(zip(("accuracy", "lr", "alpha", "beta"), chosen)))


if __name__ == "__main__":
    main()
