"""Golden files and real images: found through DGDD_SHARED (default ../shared beside the repository), skipped where absent."""

import importlib.util
import os
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import settings

QUICK = settings(max_examples=30, deadline=None, derandomize=True, database=None)  # of hypothesis
ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(ROOT, os.environ.get("DGDD_SHARED") or "../shared")
needs_posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="wants fork and signals")


def python(script: str, *arguments: object) -> str:
    "What a script prints in a fresh interpreter with one thread, since several survive no fork."
    command = [sys.executable, "-c", script, *map(str, arguments)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **threads}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(name: str) -> dict:
    "The arrays of a golden file."
    path = SHARED / "golden" / name
    if not path.exists():
        pytest.skip(f"{path} is not there; set DGDD_SHARED to the folder that holds golden/")
    return dict(np.load(path))


def state(arrays: dict, prefix: str) -> dict:
    "The state dict stored below a prefix."
    return {
        k.removeprefix(prefix): torch.tensor(v) for k, v in arrays.items() if k.startswith(prefix)
    }


def assert_near(actual: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    "Largest difference relative to the largest golden entry."
    expected = torch.as_tensor(expected)
    error = (actual.detach() - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"relative to the largest entry: {error:.1e} > {tolerance:.0e}"


def unpacked(folder: str, archive: str, into: Path, keep: tuple[str, ...] = ()) -> Path:
    "A data set: the folder if it is there, else the content of its archive, else skip."
    data = SHARED / "data"
    if (data / folder).is_dir():
        return data / folder
    if not (data / archive).is_file():
        pytest.skip(f"neither data/{folder} nor data/{archive} in the folder DGDD_SHARED names")
    with tarfile.open(data / archive) as tar:
        members = [m for m in tar if not keep or any(f"/{name}/" in m.name for name in keep)]
        tar.extractall(into, members=members, filter="data")
    return into / folder


def loaded(name: str, path: Path) -> ModuleType:
    "A script as a module of this name."
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def tool(name: str) -> ModuleType:
    "A script of tools/ as a module; another name, as one is called like a module of Python itself."
    if str(ROOT / "tools") not in sys.path:
        sys.path.append(str(ROOT / "tools"))  # they import each other
    return loaded(f"tools_{name}", ROOT / "tools" / f"{name}.py")
