"""How good are pseudo-domains: do clusters of untrained features find the true domains, layer by layer?

    python benchmarks/clusters.py mini                   # results/clusters.csv: the built-in digits
    python benchmarks/clusters.py pacs --root PACS       # a folder domain/class/*

Rows that are there are not computed again; the table is written after every row. How well DM + SGS learns from
pseudo-domains is a study of its own: `tables/sdg_mini.toml`, `tables/K_mini.toml`.
"""

import argparse
import warnings
from pathlib import Path

import pandas as pd
import torch

from dgdd_nb.data import MultiDomain
from dgdd_nb.files import replace_atomically
from dgdd_nb.folders import from_folder
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import default_width
from dgdd_nb.pseudo_domains import (
    cluster_report,
    pseudo_domains,
    separation,
    style_statistics,
    zscore,
)

FILE = Path(__file__).parent / "results" / "clusters.csv"
SEPARATION = ("silhouette", "purity", "chance", "nmi")  # of the true tags
QUALITY = {
    "ari": "ari_domain",
    "nmi": "nmi_domain",
    "nmi_class": "nmi_class",
    "cluster_silhouette": "silhouette",
}  # of clusters
LAYERS = ("input", "conv1", "norm1", "act1", "pool1", "conv2", "norm2", "conv3")


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
    K = data.K
    rows = pd.read_csv(FILE).to_dict("records") if FILE.exists() else []
    have = {(r["data"], r["layer"], r["encoder_seed"]) for r in rows}
    if len(data) > limit:
        data = data.select(
            torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:limit].sort()[0]
        )
    for seed in range(seeds):
        todo = [layer for layer in LAYERS if (name, layer, seed) not in have]
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
                    f"{field}_{kind}": "" if flat else round(found[field], 4)
                    for field in SEPARATION
                }
            for way, end in ((True, "per_class"), (False, "global")):
                report = None if flat else cluster(data, K, way, features, seed)
                row |= {
                    f"{key}_{end}": "" if flat else round(report[field], 4)
                    for key, field in QUALITY.items()
                }
            rows.append(row)
            with replace_atomically(FILE) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")
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
    parser.add_argument("name", help="mini, or a name for the data in --root")
    parser.add_argument("--root", type=Path, help="folder domain/class/*")
    parser.add_argument("--seeds", type=int, default=5, help="encoder seeds")
    parser.add_argument("--limit", type=int, default=2000, help="images of --root, drawn at random")
    o = parser.parse_args()
    torch.set_num_threads(1)
    data = mini_digits(size=16) if o.root is None else from_folder(o.root)
    data = data.to_learn()
    quality(o.name, data, o.seeds, len(data) if o.root is None else o.limit)


if __name__ == "__main__":
    main()
