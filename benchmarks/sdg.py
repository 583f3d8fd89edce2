"""One source domain: distil it alone, evaluate on the other three; and how good pseudo-domains are.

Three tables, each resumable (rows that are there are not computed again), each written after every training set:

    nice -n 5 python benchmarks/sdg.py --jobs 1            # results/sdg.csv: the methods
    nice -n 5 python benchmarks/sdg.py --study K --jobs 1  # results/sdg_K.csv: number of styles, time per step
    python benchmarks/sdg.py --quality mini                # results/clusters.csv: do clusters find the true domains?
    python benchmarks/sdg.py --quality pacs --root PACS    # a folder domain/class/*; likewise --quality digits --root ...

Setting of the first two: built-in digits at 16x16, ConvNet-3 of width 32, ipc 10, 300 steps, recipe "quick", 48 real images
per class and step. (A class of one source has 60 images. With the default of 96 every step would see all of them, and there
would be nothing to stratify.) Methods: 5 distillation seeds x 10 networks; K: 2 seeds (or 1, see the rows) x 5 networks. A
seed also draws the encoder and the K-means start of the pseudo-domains. Time: CPU time per step, medians; "ratio" compares
with DM on the plain source, the two taking turns in one process, since other work may share the machine.
"""

import argparse
import csv
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from joblib import Parallel, delayed

from dgdd_nb.coresets import random
from dgdd_nb.data import MultiDomain, mini_digits
from dgdd_nb.distill import Run, distill
from dgdd_nb.engine import Engine
from dgdd_nb.evaluate import evaluate, single_source
from dgdd_nb.files import replace_atomically
from dgdd_nb.matching import DM
from dgdd_nb.networks import default_width
from dgdd_nb.pseudo_domains import (
    cluster_report,
    pseudo_domains,
    separation,
    style_statistics,
    zscore,
)
from dgdd_nb.surgery import SGS, MatchedDM

RESULTS = Path(__file__).parent / "results"
SETTING = {"size": 16, "ipc": 10, "steps": 300, "real_batch": 48, "recipe": "quick"}
STYLES = 3
METHODS = (
    "random",
    "DM",
    "DM on pseudo-domains",
    "DM, matched learning rate",
    "DM + SGS",
    "DM + SGS, random tags",
)
SEPARATION = ("silhouette", "purity", "chance", "nmi")  # of the true tags
QUALITY = {
    "ari": "ari_domain",
    "nmi": "nmi_domain",
    "nmi_class": "nmi_class",
    "cluster_silhouette": "silhouette",
}  # of clusters
LAYERS = ("input", "conv1", "norm1", "act1", "pool1", "conv2", "norm2", "conv3")


