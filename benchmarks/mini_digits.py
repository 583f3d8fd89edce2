"""DM against DM+SGS on the built-in digits, with controls and enough seeds to claim a difference.

Same budget for all: 16x16 pixels, ipc 10, 300 steps, recipe "quick"; 5 distillation seeds x 10 networks, paired (the same
seed gives the same start images, encoders, batches and augmentations). Rows go to `results/mini_digits.csv`; what is there
already is not computed again.

    python benchmarks/mini_digits.py                       # target street
    python benchmarks/mini_digits.py --target photo --jobs 1
"""

import argparse
from pathlib import Path

import torch
from joblib import Parallel, delayed

from dgdd_nb.coresets import random
from dgdd_nb.data import mini_digits
from dgdd_nb.distill import distill
from dgdd_nb.evaluate import Results, Row, evaluate
from dgdd_nb.matching import DM
from dgdd_nb.surgery import SGS, MatchedDM, OwnDomain

FILE = Path(__file__).parent / "results" / "mini_digits.csv"
SURGERY = {
    "DM": lambda: None,
    "DM, matched learning rate": MatchedDM,
    "DM + own domain": OwnDomain,
    "DM + SGS": SGS,
    "DM + SGS, R shuffled": lambda: SGS(agreement="shuffled"),
}


def run(method: str, target: str, seed: int, networks: int) -> list[Row]:
    "Make one set, score it."
    torch.set_num_threads(1)
    source, test = mini_digits(size=16).leave_out(target)
    if method == "random":
        made = random(source, 10, seed=seed, per_domain=True)
    else:
        made = distill(source, DM(), SURGERY[method](), ipc=10, steps=300, seed=seed, progress=False)
    scores = evaluate(made, test, seeds=networks, recipe="quick", device="cpu")
    return [Row(method, target, seed, s, round(v, 3)) for s, v in zip(scores.seeds, scores.values.tolist())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="street", help="the domain left out")
    parser.add_argument("--seeds", type=int, default=5, help="distillation seeds")
    parser.add_argument("--networks", type=int, default=10, help="networks per distilled set")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--methods", nargs="+", default=["random", *SURGERY], choices=["random", *SURGERY], help="all by default")
    o = parser.parse_args()
    table = Results.from_csv(FILE) if FILE.exists() else Results()
    have = {(r.method, r.target, r.distillation_seed) for r in table.rows}
    todo = [(m, o.target, s) for s in range(o.seeds) for m in o.methods if (m, o.target, s) not in have]
    work = (delayed(run)(*job, o.networks) for job in todo)
    for rows in Parallel(n_jobs=o.jobs, return_as="generator")(work):
        table.rows += rows
        table.to_csv(FILE)
    print(table.to_markdown("DM"))


if __name__ == "__main__":
    main()
