"""Is agreement of the domain gradients class information? The larger measurements behind notebook 31.

Every number is measured with fresh random encoders on fixed synthetic images; nothing is trained. Each domain in turn is the
target (held out of everything but the cosines). Rows go to `results/premise.csv`; what is there already is not computed again.

    python benchmarks/premise.py                                          # built-in digits
    python benchmarks/premise.py --data pacs --root FOLDER/PACS           # PACS
    python benchmarks/premise.py --data digits --root FOLDER/digits_dg_like
    python benchmarks/premise.py --data "mini, ipc 10"                    # with ten synthetic images per class; so for all three

mini:   built-in digits, 16x16 pixels, 1920 + 960 images per domain (train + held out), ConvNet width 32; the batches of the
        probes and of the energy shares hold 32 images per class and domain.
pacs:   32x32 pixels, width 64, a sample of 56 + 24 images per class and domain, 8 in a batch.
digits: mnist, mnist_m, usps, syn_rendered, 32x32 pixels, width 64, a sample of 84 + 36 per class and domain, 12 in a batch.
DM runs for 100 steps (mini, 5 images per class), 40 (pacs, 3) or 20 (digits, 3), with ten per class for 1000, 100 and 60.
Agreement, its course and the wrong classes use 96 real images per class and the augmentation of `distill`; the other
studies use none. The energy shares and the probes look at one to three images that all classes share (ten: notebook 31).
Columns: study, data, target, start (images), layer, seed (of the encoder), variant, quantity, value.
"""

import argparse
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch
from joblib import Parallel, delayed

from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.distill import distill, initial_images
from dgdd_nb.distilled import assign_domains, images_per_class
from dgdd_nb.files import generator, replace_atomically
from dgdd_nb.folders import from_folder
from dgdd_nb.fourier import radial_profile, spectrum, spectrum_mean
from dgdd_nb.matching import DM
from dgdd_nb.premise import (
    VARIANTS,
    batch_gradients,
    common_start,
    fresh_gradients,
    gaussian_null,
    mean_length,
    mean_map,
    mix_classes,
    probe_left_out,
    probe_pieces,
    pulls,
    rank_correlation,
    relabel,
    share_correlations,
    split_energy,
    transfer,
    without_noise,
)
from dgdd_nb.resultant import resultant_length

FILE = Path(__file__).parent / "results" / "premise.csv"
COLUMNS = ("study", "data", "target", "start", "layer", "seed", "variant", "quantity", "value")
STUDIES = ("maps", "raw", "repeat", "classes", "shares", "probes", "run")
FIXED = ("shares", "probes")  # their synthetic images are not those of a set, and do not follow ipc
LAYERS = ("pool1", "pool2", "embed")
SETTING = {  # width, batch of the probes, train and held-out batches, steps of the run, of a snapshot, ipc
    "mini": {"width": 32, "per_cell": 32, "batches": (6, 3), "steps": 100, "keep": 20, "ipc": 5},
    "pacs": {"width": 64, "per_cell": 8, "batches": (7, 3), "steps": 40, "keep": 20, "ipc": 3},
    "digits": {"width": 64, "per_cell": 12, "batches": (7, 3), "steps": 20, "keep": 10, "ipc": 3},
    "mini, ipc 10": {"width": 32, "per_cell": 32, "steps": 1000, "keep": 200, "ipc": 10},
    "pacs, ipc 10": {"width": 64, "per_cell": 8, "steps": 100, "keep": 20, "ipc": 10},
    "digits, ipc 10": {"width": 64, "per_cell": 12, "steps": 60, "keep": 20, "ipc": 10},
}
SAMPLE = {"pacs": 80, "digits": 120}  # images per class and domain


@lru_cache
def load(data: str, root: str | None):
    "Training images and held-out images of all domains."
    data = data.partition(",")[0]
    if data == "mini":
        made = mini_digits(16, train=1920, test=960)
        return made.split("train"), made.split("test")
    made = from_folder(root, size=32, quiet=True)
    if data == "digits":
        made = made.only("mnist", "mnist_m", "usps", "syn_rendered")
    return made.select(made.sample(SAMPLE[data], generator(0, "sample"))).hold_out(0.3, seed=0)


def real_start(source, ipc: int):
    "Start images of a distillation, and their labels."
    labels, domains = assign_domains(images_per_class(ipc, source.classes), source.present)
    return initial_images(source, labels, domains), labels


