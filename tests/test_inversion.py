"""Recover: the published losses against golden files, the gradients, the hooks, and what is refused."""

from __future__ import annotations

import pytest
import torch
from shared import assert_near, load

from dgdd_nb.inversion import Watch, densification, moments, statistics_loss

PRECISION = [("f64", torch.float64, 1e-12), ("f32", torch.float32, 2e-6)]
EXACT = pytest.mark.parametrize("name, dtype, tolerance", PRECISION)


@EXACT
def test_batch_norm_losses_are_the_published_ones(name, dtype, tolerance):
    arrays = load("sre2l.npz")
    layers = sorted({key.partition("/")[0] for key in arrays if key.startswith("layer")})
    given = [
        [
            torch.tensor(arrays[f"{layer}/{key}"]).to(dtype)
            for key in ("x", "running_mean", "running_var")
        ]
        for layer in layers
    ]
    leaves = [x.requires_grad_() for x, _, _ in given]
    losses = torch.stack([statistics_loss(*layer) for layer in given])
    assert_near(losses, arrays[f"per_layer_{name}"], tolerance)
    weights = torch.ones(len(layers), dtype=dtype)
    weights[0] = float(arrays["first_multiplier"])
    total = (weights * losses).sum()
    assert_near(total, arrays[f"loss_{name}"], tolerance)
    for layer, g in zip(layers, torch.autograd.grad(total, leaves)):
        assert_near(g, arrays[f"{layer}/grad_x_{name}"], tolerance)


@EXACT
@pytest.mark.parametrize("kind", ["bn", "conv"])
def test_running_losses_are_the_published_ones(kind, name, dtype, tolerance):
    arrays = load("gvbsm.npz")
    parts = {"bn": ("bn_running",), "conv": ("conv_channel", "conv_patch")}[kind]
    targets = [
        torch.tensor(arrays[f"hooks/{p}_{s}"]).to(dtype) for p in parts for s in ("var", "mean")
    ]
    watch = Watch(torch.nn.Identity(), momentum=float(arrays["hooks/momentum"]), zero_start=True)
    for step, x in enumerate(torch.tensor(arrays["hooks/x_steps"]).to(dtype)):
        leaf = x.clone().requires_grad_()
        loss = watch.distance("layer", leaf, targets)
        assert_near(loss, arrays[f"hooks/{kind}_loss_{name}"][step], max(tolerance, 1e-10))
        g = torch.autograd.grad(loss, leaf)[0]
        assert_near(g, arrays[f"hooks/{kind}_grad_{name}"][step], max(tolerance, 1e-10))


@pytest.mark.parametrize("scale", ["tiny", "mid", "unit", "natural"])
def test_densification_is_the_published_one(scale):
    arrays = load("gvbsm.npz")
    x = torch.tensor(arrays[f"densify/{scale}/x"]).double().requires_grad_()
    loss = densification(x, torch.tensor(arrays["densify/targets"]), float(arrays["densify/tau"]))
    if f"densify/{scale}/grad_f64" in arrays:
        assert_near(loss, arrays[f"densify/{scale}/loss_f64"], 1e-10)
        g = torch.autograd.grad(loss, x)[0]
        assert_near(g, arrays[f"densify/{scale}/grad_f64"], 1e-10)
    else:  # both softmaxes are one-hot
        assert 0 <= float(loss.detach()) < 1e-5


@pytest.mark.parametrize(
    "side, shape", [(None, (3, 2, 4, 4)), (4, (3, 2, 8, 4)), (4, (2, 3, 6, 5))]
)
def test_moments_and_their_gradient(side, shape):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = moments(x, side)
    for a, b in zip(found, torch.var_mean(x, (0, 2, 3), correction=0)):
        assert_near(a, b, 1e-12)
    if side:
        cut = [-(-length // side) * side for length in shape[2:]]
        big = torch.nn.functional.interpolate(x, cut, mode="bilinear")
        rows = big.view(*shape[:2], cut[0] // side, side, cut[1] // side, side)
        for a, b in zip(found[2:], torch.var_mean(rows, (0, 1, 3, 5), correction=0)):
            assert_near(a, b.flatten(), 1e-12)
    assert torch.autograd.gradcheck(lambda x: tuple(moments(x, side)), x.requires_grad_())
