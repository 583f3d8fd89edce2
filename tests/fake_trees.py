"""Small trees in the layouts of the published benchmarks, made of noise; every file of its own."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from dgdd_nb.benchmarks import FACTS

_numbers = itertools.count()


def picture(path: Path, side: int = 6) -> Path:
    "A file of noise; no two have the same bytes."
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(next(_numbers)).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def grow(root: Path, domains, classes, n: int = 2, parts=("",), kind: str = "png") -> Path:
    "root/domain[/part]/class/number.kind"
    for domain, part, name, i in itertools.product(domains, parts, classes, range(n)):
        picture(root / domain / part / name / f"{i}.{kind}")
    return root


def digits_dg(root: Path) -> Path:
    return grow(
        root / "digits_dg", FACTS["digits_dg"].domains, "0123456789", 1, ("train", "val"), "jpg"
    )


def pacs(root: Path, lists: bool = True) -> Path:
    "Dassl's images/ and splits/, or domain/class alone; four images of each class."
    facts = FACTS["pacs"]
    base = root / "pacs" / "images" if lists else root / "PACS"
    grow(base, facts.domains, facts.classes, 4)
    if lists:
        write_lists(base.parent)
    return base.parent if lists else base


def write_lists(root: Path, first: int = 1, ending: str = "\n") -> None:
    "The lists that split each domain; labels count from `first`."
    facts = FACTS["pacs"]
    (root / "splits").mkdir(exist_ok=True)
    for domain in facts.domains:
        names = sorted(
            p.relative_to(root / "images").as_posix()
            for p in (root / "images" / domain).rglob("*.png")
        )
        lines = [f"{name} {first + facts.classes.index(name.split('/')[1])}" for name in names]
        for part, chosen in (("train", lines[::2]), ("crossval", lines[1::2]), ("test", lines)):
            text = ending.join(chosen) + ending
            (root / "splits" / f"{domain}_{part}_kfold.txt").write_bytes(text.encode())


def core50(root: Path, sessions=(2, 5, 7, 9, 10), frames=(0, 5, 10)) -> Path:
    base = root / "core50" / "core50_128x128"
    for s, o, i in itertools.product(sessions, range(1, 51), frames):
        picture(base / f"s{s}" / f"o{o}" / f"C_{s:02}_{o:02}_{i:03}.png")
    return base


def vlcs(root: Path, dassl: bool = True) -> Path:
    if dassl:
        return grow(
            root / "VLCS",
            ("CALTECH", "LABELME", "PASCAL", "SUN"),
            "01234",
            1,
            ("train", "crossval", "test"),
            "jpg",
        )
    return grow(
        root / "VLCS",
        ("Caltech101", "LabelMe", "SUN09", "VOC2007"),
        FACTS["vlcs"].classes,
        2,
        kind="jpg",
    )


def office_home(root: Path, dassl: bool = True) -> Path:
    classes = FACTS["office_home"].classes[55:60]
    if dassl:
        low = [name.lower() for name in classes]
        return grow(
            root / "office_home_dg",
            ("art", "clipart", "product", "real_world"),
            low,
            1,
            ("train", "val"),
            "jpg",
        )
    return grow(
        root / "office_home", ("Art", "Clipart", "Product", "Real World"), classes, 2, kind="jpg"
    )


def terra_incognita(root: Path) -> Path:
    domains = [f"location_{n}" for n in (38, 43, 46, 100)]
    return grow(root / "terra_incognita", domains, FACTS["terra_incognita"].classes, 1, kind="jpg")


TREES = {
    "digits_dg": digits_dg,
    "pacs": pacs,
    "core50": core50,
    "core50_hard": core50,
    "vlcs": vlcs,
    "office_home": office_home,
    "terra_incognita": terra_incognita,
}
