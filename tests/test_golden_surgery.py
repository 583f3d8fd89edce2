"""Golden values for the transform, the resultant length, its null and the surgery; all sizes come from the files."""

import numpy as np
import pytest
import torch
from shared import load

from dgdd_nb.domain_gradients import DomainGradients
from dgdd_nb.fourier import full_spectrum, spectrum
from dgdd_nb.resultant import consensus, null_level, resultant_length
from dgdd_nb.surgery import SGS, decompose

KINDS = {  # of the file of null levels: moduli, real bins
    "equal": ("equal", False),
    "rayleigh": ("rayleigh", False),
    "sign_equal": ("equal", True),
    "sign_halfnormal": ("rayleigh", True),
}


@pytest.fixture(scope="module")
def sgs():
    return load("sgs.npz")


@pytest.fixture(scope="module")
def null():
    return load("sgs_null.npz")


def cases(arrays):
    "Name and gradients (K, N, 3, H, W) of every case in the file."
    return [
        (key[:-2], torch.from_numpy(g)) for key, g in sorted(arrays.items()) if key.endswith("/g")
    ]


def error(mine, golden, scale=None):
    "Largest absolute difference, relative to the largest entry of the golden array or `scale`."
    golden = torch.from_numpy(np.asarray(golden))
    size = (golden if scale is None else scale).abs().max()
    return float((mine - golden).abs().max() / size.clamp_min(1e-300))


def test_spectrum_and_consensus(sgs):
    stored = [(case, g) for case, g in cases(sgs) if f"{case}/G" in sgs]
    assert stored
    for case, g in stored:
        G = spectrum(g)
        assert error(full_spectrum(G, g.shape[-1]), sgs[f"{case}/G"]) < 1e-12, case
        assert error(full_spectrum(consensus(G), g.shape[-1]), sgs[f"{case}/G_mean"]) < 1e-12, case


@pytest.mark.parametrize("reading", ("a", "b"))
def test_parts_and_update(sgs, reading):
    eps = float(sgs["eps"])
    surgery = SGS(float(sgs["lambda_c"]), float(sgs["lambda_d"]), eps, reading)
    for case, g in cases(sgs):
        parts = decompose(g, eps=eps, reading=reading)
        assert error(parts.g_mean, sgs[f"{case}/mean_g"]) < 1e-12, case
        assert error(full_spectrum(parts.R, g.shape[-1]), sgs[f"{case}/R"]) < 1e-12, case
        assert error(parts.g_cls, sgs[f"{case}/g_cls"]) < 1e-12, case
        # relative to the gradients: with one domain the domain part itself is zero or nearly so
        assert error(parts.g_dom, sgs[f"{case}/g_dom_{reading}"], g) < 1e-12, case
        labels = torch.zeros(g.shape[1], dtype=torch.int64)
        domains = torch.from_numpy(sgs[f"{case}/assign"])
        update = surgery(DomainGradients(g, g.mean(0)), labels, domains)
        assert error(update, sgs[f"{case}/update_{reading}"]) < 1e-12, case


def test_resultant_length_in_single_precision(sgs):
    for case, g in cases(sgs):
        R = full_spectrum(resultant_length(spectrum(g.float()), float(sgs["eps"])), g.shape[-1])
        assert (R - torch.from_numpy(sgs[f"{case}/R"])).abs().max() < 2e-6, case


@pytest.mark.parametrize("kind", KINDS)
def test_null_level(null, kind):
    for place, K in enumerate(null["K"]):
        level = null_level(int(K), *KINDS[kind], samples=100_000, seed=int(K))
        for mine, my_error, name in [
            (level.mean, level.standard_error, "R"),
            (level.mean_square, level.standard_error_square, "R2"),
        ]:
            bound = 4 * np.hypot(null[f"{kind}/se_{name}"][place], my_error)
            assert abs(mine - null[f"{kind}/mean_{name}"][place]) < bound, (kind, K, name)
        if kind == "rayleigh":
            for mine, name in zip(level.quantiles, ("q05", "q50", "q95")):
                assert abs(mine - null[f"{kind}/{name}"][place]) < 0.01, (K, name)
