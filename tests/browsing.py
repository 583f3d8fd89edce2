"""Headless Chromium, and a real Jupyter server, for the browser tests; they skip with a reason where there is none."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]


def chromium() -> str | None:
    """A Chromium on the PATH, or the one that playwright installed."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        sync_api = pytest.importorskip("playwright.sync_api")
        with sync_api.sync_playwright() as play:
            path = play.chromium.executable_path
            found = path if shutil.which(path) else None
    return found


def listen(page: Any) -> list[str]:
    """A list that grows with each error the page's console prints."""
    errors: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors


@contextmanager
def opened(width: int = 1300, height: int = 900, **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """A page in a headless browser and the list of errors that its console printed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium: install one, or run `python -m playwright install chromium`")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        try:
            yield page, listen(page)
        finally:
            browser.close()


# A Jupyter server that neither reads nor writes anything of the user's.
APPS = {  # module to run, its options, address of a notebook
    "lab": ("jupyterlab", ["--LabApp.expose_app_in_browser=True"], "lab/tree/{}?reset"),
    "notebook": ("notebook", ["--JupyterNotebookApp.expose_app_in_browser=True"], "notebooks/{}"),
}


def isolated(home: Path) -> dict[str, str]:
    """An environment in which Jupyter keeps everything under one folder, kernel `python3` included."""
    kernel = home / "data" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "Python 3",
                "language": "python",
            }
        ),
        encoding="utf-8",
    )
    settings = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)  # no question about news in the corner of every screenshot
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"checkForUpdates": False, "doNotDisturbMode": True, "fetchNews": "false"}),
        encoding="utf-8",
    )
    own = {
        f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    own |= {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    left_out = ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "JUPYTER_TOKEN", "MPLBACKEND")
    return {key: value for key, value in os.environ.items() if key not in left_out} | own


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_server(
    process: subprocess.Popen, runtime: Path, log: Path, seconds: float = 120
) -> str:
    """The address of the server with its token, once it answers (the port is the one it really took)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for info in runtime.glob("jpserver-*.json"):
            try:
                found = json.loads(info.read_text(encoding="utf-8"))
                token = f"?token={found['token']}"
                with urllib.request.urlopen(found["url"] + "api/status" + token, timeout=5):
                    return found["url"] + token
            except (ValueError, KeyError, urllib.error.URLError, OSError):
                pass  # half written, or not listening yet
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"Jupyter did not start: {log.read_text(encoding='utf-8')[-2000:]}")


@contextmanager
def jupyter(folder: Path, home: Path, app: str = "lab") -> Iterator[str]:
    """The address, with a token, of a Jupyter server (JupyterLab or Notebook 7) that serves one folder; stopped at the end."""
    module, options, _ = APPS[app]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install {module}")
    home.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        module,
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={free_port()}",
        f"--IdentityProvider.token={secrets.token_hex(16)}",
        f"--ServerApp.root_dir={folder}",
        *options,
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    log = home / "server.log"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, cwd=folder, env=isolated(home), stdout=out, stderr=out)
    try:
        yield wait_for_server(process, home / "runtime", log)
    finally:
        process.terminate()  # it shuts its kernels down
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


NOISE = {  # printed by the application itself, with an empty notebook too
    "lab": (),
    "notebook": ("Cannot read properties of undefined (reading 'schema')",),  # Notebook 7.6 on 4.6
}
CURRENT = "window.jupyterapp?.shell?.currentWidget"
READY = f"() => {CURRENT}?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"
WRONG = f"""() => [...{CURRENT}.content.widgets].filter(cell => cell.model.type === 'code')
    .flatMap(cell => cell.model.outputs.toJSON())
    .filter(out => out.output_type === 'error' || out.name === 'stderr')
    .map(out => out.output_type === 'error' ? `${{out.ename}}: ${{out.evalue}}` : [out.text].flat().join(''))"""


def open_notebook(page: Any, address: str, name: str, app: str = "lab") -> None:
    """Open one notebook and wait for its kernel."""
    base, token = address.split("?")
    page.goto(f"{base}api/status?{token}")  # the token becomes a cookie
    page.goto(base + APPS[app][2].format(name))
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.wait_for_function(READY, timeout=60_000)


def run_all(page: Any, seconds: float = 300) -> None:
    """Run all cells to the end; an error, or a line on stderr, in any of them fails the test."""
    page.evaluate("""() => {
        window.finished = null;
        window.jupyterapp.commands.execute('notebook:run-all-cells').then(good => { window.finished = [good]; });
    }""")
    finished = page.wait_for_function("() => window.finished", timeout=seconds * 1000).json_value()[
        0
    ]
    wrong = page.evaluate(WRONG)
    assert not wrong, wrong
    assert finished is not False


def unexpected(errors: list[str], app: str) -> list[str]:
    """The console errors that are not known noise of the application."""
    return [line for line in errors if line not in NOISE[app]]


def screenshot(page: Any, name: str) -> None:
    """Save a picture of the page where DGDD_SCREENSHOTS says, if it does."""
    folder = os.environ.get("DGDD_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
