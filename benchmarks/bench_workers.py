"""How much faster two workers finish a study than one: the same trials, one thread each, one after the other in one run.

    python benchmarks/bench_workers.py    # three rounds, about seven minutes on two cores

A round runs the study with one worker and with two, in turns, each into an empty folder, after both have been started
once (imports, built-in data). Rows go to `results/workers.csv`, one per round. The trials' numbers are compared too: they
have to be the same to the last bit.
"""

import argparse
import csv
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from dgdd_nb.study import Evaluation, Method, Study, run_study

FILE = Path(__file__).parent / "results" / "workers.csv"
NAMES = ("round", "cells", "one_worker_s", "two_workers_s", "ratio")


def study(steps: int) -> Study:
    "Eight trials of a few seconds."
    return Study(
        name="eight trials",
        data={"name": "mini_digits", "size": 16},
        seeds=1,
        distill={"steps": steps},
        evaluations=(Evaluation(networks=2),),
        methods=(Method("DM"), Method("DM+SGS")),
    )


def timed(what: Study, jobs: int, folder: Path) -> tuple[float, list]:
    "Seconds of a run, and its numbers."
    start = time.perf_counter()
    rows = run_study(what, folder, jobs=jobs, progress=False)
    return time.perf_counter() - start, rows.iloc[:, :9].values.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs")
    parser.add_argument("--steps", type=int, default=20, help="distillation steps per trial")
    o = parser.parse_args()
    what, rows = study(o.steps), []
    with tempfile.TemporaryDirectory() as top:
        for jobs in (1, 2):  # imports, built-in data
            timed(replace(what, distill={"steps": 1}), jobs, Path(top) / f"warm-{jobs}")
        for number in range(o.rounds):
            order = (1, 2) if number % 2 == 0 else (2, 1)  # neither is always the first
            found = {jobs: timed(what, jobs, Path(top) / f"{number}-{jobs}") for jobs in order}
            (one, same), (two, again) = found[1], found[2]
            if same != again:
                raise SystemExit("The numbers of one worker and of two differ: this is a bug.")
            rows.append([number, 8, round(one, 2), round(two, 2), round(one / two, 3)])
            print(dict(zip(NAMES, rows[-1])), flush=True)
    with open(FILE, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([NAMES, *rows])
    ratios = [row[-1] for row in rows]
    print(
        f"two workers are {statistics.median(ratios):.2f} times as fast (lowest {min(ratios):.2f}, highest {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