def maps(source, held, target, o, s):
    "R per class, layer and ring of frequencies, beside the Gaussian null of the same energies."
    images, labels = real_start(source, s["ipc"])
    for layer in LAYERS:
        g = fresh_gradients(
            source, images, labels, o.encoders, layers=(layer,), real_batch=96, width=s["width"]
        )
        G, W = spectrum(g), g.shape[-1]
        R = resultant_length(G.movedim(1, 0)).mean(2)  # (E, N, H, W//2+1)
        nulls = [gaussian_null(G, W, generator(i, "null")) for i in range(4)]
        null = torch.stack([resultant_length(x.movedim(1, 0)).mean(2) for x in nulls]).mean(0)
        for quantity, values in {"R": R, "null": null}.items():
            level, rings = spectrum_mean(values, W), radial_profile(values.mean(1), W, 8)[1]
            for e in range(o.encoders):
                for c, name in enumerate(source.classes):
                    yield "real", layer, e, name, quantity, level[e, labels == c].mean()
                for i, value in enumerate(rings[e]):
                    yield "real", layer, e, str(i), f"{quantity} in ring", value


def raw(source, held, target, o, s):
    "Rank correlation of R with the class share at usual start images, beside the null: same gradients."
    images, labels = real_start(source, s["ipc"])
    g = fresh_gradients(source, images, labels, o.encoders, real_batch=96, width=s["width"])
    G = spectrum(g)
    both = {"measured": G, "null": gaussian_null(G, g.shape[-1], generator(0, "null"))}
    for variant, x in both.items():
        for e, one in enumerate(x[:, None].unflatten(3, (source.C, -1))):
            found = share_correlations(mean_map(one), one)
            yield "real", "embed", e, variant, "class", found["class"]


def repeat(source, held, target, o, s):
    "Are the agreeing frequencies the same for other real images, and for another encoder? Rank correlation of R, image by image."
    images, labels = real_start(source, s["ipc"])
    g = [
        batch_gradients(source, images, labels, 2, s["per_cell"], encoder=e, width=s["width"])
        for e in range(o.encoders)
    ]
    R = [resultant_length(spectrum(x).transpose(0, 1)) for x in g]  # (2, N, 3, H, W//2+1)
    for e in range(o.encoders):
        for variant, other in {"other images": R[e][1], "other encoder": R[e - 1][1]}.items():
            pairs = [rank_correlation(a, b) for a, b in zip(R[e][0], other)]
            yield "real", "embed", e, variant, "R with R", sum(pairs) / len(pairs)


def classes(source, held, target, o, s):
    """R when the domains are given the same class, different classes, or all the same wrong class.

    At the real start the cases differ in how far the start images have to go; compare them at the common start only.
    """
    third = source.C // 3
    cases = {"same": (0, 0, 0), "different": (0, third, 2 * third), "wrong": (third,) * 3}
    for start, (images, labels) in {
        "real": real_start(source, s["ipc"]),
        "common": common_start(source, 3),
    }.items():
        for case, shifts in cases.items():
            g = fresh_gradients(
                relabel(source, shifts), images, labels, o.encoders, real_batch=96, width=s["width"]
            )
            for e, value in enumerate(mean_length(spectrum(g), g.shape[-1])):
                yield start, "embed", e, case, "R", value


def shares(source, held, target, o, s):
    "Energies of class x domain, and rank correlations of R with them, beside mixed classes and the null."
    images, labels = common_start(source, 3)
    for layer in ("pool1", "embed"):
        spectra, sizes = [], {"width": s["width"], "layers": (layer,)}
        for e in range(o.encoders):
            g = batch_gradients(source, images, labels, 4, s["per_cell"], encoder=e, **sizes)
            spectra.append(spectrum(g.unflatten(2, (source.C, 3))))
        W = g.shape[-1]
        null = [
            gaussian_null(G[:1].flatten(2, 3), W, generator(e, "null")).unflatten(2, (source.C, 3))
            for e, G in enumerate(spectra)
        ]
        for e, G in enumerate(spectra):
            raw = {name: spectrum_mean(x, W).mean() for name, x in split_energy(G).items()}
            clean = without_noise(raw, G.shape[:3])
            for quantity, parts in {"share": raw, "share without noise": clean}.items():
                for name, value in parts.items():
                    yield "common", layer, e, name, quantity, value / sum(parts.values())
            here, there, n = G[:1], spectra[e - 1][1:2], o.encoders
            for variant, R, same, other in (
                ("measured", mean_map(here), here, there),
                ("mixed", mean_map(mix_classes(here)), here, there),
                ("null", mean_map(null[e]), null[e], null[(e - 1) % n]),
            ):
                yield "common", layer, e, variant, "R", spectrum_mean(R, W).mean()
                for where, x in {"same encoder": same, "other encoder": other}.items():
                    for part, value in share_correlations(R, x).items():
                        yield "common", layer, e, variant, f"{part}, {where}", value


