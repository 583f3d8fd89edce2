"""The explorers in a real JupyterLab and a real Notebook 7, moved by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from browsing import ROOT, jupyter, listen, open_notebook, opened, run_all, screenshot, unexpected

pytestmark = pytest.mark.browser
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")

SETUP = """
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.distill import distill
from dgdd_nb.matching import DM
from dgdd_nb.explore import arrows, explore, peel, play
source, _ = mini_digits(size=16, train=300, test=10).leave_out("street")
short = dict(ipc=1, steps=4, keep_every=1, real_batch=4, width=8, progress=False)
runs = {f"DM, seed {seed}": distill(source, DM(), seed=seed, **short) for seed in (0, 1)}
"""
CELLS = [
    SETUP,
    "explore(source, 3)",
    "arrows()",
    "peel(source, 3)",
    "play(runs, interval=200)",
    "hole = source.select(~((source.labels == 5) & (source.domains == 2)))\n"
    "explore(hole, 3, title='with a hole')",
    "moved = explore(source, 3, title='moved by Python')\nmoved",
    "moved.state = {**moved.state, 'alpha': 1.5}",
]


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
    committed = nbformat.read(ROOT / "nbs" / "60_explore.ipynb", 4)
    committed.cells = [cell for cell in committed.cells if "nbdev_export(" not in cell.source]
    nbformat.write(committed, folder / "work" / "60_explore.ipynb")  # all but the cell that exports
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
    """One explorer by its title, scrolled into view, its sentence there."""
    found = page.locator(".dgdd", has_text=title).first
    found.scroll_into_view_if_needed()
    found.locator("[role=status]:not(:empty)").wait_for()
    return found


def pictures(found: Any) -> str:
    """Everything that is painted or drawn."""
    return found.evaluate(
        """node => [...node.querySelectorAll('canvas')].map(c => c.toDataURL()).join()
            + [...node.querySelectorAll('svg')].map(s => s.outerHTML).join()"""
    )


def press(found: Any, label: str, key: str = "ArrowRight", times: int = 1) -> str:
    """Move a slider by keyboard; the pictures must follow; what the slider says then."""
    line, before = found.get_by_role("slider", name=label, exact=True), pictures(found)
    line.focus()
    for _ in range(times):
        found.page.keyboard.press(key)
    assert pictures(found) != before
    assert not found.locator("[role=alert]:visible").count()
    return line.get_attribute("aria-valuetext")


def says(found: Any, text: str) -> None:
    """Wait until the sentence holds a text."""
    found.locator("[role=status]", has_text=text).wait_for(timeout=20_000)


def test_explorer_follows_the_keyboard(small):
    found = desk(small.page, "alpha and beta explorer")
    screenshot(small.page, f"{small.app}-explorer-before")
    first = pictures(found)
    assert press(found, "alpha: class part", times=8) == "0.90"
    assert press(found, "beta: domain part", "PageUp") != "0.01"
    found.locator("select[name=K]").select_option("2")
    says(found, "noise from 2 domains")
    before = pictures(found)
    found.locator("select[name=label]").select_option(label="4")  # the kernel computes it
    says(found, "noise from 2 domains")
    assert pictures(found) != before
    screenshot(small.page, f"{small.app}-explorer-after")
    found.get_by_role("button", name="Reset").focus()
    small.page.keyboard.press("Enter")
    says(found, "noise from 3 domains")
    assert pictures(found) == first
    assert not unexpected(small.errors, small.app)


def test_a_class_that_is_absent_is_said_and_the_picture_stays(small):
    found = desk(small.page, "with a hole")
    before = pictures(found)
    found.locator("select[name=label]").select_option(label="5")
    found.locator("[role=alert]", has_text="Class '5' is absent in print").wait_for(timeout=20_000)
    assert pictures(found) == before and found.locator("select[name=label]").input_value() == "3"
    press(found, "alpha: class part")  # and it goes on
    assert not unexpected(small.errors, small.app)


def test_arrows_follow_the_keyboard(small):
    found = desk(small.page, "Resultant length of K arrows")
    found.locator("summary").press("Enter")  # the sliders are folded
    assert press(found, "arrow 1: angle") == "5"
    press(found, "arrow 2: length", "ArrowLeft")
    screenshot(small.page, f"{small.app}-arrows")
    found.get_by_role("button", name="Spread evenly").focus()
    small.page.keyboard.press("Enter")
    says(found, "R = 0.00")
    assert not unexpected(small.errors, small.app)


def test_peeler_and_player_follow_the_keyboard(small):
    found = desk(small.page, "Frequency peeler")
    assert press(found, "threshold: keep frequencies with R above", times=5) == "0.55"
    screenshot(small.page, f"{small.app}-peeler")
    found = desk(small.page, "Distillation player")
    assert press(found, "saved step") == "1"
    found.get_by_role("button", name="Play").focus()
    small.page.keyboard.press("Enter")
    says(found, "Step 4 of 4")
    screenshot(small.page, f"{small.app}-player")
    assert not unexpected(small.errors, small.app)


def test_python_and_browser_share_the_state(small):
    """The last cell of the notebook has set alpha from Python and read it back."""
    found = desk(small.page, "moved by Python")
    slider = found.get_by_role("slider", name="alpha: class part", exact=True)
    assert slider.get_attribute("aria-valuetext") == "1.50"


def test_nothing_is_cut_off_and_the_theme_is_that_of_the_page(small):
    page, wide = small.page, small.page.viewport_size
    for width in (1300, 700):
        page.set_viewport_size({"width": width, "height": 900})
        for found in page.locator(".dgdd").all():
            found.scroll_into_view_if_needed()
            assert found.evaluate("node => node.scrollWidth <= node.clientWidth + 1")
            tracks = found.get_by_role("slider").evaluate_all(
                "nodes => nodes.filter(e => e.offsetParent).map(e => e.clientWidth)"
            )
            assert min(tracks) >= 100
    page.set_viewport_size(wide)
    change = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        page.evaluate(change, theme)
        page.wait_for_function(
            "dark => document.querySelector('.dgdd').classList.contains('dark') === dark",
            arg="Dark" in theme,
        )
        screenshot(page, f"{small.app}-{theme[-5:].strip()}")


def test_committed_notebook(site, small):
    address, app = site
    if app != "lab":
        pytest.skip("the committed notebook runs in JupyterLab; Notebook 7 has the small one")
    page = small.page.context.browser.new_page(viewport={"width": 1300, "height": 1100})
    errors = listen(page)
    open_notebook(page, address, "60_explore.ipynb", app)
    run_all(page)
    for title, start in (
        ("Frequency peeler", "gradient of scan, threshold 0.50"),
        ("Resultant length", "4 arrows"),
        ("Distillation player", "Step 0 of"),
        ("alpha and beta explorer", "noise from 3 domains"),
    ):
        says(desk(page, title), start)
    press(desk(page, "alpha and beta explorer"), "alpha: class part")
    screenshot(page, f"{app}-committed")
    assert not unexpected(errors, app)
    page.close()
