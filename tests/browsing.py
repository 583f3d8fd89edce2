"""Headless Chromium for the browser tests; they skip with a reason where there is none."""
from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]


def chromium() -> str | None:
    """A Chromium on the PATH, or the one that playwright installed."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        sync_api = pytest.importorskip("playwright.sync_api")
        with sync_api.sync_playwright() as play:
            path = play.chromium.executable_path
            found = path if shutil.which(path) else None
    return found


@contextmanager
def opened(width: int = 1300, height: int = 900, **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """A page in a headless browser and the list of errors that its console printed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium: install one, or run `python -m playwright install chromium`")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=FLAGS)
        page, errors = browser.new_page(viewport={"width": width, "height": height}, **options), []
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        try:
            yield page, errors
        finally:
            browser.close()