def read(path: Path) -> list[dict]:
    "Rows of a table, all values as text."
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict]) -> None:
    "Write a table atomically."
    with (
        replace_atomically(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def styled(source: MultiDomain, K: int, seed: int) -> MultiDomain:
    "Pseudo-domains; the messages about merged cells are expected here."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pseudo_domains(source, K, seed=seed)


def shuffled(source: MultiDomain, seed: int) -> MultiDomain:
    "The control: the same number of images of each class in each style, but which ones is random."
    dice, tags = torch.Generator().manual_seed(seed), source.domains.clone()
    for c in range(source.C):
        mine = (source.labels == c).nonzero().flatten()
        tags[mine] = tags[mine[torch.randperm(len(mine), generator=dice)]]
    return replace(source, domains=tags)


def make(method: str, source: MultiDomain, seed: int):
    "The small training set of a method."
    if method == "random":
        return random(source, SETTING["ipc"], seed=seed)
    surgery = {
        "DM, matched learning rate": MatchedDM,
        "DM + SGS": SGS,
        "DM + SGS, random tags": SGS,
    }.get(method, lambda: None)
    tagged = source if method == "DM" else styled(source, STYLES, seed)
    tagged = shuffled(tagged, seed) if method.endswith("random tags") else tagged
    options = {name: SETTING[name] for name in ("ipc", "steps", "real_batch")}
    return distill(tagged, DM(), surgery(), seed=seed, progress=False, **options)


def score_rows(made, targets: dict, networks: int, **columns) -> list[dict]:
    "One row per target and network."
    found = evaluate(made, targets, seeds=networks, recipe=SETTING["recipe"], device="cpu")
    return [
        columns | {"target": name, "network_seed": s, "accuracy": round(v, 3)} | SETTING
        for name, scores in found.items()
        for s, v in zip(scores.seeds, scores.values.tolist())
    ]


def run_method(method: str, name: str, seed: int, networks: int) -> list[dict]:
    "Make one set, score it on the three other domains."
    torch.set_num_threads(1)
    split = single_source(mini_digits(size=SETTING["size"]), name)
    made = make(method, split.source, seed)
    return score_rows(
        made, split.targets, networks, method=method, source=name, distillation_seed=seed
    )


def step_times(
    source: MultiDomain, tagged: MultiDomain, pairs: int = 15
) -> tuple[float, float, float]:
    "CPU milliseconds of a step of SGS and of DM, and their ratio, taking turns."
    from dgdd_nb.distill import DistillSettings
    from dgdd_nb.engine import EngineSettings

    inner = EngineSettings(real_batch=SETTING["real_batch"], device="cpu")
    settings = DistillSettings(ipc=(SETTING["ipc"],) * source.C, engine=inner)
    runs = [
        Run(Engine(tagged, DM(), SGS(), inner), settings),
        Run(Engine(source, DM(), None, inner), settings),
    ]
    taken: list[list[float]] = [[], []]
    for _ in range(pairs + 2):
        for which in (0, 1):
            began = time.process_time()
            runs[which].step()
            taken[which].append(1000 * (time.process_time() - began))
    sgs, dm = taken[0][2:], taken[1][2:]
    return (
        statistics.median(sgs),
        statistics.median(dm),
        statistics.median(a / b for a, b in zip(sgs, dm)),
    )


def run_K(K: int, name: str, seed: int, networks: int) -> list[dict]:
    "SGS with K styles: accuracy and time per step."
    torch.set_num_threads(1)
    split = single_source(mini_digits(size=SETTING["size"]), name)
    tagged, stamps = styled(split.source, K, seed), []
    options = {name: SETTING[name] for name in ("ipc", "steps", "real_batch")}
    options |= {"callback": lambda *_: stamps.append(time.process_time())}
    made = distill(tagged, DM(), SGS(), seed=seed, progress=False, **options)
    inside = statistics.median(b - a for a, b in zip(stamps, stamps[1:]))
    sgs, dm, ratio = step_times(split.source, tagged)
    columns = {
        "K": K,
        "source": name,
        "distillation_seed": seed,
        "cells": int(tagged.present.sum()),
    }
    columns |= {
        "step_ms": round(1000 * inside, 2),
        "step_ms_beside": round(sgs, 2),
    }  # whole run; taking turns with DM
    columns |= {"dm_step_ms": round(dm, 2), "ratio": round(ratio, 3)}
    return score_rows(made, split.targets, networks, **columns)


def study(
    path: Path,
    work: Callable,
    jobs: list[tuple],
    keys: tuple[str, ...],
    networks: int,
    processes: int,
) -> None:
    "Run what is missing, writing after each piece."
    have = {tuple(r[k] for k in keys) for r in read(path)}
    todo = [job for job in jobs if tuple(map(str, job)) not in have]
    results = Parallel(n_jobs=processes, return_as="generator")(
        delayed(work)(*job, networks) for job in todo
    )
    for number, new in enumerate(results, 1):
        write(path, read(path) + new)  # read again: another process may have added rows
        print(f"{number} of {len(todo)}", flush=True)


def columns_of(data: MultiDomain, layers: list[str], seed: int) -> dict[str, torch.Tensor]:
    "Z-scored statistics of each layer, from one pass over the images."
    if not layers:
        return {}
    width = 2 * default_width(data.size)
    features = style_statistics(data, layers, seed=seed, device="cpu")
    return dict(
        zip(
            layers,
            map(zscore, features.split([6 if layer == "input" else width for layer in layers], 1)),
        )
    )


def quality(name: str, data: MultiDomain, seeds: int, limit: int) -> None:
    "Do clusters find the true domains, layer by layer, per class and globally?"
    path, K = RESULTS / "clusters.csv", data.K
    rows = read(path)
    have = {(r["data"], r["layer"], r["encoder_seed"]) for r in rows}
    if len(data) > limit:
        data = data.select(
            torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:limit].sort()[0]
        )
    for seed in range(seeds):
        todo = [layer for layer in LAYERS if (name, layer, str(seed)) not in have]
        for layer, features in columns_of(data, todo, seed).items():
            row = {
                "data": name,
                "size": data.size[0],
                "images": len(data),
                "K": K,
                "layer": layer,
                "encoder_seed": seed,
            }
            flat = not bool(features.any())
            for kind, tags in (("domain", data.domains), ("class", data.labels)):
                found = None if flat else separation(features, tags, seed=seed)
                row |= {
                    f"{field}_{kind}": "" if flat else round(getattr(found, field), 4)
                    for field in SEPARATION
                }
            for way, end in ((True, "per_class"), (False, "global")):
                report = None if flat else cluster(data, K, way, features, seed)
                row |= {
                    f"{key}_{end}": "" if flat else round(getattr(report, field), 4)
                    for key, field in QUALITY.items()
                }
            rows.append(row)
            write(path, rows)
            print(name, layer, seed, flush=True)


def cluster(data: MultiDomain, K: int, per_class: bool, features: torch.Tensor, seed: int):
    "The report of pseudo-domains."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tagged = pseudo_domains(data, K, per_class=per_class, features=features, seed=seed)
    return cluster_report(data, tagged, features=features, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--study", choices=["methods", "K"], default="methods", help="which of the two tables"
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=METHODS, help="all by default"
    )
    parser.add_argument(
        "--K", nargs="+", type=int, default=[2, 3, 4, 6, 8], help="numbers of styles of the K study"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        help="distillation seeds (5; K study 2), or encoder seeds of --quality (5)",
    )
    parser.add_argument("--networks", type=int, help="networks per set (10; K study 5)")
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--quality", metavar="NAME", help="mini, or a name for the data in --root")
    parser.add_argument("--root", type=Path, help="folder domain/class/* for --quality")
    parser.add_argument(
        "--limit",
        type=int,
        default=2000,
        help="images used by --quality with --root, drawn at random",
    )
    o = parser.parse_args()
    torch.set_num_threads(1)
    sources = mini_digits(size=8, train=10, test=10).domain_names
    if o.quality:
        from dgdd_nb.folders import from_folder

        data = mini_digits(size=16) if o.root is None else from_folder(o.root)
        data = data.split("train") if "train" in data.split_names else data
        quality(o.quality, data, o.seeds or 5, len(data) if o.root is None else o.limit)
    elif o.study == "K":
        jobs = [(K, name, seed) for seed in range(o.seeds or 2) for K in o.K for name in sources]
        study(
            RESULTS / "sdg_K.csv",
            run_K,
            jobs,
            ("K", "source", "distillation_seed"),
            o.networks or 5,
            o.jobs,
        )
    else:
        jobs = [
            (method, name, seed)
            for seed in range(o.seeds or 5)
            for method in o.methods
            for name in sources
        ]
        study(
            RESULTS / "sdg.csv",
            run_method,
            jobs,
            ("method", "source", "distillation_seed"),
            o.networks or 10,
            o.jobs,
        )


if __name__ == "__main__":
    main()
