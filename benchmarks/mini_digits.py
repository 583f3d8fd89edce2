"""DM against DM+SGS on the built-in digits, with controls and enough seeds to claim a difference.

Same budget for all: 16x16 pixels, ipc 10, 300 steps, recipe "quick"; 5 distillation seeds x 10 networks, paired (the same
seed gives the same start images, encoders, batches and augmentations). Rows go to `results/mini_digits.csv`; what is there
already is not computed again.

    python benchmarks/mini_digits.py                       # target street
    python benchmarks/mini_digits.py --target photo --jobs 1

"(strong)" stands for alpha = 2, beta = 0.03; every other SGS and control runs at its defaults.
"""

import argparse
from pathlib import Path

import torch
from joblib import Parallel, delayed

from dgdd_nb.coresets import random, whole
from dgdd_nb.data import mini_digits
from dgdd_nb.distill import distill
from dgdd_nb.evaluate import Results, Row, evaluate
from dgdd_nb.matching import DM
from dgdd_nb.surgery import SGS, MatchedDM, OwnDomain

FILE = Path(__file__).parent / "results" / "mini_digits.csv"
STRONG = {
    "alpha": 2.0,
    "beta": 0.03,
}  # far from the defaults on purpose: an effect of R would show here


def variants(suffix: str, **step: float) -> dict:
    "SGS and its controls at one pair of alpha and beta."
    alpha, beta = ({name: step[name]} if name in step else {} for name in ("alpha", "beta"))
    table = {
        "DM, matched learning rate": lambda: MatchedDM(**alpha),
        "DM + own domain": lambda: OwnDomain(**beta),
        "DM + SGS": lambda: SGS(**step),
        "DM + SGS, reading b": lambda: SGS(reading="b", **step),
        "DM + SGS, R shuffled": lambda: SGS(agreement="shuffled", **step),
        "DM + SGS, R constant": lambda: SGS(agreement="constant", **step),
        "DM + SGS, R in pixels": lambda: SGS(agreement="pixel", **step),
        "DM + SGS, R unbiased": lambda: SGS(agreement="unbiased", **step),
    }
    return {name + suffix: make for name, make in table.items()}


SURGERY = {"DM": lambda: None, **variants(""), **variants(" (strong)", **STRONG)}


METHODS = ["whole", "random", *SURGERY]


def run(method: str, target: str, seed: int, networks: int) -> list[Row]:
    "Make one set, score it."
    torch.set_num_threads(1)
    source, test = mini_digits(size=16).leave_out(target)
    if method == "whole":
        made = whole(source)  # nothing is drawn or distilled: one "seed" is all there is
    elif method == "random":
        made = random(source, 10, seed=seed, per_domain=True)
    else:
        made = distill(
            source, DM(), SURGERY[method](), ipc=10, steps=300, seed=seed, progress=False
        )
    scores = evaluate(made, test, seeds=networks, recipe="quick", device="cpu")
    return [
        Row(method, target, seed, s, round(v, 3))
        for s, v in zip(scores.seeds, scores.values.tolist())
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="street", help="the domain left out")
    parser.add_argument("--seeds", type=int, default=5, help="distillation seeds")
    parser.add_argument("--networks", type=int, default=10, help="networks per distilled set")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument(
        "--methods", nargs="+", default=METHODS, choices=METHODS, help="all by default"
    )
    o = parser.parse_args()
    table = Results.from_csv(FILE) if FILE.exists() else Results()
    have = {(r.method, r.target, r.distillation_seed) for r in table.rows}
    seeds = {m: 1 if m == "whole" else o.seeds for m in o.methods}
    todo = [
        (m, o.target, s) for m in o.methods for s in range(seeds[m]) if (m, o.target, s) not in have
    ]
    work = (delayed(run)(*job, o.networks) for job in todo)
    for rows in Parallel(n_jobs=o.jobs, return_as="generator")(work):
        table.rows += rows
        table.to_csv(FILE)
    print(table.to_markdown("DM"))


if __name__ == "__main__":
    main()
