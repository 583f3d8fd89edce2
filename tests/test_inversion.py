"""Recover: the published losses against golden files, the gradients, the hooks, and what is refused."""

from __future__ import annotations

import pytest
import torch
from shared import assert_near, load

from dgdd_nb.data import Normalisation
from dgdd_nb.inversion import (
    Watch,
    _batches,
    densification,
    moments,
    real_statistics,
    recover,
    statistics_loss,
)
from dgdd_nb.methods import Keeper, Work, make_set
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.teachers import squeeze
from dgdd_nb.train import PLUGS

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


@pytest.fixture(scope="module")
def source():
    return mini_digits(size=16, train=60, test=20).leave_out("street")[0]


@pytest.fixture(scope="module")
def teacher(source):
    return squeeze(source, width=8, recipe={"epochs": 5})


TINY = {"width": 8, "recipe": {"epochs": 1}}


def test_rate_and_range_are_the_published_ones():
    arrays = load("sre2l.npz")
    rates = arrays["lr_base"] * PLUGS["schedule"]["cosine"](len(arrays["lr_cosine"]), 1)[0]
    assert abs(rates - arrays["lr_cosine"]).max() < 1e-12
    see = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of ImageNet
    low, high = see(torch.tensor([0, 255]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    assert_near(torch.tensor(arrays["prior/x"]).clamp(low, high), arrays["prior/clip_f32"], 1e-6)


def test_statistics_of_a_batch_are_those_that_a_pass_records(source, teacher):
    normalise = source.normalisation()
    images = source.images[:64]  # one batch
    real = real_statistics(teacher.net, images, normalise)
    eye = Watch(teacher.net, real)
    teacher.net(normalise(images))
    parts = {name: float(x) for name, x in eye.now.items()}
    eye.remove()
    convolutions = [name for name in parts if name in real]
    assert len(convolutions) == 3 and all(parts[name] < 1e-5 for name in convolutions)
    assert all(parts[name] > 1e-3 for name in parts if name not in real)  # of other images
    assert not any(m._forward_pre_hooks for m in teacher.net.modules())


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"crop": (0.5, 1.0), "flip": True},
        {"momentum": 0.8, "drop": 0.4, "dense": 1.0, "together": True, "relative": True},
    ],
)
def test_recovery_keeps_its_promises(source, teacher, how):
    see, labels = source.normalisation(), torch.arange(10).repeat(2)
    more = {"real": source.images} if "drop" in how else {}
    asked = {"steps": 12, "seed": 3, "device": "cpu", "batch": 10} | how | more
    steps = []
    keeper = Keeper(Work(moved=lambda *at: steps.append(at)))
    x, losses = recover([teacher], labels, see, **asked, keeper=keeper)
    again, _ = recover([teacher], labels, see, **asked)
    other, _ = recover([teacher], labels, see, **asked | {"seed": 4})
    assert torch.equal(x, again) and not torch.equal(x, other)
    low, high = see(torch.tensor([0, 255]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    assert (x >= low).all() and (x <= high).all()
    assert steps == [(i + 1, 24) for i in range(24)] and len(losses["cross-entropy"]) == 24
    assert losses["cross-entropy"][11] < losses["cross-entropy"][0]
    assert not any(m._forward_pre_hooks for m in teacher.net.modules())


def test_flip_mirrors_whole_images(source, teacher):
    how = {"steps": 1, "jitter": 0, "weight": 0.0, "device": "cpu"}
    given = [teacher], torch.arange(10), source.normalisation()
    plain, turned = (recover(*given, **how, flip=flip)[0] for flip in (False, True))
    same = (plain == turned).flatten(1).all(1)
    assert 0 < same.sum() < 10


def test_real_images_are_looked_at_for_statistics_alone(source, teacher, monkeypatch):
    monkeypatch.setattr("dgdd_nb.inversion.real_statistics", lambda *given: 1 / 0)
    given = [teacher], torch.arange(10), source.normalisation()
    recover(*given, steps=1, weight=0.0, real=source.images, device="cpu")


@pytest.mark.parametrize(
    "sizes, batch, parts",
    [
        ([3] * 10, 8, [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]),
        ([2, 1, 1], 2, [[0], [1, 2]]),
        ([3, 1, 3], 3, [[0], [1], [2]]),
        ([5, 1], 3, [[0], [1]]),
    ],
)
def test_batches_of_whole_classes(sizes, batch, parts):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).flip(0)
    found = [labels[part] for part in _batches(labels, batch, together=True)]
    assert [part.unique().tolist() for part in found] == parts
    assert torch.equal(torch.cat(found).bincount(), torch.tensor(sizes))


def test_the_statistics_pull_towards_the_real_images(source, teacher):
    see, labels, far = source.normalisation(), torch.arange(10), {}
    for weight in (0.0, 0.05):
        x, _ = recover([teacher], labels, see, steps=60, weight=weight, device="cpu")
        eye = Watch(teacher.net)
        with torch.no_grad():
            named = teacher.net(x).argmax(1)
        far[weight] = float(eye.loss())
        eye.remove()
        assert torch.equal(named, labels)
    assert far[0.05] < far[0.0] / 5


def test_methods_by_name(source, tmp_path):
    work, short = Work(shared=tmp_path), {"steps": 2, "teacher": TINY}
    across = make_set("SRe2L", source, 3, work=work, **short)
    apart = make_set("SRe2L per domain", source, 3, work=work, **short)
    pool = {"steps": 2, "teacher": [TINY, TINY | {"depth": 2}]}
    many = make_set("G-VBSM", source, 3, work=work, **pool)
    assert set(across.domains.tolist()) == {-1} and set(apart.domains.tolist()) == {0, 1, 2}
    assert [len(x.recipe["teachers"]) for x in (across, apart, many)] == [1, 3, 2]
    assert len([*(tmp_path / "teachers").glob("*.safetensors")]) == 5
    told = [x.recipe["transfer"]["relabel"] for x in (across, apart, many)]
    assert told[1]["pool"] == "domain" and told[2]["pool"] == "rescaled" and "pool" not in told[0]
    hard = make_set("SRe2L", source, 3, work=work, **short, soft=False)
    assert hard.transfer is None and torch.equal(hard.images, across.images)


def test_densification_acts_when_it_is_relative(source):
    x = source.normalisation()(source.images[:6])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    copies = x[[0, 0, 0, 3, 3, 3]]
    assert float(densification(copies, labels)) < 1e-5
    assert (
        densification(copies, labels, relative=True) > densification(x, labels, relative=True) > 0
    )


@pytest.mark.parametrize(
    "method, options, says",
    [
        ("SRe2L", {"teacher": TINY | {"network": "convnet"}}, "has no batch norm"),
        ("G-VBSM", {"teacher": TINY}, "raise ipc to 2"),
        ("G-VBSM", {"teacher": TINY, "ipc": 4, "together": False, "batch": 10}, "together=True"),
        (
            "SRe2L",
            {"teacher": TINY, "wieght": 1.0},
            "option of SRe2L 'wieght' .did you mean 'weight'",
        ),
        ("G-VBSM", {"teacher": TINY, "keeper": None}, "option of G-VBSM 'keeper'; .* soft, lr"),
        ("SRe2L", {"teacher": TINY, "steps": 2.5}, "steps must be a whole number from 0"),
        ("SRe2L", {"teacher": TINY, "first": -3}, "first must be"),
        ("SRe2L", {"teacher": TINY, "momentum": 1.5}, "momentum must be"),
        ("SRe2L", {"teacher": TINY, "drop": 3}, "drop must be"),
        ("SRe2L", {"teacher": TINY, "crop": (0.5,)}, "crop is two areas from above 0 to 1"),
        ("SRe2L", {"teacher": TINY, "crop": (2.0, 3.0)}, "crop is two areas from above 0 to 1"),
        ("SRe2L", {"teacher": TINY, "lr": 0.0}, "lr must be"),
        ("SRe2L", {"teacher": TINY, "soft": {"temprature": 2.0}}, "temprature"),
    ],
)
def test_what_is_refused(source, method, options, says):
    with pytest.raises((ValueError, TypeError), match=says):
        make_set(method, source, **{"ipc": 1, "steps": 1} | options)
