"""How much faster one distillation is with its classes shared out to two workers: one thread each, equal images.

    python benchmarks/bench_by_class.py                  # three rounds, some minutes on two cores

A round distils once with one part and once with two, in turns, in worker processes that have been started before
(imports). One part runs in a worker too, so that both pay for handing over the data. Both take the block that two
parts need; the images are compared and have to be equal to the last bit.
Rows go to `results/by_class.csv`, one per round.
"""

import argparse
import csv
import statistics
import time
from pathlib import Path

import torch
from joblib import parallel_config

from dgdd_nb.by_class import distill_by_class
from dgdd_nb.data import mini_digits
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.matching import DM
from dgdd_nb.surgery import SGS

FILE = Path(__file__).parent / "results" / "by_class.csv"
NAMES = ("round", "side", "steps", "real_batch", "one_part_s", "two_parts_s", "ratio")
IPC = 10


def timed(parts: int, source, steps: int, real_batch: int) -> tuple[float, DistilledSet]:
    "Seconds of a distillation, and what it gave."
    start = time.perf_counter()
    sizes = {"ipc": IPC, "block": IPC * source.C // 2, "real_batch": real_batch}
    made = distill_by_class(source, DM(), SGS(), parts=parts, steps=steps, **sizes)
    return time.perf_counter() - start, made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs")
    parser.add_argument("--steps", type=int, default=60, help="distillation steps")
    parser.add_argument("--real-batch", type=int, default=96, help="real images per class and step")
    parser.add_argument("--side", type=int, default=16, help="of the images, in pixels")
    parser.add_argument("--out", type=Path, default=FILE, help="where the rows go")
    o = parser.parse_args()
    source, rows = mini_digits(size=o.side).leave_out("street")[0], []
    with parallel_config(backend="loky", n_jobs=2):
        timed(2, source, 1, 12)  # imports, in both workers
        for number in range(o.rounds):
            order = (1, 2) if number % 2 == 0 else (2, 1)  # neither is always the first
            found = {parts: timed(parts, source, o.steps, o.real_batch) for parts in order}
            (one, whole), (two, halves) = found[1], found[2]
            if not torch.equal(whole.images, halves.images):
                raise SystemExit("The images of one part and of two differ: this is a bug.")
            rows.append(
                [
                    number,
                    o.side,
                    o.steps,
                    o.real_batch,
                    round(one, 2),
                    round(two, 2),
                    round(one / two, 3),
                ]
            )
            print(dict(zip(NAMES, rows[-1])), flush=True)
    with open(o.out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([NAMES, *rows])
    ratios = [row[-1] for row in rows]
    print(
        f"two workers are {statistics.median(ratios):.2f} times as fast (lowest {min(ratios):.2f}, highest {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
