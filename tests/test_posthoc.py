"""MixStyle, FACT and AdvFreq against values of the public code, and by name in a training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from shared import assert_near, load
from torch.nn import functional

from dgdd_nb.coresets import random
from dgdd_nb.data import Batch
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.evaluate import evaluate
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import network
from dgdd_nb.posthoc import (
    FACT,
    AdvFreq,
    MixStyle,
    amplitude_drop,
    amplitude_noise,
    mix_amplitude,
    mix_statistics,
)
from dgdd_nb.study import Evaluation
from dgdd_nb.train import PLUGS, check_training, get_recipe, train

NAMES = {"mixstyle": MixStyle, "fact": FACT, "advfreq": AdvFreq}
SHORT = get_recipe("quick", epochs=2)


@pytest.fixture(scope="module")
def digits():
    source, target = mini_digits(16, train=40, test=20).leave_out("street")
    return random(source, 3), target


def batch_of(made):
    return Batch(made.images, made.labels, made.domains, made.K, made.C)


@pytest.mark.parametrize("name, tolerance", [("f64", 1e-12), ("f32", 2e-6)])
@pytest.mark.parametrize("case", ["random", "crossdomain"])
def test_mixstyle_is_that_of_the_public_code(case, name, tolerance):
    golden = load("mixstyle.npz")
    dtype = torch.float64 if name == "f64" else torch.float32
    x = torch.tensor(golden["x"], dtype=dtype).requires_grad_()
    share, partner = torch.tensor(golden["lambda"], dtype=dtype), golden[f"{case}/perm"]
    out = mix_statistics(x, share, torch.tensor(partner))
    assert_near(out, golden[f"{case}/out_{name}"], tolerance)
    (g,) = torch.autograd.grad(out, x, torch.tensor(golden["cotangent"], dtype=dtype))
    assert_near(g, golden[f"{case}/grad_x_{name}"], tolerance)


@pytest.mark.parametrize("ratio", ["1.0", "0.5"])
def test_amplitude_mix_is_that_of_the_public_code(ratio):
    golden = load("fact.npz")
    one, two = (torch.tensor(golden[f"img{i}"]).permute(2, 0, 1)[None].double() for i in (1, 2))
    for i, share in enumerate(golden["lambdas"]):
        share = torch.full((1, 1, 1, 1), float(share), dtype=torch.float64)
        for phase, (a, b) in {"1": (one, two), "2": (two, one)}.items():
            at = f"ratio{ratio}/lam{i}/mix_phase{phase}"
            mixed = mix_amplitude(a, b, share, float(ratio))[0].permute(1, 2, 0)
            assert_near(mixed, golden[f"{at}_float"], 1e-10)
            bytes_ = mixed.clamp(0, 255).to(torch.uint8)
            near = (mixed - mixed.round()).abs() < 1e-9
            assert torch.equal(bytes_[~near], torch.tensor(golden[f"{at}_u8"])[~near])


def adversary(dtype):
    "Images, the public cost of a linear model, and the golden arrays."
    golden = load("advfreq.npz")
    tensors = {k: torch.tensor(v) for k, v in golden.items() if k[:6] in ("img", "label", "model/")}
    centroids = torch.tensor(golden["class_centroids"]).to(dtype)[tensors["label"]]
    logits, bias, feature = (
        tensors[f"model/{k}"].to(dtype) for k in ("W_logits", "b_logits", "W_feat")
    )
    mean, std = (
        torch.tensor(x, dtype=dtype).view(3, 1, 1)
        for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )

    def cost(images):
        x = ((images - mean) / std).flatten(1)
        loss = functional.cross_entropy(x @ logits.T + bias, tensors["label"])
        return loss + functional.mse_loss(x @ feature.T, centroids)

    return tensors["img"].to(dtype), cost, golden


def unrolled(x, dtype):
    "Draws as they belong to their image and channel: the public shift rolls these axes too."
    return torch.fft.ifftshift(torch.tensor(x).to(dtype), dim=(0, 1))


@pytest.mark.parametrize("name, tolerance", [("f64", 1e-11), ("f32", 1e-5)])
def test_advfreq_as_published_is_that_of_the_public_code(name, tolerance):
    dtype = torch.float64 if name == "f64" else torch.float32
    images, cost, golden = adversary(dtype)
    start = torch.stack([unrolled(golden[f"uc/dir_{x}0"], dtype) for x in ("mean", "std")])
    assert_near(
        amplitude_noise(images, cost, start, published=True),
        golden[f"uc/adv_{name}"],
        max(tolerance, 1e-9),
    )
    for key, u, threshold in (
        ("thr1.0/adv1", 1, 1.0),
        ("thr0.5/adv1", 1, 0.5),
        ("thr1.0/adv2", 2, 1.0),
    ):
        uniform = unrolled(golden[f"drop/u{u}"], dtype)
        dropped = amplitude_drop(images, cost, uniform, threshold, published=True)
        assert_near(dropped, golden[f"drop/{key}_{name}"], tolerance)


@pytest.mark.filterwarnings("ignore:var")  # of one number, as published
def test_the_repairs_of_advfreq():
    dice = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 16, 16, generator=dice)
    net = network(classes=3, size=16, width=4, seed=0)
    cost = lambda u: functional.cross_entropy(net(u), torch.arange(4) % 3)  # noqa: E731
    start = torch.randn(2, 4, 3, 1, 1, generator=dice)
    assert amplitude_noise(x, cost, start, published=True).isnan().all()
    made = amplitude_noise(x, cost, start)
    assert made.isfinite().all() and made.min() >= 0 and made.max() <= 1
    assert cost(made) > cost(amplitude_noise(x, cost, start, steps=0))  # it is adversarial
    dim = torch.cat([x[:3], 0.1 * x[3:]])  # another image in the batch dims nothing
    drop = [amplitude_drop(y, cost, torch.ones(4, 3, 16, 16))[3] for y in (dim, dim.clone())]
    assert torch.equal(*drop) and torch.allclose(drop[0], dim[3], atol=1e-5)
    assert torch.allclose(amplitude_noise(x, cost, 0 * start, steps=0), x, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_by_name_in_a_recipe_an_evaluation_and_a_study(digits, name):
    small, target = digits
    options = {"seeds": 2, "width": 8, "device": "cpu"}
    recipe = get_recipe(SHORT, epochs=4, transform=name)  # MixStyle mixes every second batch
    named, again = (evaluate(small, target, recipe=recipe, **options) for _ in range(2))
    given = evaluate(
        small, target, recipe=replace(recipe, transform=None), transform=NAMES[name](), **options
    )
    assert np.array_equal(named.values, again.values) and np.array_equal(named.values, given.values)
    losses = []
    for how in (recipe, replace(recipe, transform=None)):
        net = network(classes=10, size=16, width=8, seed=0)
        losses.append(train(net, batch_of(small), how)["loss"])
    assert losses[0] != losses[1]
    assert Evaluation(recipe={"epochs": 2, "transform": {"name": name}}).name == "convnet"
    assert check_training(transform=NAMES[name]()) == [] and name in PLUGS["transform"]


def test_fact_learns_from_both_halves_and_from_its_teacher(digits):
    batch, net = batch_of(digits[0]), network(classes=10, size=16, width=8, seed=0)
    fact = FACT(ramp=0, momentum=0.5)
    both = fact(batch, net, torch.Generator().manual_seed(0))
    logits = net(both.images)
    T, n = 10.0, len(batch)
    soft = [(x / T).softmax(1) for x in logits.detach().split(n)]  # the teacher is still a copy
    own, mixed = ((x / T).log_softmax(1) for x in logits.split(n))
    kl = sum(
        functional.kl_div(a, b, reduction="batchmean")
        for a, b in ((mixed, soft[0]), (own, soft[1]))
    )
    wanted = functional.cross_entropy(logits, both.labels) + 2 * kl
    assert torch.allclose(
        fact.loss(functional.cross_entropy)(logits, both.labels), wanted, rtol=1e-4
    )
    before = [p.clone() for p in net.parameters()]
    with torch.no_grad():
        for p in net.parameters():
            p += 1
    fact.hook(net, 0)
    for slow, old in zip(fact.hook.of(net).parameters(), before):
        assert torch.allclose(slow, old + 0.5)
    fact.hook.end(net)
    again = [
        train(network(classes=10, size=16, width=8, seed=0), batch, SHORT, transform=fact)
        for _ in "ab"
    ]
    assert again[0]["loss"] == again[1]["loss"]  # nothing of the first training is left


def test_a_set_with_a_transfer_network_keeps_the_parts_of_a_transform(digits, monkeypatch):
    seen = []

    class Shift:
        def __init__(self, state):
            self.state = state

        def __call__(self, batch, net, dice):
            seen.append(len(batch))
            return batch

    monkeypatch.setitem(PLUGS["transform"], "shift", Shift)
    small, target = digits
    made = DistilledSet(
        **{**vars(small), "transfer": {"w": torch.zeros(1)}, "transfer_name": "shift"}
    )
    options = {
        "seeds": 1,
        "width": 8,
        "device": "cpu",
        "recipe": get_recipe(SHORT, transform="fact"),
    }
    a, b = (evaluate(x, target, **options) for x in (made, small))
    assert seen and np.array_equal(a.train_accuracy, b.train_accuracy)


def test_mixstyle_partners_layers_and_refusals(digits):
    batch, net = batch_of(digits[0]), network(classes=10, size=16, width=8, seed=0)
    for partners, apart in (("random", False), ("across", True)):
        mixing = MixStyle(("pool1", "pool2"), p=1.0, partners=partners)
        mixing(batch, net, torch.Generator().manual_seed(0))
        partner = mixing.drawn["pool2"][1]
        if apart:
            assert (batch.domains[partner] != batch.domains).all()
        else:
            assert sorted(partner.tolist()) == list(range(len(batch)))
        mixed, plain = net.train()(batch.images), net(batch.images)
        assert not torch.equal(mixed, plain)
    losses = []
    for plug in (None, MixStyle(p=1.0)):  # a wide one takes norm, activation and pooling as one
        wide = network(classes=10, size=16, width=64, seed=0)
        losses.append(train(wide, batch, get_recipe(SHORT, epochs=1), transform=plug)["loss"])
    assert losses[0] != losses[1]
    resnet = network("resnet18", classes=10, size=32, seed=0)
    MixStyle("layer1")(batch, resnet, torch.Generator().manual_seed(0))
    one = Batch(batch.images, batch.labels, 0 * batch.domains, 1, 10)
    for words, call in {
        "two domains at least": lambda: MixStyle(partners="across")(one, net, torch.Generator()),
        "Unknown layer 'pool9'": lambda: MixStyle("pool9")(batch, net, torch.Generator()),
        "alpha must be": lambda: MixStyle(alpha=0),
        "side 20 or more, not 16": lambda: AdvFreq(published=True)(batch, net, torch.Generator()),
        "temperature must be": lambda: FACT(temperature=0),
    }.items():
        with pytest.raises(ValueError, match=words):
            call()
