"""Widgets without a browser: corners, reset, what is computed once, errors in words, missing ipywidgets."""

from __future__ import annotations

import html
import sys

import pytest
import torch
from test_repository import heavy

pytest.importorskip("ipywidgets", reason="ipywidgets is not installed")

from dgdd_nb import widgets  # noqa: E402
from dgdd_nb.data import mini_digits  # noqa: E402
from dgdd_nb.distill import distill  # noqa: E402
from dgdd_nb.matching import DM  # noqa: E402
from dgdd_nb.scenes import noise_for  # noqa: E402
from dgdd_nb.surgery import DEFAULTS, SGS  # noqa: E402

EXPLORER = ("label", "image", "K", "reading", "domain", "alpha", "beta", "step")


@pytest.fixture(scope="module")
def source():
    """Three source domains."""
    return mini_digits(size=16, train=200, test=10).leave_out("street")[0]


@pytest.fixture(scope="module")
def runs(source):
    """Two runs of three steps, each step kept."""
    short = {"ipc": 1, "steps": 3, "keep_every": 1, "real_batch": 4, "width": 8}
    return {"DM": distill(source, DM(), **short), "DM+SGS": distill(source, DM(), SGS(), **short)}


@pytest.fixture
def counted(monkeypatch):
    """Every call of `scene`, which still runs."""
    calls, real = [], widgets.scene
    monkeypatch.setattr(
        widgets, "scene", lambda *a, **k: calls.append((a[1], k["image"])) or real(*a, **k)
    )
    return calls


def ends(control):
    """First and last value of a control."""
    if hasattr(control, "options"):
        return [control.options[0][1], control.options[-1][1]]
    return [control.min, control.max]


def state(box) -> str:
    """The line that describes the picture, without tags."""
    return html.unescape(box.desk.state.value.split(">", 1)[1].rsplit("<", 1)[0])


@pytest.mark.parametrize("name", EXPLORER)
def test_explorer_at_the_ends_of_each_control(source, name):
    box = widgets.explore(source, 3)
    start, seen = box.png, set()
    for value in ends(box.controls[name]):
        box.controls[name].value = value
        assert box.error is None and box.desk.status.value == ""
        seen.add(box.png)
    assert seen - {start}, "at least one end differs from the start"
    box.controls["reset"].click()
    assert box.png == start


def test_explorer_at_all_corners_of_the_weights(source):
    box = widgets.explore(source, 3)
    pictures = set()
    for alpha in ends(box.controls["alpha"]):
        for beta in ends(box.controls["beta"]):
            for K in (2, 3):
                for reading in "ab":
                    box.desk.set(alpha=alpha, beta=beta, K=K, reading=reading, step=3)
                    assert box.error is None
                    pictures.add(box.png)
    assert len(pictures) == 12  # with beta = 0 both readings draw the same


def test_gradients_are_computed_once(source, counted):
    box = widgets.explore(source, 3)
    for alpha in (0.1, 1, 4):
        box.controls["alpha"].value = alpha
    for name, value in {"beta": 1, "K": 2, "reading": "b", "domain": 1, "step": 2}.items():
        box.controls[name].value = value
    assert counted == [(3, 0)]
    for label in (5, 3, 5, 3):
        box.controls["label"].value = label
    box.controls["image"].value = 2
    box.controls["image"].value = 0
    assert counted == [(3, 0), (5, 0), (3, 2)]


def test_reset_redraws_once(source, monkeypatch):
    box = widgets.explore(source, 3)
    box.desk.set(label=5, alpha=2, beta=1, K=2, domain=1)
    drawn, real = [], widgets.png
    monkeypatch.setattr(widgets, "png", lambda figure: drawn.append(1) or real(figure))
    box.controls["reset"].click()
    assert len(drawn) == 1
    values = {name: control.value for name, control in box.desk.controls.items()}
    assert values == box.desk.start and values["label"] == 3 and values["beta"] == DEFAULTS["beta"]
    box.controls["reset"].click()
    assert len(drawn) == 1, "nothing changed, nothing to draw"


