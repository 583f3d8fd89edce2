"""The explorer page in a real browser: it computes what Python computes, by itself, for everybody."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from browsing import jupyter, open_notebook, opened, run_all, screenshot, unexpected  # noqa: E402
from dgdd_nb.data import mini_digits  # noqa: E402
from dgdd_nb.page import explorer_page, tolerance  # noqa: E402
from dgdd_nb.plots import common_limit  # noqa: E402
from dgdd_nb.views import scene  # noqa: E402

pytestmark = pytest.mark.browser
NAMES = ("alpha", "beta", "K", "reading", "domain")
SETTINGS = list(product((0, 0.35, 2), (0, 0.01, 1.3), (2, 3, 4), "ab", (0, 1)))
PICTURES = "[...document.querySelectorAll('canvas')].map(canvas => canvas.toDataURL())"
DIRECTION = "document.querySelector('#direction canvas').toDataURL()"
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def scenes():
    """Two images of one class and one of another, four domains."""
    source = mini_digits(size=16, train=400).split("train")
    return [scene(source, label, image=image, shown=2) for label, image in ((3, 0), (3, 5), (7, 0))]


@pytest.fixture(scope="module")
def address(scenes, tmp_path_factory):
    """The saved page, as a link."""
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    explorer_page(scenes).save(path)
    return path.as_uri()


@pytest.fixture(scope="module")
def window():
    """One browser for all tests of this file."""
    with opened() as found:
        yield found


@pytest.fixture
def page(window, address):
    """The page as somebody finds it; errors in the console fail the test."""
    page, errors = window
    page.set_viewport_size({"width": 1060, "height": 800})
    page.emulate_media(color_scheme="light")
    page.goto(address)
    yield page
    shown, errors[:] = list(errors), []
    assert not shown


def test_browser_and_python_compute_the_same(scenes, page):
    """(11) for many settings, within the rounding that the stored numbers have; and the step."""
    for s, (name, image) in zip(scenes, (("3", 0), ("3", 1), ("7", 0))):
        page.evaluate("([c, i]) => explorer.set({class: c, image: i})", [name, image])
        settings = [dict(zip(NAMES, values)) for values in SETTINGS]
        answers = page.evaluate("all => all.map(now => explorer.direction(now))", settings)
        for now, theirs in zip(settings, answers):
            alpha, beta = now["alpha"], now["beta"]
            ours = s.direction(**now).numpy().ravel()
            assert np.abs(theirs - ours).max() <= tolerance(s, alpha, beta), now
        now = {"alpha": 1, "beta": 0.5, "K": 3, "reading": "b", "domain": 2, "step": 2}
        theirs = np.array(page.evaluate("now => explorer.image(now)", now))
        ours = s.step(1, 0.5, K=3, reading="b", domain=2, lr=2 * s.lr).numpy().ravel()
        allowed = 2 * s.lr * tolerance(s, 1, 0.5) + 1.02 / 2 * float(s.image.abs().max()) / 32767
        assert np.abs(theirs - ours).max() <= allowed


def test_pixels_are_those_of_the_figures(scenes, page):
    """The colours of g_dm are matplotlib's on the common scale; R keeps its mean."""
    matplotlib = pytest.importorskip("matplotlib")
    from dgdd_nb.fourier import spectrum_mean

    s = scenes[0]
    maps = [t.mean(0) for p in s.stacks.values() for t in p.g_dom]
    maps += [t.mean(0) for K in (2, 3, 4) for t in (s.stack(K).g_dm, s.stack(K).g_cls)]
    limit = page.evaluate("explorer.scene().limit")
    assert limit == pytest.approx(common_limit(*maps), rel=0.01)
    drawn = page.evaluate("""() => { const c = document.querySelector('#g_dm canvas');
        return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data) }""")
    drawn = np.array(drawn).reshape(16, 16, 4)[..., :3]
    scaled = 0.5 + s.stack().g_dm.mean(0).numpy() / (2 * limit)
    wanted = matplotlib.colormaps["RdBu_r"](scaled, bytes=True)[..., :3].astype(int)
    assert np.abs(drawn - wanted).max() <= 4  # matplotlib has 256 steps, the page has all
    mean = float(spectrum_mean(s.stack().R, 16).mean())
    assert page.evaluate("explorer.readout.meanR") == pytest.approx(mean, abs=1e-4)


def test_keyboard_moves_alpha_and_reset_brings_it_back(page):
    first, before = page.evaluate(PICTURES), page.evaluate(DIRECTION)
    page.locator("#alpha").focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("explorer.state.alpha") == pytest.approx(0.8)
    assert page.evaluate(DIRECTION) != before
    assert page.locator("output[for=alpha]").inner_text() == "0.80"
    for control, value in (("K", "3"), ("reading", "b"), ("domain", "1"), ("class", "7")):
        page.locator(f"#{control}").select_option(value)
    assert (
        page.locator(".card.own").count() == 1
        and page.locator("#domains .card:visible").count() == 3
    )
    page.get_by_role("button", name="Reset").press("Enter")
    assert page.evaluate(PICTURES) == first


def test_every_control_has_a_name_and_is_reached_by_tab(page):
    for label in (
        "class",
        "synthetic image",
        "K: domains used",
        "reading of (10)",
        "image belongs to",
        "alpha: class part",
        "beta: domain part",
        "step size",
    ):
        assert page.get_by_label(label, exact=True).count() == 1, label
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    assert seen[:8] == ["class", "image", "K", "reading", "domain", "alpha", "beta", "step"]
    assert seen[8:] == ["default", "DM", "alpha = 2", "beta = 1", "alpha = beta", "reset"]
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    bare = (
        "[...document.querySelectorAll('canvas')].filter(c => !c.getAttribute('aria-label')).length"
    )
    assert page.evaluate(bare) == 0
    assert page.locator("#readout[aria-live=polite]").count() == 1


