"""The dice, the measurements and the table behind the proofs, and R with its noise level taken off."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shared import QUICK

from dgdd_nb.data import Batch
from dgdd_nb.matching import DM
from dgdd_nb.networks import ConvNet
from dgdd_nb.proofs import (
    LENGTHS,
    coefficients,
    concentrated_phases,
    lengths,
    measure_filter,
    sweep,
    union_gap,
)
from dgdd_nb.resultant import resultant_length, unbiased_square

concentrations = st.floats(0, 1)
seeds = st.integers(0, 2**31)
SAMPLES = 20_000
SIGMAS = 5.5  # 25 examples, a handful of comparisons each: an accident of one in 10**5
SQUARES = {"equal": 1, "uniform": 13 / 12, "rayleigh": 4 / math.pi}  # mean squares of the laws


def dice(seed=0):
    return np.random.default_rng(seed)


# ---- dice


@QUICK
@given(concentrations, seeds, st.booleans())
def test_phases_have_their_concentration(rho, seed, real):
    z = np.exp(1j * concentrated_phases(rho, SAMPLES, dice(seed), real))
    assert abs(z.mean() - rho) <= SIGMAS / SAMPLES**0.5 * max(1 - rho**2, 0.01) ** 0.5
    if real:
        assert set(np.unique(z.real.round(9))) <= {-1.0, 1.0} and abs(z.imag).max() < 1e-12


def test_phases_at_the_ends():
    for real in (False, True):
        assert (concentrated_phases(1, (3, 4), dice(), real) == 0).all()
    quarters = np.histogram(concentrated_phases(0, SAMPLES, dice()), 4, (-np.pi, np.pi))[0]
    assert quarters.sum() == SAMPLES and abs(quarters / SAMPLES - 0.25).max() < 0.02
    assert concentrated_phases(5e-324, 3, dice()).shape == (3,)  # the smallest number above 0
    for rho in (-0.1, 1.0000001, math.nan, math.inf):
        with pytest.raises(AssertionError, match="between 0 and 1"):
            concentrated_phases(rho, 3, dice())


@pytest.mark.parametrize("law", SQUARES)
def test_moments_of_lengths(law):
    x = lengths(law, 100_000, dice(1))
    assert (x > 0).all()
    assert abs(x.mean() - 1) <= SIGMAS * x.std() / 100_000**0.5
    assert abs((x**2).mean() - SQUARES[law]) <= SIGMAS * (x**2).std() / 100_000**0.5 + 1e-12


@pytest.mark.parametrize("tail", [0.5, 1.5, 3])
def test_heavy_tail(tail):
    x = lengths("pareto", 100_000, dice(2), tail)
    for t in (1, 2, 10):
        p = t**-tail
        assert abs((x > t).mean() - p) <= SIGMAS * (p * (1 - p) / 100_000) ** 0.5 + 1e-12


def test_coefficients_follow_seed_and_length():
    a, b, c = (coefficients(3, 50, 0.4, dice(s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert a.shape == (3, 50) and a.dtype == torch.complex128
    twice = coefficients(3, 50, 0.4, dice(1), lambda phases, dice: 2 + np.cos(phases))
    assert torch.allclose(twice.abs(), 2 + twice.angle().cos())


# ---- measurements


@QUICK
@given(concentrations, seeds, st.integers(2, 12), st.sampled_from(LENGTHS), st.booleans())
def test_laws_at_every_K(rho, seed, K, law, real):
    seen = measure_filter(coefficients(K, SAMPLES, rho, dice(seed), law, real), rho)
    assert seen.unbiased.off(rho**2) < SIGMAS
    if law in SQUARES:  # finite variance: standard errors mean something
        assert seen.length.off(1) < SIGMAS and seen.arrow.off(rho) < SIGMAS
        assert seen.energy.off(rho**2 + (SQUARES[law] - rho**2) / K) < SIGMAS
        assert seen.surplus.off(0) < SIGMAS


@QUICK
@given(seeds, st.integers(1, 9), st.floats(0.01, 100))
def test_what_is_kept(seed, K, scale):
    G = scale * coefficients(K, 200, 0.3, dice(seed), "rayleigh")
    seen = measure_filter(G, 0.3)
    kept = (G.sum(0).abs() / G.abs().sum(0)) ** 2 * G.abs().mean(0)
    assert math.isclose(seen.kept.mean, float(kept.mean()), rel_tol=1e-9)
    square = (kept / G.abs().mean(0)).mean()
    assert seen.K == K and math.isclose(seen.R_square.mean, float(square), rel_tol=1e-9)


def test_premises_matter():
    "Where length knows direction the unbiased square misses rho^2: the checks can fail."
    longer = lambda phases, dice: 1.5 + np.cos(phases)  # noqa: E731
    seen = measure_filter(coefficients(50, SAMPLES, 0.3, dice(), longer), 0.3)
    assert seen.unbiased.off(0.09) > 50 and seen.surplus.off(0) > 50


def test_sweep_is_independent_of_its_neighbours():
    both, one = sweep(0.5, sizes=(2, 8), samples=50), sweep(0.5, sizes=(8,), samples=50)
    assert [s.K for s in both] == [2, 8] and both[1] == one[0]
    assert one != sweep(0.5, sizes=(8,), samples=50, seed=1)
    drawn = []
    for stream in (0, 1):
        sweep(0.5, lambda x, dice: drawn.append(x) or 1, sizes=(2, 4), samples=50, stream=stream)
    used = np.concatenate([phases.ravel() for phases in drawn])
    assert len(np.unique(used)) == len(used) == 2 * 6 * 50  # no number is used twice


# ---- the union


@pytest.fixture(scope="module")
def problem():
    "Two classes, two domains (the second with one image of class 1 only) and a small encoder."
    dice = torch.Generator().manual_seed(0)
    labels, domains = torch.tensor([0] * 5 + [1] * 5), torch.tensor([0, 0, 0, 1, 1, 0, 0, 0, 0, 1])
    images = torch.randn(10, 3, 8, 8, generator=dice) + domains[:, None, None, None]
    mine = torch.tensor([0, 0, 1, 1])
    synthetic = Batch(torch.randn(4, 3, 8, 8, generator=dice), mine, 0 * mine, 2, 2)
    net = ConvNet(classes=2, size=8, width=8, seed=0)
    return net, Batch(images, labels, domains, 2, 2), synthetic


def test_union_of_dm_is_the_weighted_mean_and_of_a_distance_not(problem):
    net, *batches = problem
    assert union_gap(net, DM(), *batches) == pytest.approx((0, 1), abs=1e-5)
    share, cosine = union_gap(net, lambda r, s: DM()(r, s).sqrt(), *batches)
    assert share > 0.01 and cosine < 1 - 1e-5


def test_union_does_not_trust_the_objective(problem):
    "An objective that wrongly says union_is_mean is measured, not believed."

    class Wrong(DM):
        def __call__(self, real, synthetic, draw=None):
            return super().__call__(real, synthetic).sqrt()

    net, *batches = problem
    assert Wrong.union_is_mean and union_gap(net, Wrong(), *batches)[0] > 0.01
    with pytest.raises(AssertionError, match="union gradient is zero"):
        union_gap(net, lambda r, s: 0 * DM()(r, s), *batches)


# ---- R with its noise level taken off


def arrows(seed, K, bins=40, dtype=torch.complex128):
    return torch.randn(K, bins, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@QUICK
@given(seeds, st.integers(2, 7), st.booleans())
def test_unbiased_square_is_the_mean_cosine_of_pairs(seed, K, real):
    G = arrows(seed, K)
    G = G.real if real else G
    pairs = [(j, k) for j in range(K) for k in range(j)]
    cosines = sum((G[j] * G[k].conj()).real for j, k in pairs)
    size = sum(G[j].abs() * G[k].abs() for j, k in pairs)
    assert torch.allclose(unbiased_square(G, eps=1e-300), cosines / size, atol=1e-12)
    for eps in (1e-300, 0.5):
        R, q = resultant_length(G, eps), (G.abs() / (G.abs().sum(0) + eps)).square().sum(0)
        assert torch.allclose(unbiased_square(G, eps), (R**2 - q) / (1 - q), atol=1e-9)


@QUICK
@given(
    seeds,
    st.integers(1, 7),
    st.sampled_from([torch.complex64, torch.complex128]),
    st.floats(-30, 30),
)
def test_unbiased_length_stays_in_range(seed, K, dtype, exponent):
    G = arrows(seed, K, dtype=dtype) * 10.0**exponent
    R = resultant_length(G, unbiased=True)
    assert R.isfinite().all() and R.min() >= 0 and R.max() <= 1
    assert (unbiased_square(G) <= 1 + 1e-6).all() and (unbiased_square(G) >= -1 - 1e-6).all()


@QUICK
@given(seeds, st.integers(2, 6))
def test_unbiased_square_does_not_see_order_scale_or_turn(seed, K):
    G = arrows(seed, K)
    order = torch.randperm(K, generator=torch.Generator().manual_seed(seed))
    turned = 7 * G[order] * np.exp(0.3j)
    assert torch.allclose(unbiased_square(turned), unbiased_square(G), atol=1e-6)
    copies = G[:1].expand(K, -1)
    assert torch.allclose(unbiased_square(copies), torch.ones(40, dtype=torch.float64), atol=1e-5)


@QUICK
@given(seeds, st.integers(2, 5))
def test_absent_domains_leave_no_trace(seed, K):
    G = arrows(seed, K)
    weight = torch.full((K,), 1 / (K - 1), dtype=torch.float64)
    weight[0] = 0
    assert torch.allclose(unbiased_square(G, weight=weight), unbiased_square(G[1:]), atol=1e-9)


def test_without_any_pair():
    G = arrows(0, 1)
    assert torch.allclose(unbiased_square(G), resultant_length(G) ** 2, rtol=1e-12)
    lonely = torch.cat([G, 0 * G, 0 * G])
    assert torch.allclose(unbiased_square(lonely), resultant_length(lonely) ** 2)
    assert (unbiased_square(torch.zeros(3, 4)) == 0).all()


def test_one_loud_domain_in_float32():
    """Where q is nearly 1 the sum over pairs keeps its digits; (R^2 - q) / (1 - q) would not."""
    G = arrows(1, 3) * torch.tensor([1e4, 1, 1])[:, None]
    exact, single = unbiased_square(G), unbiased_square(G.to(torch.complex64))
    assert (exact - single).abs().max() < 1e-5


@pytest.mark.parametrize("scale", [(1, 1, 1), (10, 1, 1)])
@pytest.mark.parametrize("real", [False, True])
def test_noise_reads_zero_on_average(scale, real):
    noise = coefficients(3, 100_000, 0, dice(5), "rayleigh", real) * torch.tensor(scale)[:, None]
    square = unbiased_square(noise.real if real else noise)
    assert abs(square.mean()) < 4 * square.std() / len(square) ** 0.5
    if scale[0] == 10:
        assert resultant_length(noise).mean() > 0.75  # what it corrects


def test_plain_R_is_the_default():
    G = arrows(3, 3)
    assert torch.equal(resultant_length(G), G.sum(0).abs() / (G.abs().sum(0) + 1e-8))
    assert (resultant_length(G, unbiased=True) < resultant_length(G)).float().mean() > 0.9
