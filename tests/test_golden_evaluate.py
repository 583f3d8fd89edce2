"""The recipe of evaluation against values computed with the public reference code."""

import numpy as np
import pytest
import torch
from shared import load, state

from dgdd_nb.data import Batch
from dgdd_nb.networks import ConvNet
from dgdd_nb.train import RECIPES, Recipe, get_recipe, learning_rates, predict, train


@pytest.fixture(scope="module")
def golden():
    return load("evalrecipe.npz")


def test_learning_rate_of_every_epoch(golden):
    """The public loop runs one epoch more than it is asked for."""
    runs = [name.split("/")[0] for name in golden if name.startswith("E") and name.endswith("/lr")]
    assert runs
    for run in runs:
        recipe = get_recipe("paper", epochs=int(run[1:]) + 1, lr=float(golden[f"{run}/lr0"]))
        for per_epoch in (1, 3):
            rates, restart = learning_rates(recipe, per_epoch)
            expected = np.repeat(golden[f"{run}/lr"], per_epoch)
            assert rates.shape == expected.shape and np.abs(rates - expected).max() <= 1e-15
            assert restart == golden[f"{run}/first_epoch_with_new_optimizer"][0] * per_epoch


def test_constants_of_the_paper_recipe(golden):
    paper = RECIPES["paper"]
    assert (paper.momentum, paper.weight_decay, paper.batch) == tuple(
        golden[name].item() for name in ("momentum", "weight_decay", "batch")
    )
    assert paper == Recipe("paper", epochs=1001, lr=golden["E1000/lr0"].item())


@pytest.mark.parametrize("several", [False, True])
def test_a_short_run(golden, several):
    """Full batch, no augmentation, seven epochs with a drop: alone, and in one loop with another network."""
    images, labels = torch.tensor(golden["run/images"]), torch.tensor(golden["run/labels"])
    recipe = get_recipe("paper", epochs=int(golden["run/epochs_arg"]) + 1, augment="none")
    start = state(golden, "run/state0/")
    classes, width = start["classifier.bias"].numel(), start["features.0.bias"].numel()
    size = tuple(images.shape[2:])
    nets = [
        ConvNet(classes, size, width=width, depth=int(golden["run/depth"]), seed=s) for s in (0, 1)
    ]
    nets[0].load_state_dict(start)
    data = Batch(images, labels, torch.zeros_like(labels), 1, classes)
    history = train(nets if several else nets[0], data, recipe, (0, 1) if several else 0)
    loss, accuracy = (np.array(history[key]) for key in ("loss", "accuracy"))
    loss, accuracy = (loss[:, 0], accuracy[:, 0]) if several else (loss, accuracy)
    np.testing.assert_allclose(loss, golden["run/train_loss_per_epoch_f32"], rtol=1e-5)
    assert accuracy[-1] == pytest.approx(100 * golden["run/train_acc_last"])
    for name, expected in state(golden, "run/state_final_f32/").items():
        error = (nets[0].state_dict()[name] - expected).abs().max()
        assert error <= 1e-5 * expected.abs().max(), name
    test = torch.tensor(golden["run/test_images"])
    with torch.no_grad():
        logits, expected = nets[0].eval()(test), torch.tensor(golden["run/test_logits_final_f32"])
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    right = (predict(nets[0], test) == torch.tensor(golden["run/test_labels"])).float().mean()
    assert right == pytest.approx(golden["run/test_acc"])
