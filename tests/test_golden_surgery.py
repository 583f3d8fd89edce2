"""Golden values for the transform, the resultant length, its null and the surgery."""

import numpy as np
import pytest
import torch
from shared import load

from dgdd_nb.fourier import full_spectrum, spectrum
from dgdd_nb.resultant import consensus, null_level, resultant_length
from dgdd_nb.surgery import SGS, decompose

CASES = ("even", "odd", "k1", "k2", "identical", "opposite", "zero", "small_scale")


@pytest.fixture(scope="module")
def sgs():
    return load("sgs.npz")


@pytest.fixture(scope="module")
def null():
    return load("sgs_null.npz")


def error(mine, golden, scale=None):
    """Largest absolute difference, relative to the largest entry of the golden array or `scale`."""
    golden = torch.from_numpy(np.asarray(golden))
    size = golden.abs().max() if scale is None else torch.from_numpy(np.asarray(scale)).abs().max()
    return float((mine - golden).abs().max() / size.clamp_min(1e-300))


@pytest.mark.parametrize("case", ("even", "k2"))
def test_spectrum_and_consensus(sgs, case):
    g = torch.from_numpy(sgs[f"{case}/g"])
    G = spectrum(g)
    assert error(full_spectrum(G, g.shape[-1]), sgs[f"{case}/G"]) < 1e-12
    assert error(full_spectrum(consensus(G), g.shape[-1]), sgs[f"{case}/G_mean"]) < 1e-12


@pytest.mark.parametrize("reading", ("a", "b"))
@pytest.mark.parametrize("case", CASES)
def test_decomposition(sgs, case, reading):
    g = torch.from_numpy(sgs[f"{case}/g"])
    parts = decompose(g, eps=float(sgs["eps"]), reading=reading)
    assert error(parts.g_mean, sgs[f"{case}/mean_g"]) < 1e-12
    assert error(full_spectrum(parts.R, g.shape[-1]), sgs[f"{case}/R"]) < 1e-12
    assert error(parts.g_cls, sgs[f"{case}/g_cls"]) < 1e-12
    # relative to the gradients: with one domain the domain part itself is zero or nearly so
    assert error(parts.g_dom, sgs[f"{case}/g_dom_{reading}"], sgs[f"{case}/g"]) < 1e-12


@pytest.mark.parametrize("reading", ("a", "b"))
@pytest.mark.parametrize("case", CASES)
def test_update(sgs, case, reading):
    g = torch.from_numpy(sgs[f"{case}/g"])
    surgery = SGS(float(sgs["lambda_c"]), float(sgs["lambda_d"]), float(sgs["eps"]), reading)
    update = surgery(g, g.mean(0), domain=torch.from_numpy(sgs[f"{case}/assign"]))
    assert error(update, sgs[f"{case}/update_{reading}"]) < 1e-12


@pytest.mark.parametrize("case", CASES)
def test_resultant_length_in_single_precision(sgs, case):
    g = torch.from_numpy(sgs[f"{case}/g"])
    R = full_spectrum(resultant_length(spectrum(g.float()), float(sgs["eps"])), g.shape[-1])
    assert (R - torch.from_numpy(sgs[f"{case}/R"])).abs().max() < 2e-6


@pytest.mark.parametrize(
    "kind, moduli, real",
    [
        ("equal", "equal", False),
        ("rayleigh", "rayleigh", False),
        ("sign_equal", "equal", True),
        ("sign_halfnormal", "rayleigh", True),
    ],
)
def test_null_level(null, kind, moduli, real):
    for place, K in enumerate(null["K"]):
        level = null_level(int(K), moduli, real, samples=100_000, seed=int(K))
        for mine, my_error, name in [
            (level.mean, level.standard_error, "R"),
            (level.mean_square, level.standard_error_square, "R2"),
        ]:
            bound = 4 * np.hypot(null[f"{kind}/se_{name}"][place], my_error)
            assert abs(mine - null[f"{kind}/mean_{name}"][place]) < bound, (kind, K, name)


def test_null_quantiles(null):
    for place, K in enumerate(null["K"]):
        quantiles = null_level(int(K), samples=100_000, seed=1).quantiles
        for mine, name in zip(quantiles, ("q05", "q50", "q95")):
            assert abs(mine - null[f"rayleigh/{name}"][place]) < 0.01, (K, name)
