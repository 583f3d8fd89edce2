"""How near is a step of distillation to what this machine can do? Each part against two limits.

    python benchmarks/roofline.py                          # prints a table
    python benchmarks/roofline.py --out results/roofline.csv --cpu-time --threads 1

A part of a step does a number of floating-point operations and must at least read its input and write its output once. Both
limits are measured here: the most operations per second that a matrix product or a convolution of this run reached, and the
bytes per second of a copy of a micro-batch's largest map. No part can be faster than the longer of its two times, `limit s`;
`reached` is that time as a share of the time it took. The parts are those of DM with 256 real images per class and ten
synthetic ones, at 32 x 32, width 128. The last row is a step of the engine, against the sum of the limits of its parts: what
is in no part (picking, normalising and augmenting images) has a limit of 0 there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from bench_step import CLASSES, Case, engine_step, starting_images, surroundings
from torch import Tensor
from torch.nn import functional

from dgdd_nb.domain_gradients import DomainGradients
from dgdd_nb.engine import default_micro_batch
from dgdd_nb.networks import block_tail
from dgdd_nb.surgery import SGS

FLOAT = 4  # bytes


def seconds_of(call: Callable[[], object], clock: Callable[[], float], rounds: int) -> float:
    """Median seconds of a call, after two that do not count."""
    call(), call()
    taken = []
    for _ in range(rounds):
        begin = clock()
        call()
        taken.append(clock() - begin)
    return statistics.median(taken)


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def parts(case: Case) -> list[tuple[str, float, float, float, Callable[[], object]]]:
    """Name, calls per step, operations and least bytes of a call, and the call itself."""
    m, width = (
        default_micro_batch(case.width, (case.size, case.size), torch.device("cpu")),
        case.width,
    )
    calls = {"real": CLASSES * case.real / m, "synthetic": CLASSES * case.ipc / m}
    ones, zeros, found = torch.ones(width), torch.zeros(width), []
    for block in range(3):
        channels, side = 3 if block == 0 else width, case.size >> block
        x = last(torch.randn(m, channels, side, side))
        weight = last(torch.randn(width, channels, 3, 3))
        y = functional.conv2d(x, weight, padding=1)
        work, moved = 2.0 * 9 * channels * y.numel(), FLOAT * (x.numel() + y.numel())
        tail_moved, slope = FLOAT * y.numel() * 1.25, torch.randn_like(y)

        def convolve(x: Tensor = x, weight: Tensor = weight) -> Tensor:
            return functional.conv2d(x, weight, padding=1)

        def tail(y: Tensor = y) -> Tensor:
            return block_tail(y, ones, zeros)

        def convolve_back(x: Tensor = x, weight: Tensor = weight, slope: Tensor = slope) -> Tensor:
            return torch.nn.grad.conv2d_input(x.shape, weight, slope, padding=1)

        wanted = y.detach().clone().requires_grad_()
        pooled = block_tail(wanted, ones, zeros)
        down = torch.randn_like(pooled)

        def tail_back(
            wanted: Tensor = wanted, pooled: Tensor = pooled, down: Tensor = down
        ) -> object:
            return torch.autograd.grad(pooled, wanted, down, retain_graph=True)

        for who in ("real", "synthetic"):
            name = f"{who} images, forward"
            with torch.no_grad():
                found.append(
                    (f"{name}: convolution {block + 1}", calls[who], work, moved, convolve)
                )
                found.append((f"{name}: tail {block + 1}", calls[who], 0.0, tail_moved, tail))
        name = "synthetic images, backward"
        found.append(
            (f"{name}: convolution {block + 1}", calls["synthetic"], work, moved, convolve_back)
        )
        found.append(
            (f"{name}: tail {block + 1}", calls["synthetic"], 0.0, 2 * tail_moved, tail_back)
        )
    return sorted(found, key=lambda part: part[0])


def surgery_part(case: Case) -> tuple[str, float, float, float, Callable[[], object]]:
    """The whole of spectral surgery on the K gradients of all synthetic images."""
    synthetic, labels, domains = starting_images(case, case.K)
    stack = torch.randn(case.K, *synthetic.shape)
    gradients = DomainGradients(stack, stack.mean(0))
    moved = FLOAT * synthetic.numel() * (case.K + 1) * 3.0  # images to spectra, there and back
    surgery = SGS()
    return "spectral surgery", 1.0, 0.0, moved, lambda: surgery(gradients, labels, domains)


def measure(case: Case, clock: Callable[[], float], rounds: int) -> pd.DataFrame:
    """A row for each part, then the sum of the parts of DM and a step of the engine."""
    one = torch.randn(2**21)  # 8 MiB, a micro-batch's largest map
    other = torch.empty_like(one)
    rate = 2.0 * FLOAT * one.numel() / seconds_of(lambda: other.copy_(one), clock, 20 * rounds)
    peak, rows = 0.0, []
    for side in (1024, 2048):
        a = torch.randn(side, side)
        peak = max(peak, 2.0 * side**3 / seconds_of(partial(torch.mm, a, a), clock, 4 * rounds))
    for name, calls, work, moved, call in [*parts(case), surgery_part(case)]:
        with torch.set_grad_enabled("backward" in name):
            took = seconds_of(call, clock, 4 * rounds)
        rows.append((name, calls * work / 1e9, calls * moved / 1e6, calls * took))
        peak = max(peak, work / took)
    table = pd.DataFrame(rows, columns=["part", "GFLOP", "MB", "seconds"])
    times = pd.DataFrame({"arithmetic": table.GFLOP * 1e9 / peak, "memory": table.MB * 1e6 / rate})
    table["bound by"], table["limit s"] = times.idxmax(axis=1), times.max(axis=1)
    of_dm = table[table.part != "spectral surgery"][["GFLOP", "MB", "limit s"]].sum()
    took = seconds_of(engine_step(Case(**{**vars(case), "K": 1})), clock, rounds)
    table.loc[len(table)] = {"part": "step of DM", **of_dm, "bound by": "", "seconds": took}
    table["reached"] = table["limit s"] / table["seconds"]
    return table.assign(**{"GFLOP/s": peak / 1e9, "GB/s": rate / 1e9})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny settings, to see that it runs")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch")
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the process alone")
    parser.add_argument("--out", type=Path, help="a CSV file, relative to this folder")
    asked = parser.parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    case = Case(size=16, width=16, real_batch=9, ipc=3, per_class=42) if asked.quick else Case()
    clock = time.process_time if asked.cpu_time else time.perf_counter
    table = measure(case, clock, asked.rounds)
    about = surroundings("cpu") | {"case": str(case), "clock": clock.__name__}
    print(table.drop(columns=["GFLOP/s", "GB/s"]).round(4).to_string(index=False))
    print({"GFLOP/s": round(table["GFLOP/s"][0]), "GB/s": round(table["GB/s"][0])} | about)
    if asked.out:
        path = Path(__file__).parent / asked.out
        table.assign(**about).to_csv(path, index=False, float_format="%.5g", lineterminator="\n")


if __name__ == "__main__":
    main()
