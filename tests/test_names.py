"""Names of classes, domains and methods are shown as they are, and become file names that differ."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from dgdd_nb.data import MultiDomain, Normalisation
from dgdd_nb.distilled import DistilledSet, file_names
from dgdd_nb.explore import explore
from dgdd_nb.plots import (
    as_text,
    curves,
    difference_plot,
    domain_styles,
    gradient_panels,
    heat_map,
    image_rows,
    phase_arrows,
    score_plot,
    show_images,
)

NAMES = [
    "$0_to_$10",
    "$x_1^$",
    "_",
    "<img src=x onerror=alert(1)>",
    "a|b & c",
    "a\\$b",
    "🦊",
    "{",
    "%",
]


def texts(ax) -> list[str]:
    "All that a figure shows; drawing it is part of the test."
    ax.figure.canvas.draw()
    labels = [*ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts]
    labels += [ax.title, ax._left_title]  # the house style has titles on the left
    labels += ax.get_legend().get_texts() if ax.get_legend() else []
    labels = [one for one in labels if "mathdefault" not in one.get_text()]  # numbers
    for one in labels:
        assert one._preprocess_math(one.get_text())[1] is False  # no formula
    return [one._preprocess_math(one.get_text())[0].strip("\u200b") for one in labels]


def drawings():
    "Every drawing that takes names."
    n, styles = len(NAMES), domain_styles(NAMES)
    pictures = torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8)
    yield image_rows(dict(zip(NAMES, pictures[:, None])), column_names=["x"])
    yield image_rows({"all": pictures}, column_names=NAMES)
    yield show_images(pictures, titles=NAMES)
    yield gradient_panels(dict(zip(NAMES, torch.randn(n, 3, 8, 8))))
    yield curves(dict.fromkeys(NAMES, np.arange(3)))
    yield curves(dict.fromkeys(NAMES, np.arange(3)), styles=styles)
    yield score_plot({name: [[1.0, 2.0]] for name in NAMES})
    yield difference_plot({name: ([1.0, 2.0], 0.0, 3.0) for name in NAMES})
    yield heat_map(np.eye(n), NAMES, NAMES)
    ax = phase_arrows(np.ones(n), names=NAMES)
    ax.set_title("")  # it is a formula
    yield ax
    data = MultiDomain.from_arrays(pictures.repeat(n, 1, 1, 1), NAMES * n, np.repeat(NAMES, n))
    yield data.show()
    white = Normalisation((0.5,) * 3, (0.2,) * 3)
    each = torch.arange(n)
    yield DistilledSet(white(pictures), each, each, NAMES, NAMES, white).show()


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.filterwarnings("ignore:constrained_layout")
def test_names_are_drawn_as_they_are():
    for axes in drawings():
        axes = axes if isinstance(axes, list) else [axes]
        shown = {text for ax in axes for text in texts(ax)}
        assert set(NAMES) <= shown, (axes, shown)
        plt.close("all")


def test_formulas_of_the_pages_stay_and_long_names_are_cut():
    assert as_text(r"$\alpha$ = 1") == r"$\alpha$ = 1" and as_text("mean $R$") == "mean $R$"
    assert len(as_text("x" * 200)) == 53 and as_text("two\nlines") == "two lines"


def test_no_name_becomes_markup_on_a_page():
    pictures = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8)
    bad = ["<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>"]
    data = MultiDomain.from_arrays(pictures, bad * 4, [x for x in bad for _ in range(4)])
    page = explore(data, ipc=2, title=bad[0])
    for text in (page.html(), page._repr_mimebundle_()[0]["text/html"]):
        assert "<img" not in text and not re.search(r"<script>\s*alert", text)


def test_file_names_differ_on_every_system():
    names = [
        "a_2",
        "b",
        "A_2",
        "a",
        "A",
        "con",
        "Con.txt",
        "COM1",
        "..",
        "",
        "a/b",
        "a b",
        "é",
        "e\u0301",
    ]
    names += ["x" * 200, "x" * 199 + "y", "𠀀" * 90, "🦊", "\udcff", "<>|", "nul.", "a_2_2"]
    safe = file_names(names)
    assert len({name.casefold() for name in safe}) == len(names)
    for name in safe:
        assert 0 < len(name.encode()) < 100 and not set('<>:"/\\|?*\0') & set(name)
        assert not re.fullmatch(r"(con|nul|com1)(\..*)?", name, re.I) and name.strip(" .") == name
