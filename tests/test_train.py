"""The training loop: bounds in steps, lone images, plugs by name, hooks, and the checker's sentences."""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from dgdd_nb.data import Batch
from dgdd_nb.networks import network
from dgdd_nb.train import (
    EMA,
    KL,
    PLUGS,
    RECIPES,
    check_training,
    get_recipe,
    learning_rates,
    make_plug,
    predict,
    train,
)

SHORT = get_recipe("quick", epochs=2, augment="none")


def toy(n: int, size: int = 16) -> Batch:
    "Normalised noise of two classes and two domains, one class with a bright square."
    images = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(n))
    labels = torch.arange(n) % 2
    images[labels == 1, :, 4:12, 4:12] += 1
    return Batch(images, labels, torch.arange(n) // 2 % 2, 2, 2)


def small_net(seed: int = 0, name: str = "convnet") -> torch.nn.Module:
    return network(name, classes=2, size=16, width=8, seed=seed)


def halve(batch: Batch, net: torch.nn.Module, dice: torch.Generator) -> Batch:
    "A transform for the tests below, found by name."
    return replace(batch, images=batch.images / 2)


@pytest.mark.parametrize(
    "images, batch, steps",
    [(100, 32, 240), (1800, 32, 399), (18_000, 32, 400), (400, 1, 400), (500, 1, 400)],
)
def test_max_steps_is_a_bound(images, batch, steps):
    rates, _ = learning_rates(get_recipe("quick", batch=batch), math.ceil(images / batch))
    assert len(rates) == steps and rates[0] == 0.05 and rates[-1] < 0.001


def test_an_epoch_may_be_cut():
    recipe = get_recipe(SHORT, batch=4, max_steps=3)
    found = train(small_net(), toy(40), recipe)
    assert len(found["loss"]) == len(found["lr"]) == 1 and 0 <= found["accuracy"][0] <= 100


@pytest.mark.parametrize("n", [9, 8])
def test_a_lone_last_image_does_not_stop_batch_norm(n):
    net = network("resnet18", classes=2, size=32, seed=0)
    found = train(net, toy(n, 32), get_recipe(SHORT, batch=4, epochs=1))
    assert math.isfinite(found["loss"][0])
    with pytest.raises(ValueError, match="raise the recipe's batch"):
        train(net, toy(n, 32), get_recipe(SHORT, batch=1))
    with pytest.raises(ValueError, match="take a network without"):
        train(net, toy(1, 32), SHORT)


def test_equal_seeds_give_equal_bits_and_global_dice_stay():
    state = torch.get_rng_state()
    nets = [small_net() for _ in range(3)]
    first, second, other = (train(net, toy(24), SHORT, s) for net, s in zip(nets, (1, 1, 2)))
    assert first == second != other
    assert all(map(torch.equal, nets[0].parameters(), nets[1].parameters()))
    assert torch.equal(torch.get_rng_state(), state)


def test_several_networks_with_a_transform_are_trained_as_alone():
    """A transform may look into its network, so these do not share a loop: the same bits."""
    nets, lone = [small_net(s) for s in range(2)], small_net(1)
    both = train(nets, toy(24), SHORT, (5, 6), transform=halve)
    alone = train(lone, toy(24), SHORT, 6, transform=halve)
    assert [row[1] for row in both["loss"]] == alone["loss"]
    assert all(map(torch.equal, nets[1].parameters(), lone.parameters()))


def test_several_networks_may_be_of_any_kind():
    wide = [network(classes=2, size=16, width=64, seed=s) for s in range(2)]
    train(wide[0], toy(8), SHORT)  # alone, and then
    train(wide, toy(8), SHORT, (0, 1))
    both, lone = [small_net(1), network(classes=2, size=16, width=4, seed=0)], small_net(1)
    train(both, toy(8), SHORT, (5, 6))
    train(lone, toy(8), SHORT, 5)
    assert all(map(torch.equal, both[0].parameters(), lone.parameters()))
    layers = [nn.Flatten(), nn.Dropout(), nn.Linear(768, 2)]
    twins = [nn.Sequential(*copy.deepcopy(layers)) for _ in range(2)]
    train(twins, toy(8), SHORT, (0, 1))
    assert not torch.equal(twins[0][2].weight, twins[1][2].weight)


def test_settings_of_an_optimiser_go_before_those_of_the_recipe():
    def weights(**changes):
        net = small_net()
        train(net, toy(24), get_recipe(SHORT, **changes))
        return net.classifier.weight

    mine = {"momentum": 0.0, "weight_decay": 0.1}
    assert torch.equal(weights(optimiser={"name": "sgd", **mine}), weights(**mine))
    assert weights(optimiser="torch.optim:Rprop").isfinite().all()  # it takes neither


def test_every_plug_can_be_named():
    recipe = get_recipe(
        {
            "name": "quick",
            "epochs": 2,
            "optimiser": {"name": "adamw", "betas": [0.5, 0.9]},
            "schedule": "constant",
            "loss": {"name": "kl", "temperature": 2.0},
            "transform": "test_train:halve",
            "hooks": [{"name": "ema", "decay": 0.9}],
            "lr": 0.001,
        }
    )
    named, given = small_net(), small_net()
    train(named, toy(24), recipe)
    plain = replace(recipe, loss="cross-entropy", transform=None, hooks=())
    plugs = {"loss": KL(2.0), "transform": halve, "hooks": [EMA(0.9)]}
    train(given, toy(24), plain, **plugs)
    assert all(map(torch.equal, named.parameters(), given.parameters()))
    default = small_net()
    train(default, toy(24), replace(plain, optimiser="sgd"), **plugs)
    assert not all(map(torch.equal, named.parameters(), default.parameters()))


def test_a_recipe_by_name_by_table_and_with_a_plug_of_ones_own(monkeypatch):
    assert get_recipe("quick") is RECIPES["quick"]
    assert get_recipe({"name": "quick", "epochs": 3}) == get_recipe("quick", epochs=3)
    monkeypatch.setitem(PLUGS["transform"], "halve", halve)
    assert get_recipe("quick", transform="halve").transform == "halve"
    assert make_plug("transform", "halve") is halve


REFUSED = {
    "did you mean 'quick'": lambda: get_recipe("quik"),
    "epoch": lambda: get_recipe("quick", epoch=3),
    "epochs of a recipe must be a whole number from 1": lambda: get_recipe("quick", epochs=0),
    "max_steps of a recipe must be a whole number": lambda: get_recipe("quick", max_steps=-3),
    "weight_decay of a recipe must be a finite number from 0": lambda: get_recipe(
        "quick", weight_decay=-1.0
    ),
    "number between 0 and 100": lambda: get_recipe("quick", lr=1e30),
    "'?lr'?": lambda: get_recipe("quick", lr="0.05"),
    "'?batch'?": lambda: get_recipe("quick", batch=1.5),
    "colour": lambda: get_recipe("quick", augment="colour"),
    "did you mean 'cosine'": lambda: get_recipe("quick", schedule="cosin"),
    "module:name": lambda: get_recipe("quick", loss="mse"),
    "temprature": lambda: get_recipe("quick", loss={"name": "kl", "temprature": 2}),
    "nothere": lambda: get_recipe("quick", transform="nothere:halve"),
    "is positive": lambda: get_recipe("quick", loss={"name": "kl", "temperature": 0.0}),
    "hook": lambda: get_recipe("quick", hooks=("emma",)),
    "take lr out": lambda: get_recipe("quick", optimiser={"name": "sgd", "lr": 0.1}),
    r"shape \(3,\) for 60 steps": lambda: learning_rates(
        replace(RECIPES["quick"], schedule=lambda steps, _: (np.ones(3), None)), 1
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_recipes_are_checked_before_anything_runs(words):
    with pytest.raises((ValueError, TypeError), match=words):
        REFUSED[words]()


def turned(change) -> dict:
    "A transform that changes some fields of a batch."
    return {"transform": lambda batch, net, dice: replace(batch, **change(batch))}


WRONG = {  # named at the first step, and by the checker
    "not a Batch of tensors": {"transform": lambda batch, net, dice: (batch.images, batch.labels)},
    "give each image both": turned(lambda b: {"labels": b.labels[1:]}),
    "keep shape, type and device": turned(lambda b: {"images": b.images.double()}),
    "meta: keep": turned(lambda b: {"images": b.images.to("meta")}),
    "int64": turned(lambda b: {"labels": b.labels.float()}),
    "no .item()": {"loss": lambda a, b: functional.cross_entropy(a, b).item()},
    "take its mean": {"loss": lambda a, b: functional.cross_entropy(a, b, reduction="none")},
    "no graph": {"loss": lambda a, b: functional.cross_entropy(a.detach(), b)},
}
LOOKED_AT = {  # only by the checker
    "in place": turned(lambda b: {"images": b.images.mul_(2)}),
    "global generator": turned(lambda b: {"images": b.images + torch.rand(1)}),
    "differs for equal dice": turned(lambda b: {"images": b.images + next(COUNT)}),
    "a batch of 1 fails": turned(lambda b: {"images": b.images[[1] * len(b)]}),
    "soft labels fails": {"loss": lambda a, b: functional.nll_loss(a.log_softmax(1), b)},
    "evaluation mode": {"hook": lambda net, step: net.eval()},
    "trainable": {"hook": lambda net, step: net.requires_grad_(False)},
}
COUNT = itertools.count()


@pytest.mark.parametrize("words", WRONG)
def test_a_broken_plug_gets_a_sentence_at_the_first_step(words):
    with pytest.raises(ValueError, match=words):
        train(small_net(), toy(8), SHORT, **WRONG[words])


@pytest.mark.parametrize("words", WRONG | LOOKED_AT)
def test_the_checker_looks_closer(words):
    said = check_training(**(WRONG | LOOKED_AT)[words])
    assert any(words in sentence for sentence in said), said
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in said)


def test_the_checker_is_content_with_good_plugs():
    assert check_training(transform=halve, loss=KL(4), hook=EMA()) == []
    assert check_training(loss=functional.cross_entropy) == []


def test_diverging_is_said():
    with pytest.raises(ValueError, match="diverged at step"):
        train(small_net(), toy(8), get_recipe(SHORT, lr=99.0, epochs=50))


def test_kl_at_a_temperature():
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for T in (1.0, 4.0, 20.0):
        wanted = functional.kl_div(
            (logits / T).log_softmax(1), (z / T).softmax(1), reduction="batchmean"
        )
        assert torch.isclose(KL(T)(logits, z.softmax(1)), wanted, rtol=1e-12)
    hard = torch.tensor([0, 1, 2, 3, 0])
    assert torch.isclose(KL()(logits, hard), functional.cross_entropy(logits, hard))


def test_ema_averages_and_starts_anew():
    hook, weights = EMA(decay=0.5), []
    net = small_net()
    train(
        net,
        toy(24),
        SHORT,
        hooks=[lambda net, step: weights.append(net.classifier.bias.detach().clone()), hook],
    )
    mean = weights[0]
    for step, w in enumerate(weights[1:], start=1):
        d = min(0.5, step / (step + 1))
        mean = d * mean + (1 - d) * w
    assert torch.allclose(net.classifier.bias, mean, atol=1e-6)
    first = small_net(1)
    train(first, toy(24), SHORT, hooks=[hook])  # a used hook: step 0 begins a new average
    second = small_net(1)
    train(second, toy(24), SHORT, hooks=[EMA(0.5)])
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_predict_restores_the_mode():
    net = small_net().train()
    assert predict(net, toy(300).images).shape == (300,) and net.training
    net.features[0].eval()  # frozen
    predict(net, toy(3).images)
    assert net.training and not net.features[0].training
    assert predict(net.eval(), toy(3).images).dtype == torch.int64 and not net.training


@pytest.mark.parametrize("key", ["epochs", "lr", "batch", "momentum", "weight_decay", "augment"])
@pytest.mark.parametrize("value", [None, "x", True, float("nan"), -1], ids=str)
def test_a_recipe_checks_types_and_ranges_when_it_is_made(key, value):
    with pytest.raises((ValueError, TypeError), match=f"{key}|augmentation 'x'"):
        replace(SHORT, **{key: value})


@pytest.mark.parametrize("decay", [-0.1, 1, math.nan])
def test_a_decay_has_bounds(decay):
    with pytest.raises(ValueError, match="between 0 and 1"):
        EMA(decay)


def test_what_diverges_gives_no_score():
    def spoil(net: torch.nn.Module, step: int) -> None:
        if step == 1:  # after the last loss
            next(iter(net.parameters())).data.fill_(math.nan)

    with pytest.raises(ValueError, match="diverged at the last step"):
        train(small_net(), toy(8), get_recipe(SHORT, batch=4, epochs=1), hooks=[spoil])
    with pytest.raises(ValueError, match="2 outputs for 3 classes"):
        train(small_net(), replace(toy(8), C=3), SHORT)


def test_a_recipe_without_augmentation_by_name():
    for name in RECIPES:
        assert get_recipe(f"{name}-plain") == get_recipe(name, augment="none", name=f"{name}-plain")
    with pytest.raises(TypeError, match="A recipe is a name"):
        get_recipe(3)
