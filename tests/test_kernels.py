"""Kernel objectives against public values, against each other, and against finite differences; encoders on their way."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from shared import assert_near, load

from dgdd_nb.data import MultiDomain
from dgdd_nb.domain_gradients import check_matcher, domain_gradients
from dgdd_nb.kernels import M3D, NCFM, SDD, SPECTRA, BetweenEncoders, mean_squared_distance
from dgdd_nb.matching import DM
from dgdd_nb.methods import make_set
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import check_encoders
from test_matching import problem

DICE = torch.Generator().manual_seed(0)
TYPES = {"f64": torch.float64, "f32": torch.float32}


def sets(n=12, m=5, D=6):
    return [{"embed": torch.randn(k, D, generator=DICE, dtype=torch.float64)} for k in (n, m)]


def drawn(objective, D=6):
    return objective.draw(torch.Generator().manual_seed(1), {"embed": (D,)})


def golden(objective, arrays, name, where, tolerance, factor=1.0, draw=None, prefix=""):
    "Loss and gradient of an objective on the features of a file."
    real, synthetic = (
        torch.tensor(arrays[f"{prefix}{x}"]).to(TYPES[name]) for x in ("real", "syn")
    )
    leaf = synthetic.requires_grad_()
    loss = objective({"embed": factor * real}, {"embed": factor * leaf}, draw)
    assert_near(loss, arrays[f"{where}/loss_{name}"], tolerance[0])
    (g,) = torch.autograd.grad(loss, leaf)
    assert_near(g, arrays[f"{where}/grad_syn_{name}"], tolerance[1])


# laplace is saturated, and the float32 values of its reference are rounding
PRECISION = [
    (k, *p) for k in ("gaussian", "linear", "polynomial") for p in (("f64", 1e-12), ("f32", 2e-5))
]


@pytest.mark.parametrize("scale", ["unit", "large"])
@pytest.mark.parametrize("kernel, name, tolerance", [*PRECISION, ("laplace", "f64", 1e-5)])
def test_m3d(kernel, name, tolerance, scale):
    arrays = load("m3d.npz")
    place = f"{scale}/{kernel}"
    golden(M3D(kernel), arrays, name, place, (tolerance, tolerance), prefix=f"{scale}/")
    if kernel == "gaussian":
        pair = (torch.tensor(arrays[f"{scale}/{x}"]).to(TYPES[name]) for x in ("real", "syn"))
        assert_near(mean_squared_distance(*pair), arrays[f"{place}/bandwidth_{name}"], tolerance)


@pytest.mark.parametrize("weights", ["a0.5_b0.5", "a0.2_b0.8"])
@pytest.mark.parametrize("case", ["normalised_x300", "raw_x0.1"])
@pytest.mark.parametrize("name, tolerance", [("f64", (1e-11, 1e-11)), ("f32", (1e-5, 1e-4))])
def test_ncfm(name, tolerance, case, weights):
    arrays = load("ncfm.npz")
    draw = {"embed": torch.tensor(arrays["freq"])}
    objective = NCFM(*(float(part[1:]) for part in weights.split("_")))
    factor = 1.0
    if case == "raw_x0.1":
        objective = NCFM(objective.amplitude, objective.phase, normalise=False, factor=1.0)
        factor = 0.1
    golden(objective, arrays, name, f"{case}/{weights}", tolerance, factor, draw)


def test_ncfm_of_equal_sets():
    arrays = load("ncfm.npz")
    real = torch.tensor(arrays["real"]).double()
    leaf, draw = real.clone().requires_grad_(), {"embed": torch.tensor(arrays["freq"])}
    loss = NCFM()({"embed": real}, {"embed": leaf}, draw)
    assert_near(loss, arrays["equal_sets/loss_f64"], 1e-11)
    assert (torch.autograd.grad(loss, leaf)[0] == 0).all() and not arrays[
        "equal_sets/grad_f64"
    ].any()


def test_amplitude_alone_has_a_gradient_at_equal_sets():
    (real, _), objective = sets(), NCFM(phase=0.0)
    leaf = real["embed"].clone().requires_grad_()
    loss = objective(real, {"embed": leaf}, drawn(objective))
    assert torch.autograd.grad(loss, leaf)[0].isfinite().all()


@pytest.mark.parametrize("width", [0.5, 3.0])
@pytest.mark.parametrize("kernel", SPECTRA)
def test_spectrum_is_that_of_the_kernel(kernel, width):
    "The loss of one frequency after the other, on average, is the kernel's own."
    a, b = (x["embed"] for x in sets(4, 3, 2))
    objective = SDD(kernel, (width,), bandwidth=2.0, frequencies=200_000)
    found = objective({"embed": a}, {"embed": b}, drawn(objective, 2))
    sigma = width**0.5  # 2 sigma^2 = width * b

    def k(x, y):
        r = (x[:, None] - y) / sigma
        if kernel == "laplace":
            return (-r.abs().sum(2) / 2**0.5).exp().mean()
        r = r.norm(dim=2)
        matern = (1 + 3**0.5 * r) * (-(3**0.5) * r).exp()
        return (matern if kernel == "matern" else (-(r**2) / 2).exp()).mean()

    torch.testing.assert_close(found, k(a, a) - 2 * k(a, b) + k(b, b), rtol=0.03, atol=0)


def test_sdd_is_m3d_in_frequencies():
    real, synthetic = sets()
    objective = SDD(frequencies=100_000)
    found = 5 * objective(real, synthetic, drawn(objective))
    torch.testing.assert_close(found, M3D()(real, synthetic), rtol=0.03, atol=0)


@pytest.mark.parametrize("objective", [M3D(bandwidth=9.0), NCFM(), SDD(bandwidth=9.0, phase=2.0)])
def test_gradients(objective):
    (real, synthetic), draw = sets(), drawn(objective)
    leaf = synthetic["embed"].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: objective(real, {"embed": x}, draw), leaf)
    assert check_matcher(objective) == []


@pytest.mark.parametrize("objective", [M3D(), SDD()])
def test_the_bandwidth_leaves_the_graph_and_nothing_else_is_wrong(objective):
    assert "left the graph" in check_matcher(objective)[0]


@pytest.mark.parametrize("objective", [M3D(), NCFM(frequencies=64), SDD(frequencies=64)])
@pytest.mark.parametrize("counts", [[[4, 4]] * 3, [[4, 2], [3, 0], [1, 6]]])
def test_domains_share_their_frequencies(objective, counts):
    "Equal domains want the same, cell by cell, whether in one call or one by one."
    net, real, synthetic = problem(counts, dtype=torch.float32)
    found = domain_gradients(net, objective, real, synthetic)
    assert found.g_domain.isfinite().all() and found.g_domain.abs().sum() > 0
    if all(row == counts[0] for row in counts):
        images = real.images.view(2, 3, 4, 3, 8, 8)[:, :1].expand(2, 3, 4, 3, 8, 8)
        same = type(real)(images.reshape(real.images.shape), real.labels, real.domains, 3, 2)
        g = domain_gradients(net, objective, same, synthetic).g_domain
        torch.testing.assert_close(g[1], g[0])


def test_linear_kernel_is_dm():
    real, synthetic = sets()
    torch.testing.assert_close(M3D("linear")(real, synthetic), DM()(real, synthetic))


@pytest.fixture(scope="module")
def small():
    digits = mini_digits(size=8, train=60, test=0)
    digits = digits.select(digits.labels < 3)
    return MultiDomain.from_arrays(digits.images, digits.labels, digits.domains)


@pytest.mark.parametrize("name", ["convnet", "convnet-bn"])
def test_encoders_between(small, name):
    quick = {"name": "quick", "max_steps": 2}
    factory = partial(BetweenEncoders, source=small, nets=2, recipe=quick)
    assert check_encoders(factory) == []
    make = {"steps": 3, "network": name, "width": 4, "real_batch": 6, "lr": 0.1}
    plug = {"name": "between", "nets": 2, "recipe": quick}
    first, again = (make_set("NCFM", small, 1, 3, encoders=plug, **make) for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert first.recipe["encoders"]["recipe"] == quick
    fresh = make_set("NCFM", small, 1, 3, **make)
    assert not torch.equal(first.images, fresh.images)


def test_encoders_lie_on_the_line(small):
    def build(seed):
        from dgdd_nb.networks import network

        return network("convnet", classes=3, size=8, width=4, depth=1, seed=seed)

    quick = {"name": "quick", "max_steps": 5}
    encoders = BetweenEncoders(build, 0, small, 1, quick)
    first, last = encoders.trained(0)
    moved = torch.cat([(last[k] - first[k]).flatten() for k in first])
    shares = []
    for step in range(20):
        state = encoders(step).state_dict()
        gone = torch.cat([(state[k] - first[k]).flatten() for k in first])
        shares.append(float(gone @ moved / (moved @ moved)))
        torch.testing.assert_close(gone, shares[-1] * moved, rtol=1e-3, atol=1e-6)
    assert 0 <= min(shares) < 0.3 and 0.7 < max(shares) <= 1


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: NCFM(scale=0), "scale must be a finite number above 0, not 0"),
        (lambda: NCFM(sampling=1, frequencies=1), "ask for two at least"),
        (lambda: NCFM(sampling=-1), "sampling must be a whole number from 0"),
        (lambda: NCFM(floor=0.0), "floor must be a finite number above 0"),
        (lambda: NCFM(frequencies=2.5), "frequencies must be a whole number"),
        (lambda: NCFM(amplitude=0, phase=0), "nothing is compared"),
        (lambda: SDD(widths=()), "A width must be a finite number above 0"),
        (lambda: SDD("gauss"), "did you mean 'gaussian'"),
        (lambda: M3D(bandwidth=0), "bandwidth must be a finite number above 0"),
        (lambda: BetweenEncoders(lambda seed: None, 0), "must be a MultiDomain, not NoneType"),
    ],
)
def test_refusals(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


def test_a_sampling_network_finds_where_sets_differ():
    "Two sets that differ along one axis: its frequencies turn to that axis, and the loss rises."
    (real, _), plain = sets(24, 24, 6), NCFM(normalise=False, frequencies=256)
    other = real["embed"].clone()
    other[:, 0] *= 3
    climbed = replace(plain, sampling=20)
    emitted = climbed.draw(torch.Generator().manual_seed(0), {"embed": (6,)})["embed"]
    assert emitted[1].shape == (3, 6, 6)
    loss = plain(real, {"embed": other}, drawn(plain, 6))
    assert climbed(real, {"embed": other}, {"embed": emitted}) > 1.2 * loss
    leaf = other.requires_grad_()
    g = torch.autograd.grad(climbed(real, {"embed": leaf}, {"embed": emitted}), leaf)[0]
    assert g.isfinite().all() and g[:, 0].norm() > g[:, 1:].norm() / 5**0.5  # per axis


@pytest.mark.parametrize("name", ["NCFM", "NCFM+SGS"])
def test_a_sampling_network_by_name(small, name):
    make = {"steps": 2, "width": 4, "real_batch": 6, "lr": 0.1}
    plug = {"name": "NCFM", "sampling": 2, "frequencies": 64}
    first, again = (make_set(name, small, 1, 3, matcher=plug, **make) for _ in range(2))
    assert torch.equal(first.images, again.images) and first.recipe["matcher"]["sampling"] == 2