def test_fewer_domains_take_the_choice_along(source):
    box = widgets.explore(source, 3)
    box.controls["domain"].value = 2
    box.controls["K"].value = 2
    assert box.controls["domain"].value == -1 and box.error is None
    box.controls["domain"].value = 1
    box.controls["K"].value = 3
    assert box.controls["domain"].value == 1, "what is still there stays chosen"
    last = widgets.explore(source, 3, image=9)  # an image of the third domain
    assert "image assigned to print" in state(last)
    last.controls["K"].value = 2
    assert last.error is None and "print is not among the first 2; assigned to photo" in state(last)
    last.controls["K"].value = 3
    assert (
        "image assigned to print" in state(last)
        and last.png == widgets.explore(source, 3, image=9).png
    )


def test_errors_are_shown_and_the_picture_stays(source, monkeypatch):
    box = widgets.explore(source, 3)
    start = box.png

    def broken(*args, **options):
        raise ValueError("class '5' is <absent> in print: choose another class.")

    with monkeypatch.context() as patch:
        patch.setattr(widgets, "scene", broken)
        box.controls["label"].value = 5
        assert isinstance(box.error, ValueError) and box.png == start
        assert "&lt;absent&gt;" in box.desk.status.value and 'role="alert"' in box.desk.status.value
        patch.setattr(widgets, "scene", lambda *a, **k: 1 / 0)
        box.controls["label"].value = 6
        assert "ZeroDivisionError" in box.desk.status.value and box.png == start
    box.controls["label"].value = 3
    assert box.error is None and box.desk.status.value == "" and box.png == start


def test_absent_class_is_said(source):
    holed = source.select(~((source.labels == 5) & (source.domains == 2)))
    box = widgets.explore(holed, 3)
    start = box.png
    box.controls["label"].value = 5
    assert "absent in print" in box.desk.status.value and box.png == start


def test_explorer_says_what_noise_reads(source):
    box = widgets.explore(source, 3)
    for K in (2, 3):
        box.controls["K"].value = K
        level = noise_for(box.view.scene, K)
        assert f"noise from domains as loud as these reads {level:.2f}" in state(box)


def test_weights_reach_as_far_as_on_the_page(source):
    box = widgets.explore(source, 3)
    assert [(box.controls[n].min, box.controls[n].max) for n in ("alpha", "beta")] == [
        (0, 2),
        (0, 2),
    ]
    far = widgets.explore(source, 3, alpha=3, beta=-1)
    assert (far.controls["alpha"].value, far.controls["alpha"].max) == (3, 3)
    assert (far.controls["beta"].value, far.controls["beta"].min) == (-1, -1)


def test_images_are_counted_from_zero(source):
    assert widgets.explore(source, 3, image=5).controls["image"].label == "5"


def test_explorer_panels_add_up(source):
    box = widgets.explore(source, 3, alpha=1.3, beta=0.7)
    parts = [
        torch.as_tensor(box.view.images[n].get_array())
        for n in ("g_dm", "g_cls", "g_dom", "combined")
    ]
    assert torch.allclose(sum(parts[:3]), parts[3], atol=1e-6)


def test_wrong_start_raises_at_once(source):
    for wrong, words in [
        ({"label": "33"}, "did you mean '3'"),
        ({"label": 10}, "label"),
        ({"image": 99}, "image"),
    ]:
        with pytest.raises(ValueError, match=words):
            widgets.explore(source, **wrong)
    with pytest.raises(ValueError, match="two or more"):
        widgets.peel(source.only("scan"))


def test_explorer_of_a_distilled_set(source, runs):
    box = widgets.explore(source, 3, distilled=runs["DM"])
    assert [value for _, value in box.controls["image"].options] == [0]
    mine = runs["DM"].images[runs["DM"].hard_labels == 3][0]
    assert torch.allclose(box.view.scene.image, mine)


def test_explorer_of_a_written_objective(source):
    class Means(DM):
        """Half of DM."""

        def __call__(self, real, synthetic, draw=None):
            return super().__call__(real, synthetic, draw) / 2

    plain, half = widgets.explore(source, 3), widgets.explore(source, 3, objective=Means())
    ratio = half.view.scene.g_domain.norm() / plain.view.scene.g_domain.norm()
    assert ratio == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("K", [2, 3, 8])
