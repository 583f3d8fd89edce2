"""Explorers without a browser: scenes, what travels to the script, what is computed once, refusals."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("anywidget", reason="anywidget is not installed")

from dgdd_nb.mini_digits import mini_digits  # noqa: E402
from dgdd_nb.distill import distill  # noqa: E402
from dgdd_nb.domain_gradients import DomainGradients  # noqa: E402
from dgdd_nb.explore import _page_script, arrows, explore, peel, play, scene  # noqa: E402
from dgdd_nb.matching import DM  # noqa: E402
from dgdd_nb.resultant import null_level  # noqa: E402
from dgdd_nb.surgery import SGS  # noqa: E402


@pytest.fixture(scope="module")
def source():
    """Three source domains."""
    return mini_digits(size=16, train=200, test=10).leave_out("street")[0]


@pytest.fixture(scope="module")
def runs(source):
    """Two runs of three steps, each step kept."""
    short = {"ipc": 1, "steps": 3, "keep_every": 1, "real_batch": 4, "width": 8}
    return {"DM": distill(source, DM(), **short), "DM+SGS": distill(source, DM(), SGS(), **short)}


@pytest.fixture(scope="module")
def digit(source):
    return scene(source, "3")


def values(widget) -> dict:
    """What a saved page holds for the script."""
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', widget.html())
    return json.loads(data[1])


@pytest.mark.parametrize("agreement", ["spectral", "constant"])
@pytest.mark.parametrize(("K", "reading", "domain"), [(2, "a", 1), (3, "a", 0), (3, "b", 2)])
def test_a_scene_recombines_to_what_the_surgery_makes(digit, K, reading, domain, agreement):
    gradients = DomainGradients(digit.g_domain[:K, None], digit.g_dm[K - 2][None])
    surgery = SGS(0.7, 0.2, reading=reading, agreement=agreement)
    slow = surgery(gradients, torch.tensor([3]), torch.tensor([domain]))[0]
    how = {"K": K, "reading": reading, "domain": domain, "agreement": agreement}
    fast = digit.direction(0.7, 0.2, **how)
    assert (fast - slow).abs().max() < 1e-5 * slow.abs().max()
    assert torch.equal(digit.direction(0, 0, **how), digit.g_dm[K - 2])
    step = digit.step(0.7, 0.2, lr=3, **how)
    assert torch.allclose(step, digit.image - 3 * fast, atol=1e-6)


def test_fewer_domains_than_there_are(digit):
    other = replace(digit, domain=2)  # of the two that are left the first takes its place
    assert torch.equal(other.direction(0, 1, K=2), digit.direction(0, 1, K=2, domain=0))
    for K in (1, 9):
        with pytest.raises(ValueError, match="K must be a whole number from 2"):
            digit.direction(0, 1, K=K)


def test_what_has_no_control_is_off(digit):
    for controls, beta in ((["alpha"], 0), (["alpha", "beta"], 0.01)):
        found = explore(digit, controls=controls).data
        assert found["presets"][0][2] == found["start"]["beta"] == beta


def test_a_scene_is_what_it_says(source, digit):
    assert (digit.step(0, 0) - digit.image).square().mean().sqrt() == pytest.approx(0.3, rel=1e-4)
    assert torch.allclose(digit.g_dm[-1], digit.g_domain.mean(0), atol=1e-7)  # DM, equal batches
    assert torch.allclose(digit.g_dm[0], digit.g_domain[:2].mean(0), atol=1e-7)
    assert digit.real.shape == (3, 4, 3, 16, 16)
    assert all(found > null_level(K).mean - 0.01 for K, found in zip((2, 3), digit.noise))
    again = scene(source, 3)
    assert torch.equal(again.g_domain, digit.g_domain) and again.noise == digit.noise


def test_peeling_keeps_energy_by_parseval(digit):
    assert torch.allclose(digit.peel(0, 1)[0], digit.g_domain[1], atol=1e-6)
    shares = [digit.peel(t, 1)[1] for t in (0, 0.3, 0.6, 1.01)]
    assert shares == sorted(shares, reverse=True) and shares[0] == pytest.approx(1)
    assert shares[-1] == 0


def test_scenes_of_other_images_and_matchers(source, runs):
    class Half(DM):
        def __call__(self, real, synthetic, draw=None):
            return super().__call__(real, synthetic, draw) / 2

    plain, half = scene(source, 3), scene(source, 3, matcher=Half())
    assert half.g_domain.norm() / plain.g_domain.norm() == pytest.approx(0.5, rel=1e-4)
    found = scene(source, 3, distilled=runs["DM"])
    mine = runs["DM"].images[runs["DM"].hard_labels == 3][0]
    assert torch.equal(found.image, mine)
    crooked = lambda a, b: (a["embed"].mean(0) - b["embed"].mean(0)).abs().sum() ** 1.5  # noqa: E731
    other = scene(source, 3, matcher=crooked)
    assert (other.g_dm[-1] - other.g_domain.mean(0)).norm() > 0.01 * other.g_dm[-1].norm()


def test_a_class_is_computed_once_and_an_error_is_one_sentence(source, monkeypatch):
    module = import_module("dgdd_nb.explore")
    calls, real = [], module.scene
    monkeypatch.setattr(module, "scene", lambda *a, **k: calls.append(k["label"]) or real(*a, **k))
    hole = source.select(~((source.labels == 5) & (source.domains == 2)))
    widget = explore(hole, 3)
    for question, (label, image) in enumerate([(4, 0), (3, 0), (4, 0)]):
        widget.wanted = [label, image, question]
        assert (widget.found["label"], widget.found["question"]) == (label, question)
    assert calls == [3, 4] and widget.error == []
    widget.wanted = [5, 0, 9]
    assert widget.error == ["Class '5' is absent in print: choose another class.", 9]
    monkeypatch.setattr(module, "scene", lambda *a, **k: 1 / 0)
    widget.wanted = [6, 0, 10]
    assert widget.error[0].startswith("ZeroDivisionError")
    assert widget.found["label"] == 4, "the last good one stays"


def test_a_page_holds_what_the_widget_holds(source, digit, tmp_path):
    widget = explore([digit, scene(source, 5)], alpha=3, beta=-1, title="<b> {{data}} & $1")
    found = values(widget)
    assert found["data"]["live"] is False and found["state"]["alpha"] == 3
    assert found["data"]["ranges"] == {"alpha": [0, 3], "beta": [-1, 2]}
    assert [s["label"] for s in found["scenes"]] == [3, 5]
    assert "<title>&lt;b&gt; {{data}} &amp; $1</title>" in widget.html()
    widget.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == widget.html()
    bundle, _ = widget._repr_mimebundle_()
    assert 'srcdoc="<!DOCTYPE html>' in bundle["text/html"] and repr(widget).startswith("Explorer(")
    assert np.frombuffer(widget.scenes[0]["g_domain"], "<f4").shape == (3 * 3 * 16 * 16,)


def test_a_large_page_stays_out_of_the_notebook(digit):
    large = replace(digit, real=digit.real.repeat(1, 40, 1, 1, 1))
    assert "text/html" not in explore(large)._repr_mimebundle_()[0]


def test_player(runs, source):
    found = values(play(runs, {"DM": [(0, 30.0), (3, 40.0)]}))["data"]
    assert found["steps"] == [0, 1, 2, 3] and [run["name"] for run in found["runs"]] == list(runs)
    assert [run["accuracy"] for run in found["runs"]] == [[[0, 30], [3, 40]], None]
    assert len(found["runs"][0]["loss"]) == 3
    one = play(runs, label="3").data["runs"][0]
    assert len(one["pictures"]) == 4 * 3 * 16 * 16  # 4 steps, 1 image
    for label in (-1, 99):
        with pytest.raises(ValueError, match="label must be a whole number from 0"):
            play(runs, label=label)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: explore(s, "33"), "did you mean '3'"),
        (lambda s: explore(s, 10), "label must be a whole number from 0 to 9"),
        (lambda s: explore(s, image=99), "image must be a whole number from 0 to 9"),
        (lambda s: explore(s, beta=float("inf")), "beta must be a finite number from -100 to 100"),
        (lambda s: explore(s, controls=["alpa"]), "did you mean 'alpha'"),
        (lambda s: explore([]), "at least one"),
        (lambda s: explore(scene(s, 3), "5"), "Scenes are ready"),
        (lambda s: explore(scene(s, 3), ipc=3), "Scenes are ready"),
        (lambda s: peel(s.only("scan")), "two or more"),
        (lambda s: peel(s, threshold=2), "threshold must be a finite number from 0 to 1"),
        (lambda s: arrows(1), "K must be a whole number from 2"),
        (lambda s: arrows(9), "K must be a whole number from 2 to 8"),
        (lambda s: play({}), "keep_every"),
        (lambda s: play({"DM": distill(s, DM(), ipc=1, steps=1, real_batch=4)}), "keep_every"),
    ],
)
def test_refusals_are_one_sentence(source, call, words):
    with pytest.raises(ValueError, match=words):
        call(source)


def test_players_of_other_steps_and_names_are_refused(source, runs):
    other = distill(source, DM(), ipc=1, steps=2, keep_every=2, real_batch=4, width=8)
    with pytest.raises(ValueError, match="same steps"):
        play({**runs, "other": other})
    with pytest.raises(ValueError, match="did you mean 'DM"):
        play(runs, {"DM+SGs": [(0, 1.0)]})


@pytest.mark.parametrize(
    "name",
    ["60_explore"]
    + [f"tutorials/{x}" for x in ("explore_alpha_beta", "plug_in_your_objective", "toys")],
)
def test_stored_pages_hold_the_script_of_today(name):
    """After a change of explore.js these notebooks have to be refreshed."""
    path = Path(__file__).parents[1] / "nbs" / f"{name}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [out.get("data", {}) for cell in cells for out in cell.get("outputs", [])]
    pages = ["".join(data["text/html"]) for data in outputs if "text/html" in data]
    pages = [unescape(page) for page in pages if "srcdoc=" in page]
    scripts = [_page_script(kind) for kind in ("explore", "peel", "arrows", "waves", "play")]
    assert pages and all(any(script in page for script in scripts) for page in pages)
