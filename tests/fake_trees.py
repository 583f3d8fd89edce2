"""Small trees in the layouts of the published benchmarks, made of noise; every file of its own."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from dgdd_nb.benchmarks import BENCHMARKS

_numbers = itertools.count()


def picture(path: Path, side: int = 6) -> Path:
    "A file of noise; no two have the same bytes."
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(next(_numbers)).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def grow(root: Path, domains, classes, n: int = 2, splits=("",), kind: str = "png") -> Path:
    "root/domain[/split]/class/number.kind"
    for domain, split, name, i in itertools.product(domains, splits, classes, range(n)):
        picture(root / domain / split / name / f"{i}.{kind}")
    return root


def digits_dg(root: Path) -> Path:
    domains = BENCHMARKS["digits_dg"].domains
    return grow(root / "digits_dg", domains, "0123456789", 1, ("train", "val"), "jpg")


def pacs(root: Path, lists: bool = True) -> Path:
    "Dassl's images/ and splits/, or domain/class alone; four images of each class."
    facts, base = BENCHMARKS["pacs"], root / "pacs" / "images" if lists else root / "PACS"
    grow(base, facts.domains, facts.classes, 4)
    if lists:
        write_lists(base.parent)
    return base.parent if lists else base


def write_lists(root: Path, first: int = 1, ending: str = "\n") -> None:
    "The lists that split each domain; labels count from `first`."
    facts = BENCHMARKS["pacs"]
    (root / "splits").mkdir(exist_ok=True)
    for domain in facts.domains:
        files = sorted((root / "images" / domain).rglob("*.png"))
        names = [p.relative_to(root / "images").as_posix() for p in files]
        lines = [f"{name} {first + facts.classes.index(name.split('/')[1])}" for name in names]
        for split, chosen in (("train", lines[::2]), ("crossval", lines[1::2]), ("test", lines)):
            text = ending.join(chosen) + ending
            (root / "splits" / f"{domain}_{split}_kfold.txt").write_bytes(text.encode())


def core50(root: Path, sessions=(2, 5, 7, 9, 10), frames=(0, 5, 10)) -> Path:
    base = root / "core50" / "core50_128x128"
    for s, o, i in itertools.product(sessions, range(1, 51), frames):
        picture(base / f"s{s}" / f"o{o}" / f"C_{s:02}_{o:02}_{i:03}.png")
    return base


def vlcs(root: Path, dassl: bool = True) -> Path:
    if dassl:
        domains, splits = "CALTECH LABELME PASCAL SUN".split(), ("train", "crossval", "test")
        return grow(root / "VLCS", domains, "01234", 1, splits, "jpg")
    domains = "Caltech101 LabelMe SUN09 VOC2007".split()
    return grow(root / "VLCS", domains, BENCHMARKS["vlcs"].classes, kind="jpg")


def office_home(root: Path, dassl: bool = True) -> Path:
    classes = BENCHMARKS["office_home"].classes[55:60]
    if dassl:
        domains, low = "art clipart product real_world".split(), [c.lower() for c in classes]
        return grow(root / "office_home_dg", domains, low, 1, ("train", "val"), "jpg")
    domains = ("Art", "Clipart", "Product", "Real World")
    return grow(root / "office_home", domains, classes, kind="jpg")


def terra_incognita(root: Path) -> Path:
    domains, classes = (38, 43, 46, 100), BENCHMARKS["terra_incognita"].classes
    return grow(
        root / "terra_incognita", (f"location_{n}" for n in domains), classes, 1, kind="jpg"
    )


TREES = {
    "digits_dg": digits_dg,
    "pacs": pacs,
    "core50": core50,
    "core50_hard": core50,
    "vlcs": vlcs,
    "office_home": office_home,
    "terra_incognita": terra_incognita,
}
