"""Gradient matching against golden values, its shared pass against autograd over the table, and in a run."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from shared import assert_near, load, state

from dgdd_nb.augment import crop, cutout
from dgdd_nb.data import Batch, MultiDomain
from dgdd_nb.distill import distill, estimate
from dgdd_nb.domain_gradients import check_matcher, domain_gradients, from_losses
from dgdd_nb.gradient_matching import (
    DISTANCES,
    GradientMatching,
    TrainedAlong,
    gradient_distance,
)
from dgdd_nb.methods import make_set
from dgdd_nb.networks import ConvNet, FreshEncoders, check_encoders
from dgdd_nb.surgery import SGS

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


def table(matcher, net, real, synthetic):
    "The same by autograd over the table of losses."
    images = synthetic.images.clone().requires_grad_()
    synthetic = replace(synthetic, images=images)
    return from_losses(matcher, net, real, synthetic, images, lambda: None, short=False)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("which", ["one_class", "all_classes"])
@pytest.mark.parametrize("name, dtype, exact, near", PRECISION)
@pytest.mark.parametrize("ways", [domain_gradients, table])
def test_classes(gm, name, dtype, exact, near, which, distance, ways):
    net, n = encoder(gm, dtype), len(gm[f"{which}/ours/grad_syn_{name}"])
    C = net.classifier.out_features
    real, synthetic = batch(gm["real"][:n], C, dtype), batch(gm["syn"][:n], C, dtype)
    found = (
        ways(GradientMatching(distance), net, real, synthetic)
        if ways is table
        else ways(net, GradientMatching(distance), real, synthetic)
    )
    assert_near(found.losses.sum(), gm[f"{which}/{distance}/loss_{name}"], exact)
    per_class = gm[f"all_classes/{distance}/loss_per_class_{name}"]
    assert_near(found.losses[0, :n], per_class[:n], exact)
    if f"{which}/{distance}/grad_syn_{name}" in gm:
        golden = gm[f"{which}/{distance}/grad_syn_{name}"]
        assert_near(found.g_dm.view(golden.shape), golden, near)
        assert_near(found.g_domain[0].view(golden.shape), golden, near)


def domains(gm, case, C):
    "Real images of class 0 of every domain, the first `counts` of each."
    counts = gm[f"domains/{case}/counts"].tolist()
    whole = batch(gm["domains/real"], C, domain=True)
    rank = torch.arange(len(whole)) % gm["domains/real"].shape[1]
    few = rank < torch.tensor(counts)[whole.domains]
    shares = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    return Batch(whole.images[few], whole.labels[few], whole.domains[few], whole.K, C), shares


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("case", ["equal", "uneven"])
def test_domains(gm, case, distance):
    net = encoder(gm)
    C = net.classifier.out_features
    (real, shares), synthetic = domains(gm, case, C), batch(gm["syn"][:1], C)
    pooled, mean = (
        domain_gradients(net, GradientMatching(distance, union), real, synthetic)
        for union in ("pooled", "mean")
    )
    golden = {k: v for k, v in gm.items() if k.startswith(f"domains/{case}/{distance}/")}
    golden = {k.rpartition("/")[2]: v for k, v in golden.items()}
    assert torch.allclose(pooled.weight[:, 0], shares)
    assert_near(pooled.losses[:, 0], golden["loss_domain_f64"], 1e-12)
    assert_near((shares * pooled.losses[:, 0]).sum(), golden["loss_mean_f64"], 1e-12)
    assert_near(mean.g_dm, torch.einsum("k,knchw->nchw", shares, pooled.g_domain).numpy(), 1e-12)
    if "grad_domain_f64" in golden:
        assert_near(pooled.g_domain, golden["grad_domain_f64"], 1e-12)
        assert_near(pooled.g_dm, golden["grad_union_f64"], 1e-12)
    if "grad_mean_f64" in golden:
        assert_near(mean.g_dm, golden["grad_mean_f64"], 1e-12)
    same = torch.allclose(pooled.g_dm, mean.g_dm, rtol=1e-9)
    assert same == (distance == "mse") == GradientMatching(distance).union_is_mean


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("union", ["pooled", "mean"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_union_alone(gm, distance, union, norm):
    "One product instead of K + 1; with batch statistics the pooled gradient is no mean."
    net, matcher = (
        encoder(gm, norm=norm, prefix="bn/state/" if norm == "batch" else "state/"),
        (GradientMatching(distance, union)),
    )
    C = net.classifier.out_features
    (real, _), start = domains(gm, "uneven", C), batch(gm["syn"][:1], C)
    start.images.requires_grad_()
    given = net.train(), real, start, lambda: None
    alone, both = (matcher.shortcut(*given, separate) for separate in (False, True))
    assert alone.g_domain is None
    assert_near(alone.g_dm, both.g_dm.numpy(), 1e-12)
    slow = table(matcher, net, real, start)
    assert_near(both.g_domain, slow.g_domain.numpy(), 1e-12)
    if union == "pooled" and (norm, distance) != ("batch", "mse"):  # the table takes the mean there
        assert_near(both.g_dm, slow.g_dm.numpy(), 1e-12)


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
    images = batch(gm["syn"][:1], C).images.requires_grad_()
    real, synthetic = batch(gm["real"][:1], C), batch(gm["syn"][:1], C)
    real = replace(real, images=transform(real.images))
    synthetic = replace(synthetic, images=transform(images))
    for short in (True, False):
        given = net, real, synthetic, images, lambda: None
        found = from_losses(GradientMatching(), *given, short=short)
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
        value = gradient_distance([real], [syn.requires_grad_()])
        assert_near(value, gm[f"distance/{which}/value{end}_f64"], 1e-12)
        golden = gm[f"distance/{which}/grad_syn{end}_f64"]
        for row, wanted in zip(torch.autograd.grad(value, syn)[0], golden, strict=True):
            assert_near(row, wanted, 1e-12)  # one row is zero: its gradient is -real / eps


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
        assert_near(found.losses[0], gm["iteration/loss_per_class_f32"][step], 2e-6)
        images.grad = found.g_dm
        optimiser.step()
        encoders.learn(replace(synthetic, images=images.detach()), step)
    assert_near(images.view(gm["syn"].shape), gm["iteration/syn_final_f32"], 2e-6)
    for name, value in state(gm, "iteration/state_final_f32/").items():
        assert_near(encoders.net.state_dict()[name], value, 2e-6)


# ---- in a run ----

SMALL = {
    "ipc": 2,
    "steps": 3,
    "lr": 1.0,
    "real_batch": 6,
    "width": 8,
    "progress": False,
    "device": "cpu",
}


def pictures(hole: bool = False) -> MultiDomain:
    "Random images, four classes, three domains; with a hole class 1 is absent from domain 0."
    cell = torch.arange(12).repeat_interleave(4)
    if hole:
        cell = cell[cell != 3]
    dice = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (len(cell), 3, 8, 8), generator=dice, dtype=torch.uint8)
    return MultiDomain.from_arrays(x, cell // 3, cell % 3)


def test_the_checkers_have_nothing_to_say():
    for distance in DISTANCES:
        assert check_matcher(GradientMatching(distance)) == []
        assert check_matcher(GradientMatching(distance, "mean")) == []
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


class Broken(FreshEncoders):
    "A network with a weight that is no number."

    def __call__(self, step):
        net = super().__call__(step)
        next(net.parameters())[0, 0, 0, 0] = torch.nan
        return net


@pytest.mark.parametrize("name", ["DC", "DC+SGS", "DM+SGS", "DataDAM"])
def test_a_broken_network_is_named_and_not_the_objective(name):
    with pytest.raises(ValueError, match="holds NaN or infinity: mend the images, or the encoder"):
        make_set(name, pictures(), 2, steps=1, encoders=Broken)


def test_by_name():
    "An option of the registry, of the matcher and of the encoders each change what is made."
    tables = [
        {},
        {"matcher": {"name": "GradientMatching", "distance": "cos"}},
        {"encoders": {"name": "trained_along", "outer": 3, "inner": 1}},
    ]
    options = {k: v for k, v in SMALL.items() if k not in ("ipc", "progress", "lr")}
    source = pictures()
    made = [make_set("DC+SGS", source, 2, **options, **table).images for table in tables]
    ours = distill(source, GradientMatching(), SGS(), **{**SMALL, "lr": 0.3})
    assert torch.equal(made[0], ours.images)
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: GradientMatching("cosine"), "Unknown distance 'cosine' .did you mean 'cos'"),
        (lambda: GradientMatching(union="all"), "Unknown union 'all'; choose from pooled, mean"),
        (lambda: gradient_distance([], [], "L2"), "Unknown distance 'L2'; choose from ours, mse"),
        (lambda: TrainedAlong(None, 0, outer=0), "outer must be a whole number from 1, not 0"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()
