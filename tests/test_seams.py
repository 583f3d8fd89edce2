"""Methods of others as files outside the package: MixStyle in the judge, SRe2L as a method. Nothing else was changed for them."""

import numpy as np
import pytest
import torch
from plugins.mixstyle import MixStyle, mix_statistics
from plugins.sre2l import sre2l, statistics_loss
from shared import assert_near, load

from dgdd_nb.coresets import random
from dgdd_nb.data import Batch
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.evaluate import evaluate
from dgdd_nb.networks import network
from dgdd_nb.train import check_training, get_recipe, train

SHORT = get_recipe("quick", epochs=2)
PRECISIONS = [("f64", 1e-12), ("f32", 2e-6)]


@pytest.fixture(scope="module")
def digits():
    return mini_digits(16, train=40, test=20).leave_out("street")


@pytest.mark.parametrize("precision, tolerance", PRECISIONS)
@pytest.mark.parametrize("case", ["random", "crossdomain"])
def test_mixed_statistics_are_those_of_the_reference(case, precision, tolerance):
    golden = load("mixstyle.npz")
    dtype = torch.float64 if precision == "f64" else torch.float32
    x = torch.tensor(golden["x"], dtype=dtype).requires_grad_()
    share, partner = (
        torch.tensor(golden["lambda"], dtype=dtype),
        torch.tensor(golden[f"{case}/perm"]),
    )
    out = mix_statistics(x, share, partner)
    assert_near(out, golden[f"{case}/out_{precision}"], tolerance)
    (grad,) = torch.autograd.grad(out, x, torch.tensor(golden["cotangent"], dtype=dtype))
    assert_near(grad, golden[f"{case}/grad_x_{precision}"], tolerance)


def test_mixstyle_is_a_transform_that_a_recipe_can_name(digits):
    assert check_training(transform=MixStyle(p=1.0)) == []
    small, target = random(digits[0], 3), digits[1]
    plug = {"name": "plugins.mixstyle:MixStyle", "p": 1.0}
    options = {"seeds": 2, "width": 8, "device": "cpu"}
    plain = evaluate(small, target, recipe=SHORT, **options)
    named = evaluate(small, target, recipe=get_recipe(SHORT, transform=plug), **options)
    given = evaluate(small, target, recipe=SHORT, transform=MixStyle(p=1.0), **options)
    never = evaluate(small, target, recipe=SHORT, transform=MixStyle(p=0.0), **options)
    assert np.array_equal(named.values, given.values) and named.recipe["transform"] == plug
    assert np.array_equal(never.values, plain.values)
    batch = Batch(small.images, small.labels, small.domains, small.K, small.C)
    losses = [
        train(network(classes=10, size=16, width=8, seed=0), batch, SHORT, transform=t)["loss"]
        for t in (None, MixStyle(p=1.0))
    ]
    assert losses[0] != losses[1]


def test_mixstyle_takes_partners_from_other_domains(digits):
    mixing, source = MixStyle(p=1.0), digits[0]
    net = network(classes=10, size=16, width=8, seed=0)
    x = source.normalisation()(source.images)
    batch = Batch(x, source.labels, source.domains, source.K, source.C)
    mixing(batch, net, torch.Generator().manual_seed(0))
    share, partner = mixing.drawn
    assert (source.domains[partner] != source.domains).all() and ((share > 0) & (share < 1)).any()
    net.train()
    mixed, plain = net(x), net(x)  # the draw serves one pass
    assert not torch.equal(mixed, plain) and torch.equal(plain, net.eval()(x))


@pytest.mark.parametrize("precision, tolerance", PRECISIONS)
def test_statistics_loss_is_that_of_the_reference(precision, tolerance):
    golden = load("sre2l.npz")
    dtype = torch.float64 if precision == "f64" else torch.float32
    layers = sorted({name.split("/")[0] for name in golden if name.startswith("layer")})
    xs = [torch.tensor(golden[f"{name}/x"], dtype=dtype).requires_grad_() for name in layers]
    running = [
        [torch.tensor(golden[f"{name}/running_{k}"], dtype=dtype) for k in ("mean", "var")]
        for name in layers
    ]
    losses = torch.stack([statistics_loss(x, *values) for x, values in zip(xs, running)])
    assert_near(losses, golden[f"per_layer_{precision}"], tolerance)
    weight = torch.tensor([float(golden["first_multiplier"]), *[1.0] * (len(xs) - 1)], dtype=dtype)
    total = (weight * losses).sum()
    assert_near(total, golden[f"loss_{precision}"], tolerance)
    for name, grad in zip(layers, torch.autograd.grad(total, xs)):
        assert_near(grad, golden[f"{name}/grad_x_{precision}"], tolerance)


def test_sre2l_is_a_method_like_any_other(digits, tmp_path):
    source, target = digits
    recipe = {"name": "quick", "epochs": 10}
    made = sre2l(source, 2, seed=1, steps=40, width=8, recipe=recipe)
    assert made.soft and len(made) == 20 and (made.domains == -1).all()
    loss = made.history["loss"]
    assert loss[-1] < 0.7 * loss[0]
    assert made.clipped_share() == 0
    again = sre2l(source, 2, seed=1, steps=40, width=8, recipe=recipe)
    assert torch.equal(again.images, made.images) and torch.equal(again.labels, made.labels)
    stored = DistilledSet.load(made.save(tmp_path / "set", pictures=False))
    soft = get_recipe(SHORT, loss={"name": "kl", "temperature": 4.0}, optimiser="adamw", lr=0.01)
    scores = evaluate(stored, target, seeds=1, recipe=soft, width=8, device="cpu")
    assert 0 <= scores.mean <= 100 and scores.recipe["loss"]["temperature"] == 4
    assert made.bytes == made.images.nbytes + 20 * 10 * 4


def test_sre2l_by_name_in_a_study(digits):
    methods = pytest.importorskip("dgdd_nb.methods")
    options = {"steps": 3, "width": 8, "recipe": {"name": "quick", "epochs": 1}}
    assert methods.check_method("plugins.sre2l:sre2l", **options) == []
