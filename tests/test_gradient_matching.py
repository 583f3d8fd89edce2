"""Gradient matching plugs in from a file outside the package: against golden values, and in a run."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from shared import assert_near, load, state

from dgdd_nb.augment import crop, cutout
from dgdd_nb.data import Batch, MultiDomain
from dgdd_nb.distill import distill, estimate
from dgdd_nb.domain_gradients import check_matcher, domain_gradients
from dgdd_nb.networks import ConvNet, check_encoders
from dgdd_nb.surgery import SGS

sys.path.insert(0, str(Path(__file__).parent / "plugins"))
from gradient_matching import GradientMatching, TrainedAlong, ours  # noqa: E402

PRECISION = [("f64", torch.float64, 1e-12, 1e-12), ("f32", torch.float32, 2e-6, 2e-5)]


@pytest.fixture(scope="module")
def gm():
    return load("gm.npz")


def encoder(gm, dtype=torch.float64, norm="instance", prefix="state/"):
    "The golden network; every size is read off its weights."
    weights = state(gm, prefix)
    classes, width = len(weights["classifier.bias"]), len(weights["features.0.bias"])
    size, depth = gm["syn"].shape[-1], int(gm["depth"])
    net = ConvNet(classes, size, width=width, depth=depth, norm=norm, seed=0)
    net.load_state_dict(weights)
    return net.to(dtype).requires_grad_(False)


def batch(images, C, dtype=torch.float64, domain=False):
    "(classes, n, ...), or with `domain` (K, n, ...) of class 0, as a batch."
    x = torch.as_tensor(images).to(dtype)
    number = torch.arange(len(x)).repeat_interleave(x.shape[1])
    zero = torch.zeros_like(number)
    x = x.flatten(0, 1)
    return (
        Batch(x, zero, number, int(number.max()) + 1, C) if domain else Batch(x, number, zero, 1, C)
    )


@pytest.mark.parametrize("which", ["one_class", "all_classes"])
@pytest.mark.parametrize("name, dtype, exact, near", PRECISION)
def test_classes(gm, name, dtype, exact, near, which):
    golden = gm[f"{which}/ours/grad_syn_{name}"]
    net, n = encoder(gm, dtype), len(golden)
    C = net.classifier.out_features
    found = domain_gradients(
        net, GradientMatching(), batch(gm["real"][:n], C, dtype), batch(gm["syn"][:n], C, dtype)
    )
    assert_near(found.losses.sum(), gm[f"{which}/ours/loss_{name}"], exact)
    assert_near(found.g_dm.view(golden.shape), golden, near)
    assert_near(found.g_domain[0].view(golden.shape), golden, near)
    if f"{which}/ours/loss_per_class_{name}" in gm:
        assert_near(found.losses[0], gm[f"{which}/ours/loss_per_class_{name}"], exact)


@pytest.mark.parametrize("case", ["equal", "uneven"])
def test_domains(gm, case):
    net, counts = encoder(gm), gm[f"domains/{case}/counts"].tolist()
    C = net.classifier.out_features
    whole = batch(gm["domains/real"], C, domain=True)
    rank = torch.arange(len(whole)) % gm["domains/real"].shape[1]
    few = rank < torch.tensor(counts)[whole.domains]
    real = Batch(whole.images[few], whole.labels[few], whole.domains[few], whole.K, C)
    found = domain_gradients(net, GradientMatching(), real, batch(gm["syn"][:1], C))
    golden = {k: gm[f"domains/{case}/ours/{k}_f64"] for k in ("loss_domain", "loss_mean")}
    assert_near(found.losses[:, 0], golden["loss_domain"], 1e-12)
    shares = torch.tensor(counts) / sum(counts)
    assert torch.allclose(found.weight[:, 0], shares.double())
    assert_near((found.weight[:, 0] * found.losses[:, 0]).sum(), golden["loss_mean"], 1e-12)
    assert_near(found.g_domain, gm[f"domains/{case}/ours/grad_domain_f64"], 1e-12)
    assert_near(found.g_dm, gm[f"domains/{case}/ours/grad_union_f64"], 1e-12)
    if f"domains/{case}/ours/grad_mean_f64" in gm:
        mean = torch.einsum("kn,knchw->nchw", found.weight, found.g_domain)
        assert_near(mean, gm[f"domains/{case}/ours/grad_mean_f64"], 1e-12)


class Augmented(GradientMatching):
    "The same transform for real and synthetic images, inside the gradient."

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, net, real, synthetic, dice):
        real, synthetic = (replace(b, images=self.transform(b.images)) for b in (real, synthetic))
        return super().__call__(net, real, synthetic, dice)


@pytest.mark.parametrize("which", ["crop", "cutout"])
def test_augmentation(gm, which):
    at = {
        k.removeprefix(f"dsa/{which}/"): v for k, v in gm.items() if k.startswith(f"dsa/{which}/")
    }
    rows, columns = (
        torch.tensor([int(value)]) for name, value in at.items() if name.endswith(("rows", "cols"))
    )
    transform = {
        "crop": lambda x: crop(x, rows, columns),
        "cutout": lambda x: cutout(x, rows, columns, tuple(at["size"].tolist())),
    }[which]
    net = encoder(gm)
    C = net.classifier.out_features
    found = domain_gradients(
        net, Augmented(transform), batch(gm["real"][:1], C), batch(gm["syn"][:1], C)
    )
    assert_near(found.losses.sum(), at["loss_f64"], 1e-12)
    assert_near(found.g_dm, at["grad_syn_f64"][0], 1e-12)


def test_batch_norm_with_frozen_statistics(gm):
    net = encoder(gm, norm="batch", prefix="bn/state/")
    net.load_state_dict(state(gm, "bn/frozen_f64/"), strict=False)
    C = net.classifier.out_features
    real, synthetic = batch(gm["real"][:1], C), batch(gm["syn"][:1], C)
    found = domain_gradients(net.eval(), GradientMatching(), real, synthetic)
    assert_near(found.losses.sum(), gm["bn/loss_f64"], 1e-12)
    assert_near(found.g_dm, gm["bn/grad_syn_f64"][0], 1e-12)


@pytest.mark.parametrize("which", ["conv", "linear", "layernorm"])
def test_distance(gm, which):
    for end in ("", "_x1e-3", "_x1e-4"):
        if f"distance/{which}/value{end}_f64" not in gm:
            continue
        factor = float(end[2:] or 1)
        real, syn = (
            torch.as_tensor(gm[f"distance/{which}/{name}"]).double() * factor
            for name in ("real", "syn")
        )
        value = ours(real, syn.requires_grad_())
        assert_near(value, gm[f"distance/{which}/value{end}_f64"], 1e-12)
        golden = gm[f"distance/{which}/grad_syn{end}_f64"]
        for row, wanted in zip(torch.autograd.grad(value, syn)[0], golden, strict=True):
            assert_near(row, wanted, 1e-9)  # one row is zero: its gradient is -real / eps
    assert ours(torch.ones(4), torch.zeros(4)) == 0


def test_one_iteration_with_a_net_trained_along(gm):
    outer, inner = int(gm["iteration/outer_loop"]), int(gm["iteration/inner_loop"])
    C, n = gm["syn"].shape[:2]
    lr = float(gm["defaults/lr_net"])
    encoders = TrainedAlong(lambda seed: encoder(gm, torch.float32), 0, outer, inner, lr)
    encoders.began = 0  # the golden weights instead of drawn ones
    real, synthetic = batch(gm["real"], C, torch.float32), batch(gm["syn"], C, torch.float32)
    images = synthetic.images.clone().requires_grad_()
    rates = {"lr": float(gm["defaults/lr_img"]), "momentum": float(gm["defaults/momentum_img"])}
    optimiser = torch.optim.SGD([images], **rates)
    for step in range(outer):
        found = domain_gradients(
            encoders(step), GradientMatching(), real, replace(synthetic, images=images)
        )
        assert_near(found.losses[0], gm["iteration/loss_per_class_f32"][step], 5e-6)
        images.grad = found.g_dm
        optimiser.step()
        encoders.learn(replace(synthetic, images=images.detach()), step)
    assert_near(images.view(gm["syn"].shape), gm["iteration/syn_final_f32"], 5e-6)
    for name, value in state(gm, "iteration/state_final_f32/").items():
        assert torch.allclose(encoders.net.state_dict()[name], value, atol=1e-5), name


# ---- in a run ----

SMALL = {"ipc": 2, "steps": 3, "real_batch": 6, "width": 8, "progress": False, "device": "cpu"}


def pictures(hole: bool = False) -> MultiDomain:
    "Random images, four classes, three domains; with a hole class 1 is absent from domain 0."
    cell = torch.arange(12).repeat_interleave(4)
    if hole:
        cell = cell[cell != 3]
    dice = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (len(cell), 3, 8, 8), generator=dice, dtype=torch.uint8)
    return MultiDomain.from_arrays(x, cell // 3, cell % 3)


def test_the_checkers_have_nothing_to_say():
    assert check_matcher(GradientMatching()) == []
    assert check_encoders(partial(TrainedAlong, outer=4, inner=2)) == []


@pytest.mark.parametrize("hole", [False, True])
@pytest.mark.parametrize("encoders", [None, partial(TrainedAlong, outer=2, inner=2)])
def test_run_with_surgery(encoders, hole, tmp_path):
    source, run = pictures(hole), {**SMALL, "encoders": encoders}
    made = distill(source, GradientMatching(), SGS(0.5, 0.1), **run)
    start = distill(source, GradientMatching(), **{**run, "steps": 0})
    assert made.history["losses"].shape == (3, 3) and bool((made.history["losses"] > 0).all())
    assert bool((made.images != start.images).flatten(1).any(1).all())
    rest = {**run, "checkpoint": tmp_path / "x.safetensors", "progress": True}
    distill(source, GradientMatching(), SGS(0.5, 0.1), **{**rest, "steps": 1})
    resumed = distill(source, GradientMatching(), SGS(0.5, 0.1), **rest)
    assert torch.equal(resumed.images, made.images)
    cut = distill(source, GradientMatching(), SGS(0.5, 0.1), **run, micro_batch_synthetic=2)
    assert torch.allclose(cut.images, made.images, atol=1e-3)


def test_run_without_surgery_and_forecast():
    made = distill(pictures(True), GradientMatching(), **SMALL)
    assert made.history["losses"].shape == (3, 1)  # the union alone is looked at
    options = {k: v for k, v in SMALL.items() if k != "progress"}
    found = estimate(pictures(True), GradientMatching(), SGS(), **options)
    assert found.seconds > 0 and found.memory > 0