def probes(train, held, o, s):
    "Linear probes for class and domain, every target; trained and tested on disjoint real images."
    for e in range(o.encoders):
        at = common_start(train, 1, seed=e)
        keys = {"encoder": e, "width": s["width"], "normalise": train.normalisation()}
        g = [
            batch_gradients(part, *at, n, s["per_cell"], **keys)
            for part, n in zip((train, held), s["batches"])
        ]
        for variant in VARIANTS:
            for k, target in enumerate(train.domain_names):
                kept = [i for i in range(train.K) if i != k]
                for quantity, value in probe_pieces(g[0][:, kept], g[1][:, kept], variant).items():
                    yield target, "common", "embed", e, variant, quantity, value
            found = probe_left_out(*g, variant)
            yield "none", "common", "embed", e, variant, "g_cls domain left out", found


def run(source, held, target, o, s):
    "Cosines with the unseen domain's gradient, and R, along a DM run."
    sizes = {"width": s["width"], "real_batch": 96}
    length = {"ipc": s["ipc"], "steps": s["steps"], "keep_every": s["keep"]}
    made = distill(source, DM(), **length, **sizes, progress=False)
    for at, images in zip(made.history["kept_at"], made.history["kept"]):
        g = fresh_gradients(source, images, made.labels, o.encoders, seed=1, **sizes)
        for quantity, values in pulls(g).items():
            for e, value in enumerate(values):
                yield f"step {at}", "embed", e, "DM", quantity, value
    unseen = held.only(target)
    n = min(32, int(unseen.counts().min()), int(source.counts().min()))
    for start, images in {"real": made.history["kept"][0], "distilled": made.images}.items():
        for e in range(o.encoders):
            keys = {"encoder": e, "width": s["width"], "normalise": source.normalisation()}
            three = (source, unseen, relabel(unseen, (source.C // 3,)))
            own, right, wrong = (
                batch_gradients(d, images, made.labels, 1, n, seed=2, **keys)[0] for d in three
            )
            for name, theirs in {"": right[0], ", wrong class": wrong[0]}.items():
                found = transfer(own, theirs, e)
                rank = found.pop("rank")
                yield start, "embed", e, "spectral", "rank correlation" + name, rank
                for variant, value in found.items():
                    yield start, "embed", e, variant, "cosine" + name, value


def measure(study: str, data: str, target: str, o) -> list[tuple]:
    "All rows of one study with one target (probes: all targets)."
    torch.set_num_threads(1)
    train, held = load(data, o.root)
    if study == "probes":
        rows = probes(train, held, o, SETTING[data])
    else:
        source = train.only(*(n for n in train.domain_names if n != target))
        rows = ((target, *row) for row in globals()[study](source, held, target, o, SETTING[data]))
    return [(study, data, *row[:-1], f"{float(row[-1]):.6g}") for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mini", choices=list(SETTING), help="which images")
    parser.add_argument("--root", help="folder with one folder per domain, for pacs and digits")
    parser.add_argument(
        "--encoders", type=int, default=5, help="random encoders (seeds) of every measurement"
    )
    parser.add_argument(
        "--studies", nargs="+", default=STUDIES, choices=STUDIES, help="all by default"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    o = parser.parse_args()
    if not o.data.startswith("mini") and not o.root:
        parser.error(f"--data {o.data} needs --root, the folder with one folder per domain")
    rows = pd.DataFrame(columns=COLUMNS, dtype=str)
    if FILE.exists():
        rows = pd.read_csv(FILE, dtype=str, keep_default_na=False)
    have = set(rows[["study", "data", "target"]].itertuples(index=False, name=None))
    have |= {(study, data, "all") for study, data, _ in have if study == "probes"}
    names = load(o.data, o.root)[0].domain_names
    jobs = [
        job
        for study in o.studies
        if "ipc" not in o.data or study not in FIXED
        for name in (["all"] if study == "probes" else names)
        if (job := (study, o.data, name)) not in have
    ]
    for found in Parallel(n_jobs=o.jobs, return_as="generator")(
        delayed(measure)(*job, o) for job in jobs
    ):
        rows = pd.concat([rows, pd.DataFrame(found, columns=COLUMNS)])
        with replace_atomically(FILE) as temporary:
            rows.to_csv(temporary, index=False, lineterminator="\n")
        print(*found[0][:3], len(found), "rows", flush=True)


if __name__ == "__main__":
    main()
