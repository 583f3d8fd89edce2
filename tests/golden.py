"""Golden files: found through DGDD_SHARED (default ../shared beside the repository), skipped with a reason where absent."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(os.environ.get("DGDD_SHARED", Path(__file__).parents[1] / ".." / "shared"))


def load(name: str) -> dict:
    "The arrays of a golden file."
    path = SHARED / "golden" / name
    if not path.exists():
        pytest.skip(f"{path} is not there; set DGDD_SHARED to the folder that holds golden/")
    return dict(np.load(path))


def state(arrays: dict, prefix: str) -> dict:
    "The state dict stored below a prefix."
    return {k.removeprefix(prefix): torch.tensor(v) for k, v in arrays.items() if k.startswith(prefix)}


def assert_near(actual: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    "Largest difference relative to the largest golden entry."
    expected = torch.as_tensor(expected)
    error = (actual.detach() - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"relative to the largest entry: {error:.1e} > {tolerance:.0e}"
