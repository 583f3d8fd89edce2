"""The widgets in a real JupyterLab and a real Notebook 7, moved by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from browsing import ROOT, jupyter, listen, open_notebook, opened, run_all, screenshot, unexpected

from dgdd_nb.surgery import DEFAULTS

pytestmark = pytest.mark.browser
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")

SETUP = """
from dgdd_nb.data import mini_digits
from dgdd_nb.distill import distill
from dgdd_nb.matching import DM
from dgdd_nb.widgets import arrows, explore, peel, play
source, _ = mini_digits(size=16, train=300, test=10).leave_out("street")
short = dict(ipc=1, steps=4, keep_every=1, real_batch=4, width=8, progress=False)
runs = {f"DM, seed {seed}": distill(source, DM(), seed=seed, **short) for seed in (0, 1)}
"""
CELLS = [SETUP, "explore(source, 3)", "arrows()", "peel(source, 3)", "play(runs, interval=200)"]


class Opened(NamedTuple):
    """A notebook whose cells have run."""

    page: Any
    errors: list[str]
    app: str


def small_notebook(path: Path) -> None:
    """One cell per widget."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS]
    )
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, path)


@pytest.fixture(scope="module", params=["lab", "notebook"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """One server per application, with the small notebook and the committed one."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "work").mkdir()
    small_notebook(folder / "work" / "small.ipynb")
    committed = nbformat.read(ROOT / "nbs" / "60_widgets.ipynb", 4)
    committed.cells = [cell for cell in committed.cells if "nbdev_export(" not in cell.source]
    nbformat.write(committed, folder / "work" / "60_widgets.ipynb")  # all but the cell that exports
    with jupyter(folder / "work", folder / "home", request.param) as address:
        yield address, request.param


@pytest.fixture(scope="module")
def small(site: tuple[str, str]) -> Iterator[Opened]:
    """The small notebook, its cells run."""
    address, app = site
    with opened(1300, 1100) as (page, errors):
        open_notebook(page, address, "small.ipynb", app)
        run_all(page)
        yield Opened(page, errors, app)


def desk(page: Any, title: str) -> Any:
    """One widget by its title, scrolled into view, its picture there."""
    found = page.locator(".dgdd-widget", has_text=title).first
    found.scroll_into_view_if_needed()
    found.locator("img").wait_for()
    found.get_by_role("slider").first.focus()  # controls have got their names by then
    found.locator("[role=slider][aria-label]").first.wait_for()
    return found


def slider(found: Any, label: str) -> Any:
    """One slider of a widget by its label."""
    return found.locator(".widget-slider", has_text=label).first


def press(found: Any, label: str, key: str = "ArrowRight", times: int = 1) -> tuple[str, str]:
    """Move a slider by keyboard until the picture and the readout differ; both readouts."""
    row = slider(found, label)
    readout, picture = row.locator(".widget-readout"), found.locator("img")
    before, old = readout.inner_text(), picture.get_attribute("src")
    row.get_by_role("slider").focus()
    for _ in range(times):
        found.page.keyboard.press(key)
    found.page.wait_for_function(
        "([node, old]) => node.querySelector('img').src !== old",
        arg=[found.element_handle(), old],
        timeout=20_000,
    )
    assert not found.get_by_role("alert").count(), found.get_by_role("alert").first.inner_text()
    return before, readout.inner_text()


def choose(found: Any, label: str, key: str) -> None:
    """Open a list by keyboard, go one entry up or down, and take it."""
    found.locator(".widget-dropdown", has_text=label).first.locator("select").focus()
    for press in ("Enter", key, "Enter"):
        found.page.keyboard.press(press)
        found.page.wait_for_timeout(200)  # the list opens and closes in a window of its own


def wait_for_text(found: Any, text: str) -> None:
    """Wait until the line that describes the picture holds a text."""
    found.get_by_role("status").filter(has_text=re.compile(text)).wait_for(timeout=20_000)


def cut_off(found: Any) -> list[str]:
    """Labels whose text does not fit, or that leave the widget."""
    return found.evaluate("""node => [...node.querySelectorAll('.widget-label, .widget-readout, button')]
        .filter(e => e.offsetParent && (e.scrollWidth > e.clientWidth + 1
            || e.getBoundingClientRect().right > node.getBoundingClientRect().right + 1))
        .map(e => e.innerText)""")


def test_explorer_follows_the_keyboard(small):
    found = desk(small.page, "alpha and beta explorer")
    screenshot(small.page, f"{small.app}-explorer-before")
    assert press(found, "alpha", times=8) == ("0.50", "0.90")
    wait_for_text(found, r"alpha 0\.90")
    press(found, "beta", "PageUp")
    assert len(found.locator("img").get_attribute("alt")) > 50
    old = found.locator("img").get_attribute("src")
    choose(found, "number of domains", "ArrowUp")
    wait_for_text(found, "domains scan, photo, image")
    assert found.locator("img").get_attribute("src") != old
    choose(found, "class", "ArrowDown")
    wait_for_text(found, "Class 4")
    screenshot(small.page, f"{small.app}-explorer-after")
    found.get_by_role("button", name="Reset").focus()
    small.page.keyboard.press("Enter")
    wait_for_text(found, r"Class 3, domains scan, photo, print.*alpha 0\.50, beta 0\.01")
    assert slider(found, "alpha").locator(".widget-readout").inner_text() == "0.50"
    assert not unexpected(small.errors, small.app)


def test_arrows_follow_the_keyboard(small):
    found = desk(small.page, "Resultant length of K arrows")
    assert press(found, "arrow 1: angle") == ("0", "5")
    press(found, "arrow 2: length", "ArrowLeft")
    screenshot(small.page, f"{small.app}-arrows")
    found.get_by_role("button", name="Spread evenly").focus()
    small.page.keyboard.press("Enter")
    wait_for_text(found, r"R = 0\.00")
    assert not unexpected(small.errors, small.app)


def test_peeler_follows_the_keyboard(small):
    found = desk(small.page, "Frequency peeler")
    before, after = press(found, "threshold", times=5)
    assert (before, after) == ("0.50", "0.55")
    screenshot(small.page, f"{small.app}-peeler")
    assert not unexpected(small.errors, small.app)


def test_player_plays(small):
    found = desk(small.page, "Distillation player")
    assert press(found, "saved step") == ("step 0", "step 1")
    wait_for_text(found, "Step 1 of 4")
    found.get_by_role("button", name="play").focus()
    small.page.keyboard.press("Enter")
    wait_for_text(found, "Step 4 of 4")
    screenshot(small.page, f"{small.app}-player")
    assert not unexpected(small.errors, small.app)


def test_nothing_is_cut_off_or_nameless(small):
    found = small.page.locator(".dgdd-widget")
    assert found.count() == 4
    for i in range(4):
        nameless = (
            found.nth(i)
            .locator("button, [role=slider]")
            .evaluate_all(
                "nodes => nodes.filter(e => !e.innerText.trim() && !e.getAttribute('aria-label')).length"
            )
        )
        assert not nameless
        found.nth(i).scroll_into_view_if_needed()
        assert cut_off(found.nth(i)) == []


def test_tracks_stay_long_in_a_narrow_window(small):
    wide = small.page.viewport_size
    small.page.set_viewport_size({"width": 700, "height": 900})
    try:
        for title in (
            "alpha and beta explorer",
            "Resultant length of K arrows",
            "Frequency peeler",
        ):
            found = desk(small.page, title)
            small.page.wait_for_timeout(500)
            screenshot(small.page, f"{small.app}-narrow-{title.split()[0]}")
            tracks = found.locator("[role=slider]").evaluate_all(
                "nodes => nodes.filter(e => e.offsetParent).map(e => e.closest('.noUi-target').clientWidth)"
            )
            assert tracks and min(tracks) >= 100, (title, tracks)
            assert cut_off(found) == []
    finally:
        small.page.set_viewport_size(wide)


def test_committed_notebook(site, small):
    address, app = site
    if app != "lab":
        pytest.skip("the committed notebook runs in JupyterLab; Notebook 7 has the small one")
    page = small.page.context.browser.new_page(viewport={"width": 1300, "height": 1100})
    errors = listen(page)
    open_notebook(page, address, "60_widgets.ipynb", app)
    run_all(page)
    for title, start in (
        ("Frequency peeler", r"gradient of scan, threshold 0\.50"),
        ("Resultant length", "4 arrows"),
        ("Distillation player", "Step 0 of"),
    ):
        wait_for_text(desk(page, title), start)  # no cell further down has moved them
    found = desk(page, "alpha and beta explorer")
    wait_for_text(found, rf"Class 3, .*alpha {DEFAULTS['alpha']:.2f}, beta {DEFAULTS['beta']:.2f}")
    before, after = press(found, "alpha")
    assert float(after) > float(before)
    screenshot(page, f"{app}-committed")
    assert not unexpected(errors, app)
    page.close()
