"""The recipe of evaluation against values computed with the public reference code."""

import numpy as np
import pytest
import torch
from shared import load, state

from dgdd_nb.evaluate import RECIPES, Recipe, get_recipe, learning_rates, predict, train
from dgdd_nb.networks import ConvNet


@pytest.fixture(scope="module")
def golden():
    return load("evalrecipe.npz")


@pytest.mark.parametrize("asked", [1000, 300, 301, 10])
def test_learning_rate_of_every_epoch(golden, asked):
    """The public loop runs one epoch more than it is asked for."""
    recipe = get_recipe("paper", epochs=asked + 1, lr=float(golden[f"E{asked}/lr0"]))
    for images in (100, 600):  # one step per epoch, and three
        rates, restart = learning_rates(recipe, images)
        per_epoch = -(-images // recipe.batch)
        expected = np.repeat(golden[f"E{asked}/lr"], per_epoch)
        assert rates.shape == expected.shape and np.abs(rates - expected).max() <= 1e-15
        assert restart == golden[f"E{asked}/first_epoch_with_new_optimizer"][0] * per_epoch


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
    nets = [
        ConvNet(classes, 16, width=width, depth=int(golden["run/depth"]), seed=s) for s in (0, 1)
    ]
    nets[0].load_state_dict(start)
    history = train(nets if several else nets[0], images, labels, recipe, (0, 1) if several else 0)
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
