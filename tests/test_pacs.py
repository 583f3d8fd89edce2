"""PACS, where it is: distil three real domains, score the fourth, with a tiny budget."""

import pytest
import torch
from shared import unpacked

from dgdd_nb.distill import distill
from dgdd_nb.evaluate import evaluate, get_recipe
from dgdd_nb.folders import from_folder
from dgdd_nb.matching import DM
from dgdd_nb.surgery import SGS


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    return from_folder(unpacked("PACS", "pacs_64px.tar", tmp_path_factory.mktemp("pacs")), size=32)


@pytest.mark.data
def test_distil_three_domains_score_the_fourth(pacs, tmp_path):
    source, target = pacs.leave_out("photo")
    assert (source.K, source.C, len(target)) == (3, 7, 1670)
    budget = {
        "ipc": 3,
        "steps": 3,
        "real_batch": 24,
        "width": 16,
        "checkpoint": tmp_path / "run.safetensors",
    }
    made = distill(source, DM(), SGS(), **budget)
    assert torch.isfinite(made.images).all() and made.images.shape == (21, 3, 32, 32)
    scores = evaluate(made, target, seeds=2, recipe=get_recipe("quick", epochs=2), width=16)
    assert len(scores.values) == 2 and all(0 < v < 100 for v in scores.values)