def test_sentence_says_what_happened(page):
    for button, words in (
        ("DM", "Plain DM"),
        ("alpha = beta", "g_cls cancels"),
        ("default", "times as long"),
    ):
        page.get_by_role("button", name=button, exact=True).click()
        page.locator("#readout", has_text=words).wait_for(timeout=3000)


def test_the_own_domain_comes_back_when_k_allows(page):
    """street is no choice at K = 2: the page says so, and takes it again at K = 4."""
    page.locator("#image").select_option("1")
    assert page.evaluate("explorer.state.domain") == 2
    page.locator("#K").select_option("2")
    words = "street is not among the first 2 domains; the image is assigned to scan instead."
    page.locator("#readout", has_text=words).wait_for(timeout=3000)
    assert page.locator("#domain").input_value() == "0"
    page.get_by_role("button", name="beta = 1", exact=True).click()
    page.locator("#K").select_option("4")
    assert page.locator("#domain").input_value() == "2"
    page.locator("#readout", has_not_text="instead").wait_for(timeout=3000)
    page.locator("#domain").select_option("1")  # what somebody chose by hand stays
    page.locator("#K").select_option("2")
    assert page.evaluate("explorer.state.domain") == 1


def test_lengths_are_relative_to_g_dm(scenes, page):
    """The bars read in units of g_dm, in the order of (11)."""
    page.get_by_role("button", name="alpha = 2", exact=True).click()
    parts = scenes[0].stack()
    shown = [float(text) for text in page.locator("#bars .number").all_inner_texts()]
    wanted = [
        float(g.norm() / parts.g_dm.norm())
        for g in (parts.g_dm, 2 * parts.g_cls, 0 * parts.g_cls, parts.g_dm + 2 * parts.g_cls)
    ]
    assert shown == pytest.approx(wanted, abs=0.006)


def test_no_request_leaves_the_page(page, address):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.locator("#beta").press("End")
    page.wait_for_timeout(200)
    assert [url for url in asked if not url.startswith("data:")] == [address]


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        ("light", 1060, "light"),
        ("dark", 1060, "dark"),
        ("notebook", 800, "light"),
        ("phone", 360, "light"),
        ("phone_dark", 320, "dark"),
    ],
)
def test_fits_every_width_in_both_themes(page, name, width, scheme):
    page.set_viewport_size({"width": width, "height": 1250})
    page.emulate_media(color_scheme=scheme)
    page.locator("#readout", has_text="Mean R").wait_for()
    assert page.evaluate(WIDTH) <= width, "no sideways scrolling"
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(20, 24, 29)" if scheme == "dark" else "rgb(255, 255, 255)")
    screenshot(page, f"page_{name}")


def test_in_a_notebook_it_takes_the_theme_and_the_height(scenes, page):
    """The frame follows the page around it, not the system; and grows to what it holds."""
    outer = f"<body style='background: #111'>{explorer_page(scenes[:1])._repr_html_()}</body>"
    page.set_content(outer)
    inside = page.frame_locator("iframe").locator("#readout", has_text="Mean R")
    inside.wait_for()
    frame = page.frames[1]
    assert frame.evaluate("document.documentElement.dataset.theme") == "dark"
    page.evaluate("document.body.style.background = 'white'")
    frame.wait_for_function("document.documentElement.dataset.theme === 'light'")
    heights = "[frameElement.offsetHeight, document.documentElement.scrollHeight]"
    shown, needed = frame.evaluate(heights)
    assert needed <= shown <= needed + 8, "no scroll bar in a scroll bar, no gap below"


def test_a_name_cannot_break_out(scenes, page, tmp_path):
    rude = "</script><img src=x onerror=alert(1)>{{data}}"
    explorer_page([replace(scenes[0], class_name=rude)], title=rude).save(tmp_path / "rude.html")
    page.goto((tmp_path / "rude.html").as_uri())
    assert page.locator("img").count() == 0
    assert page.locator("#class").input_value() == rude
    assert page.locator("h2").inner_text() == rude and page.title() == rude


CELL = """
class Shown:
    def _repr_html_(self):
        return open("frame.html", encoding="utf-8").read()
Shown()
"""


def test_in_jupyterlab_it_runs_where_it_is_shown(scenes, window, tmp_path):
    """The frame below a cell is alive, and takes the theme of JupyterLab."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.strip())])
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    (tmp_path / "work").mkdir()
    nbformat.write(notebook, tmp_path / "work" / "page.ipynb")
    frame = explorer_page(scenes[:1])._repr_html_()  # the kernel need not import torch again
    (tmp_path / "work" / "frame.html").write_text(frame, encoding="utf-8")
    page, errors = window
    page.set_viewport_size({"width": 1300, "height": 1200})
    page.emulate_media(color_scheme="light")
    with jupyter(tmp_path / "work", tmp_path / "home") as address:
        open_notebook(page, address, "page.ipynb")
        run_all(page)
        inside = page.frame_locator("iframe[title^='What alpha']")
        inside.locator("#readout", has_text="Mean R").wait_for(timeout=60_000)
        frame = next(
            frame for frame in page.frames if frame.name == "" and frame != page.main_frame
        )
        before = frame.evaluate(DIRECTION)
        inside.locator("#alpha").press("ArrowRight")
        assert frame.evaluate(DIRECTION) != before
        assert frame.evaluate("document.documentElement.dataset.theme") == "light"
        page.evaluate(
            "window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
        )
        frame.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        screenshot(page, "page_lab")
        assert not unexpected(errors, "lab")
        page.goto("about:blank")