def test_arrows(K):
    box = widgets.arrows(K)
    shown = [
        name for name, control in box.desk.controls.items() if control.layout.display != "none"
    ]
    assert len(shown) == 1 + 2 * K
    start = box.png
    for name in ("angle 1", "length 1", f"angle {K}", f"length {K}"):
        for value in ends(box.controls[name]):
            box.controls[name].value = value
            assert box.error is None
    box.controls["reset"].click()
    assert box.png == start
    box.controls["all agree"].click()
    assert "R = 1.00" in state(box) and box.error is None
    box.controls["spread evenly"].click()
    assert "R = 0.00" in state(box) and box.error is None
    first, seen = box.png, set()
    for _ in range(3):
        box.controls["random"].click()
        seen.add(box.png)
    assert len(seen | {first}) == 4 and box.error is None


def test_arrows_refuse_what_has_no_sliders():
    for wrong in (1, 9, 2.5):
        with pytest.raises(ValueError, match="K must be a whole number from 2 to 8"):
            widgets.arrows(wrong)


@pytest.mark.parametrize("name", ["label", "image", "domain", "threshold"])
def test_peeler_at_the_ends_of_each_control(source, name, counted):
    box = widgets.peel(source, 3)
    start, seen = box.png, set()
    for value in ends(box.controls[name]):
        box.controls[name].value = value
        assert box.error is None
        seen.add(box.png)
    assert seen - {start}
    box.controls["reset"].click()
    assert box.png == start and len(counted) == len(set(counted))


def test_peeler_begins_with_one_domain(source):
    box = widgets.peel(source, 3, image=9)
    assert "gradient of print" in state(box) and "arithmetic" not in state(box)
    box.controls["domain"].value = widgets.MEAN
    assert "mean gradient" in state(box) and "Part of a gap is arithmetic" in state(box)


def test_peeler_says_what_it_keeps(source):
    box = widgets.peel(source, 3, threshold=0)
    assert "R keeps 100 % of the energy, shuffled R 100 %" in state(box)
    box.controls["threshold"].value = 1
    assert "shuffled R 0 %" in state(box)


def test_player(runs):
    box = widgets.play(runs, {"DM": [(0, 30.0), (3, 40.0)]})
    seen = {box.png}
    for step in box.view.steps[1:]:
        box.controls["step"].value = step
        assert f"Step {step} of 3" in state(box) and box.error is None
        seen.add(box.png)
    assert len(seen) == len(box.view.steps) == box.controls["play"].max + 1
    box.controls["play"].value = 2
    box.controls["reset"].click()
    assert (
        box.controls["step"].value,
        box.controls["play"].value,
        box.controls["play"].playing,
    ) == (0, 0, False)


def test_player_wants_kept_steps(source):
    bare = distill(source, DM(), ipc=1, steps=1, real_batch=4, width=8)
    with pytest.raises(ValueError, match="keep_every"):
        widgets.play({"DM": bare})


@pytest.mark.parametrize("make", ["explore", "arrows", "peel", "play"])
def test_labels_and_texts(source, runs, make):
    box = {
        "explore": lambda: widgets.explore(source, 3),
        "arrows": widgets.arrows,
        "peel": lambda: widgets.peel(source, 3),
        "play": lambda: widgets.play(runs),
    }[make]()
    for name, control in box.desk.controls.items():
        assert len(control.description) > 4 and control.tooltip, name
        assert control.style.description_width == "initial", f"the label of {name} may be cut"
    assert "What to look for: " in box.desk.head.value
    assert 'alt="' in box.desk.picture.value and state(box) in html.unescape(box.desk.picture.value)
    assert "reset" in box.controls and box.png.startswith(b"\x89PNG")


def test_missing_ipywidgets_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"pip install 'dgdd_nb\[notebooks\]'"):
        widgets.arrows()


def test_import_is_light():
    assert heavy("widgets", {"ipywidgets", "matplotlib", "IPython"}) == []


def test_names_with_dollars_are_no_formulas(source):
    from dataclasses import replace

    from dgdd_nb.canvas import png
    from dgdd_nb.playgrounds import player_twin

    rude = replace(
        source,
        domain_names=("$x_$^{", "a$b", *source.domain_names[2:]),
        classes=("$y^{$", *source.classes[1:]),
    )
    for widget in (widgets.explore(rude), widgets.peel(rude)):
        assert widget.error is None and widget.png
    runs = {
        "$z_{$": distill(
            rude, DM(), ipc=1, steps=2, width=8, real_batch=6, keep_every=1, progress=False
        )
    }
    assert widgets.play(runs).error is None and png(player_twin(runs))
