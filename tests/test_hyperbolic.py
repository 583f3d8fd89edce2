"""HDD against values computed with the public code; its surgery, its limits, its refusals."""

import math
from importlib import import_module

import pytest
import torch
from shared import assert_near, load

from dgdd_nb.data import Batch
from dgdd_nb.distill import distill
from dgdd_nb.domain_gradients import check_matcher, domain_gradients
from dgdd_nb.hyperbolic import HDD, centroid, distance, exp_origin, lorentz
from dgdd_nb.methods import make_set
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import FreshEncoders, network

PUBLISHED = {"k1": (1.0, 20.0), "k2.4": (2.4, 100.0)}  # squared radius, factor
VARIANTS = {"f64": (10.0, 1e-11), "shipped": (10.0, 2e-6), "nocap_f64": (None, 1e-11)}


@pytest.mark.parametrize("formula", ["arcosh", "arsinh"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("k", PUBLISHED)
@pytest.mark.parametrize("case", ["small", "large", "mixed"])
def test_golden(case, k, variant, formula):
    golden = load("hdd.npz")
    at, (cap, tolerance) = f"{case}/{k}/{variant}", VARIANTS[variant]
    if f"{at}/loss" not in golden:
        pytest.skip("this combination is not in the golden file")
    real, leaf = (torch.tensor(golden[f"{case}/{x}"]).double() for x in ("real", "syn"))
    leaf.requires_grad_()
    hdd = HDD(radius_squared=PUBLISHED[k][0], cap=cap, factor=PUBLISHED[k][1], formula=formula)
    a, b = (
        hdd.per_image({"embed": x.flatten(0, 1)})["embed"].unflatten(0, x.shape[:2])
        for x in (real, leaf)
    )
    for side, x in (("real", a), ("syn", b)):
        if f"{at}/expmap_{side}" in golden:
            assert_near(x, golden[f"{at}/expmap_{side}"], tolerance)
        if f"{at}/centroid_{side}" in golden:
            assert_near(centroid(x, hdd.radius_squared), golden[f"{at}/centroid_{side}"], tolerance)
    losses = torch.vmap(lambda a, b: hdd({"embed": a}, {"embed": b}))(a, b)
    assert_near(losses / hdd.factor, golden[f"{at}/distance"], tolerance)
    assert_near(losses.sum(), golden[f"{at}/loss"], tolerance)
    assert_near(torch.autograd.grad(losses.sum(), leaf)[0], golden[f"{at}/grad_syn"], tolerance)


@pytest.mark.parametrize("formula", ["arcosh", "arsinh"])
@pytest.mark.parametrize("k", PUBLISHED)
def test_equal_sets_have_a_finite_gradient(k, formula):
    golden = load("hdd.npz")
    hdd = HDD(radius_squared=PUBLISHED[k][0], factor=PUBLISHED[k][1], formula=formula)
    real, leaf = (torch.tensor(golden[f"equal/{x}"])[0].double() for x in ("real", "syn"))
    a, b = (hdd.per_image({"embed": x})["embed"] for x in (real, leaf.requires_grad_()))
    loss = hdd({"embed": a}, {"embed": b})
    assert loss / hdd.factor < 1e-6 and torch.autograd.grad(loss, leaf)[0].abs().max() < 1e-6
    if formula == "arcosh":
        assert_near(loss.detach() / hdd.factor, golden[f"equal/{k}/f64/distance"][0], 1e-5)


def test_gradient_and_geometry():
    u = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for k in (0.5, 2.4):
        x = exp_origin(u, k)
        assert torch.allclose(lorentz(x, x), torch.tensor(-k, dtype=torch.float64))
        assert torch.allclose(distance(x[0], x[1], k), distance(x[0], x[1], k, "arsinh"))
        pole = exp_origin(0 * u[0, 0], k)
        assert torch.allclose(distance(x, pole, k), u.norm(dim=-1))  # exp keeps lengths
        for options in ({"cap": None}, {"formula": "arsinh"}, {"scale": 3.0}):
            hdd = HDD(radius_squared=k, **options)

            def loss(a):
                kept = (hdd.per_image({"embed": x}) for x in (u[1], a))  # noqa: B023
                return hdd(*kept)  # noqa: B023

            assert torch.autograd.gradcheck(loss, u[0].clone().requires_grad_())


def test_surgery_has_the_union_and_all_domains():
    assert check_matcher(HDD()) == []
    net = network("convnet", classes=2, size=16, width=8, seed=0).requires_grad_(False)
    x = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    at = torch.arange(12)
    real = Batch(x[:12], at // 6, at // 2 % 3, 3, 2)
    synthetic = Batch(x[12:], torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), 3, 2)
    found = domain_gradients(net, HDD(), real, synthetic)
    for k in range(3):
        mine = real.domains == k
        alone = Batch(x[:12][mine], real.labels[mine], 0 * real.labels[mine], 1, 2)
        g = domain_gradients(net, HDD(), alone, synthetic).g_dm
        assert torch.allclose(found.g_domain[k], g, rtol=1e-4, atol=1e-6)
    union = domain_gradients(net, HDD(), real.united(), synthetic).g_dm
    assert torch.allclose(found.g_dm, union, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found.g_domain.mean(0), union, rtol=1e-2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cap": 3.0},
        {"scale": 0.3},
        {"scale": 0.05},
        {"formula": "arsinh"},
        {"formula": "arsinh", "scale": 0.3},
        {"layers": ("pool1", "embed")},
    ],
)
def test_the_union_costs_no_pass_of_its_own(options, monkeypatch):
    "Uneven cells, a class that a domain lacks, one synthetic image: still the gradient of the union."
    module, passes = import_module("dgdd_nb.domain_gradients"), []
    plain = module.vector_jacobian

    def counted(outputs, images, cotangent):
        passes.append(len(next(iter(cotangent.values()))))
        return plain(outputs, images, cotangent)

    monkeypatch.setattr(module, "vector_jacobian", counted)
    net = network("convnet", classes=2, size=16, width=8, seed=0).requires_grad_(False)
    x = torch.randn(13, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1])
    domains = torch.tensor([0, 0, 0, 1, 2, 2, 0, 2, 2])
    real = Batch(x[:9], labels, domains, 3, 2)
    synthetic = Batch(x[9:], torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 0]), 3, 2)
    hdd = HDD(**options)
    found = domain_gradients(net, hdd, real, synthetic)
    union = domain_gradients(net, hdd, real.united(), synthetic).g_dm
    assert (found.g_dm - union).abs().max() < 1e-5 * union.abs().max()
    assert passes[0] == (3 if len(hdd.layers) == 1 else 4)

    class Wrong(HDD):
        union_in_span = True

        def __call__(self, real, synthetic, draw=None):
            return super().__call__(real, synthetic) + real["embed"].var(0).sum() * (
                synthetic["embed"].square().mean()
            )

    assert "union_in_span" in check_matcher(Wrong())[0]


