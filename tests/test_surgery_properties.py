"""Properties of the spectral part on random gradients (float64, even and odd sizes)."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from shared import QUICK

from dgdd_nb.fourier import (
    dft_matrix,
    full_spectrum,
    inverse_spectrum,
    real_bins,
    spectrum,
    spectrum_mean,
)
from dgdd_nb.resultant import consensus, resultant_length
from dgdd_nb.surgery import SGS, MatchedDM, OwnDomain, decompose, mean_agreement, shuffle_bins

numbers = st.floats(0, 3)


@st.composite
def gradients(draw, least=1):
    """One gradient per domain, shape (K, N, 3, H, W), of unit size, and its generator."""
    K, N = draw(st.integers(least, 6)), draw(st.integers(1, 3))
    H, W = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    g = torch.randn(K, N, 3, H, W, dtype=torch.float64, generator=generator)
    common = torch.randn(N, 3, H, W, dtype=torch.float64, generator=generator)
    return g + draw(st.floats(0, 2)) * common, generator


def close(a, b, tolerance=1e-10):
    assert (a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max()))


def assignment(g):
    return torch.arange(g.shape[1]) % g.shape[0]


@QUICK
@given(gradients())
def test_half_spectrum_is_the_full_transform(drawn):
    g, _ = drawn
    H, W = g.shape[-2:]
    oracle = dft_matrix(H) @ g.to(torch.complex128) @ dft_matrix(W)
    close(full_spectrum(spectrum(g), W), oracle)
    close(inverse_spectrum(spectrum(g), (H, W)), g)
    close(spectrum_mean(spectrum(g).abs(), W), oracle.abs().mean((-2, -1)))


@QUICK
@given(gradients())
def test_decomposition_against_the_full_transform(drawn):
    g, _ = drawn
    G = torch.fft.fft2(g)
    R = G.sum(0).abs() / (G.abs().sum(0) + 1e-8)
    close(decompose(g).g_cls, torch.fft.ifft2(R * G.mean(0)).real)
    close(decompose(g).g_dom, torch.fft.ifft2(G - R * G.mean(0)).real)
    close(decompose(g, reading="b").g_dom, torch.fft.ifft2(G - G.mean(0)).real)


@QUICK
@given(gradients())
def test_range_of_R(drawn):
    R = decompose(drawn[0]).R
    assert R.min() >= 0 and R.max() <= 1


@QUICK
@given(gradients(), numbers, numbers, st.sampled_from("ab"))
def test_order_of_domains_does_not_matter(drawn, alpha, beta, reading):
    g, generator = drawn
    order = torch.randperm(len(g), generator=generator)
    close(decompose(g[order]).R, decompose(g).R)
    close(decompose(g[order], reading=reading).g_dom, decompose(g, reading=reading).g_dom[order])
    surgery, domain = SGS(alpha, beta, reading=reading), assignment(g)
    moved = surgery(g[order], g.mean(0), domain=order.argsort()[domain])
    close(moved, surgery(g, g.mean(0), domain=domain))


@QUICK
@given(gradients(), st.floats(0.1, 1e6), st.sampled_from((-1, 1)))
def test_scaling(drawn, size, sign):
    g, _ = drawn
    parts, scaled = decompose(g, eps=1e-12), decompose(sign * size * g, eps=1e-12)
    # a bin in which the domains nearly cancel or vanish may feel eps: compare through the gradients
    close(scaled.g_cls / (sign * size), parts.g_cls, 1e-8)
    close(scaled.g_dom / (sign * size), parts.g_dom, 1e-8)
    loud = spectrum(g).abs().sum(0) > 1e-3
    assert (scaled.R - parts.R)[loud].abs().max() < 1e-6 if loud.any() else True


@QUICK
@given(gradients(), st.integers(1, 7))
def test_copies_agree(drawn, K):
    g = drawn[0][:1].expand(K, -1, -1, -1, -1)
    parts = decompose(g)
    strong = spectrum(g).abs()[0] > 1e-3
    assert ((1 - parts.R)[strong] < 1e-4).all()
    close(parts.g_cls, g[0], 1e-6)
    close(parts.g_dom, torch.zeros_like(g), 1e-6)


@QUICK
@given(gradients(), st.sampled_from(("spectral", "constant", "shuffled", "pixel")))
def test_reading_a_reassembles_the_gradients(drawn, agreement):
    g, generator = drawn
    parts = decompose(g, reading="a", agreement=agreement, generator=generator)
    close(parts.g_cls + parts.g_dom, g)


@QUICK
@given(gradients(), st.booleans())
def test_reading_b_averages_to_zero(drawn, weighted):
    g, generator = drawn
    weight = torch.full(g.shape[:2], 1 / len(g), dtype=torch.float64)
    if weighted:
        weight = torch.rand(g.shape[:2], dtype=torch.float64, generator=generator) + 0.1
        weight = weight / weight.sum(0)
    parts = decompose(g, reading="b", weight=weight if weighted else None)
    close(consensus(parts.g_dom, weight), torch.zeros_like(g[0]))
    close(parts.g_mean, consensus(g, weight))


@QUICK
@given(
    gradients(),
    numbers,
    numbers,
    st.sampled_from("ab"),
    st.sampled_from(("spectral", "constant", "shuffled", "pixel")),
)
def test_fast_path_is_the_formula(drawn, alpha, beta, reading, agreement):
    g, generator = drawn
    g_dm = torch.randn(g.shape[1:], dtype=torch.float64, generator=generator)
    domain, state = assignment(g), generator.get_state()
    surgery = SGS(alpha, beta, reading=reading, agreement=agreement)
    fast = surgery(g, g_dm, domain=domain, generator=generator)
    generator.set_state(state)
    parts = decompose(g, reading=reading, agreement=agreement, generator=generator)
    own = parts.g_dom[domain, torch.arange(len(domain))]
    close(fast, g_dm + alpha * parts.g_cls + beta * own)


@QUICK
@given(gradients(), numbers)
def test_equal_weights_cancel_the_transform(drawn, weight):
    g, _ = drawn
    domain, g_dm = assignment(g), g.mean(0)
    parts = decompose(g)
    literal = g_dm + weight * parts.g_cls + weight * parts.g_dom[domain, torch.arange(len(domain))]
    close(OwnDomain(weight)(g, g_dm, domain=domain), literal)
    close(SGS(weight, weight)(g, g_dm, domain=domain), literal)


@QUICK
@given(gradients(least=2), st.sampled_from("ab"), numbers)
def test_one_present_domain(drawn, reading, alpha):
    g, _ = drawn
    weight = torch.zeros(g.shape[:2], dtype=torch.float64)
    weight[0] = 1
    g = g * weight[:, :, None, None, None]
    domain = torch.zeros(g.shape[1], dtype=torch.int64)
    quiet = SGS(alpha, 0, reading=reading)(g, g[0], domain=domain, weight=weight)
    pulled = SGS(alpha, 1, reading=reading)(g, g[0], domain=domain, weight=weight)
    close(quiet, (1 + alpha) * g[0], 1e-6)  # a learning-rate factor
    close(pulled, quiet, 1e-6)  # beta does nothing


@QUICK
@given(gradients(least=2))
def test_missing_domain_is_as_if_it_did_not_exist(drawn):
    g, _ = drawn
    weight = torch.full(g.shape[:2], 1 / (len(g) - 1), dtype=torch.float64)
    weight[-1] = 0
    G = spectrum(g)
    close(resultant_length(G, weight=weight), resultant_length(G[:-1]))
    close(decompose(g, weight=weight).g_cls, decompose(g[:-1]).g_cls)
    equal = torch.full(g.shape[:2], 1 / len(g), dtype=torch.float64)
    close(resultant_length(G, weight=equal), resultant_length(G))


@QUICK
@given(gradients())
def test_shuffle_keeps_symmetry_and_histogram(drawn):
    g, generator = drawn
    H, W = g.shape[-2:]
    R = torch.fft.fft2(g[0]).abs()
    R = (R + R.flip(-2, -1).roll((1, 1), (-2, -1))) / 2  # symmetric to the last bit
    R = R[..., : W // 2 + 1]
    out = shuffle_bins(R, W, generator)
    full, own = full_spectrum(out, W), real_bins(H, W)
    assert torch.equal(full, full.flip(-2, -1).roll((1, 1), (-2, -1)))
    assert torch.equal(full.flatten(-2).sort()[0], full_spectrum(R, W).flatten(-2).sort()[0])
    assert torch.equal(out[..., own].sort()[0], R[..., own].sort()[0])


@QUICK
@given(gradients(), numbers)
def test_matched_learning_rate(drawn, alpha):
    g, _ = drawn
    label = torch.arange(g.shape[1]) % 2
    G = torch.fft.fft2(g)
    R = (G.sum(0).abs() / (G.abs().sum(0) + 1e-8)).mean((1, 2, 3))
    close(mean_agreement(g), R)
    direction = MatchedDM(alpha)(g, g.mean(0), label=label)
    for c in label.unique():
        close(direction[label == c], g.mean(0)[label == c] * (1 + alpha * R[label == c].mean()))


@QUICK
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.sampled_from("ab"))
def test_zeros_give_zeros(K, H, W, reading):
    g = torch.zeros(K, 2, 3, H, W, dtype=torch.float64)
    for part in decompose(g, reading=reading):
        assert (part == 0).all()
    direction = SGS(1, 0.5, reading=reading)(g, g[0], domain=torch.zeros(2, dtype=torch.int64))
    assert (direction == 0).all()
