"""The referee of a rebuilding: do the distilled sets, scores and tables still come out as they did?

    python tools/referee.py            # compare with tests/referee.safetensors, a line per case
    python tools/referee.py --freeze   # write that file anew (only from a tree whose results are trusted)

Each line says: same bits, same within rounding (and how far), different on purpose (and why), or DIFFERENT, which fails.
Bits depend on the version of torch and on the processor; where the frozen ones are other ones, the line says so.
"""

import hashlib
import platform
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from books import ROOT, command_line

from dgdd_nb.coresets import herding, random
from dgdd_nb.data import MultiDomain
from dgdd_nb.distill import distill
from dgdd_nb.evaluate import evaluate
from dgdd_nb.files import load_tensors, save_tensors
from dgdd_nb.matching import DM
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.pseudo_domains import pseudo_domains
from dgdd_nb.results import render
from dgdd_nb.surgery import SGS, MatchedDM, OwnDomain

FILE = ROOT / "tests" / "referee.safetensors"
ON_PURPOSE = {
    "table": "the rows of the matched control were run again with the projected one",
    "MatchedDM": "the control is matched to the projection of SGS on g_dm, before to the mean of R",
}
ROUNDING = 2e-4  # of the largest entry after a few steps


def uneven(source: MultiDomain) -> MultiDomain:
    "Class 3 is absent from the first domain, class 5 has two images in the second."
    keep = ~((source.labels == 3) & (source.domains == 0))
    few = ((source.labels == 5) & (source.domains == 1)).nonzero().flatten()[2:]
    keep[few] = False
    return source.select(keep)


def resumed(source: MultiDomain) -> torch.Tensor:
    "Two steps, a checkpoint, three more."
    with tempfile.TemporaryDirectory() as folder:
        options = {"ipc": 1, "seed": 4, "momentum": 0.9, "progress": False}
        options["checkpoint"] = Path(folder) / "run.safetensors"
        distill(source, DM(), SGS(), steps=2, checkpoint_every=2, **options)
        return distill(source, DM(), SGS(), steps=5, **options).images


def cases() -> dict[str, torch.Tensor]:
    "Everything that is compared, by name."
    small, large = (mini_digits(size=size).leave_out("street")[0] for size in (16, 32))
    target = mini_digits(size=16).leave_out("street")[1]
    run = {"ipc": 1, "steps": 4, "seed": 3, "progress": False}
    found = {
        "mini_digits 16": small.images[::60].float(),
        "mini_digits 32": large.images[::240].float(),
        "DM 16": distill(small, DM(), **run).images,
        "DM + SGS, reading a, 16": distill(small, DM(), SGS(), **run).images,
        "DM + SGS, reading b, 16": distill(small, DM(), SGS(reading="b", beta=0.3), **run).images,
        "DM + SGS, R shuffled, 16": distill(small, DM(), SGS(agreement="shuffled"), **run).images,
        "OwnDomain 16": distill(small, DM(), OwnDomain(beta=0.5), **run).images,
        "MatchedDM 16": distill(small, DM(), MatchedDM(), **run).images,
        "uneven cells, ipc 2, 16": distill(uneven(small), DM(), SGS(), **{**run, "ipc": 2}).images,
        "momentum and resume, 16": resumed(small),
        "DM 32": distill(large, DM(), **{**run, "steps": 2, "width": 32}).images,
        "DM + SGS 32": distill(large, DM(), SGS(), **{**run, "steps": 2, "width": 32}).images,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        styled = pseudo_domains(small.only("scan"), 3, seed=1)
    found["pseudo-domains, 16"] = distill(styled, DM(), SGS(), **run).images
    for name, made in (
        ("random", random(small, 3, seed=1)),
        ("herding", herding(small, 3, features="pixels")),
    ):
        scores = evaluate(made, target, seeds=2, recipe="quick", device="cpu", workers=1)
        found[f"scores of {name}"] = torch.tensor(scores.values, dtype=torch.float64)
    table = render(ROOT / "benchmarks" / "results" / "main_mini.jsonl")
    digest = hashlib.sha256(table.encode()).digest()
    found["table of main_mini.jsonl"] = torch.tensor(list(digest), dtype=torch.uint8)
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def where() -> dict[str, str]:
    "What decides the last bits."
    return {"torch": torch.__version__.split("+")[0], "processor": platform.machine()}


def verdict(name: str, now: torch.Tensor, before: torch.Tensor) -> tuple[str, bool]:
    "One case in words, and whether it is all right."
    if now.shape == before.shape and torch.equal(now, before):
        return "same bits", True
    if name.split()[0] in ON_PURPOSE:
        return f"different on purpose: {ON_PURPOSE[name.split()[0]]}", True
    if now.shape != before.shape or not now.is_floating_point():
        return "DIFFERENT", False
    off = float((now.double() - before.double()).abs().max() / before.double().abs().max())
    words = f"({off:.1e} of the largest entry)"
    return (
        (f"same within rounding {words}", True) if off < ROUNDING else (f"DIFFERENT {words}", False)
    )


def main() -> int:
    freeze = command_line(__doc__, freeze="write the reference anew").parse_args().freeze
    torch.set_num_threads(1)
    now = cases()
    if freeze:
        save_tensors(FILE, now, {"kind": "referee", **where()})
        print(f"Frozen: {len(now)} cases.")
        return 0
    before, meta = load_tensors(FILE, "referee")
    there = {key: meta[key] for key in where()}
    if there != where():
        print(f"Frozen with {there}, here {where()}: bits may differ.")
    wrong = 0
    for name in {**before, **now}:
        words, fine = "missing", False
        if name in now and name in before:
            words, fine = verdict(name, now[name], before[name])
        print(f"{name:28s} {words}")
        wrong += not fine
    print(f"{len(before) - wrong} of {len(before)} as before or different on purpose")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