def lost(build, seed):
    "Encoders that are NaN from the first step on."

    class Lost(FreshEncoders):
        def __call__(self, step):
            net = super().__call__(step)
            net.features[0].weight.fill_(math.nan)
            return net

    return Lost(build, seed)


def test_names_and_refusals():
    source = mini_digits(16, train=40, test=20).leave_out("street")[0]
    options = {"steps": 2, "width": 32, "real_batch": 9, "device": "cpu"}
    made = [make_set(name, source, 3, 0, **options) for name in ("HDD", "HDD+SGS")]
    assert not torch.equal(made[0].images, made[1].images)
    assert [x.recipe["lr"] for x in made] == [1.9, 1.9]
    for name, value in {"cap": 0, "radius_squared": -1, "scale": math.nan, "factor": None}.items():
        with pytest.raises(ValueError, match=f"{name} must be a finite number above 0"):
            HDD(**{name: value})
    assert HDD(cap=None).cap is None
    with pytest.raises(ValueError, match="did you mean 'arsinh'"):
        HDD(formula="arsin")
    with pytest.raises(ValueError, match="What HDD is to compare holds NaN or infinity"):
        distill(source, HDD(), ipc=3, encoders=lost, progress=False, **options)
    with pytest.raises(ValueError, match="What HDD is to compare holds NaN or infinity"):
        distill(source, HDD(cap=None, scale=1e-3), ipc=3, progress=False, **options)
