"""Properties of spectrum and surgery on random gradients (float64, even and odd sizes), and the checker of plug-ins."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shared import QUICK

from dgdd_nb.domain_gradients import DomainGradients
from dgdd_nb.fourier import (
    dft_matrix,
    full_spectrum,
    inverse_spectrum,
    real_bins,
    spectrum,
    spectrum_mean,
)
from dgdd_nb.resultant import consensus, resultant_length
from dgdd_nb.surgery import (
    AGREEMENTS,
    SGS,
    MatchedDM,
    OwnDomain,
    PartsAlone,
    Stack,
    check_surgery,
    decompose,
    projection,
    shuffle_bins,
)

numbers = st.floats(0, 3)
controls = st.sampled_from(sorted(AGREEMENTS))


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
    "Classes and domains of the images."
    return torch.arange(g.shape[1]) // 2, torch.arange(g.shape[1]) % g.shape[0]


def of_class(g, onto, labels, c):
    "Projection coefficient of one class, written out."
    g, onto = g[labels == c].flatten(), onto[labels == c].flatten()
    return float(g @ onto / (onto @ onto))


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
    surgery, (labels, domains) = SGS(alpha, beta, reading=reading), assignment(g)
    moved = surgery(DomainGradients(g[order], g.mean(0)), labels, order.argsort()[domains])
    close(moved, surgery(DomainGradients(g, g.mean(0)), labels, domains))


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
@given(gradients(), controls)
def test_reading_a_reassembles_the_gradients(drawn, agreement):
    g, generator = drawn
    parts = decompose(g, reading="a", agreement=agreement, dice=generator)
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
@given(gradients(), numbers, numbers, st.sampled_from("ab"), controls)
def test_fast_path_is_the_formula(drawn, alpha, beta, reading, agreement):
    g, generator = drawn
    g_dm = torch.randn(g.shape[1:], dtype=torch.float64, generator=generator)
    (labels, domains), state = assignment(g), generator.get_state()
    surgery = SGS(alpha, beta, reading=reading, agreement=agreement)
    fast = surgery(DomainGradients(g, g_dm), labels, domains, generator)
    alone = PartsAlone(alpha, beta, reading=reading, agreement=agreement)
    bare = alone(DomainGradients(g, g_dm), labels, domains, generator.set_state(state))
    generator.set_state(state)
    parts = decompose(g, reading=reading, agreement=agreement, dice=generator)
    own = parts.g_dom[domains, torch.arange(len(domains))]
    close(fast, g_dm + alpha * parts.g_cls + beta * own)
    close(bare, alpha * parts.g_cls + beta * own)


@QUICK
@given(gradients(), numbers)
def test_equal_weights_cancel_the_transform(drawn, weight):
    g, _ = drawn
    (labels, domains), found = assignment(g), DomainGradients(g, g.mean(0))
    parts = decompose(g)
    literal = g.mean(0) + weight * (parts.g_cls + parts.g_dom[domains, torch.arange(len(domains))])
    close(OwnDomain(weight)(found, labels, domains), literal)
    close(SGS(weight, weight)(found, labels, domains), literal)


@QUICK
@given(gradients(), numbers)
def test_a_number_is_an_agreement(drawn, R):
    "Constant agreement of any value: g_cls is that multiple of the mean."
    g, _ = drawn
    labels, domains = assignment(g)
    direction = SGS(1, 0, agreement=R)(DomainGradients(g, g.mean(0)), labels, domains)
    close(direction, (1 + R) * g.mean(0))
    own = lambda G, W, eps, weight, dice: resultant_length(G, eps, weight)  # noqa: E731
    close(decompose(g, agreement=own).g_cls, decompose(g).g_cls)


@QUICK
@given(gradients(least=2), st.sampled_from("ab"), numbers)
def test_one_present_domain(drawn, reading, alpha):
    g, _ = drawn
    weight = torch.zeros(g.shape[:2], dtype=torch.float64)
    weight[0] = 1
    g = g * weight[:, :, None, None, None]
    found, none = DomainGradients(g, g[0], weight=weight), torch.zeros(g.shape[1]).long()
    quiet, pulled = (SGS(alpha, beta, reading=reading)(found, none, none) for beta in (0, 1))
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
def test_matched_control_has_the_projection_of_sgs(drawn, alpha):
    "Per class: the same step along g_dm as SGS(alpha, 0), and nothing beside it."
    g, generator = drawn
    g_dm = torch.randn(g.shape[1:], dtype=torch.float64, generator=generator)
    (labels, domains), found = assignment(g), DomainGradients(g, g_dm)
    sgs, matched = (x(found, labels, domains) for x in (SGS(alpha, 0), MatchedDM(alpha)))
    for c in labels.unique():
        size = of_class(sgs, g_dm, labels, c)
        assert math.isclose(of_class(matched, g_dm, labels, c), size, rel_tol=1e-9, abs_tol=1e-12)
        close(matched[labels == c], size * g_dm[labels == c])


@QUICK
@given(gradients(), controls)
def test_rescaled_controls_have_it_too(drawn, agreement):
    g, generator = drawn
    (labels, domains), g_dm = assignment(g), g.mean(0)
    dice = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    found, plain = DomainGradients(g, g_dm), decompose(g, agreement=agreement, dice=dice()).g_cls
    control = SGS(1, 0, agreement=agreement, rescale=True)(found, labels, domains, dice()) - g_dm
    for c in labels.unique():
        wanted = of_class(decompose(g).g_cls, g_dm, labels, c)
        assert math.isclose(of_class(control, g_dm, labels, c), wanted, rel_tol=1e-6, abs_tol=1e-9)
    if agreement == "spectral":
        close(control, plain)
    ratio = projection(decompose(g).g_cls, g_dm, labels) / projection(plain, g_dm, labels)
    if ratio.isfinite().all() and ratio.abs().max() < 1e3:
        close(control, ratio * plain, 1e-6)  # a scalar per class, the direction untouched


def test_stack_hands_the_direction_on():
    dice = torch.Generator().manual_seed(0)
    g = torch.randn(3, 4, 3, 6, 6, generator=dice)
    (labels, domains), found = assignment(g), DomainGradients(g, g.mean(0))
    both = Stack((OwnDomain(1), OwnDomain(2)))(found, labels, domains)
    assert torch.allclose(both, OwnDomain(3)(found, labels, domains), atol=1e-6)
    assert torch.equal(Stack(())(found, labels, domains), found.g_dm)


@QUICK
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.sampled_from("ab"))
def test_zeros_give_zeros(K, H, W, reading):
    g, none = torch.zeros(K, 2, 3, H, W, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    assert all((part == 0).all() for part in decompose(g, reading=reading))
    assert (SGS(1, 0.5, reading=reading)(DomainGradients(g, g[0]), none, none) == 0).all()


# ---- what a plug-in does wrong


@pytest.mark.parametrize(
    "surgery",
    [SGS(), SGS(agreement="shuffled"), SGS(reading="b", rescale=True), MatchedDM(), OwnDomain()]
    + [PartsAlone(), Stack((SGS(), OwnDomain())), lambda found, labels, domains, dice: found.g_dm],
)
def test_honest_surgeries_pass(surgery):
    assert check_surgery(surgery) == []


def rolls_global_dice(found, labels, domains, dice):
    return found.g_dm + torch.randn_like(found.g_dm)


def in_place(found, labels, domains, dice):
    return found.g_dm.mul_(2)


def wrong_shape(found, labels, domains, dice):
    return found.g_domain


def a_number(found, labels, domains, dice):
    return found.g_dm.norm().item()


def not_a_number(found, labels, domains, dice):
    return found.g_dm / 0 * 0


def fails(found, labels, domains, dice):
    return found.g_dm @ labels


def test_surgery_with_a_memory():
    calls = []

    def remembers(found, labels, domains, dice):
        calls.append(0)
        return len(calls) * found.g_dm

    assert any("keep no state" in words for words in check_surgery(remembers))


@pytest.mark.parametrize(
    "surgery, says",
    [
        (rolls_global_dice, "global dice"),
        (in_place, "in place"),
        (wrong_shape, "direction has shape (3, 6, 3, 8, 8), unlike"),
        (a_number, "direction has type float, unlike"),
        (not_a_number, "NaN or infinity"),
        (fails, "fails on ordinary gradients"),
        (lambda found: found.g_dm, "fails on ordinary gradients"),
        (SGS, "fails on ordinary gradients"),  # without its parentheses
    ],
)
def test_broken_surgeries_are_named(surgery, says):
    found = check_surgery(surgery)
    assert any(says in words for words in found), found
    assert all(words[0].isupper() and words.endswith(".") for words in found)


@pytest.mark.parametrize(
    "surgery", [MatchedDM(), *(SGS(agreement=x, rescale=True) for x in ("constant", "shuffled"))]
)
def test_a_class_without_a_gradient_stays(surgery):
    g, labels = torch.ones(2, 4, 3, 4, 4), torch.tensor([0, 0, 1, 1])
    g[:, 2:] = 0
    direction = surgery(DomainGradients(g, g[0]), labels, labels, torch.Generator())
    assert direction.isfinite().all() and not direction[2:].any() and direction[:2].all()


def test_refused():
    g, none = torch.ones(2, 3, 3, 4, 4), torch.zeros(3, dtype=torch.int64)
    bad = {
        "lower lr": (DomainGradients(g * math.nan, g[0]), none),
        "Domains must be 0 to 1": (DomainGradients(g, g[0]), none + 2),
        "must have shape": (DomainGradients(g, g), none),
        "own domain lacks": (
            DomainGradients(g, g[0], None, torch.tensor([[0.0] * 3, [1] * 3])),
            none,
        ),
        "g_domain must have": (DomainGradients(None, g[0]), none),
    }
    for words, (found, domains) in bad.items():
        with pytest.raises(ValueError, match=words):
            SGS()(found, none, domains)
    for settings in ({"alpha": math.nan}, {"eps": 0}, {"reading": "c"}, {"agreement": "spektral"}):
        with pytest.raises(ValueError):
            SGS(**settings)
    with pytest.raises(ValueError, match="leave rescale out"):
        PartsAlone(rescale=True)


@pytest.mark.parametrize("value", [None, True, "1", float("nan"), float("inf"), [1.0]], ids=str)
def test_weights_are_finite_numbers(value):
    for make in (SGS, MatchedDM, OwnDomain, PartsAlone):
        name = "beta" if make is OwnDomain else "alpha"
        with pytest.raises(
            ValueError, match=f"The {name} of {make.__name__} must be a finite number"
        ):
            make(**{name: value})


def test_a_stack_holds_surgeries():
    for wrong in (SGS(), (SGS,), ["SGS"]):
        with pytest.raises(TypeError, match="surger"):
            Stack(wrong)
    assert Stack([SGS(alpha=np.float32(0.5))]) == Stack((SGS(),))
