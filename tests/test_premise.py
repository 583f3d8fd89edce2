"""The measurements of notebook 31: against oracles, on planted truth, on bad input; and the stored rows."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy.stats import sem, t

from dgdd_nb.data import MultiDomain
from dgdd_nb.files import derive_seed, generator
from dgdd_nb.fourier import full_spectrum, spectrum
from dgdd_nb.networks import network
from dgdd_nb.premise import (
    VARIANTS,
    Finding,
    batch_gradients,
    common_start,
    fresh_gradients,
    gaussian_null,
    mean_length,
    mean_map,
    mix_classes,
    probe_left_out,
    probe_pieces,
    pulls,
    relabel,
    share_correlations,
    split_energy,
    transfer,
    without_noise,
)

STORED = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "premise.csv"


@pytest.fixture(scope="module")
def data():
    "Three domains, four classes, 12 images a cell, 8x8 pixels of noise with a class and a domain pattern."
    dice = torch.Generator().manual_seed(0)
    y = torch.arange(4).repeat_interleave(36)
    k = torch.arange(3).repeat_interleave(12).repeat(4)
    pattern = torch.rand(4, 3, 8, 8, generator=dice)[y] + torch.rand(3, 3, 8, 8, generator=dice)[k]
    x = (80 * pattern + 60 * torch.rand(len(y), 3, 8, 8, generator=dice)).to(torch.uint8)
    return MultiDomain.from_arrays(x, y, k, domain_names=("a", "b", "c"))


def test_batch_gradients_against_autograd(data):
    images, labels = common_start(data, 2)
    g = batch_gradients(data, images, labels, 2, 6, encoder=3, width=8, seed=5)
    net = network(classes=4, size=(8, 8), seed=derive_seed(5, "encoder", 3), width=8)
    index = data.sample(12, generator(5, "real", 3)).view(-1, 2, 6)[:, 1].flatten()
    assert index.unique().numel() == 72 and (data.cell[index].diff() >= 0).all()
    chosen = index[(data.labels[index] == 2) & (data.domains[index] == 1)]
    assert len(chosen) == 6
    s = images[labels == 2].clone().requires_grad_()
    real = net.embed(data.normalisation()(data.images[chosen])).mean(0).detach()
    loss = (real - net.embed(s).mean(0)).square().sum()
    assert torch.allclose(g[1, 1, labels == 2], torch.autograd.grad(loss, s)[0], atol=1e-6)


@pytest.mark.parametrize("size", [(7, 9), (8, 8), (6, 5)])
def test_null_keeps_energies_and_symmetry(size):
    dice = torch.Generator().manual_seed(2)
    g = torch.randn(4, 3, 2, 3, *size, generator=dice, dtype=torch.float64) * torch.rand(
        1, 3, 1, 3, *size, generator=dice
    )
    G = spectrum(g)
    null = torch.cat([gaussian_null(G, size[1], dice) for _ in range(300)])
    energy = [x.abs().square().mean((0, 2)) for x in (null, G)]
    assert ((energy[0] / energy[1]).log().abs() < 0.25).all()
    back = torch.fft.ifft2(full_spectrum(null[:4], size[1]))
    assert back.imag.abs().max() < 1e-9 * back.abs().max()  # the spectrum of a real image
    assert abs(null.mean(0).abs().max() / energy[1].sqrt().max()) < 0.2


def test_shares_sum_and_find_what_is_planted():
    dice = torch.Generator().manual_seed(3)

    def draw(*lead):
        return torch.randn(*lead, 40, generator=dice, dtype=torch.complex128)

    truth = {
        "common": draw(1, 1, 1),
        "class": draw(1, 1, 30),
        "domain": draw(1, 30, 1),
        "noise": 2 * draw(50, 30, 30),
    }
    G = sum(truth.values())
    energy = split_energy(G)
    assert torch.allclose(sum(energy.values()), G.abs().square().mean((0, 1, 2)))
    clean = without_noise({n: x.mean() for n, x in energy.items()}, G.shape[:3])
    assert abs(clean["interaction"]) < 0.01 and abs(clean["noise"] - 4) < 0.05
    for name in ("class", "domain"):
        assert abs(clean[name] - 1) < 0.1


@pytest.mark.parametrize("part, gap", [("class", True), ("common", False)])
def test_mixed_classes_tell_class_from_common(part, gap):
    "Both parts raise R above noise; only a class part is lost when the classes are mixed."
    dice = torch.Generator().manual_seed(4)
    C = 10 if part == "class" else 1
    noise = spectrum(torch.randn(5, 3, 10, 3, 16, 16, generator=dice))
    G = noise + spectrum(torch.randn(5, 1, C, 3, 16, 16, generator=dice))
    same, mixed, level = (mean_length(x, 16) for x in (G, mix_classes(G), noise))
    assert Finding(same - level, 0.02).word == "supported"
    assert (Finding(same - mixed, 0.02).word == "supported") is gap


def test_share_correlations_follow_a_planted_common_part():
    dice = torch.Generator().manual_seed(5)
    loud = torch.zeros(3, 16, 9)
    loud[:, :4] = 3
    G = spectrum(torch.randn(1, 3, 10, 2, 3, 16, 16, generator=dice)) + 20 * loud
    found = share_correlations(mean_map(G), G)
    assert found["common"] > 0.5 > found["class"]


def test_pieces_and_probes_on_planted_truth():
    "A class part and a domain part in quiet noise: all is read; the left-out domain is seen in the mean."
    dice = torch.Generator().manual_seed(6)
    c, k = (
        torch.randn(1, 1, 5, 3, 8, 8, generator=dice),
        torch.randn(1, 4, 1, 3, 8, 8, generator=dice),
    )
    train, test = (c + k + 0.1 * torch.randn(n, 4, 5, 3, 8, 8, generator=dice) for n in (4, 2))
    for variant in VARIANTS:
        found = probe_pieces(train, test, variant)
        assert (
            min(found[n] for n in ("g_cls class", "passed class", "passed domain", "g_dom domain"))
            > 80
        )
        assert probe_left_out(train, test, variant) > 80
    noise = [torch.randn(n, 4, 5, 3, 8, 8, generator=dice) for n in (4, 2)]
    assert probe_pieces(*noise, "constant")["passed class"] < 60


def test_transfer_of_a_shared_direction():
    dice = torch.Generator().manual_seed(8)
    shared, own = (
        torch.randn(6, 3, 8, 8, generator=dice),
        torch.randn(4, 6, 3, 8, 8, generator=dice),
    )
    found = transfer(shared + 0.3 * own[:3], shared + 0.3 * own[3])
    assert all(found[v] > 0.8 for v in VARIANTS) and found["rank"] > 0.1
    assert abs(transfer(own[:3], own[3])["constant"]) < 0.1


def test_pulls_obey_pythagoras():
    g = torch.randn(2, 3, 4, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    found = pulls(g)
    assert torch.allclose(
        found["consensus"] + found["deviations"], g.square().mean((1, 2, 3, 4, 5))
    )


def test_wrong_names_undo(data):
    moved = relabel(data, (0, 1, 3))
    assert torch.equal(relabel(moved, (0, -1, -3)).labels, data.labels)
    assert (data.labels[(moved.domains == 2) & (moved.labels == 2)] == 1).all()


@pytest.mark.parametrize(
    "words, values, room",
    [
        ("supported", [3, 4, 5, 4, 4], math.inf),
        ("not supported (too small to matter)", [0.1, 0, 0.2, 0, 0.1], math.inf),
        ("not supported (the opposite)", [-3, -4, -3, -4, -3], math.inf),
        ("not supported", [-2, 0.5, -2, 0.5, -2], math.inf),
        ("undecided", [3, -1, 2, 0, 4.0], math.inf),
        ("undecided", [4, 5, 4, 5, 4.5], 0.5),
    ],
)
def test_words_of_a_finding(words, values, room):
    found = Finding(values, 1.0, room)
    assert found.words == words and str(found).endswith(words)
    low, high = t.interval(0.95, 4, found.mean, sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert room == math.inf or "more room" in found.settle()


@pytest.mark.parametrize(
    "values, smallest",
    [
        ([0.036, 0.046, 0.056, 0.041, 0.051], 0.05),  # above zero, below the smallest effect
        ([0.015, 0.005, 0.03, 0.01, 0.015], 0.02),
        ([3, -1, 2, 0, 4.0], 1.0),  # above the smallest effect, not clear of zero
        ([1, -2, 2, -1, -0.5], 0.5),  # below zero on average
    ],
)
def test_settle_names_the_smallest_number_that_decides(values, smallest):
    finding = Finding(values, smallest)
    assert finding.word == "undecided"
    n, spread = int(finding.settle().split()[1]), torch.tensor(values).std().item()

    def decides(n):
        half = float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
        return (
            finding.mean - half > 0 if finding.mean >= smallest else finding.mean + half < smallest
        )

    assert decides(n) and not decides(n - 1)


def test_bad_input(data):
    images, labels = common_start(data, 1)
    with pytest.raises(ValueError, match="at least 5 encoders"):
        Finding([1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ValueError, match="NaN"):
        Finding([1.0, 2.0, 3.0, 4.0, math.nan])
    with pytest.raises(AssertionError, match="needs two domains"):
        mean_length(torch.ones(5, 1, 4, 3, 8, 5), 8)
    with pytest.raises(ValueError, match="ask for fewer"):
        batch_gradients(data, images, labels, 4, 4, width=8)
    with pytest.raises(ValueError, match="embed"):
        fresh_gradients(data, images, labels, layers=("embde",), width=8)


def test_fresh_gradients_are_reproducible(data):
    images, labels = common_start(data, 1)
    a, b = (fresh_gradients(data, images, labels, 2, width=8, real_batch=12) for _ in range(2))
    assert torch.equal(a, b) and not torch.equal(a[0], a[1])


@pytest.mark.skipif(not STORED.exists(), reason="benchmarks/results is not in this copy")
def test_stored_rows_are_complete_and_possible():
    rows = pd.read_csv(STORED, dtype={"variant": str}, keep_default_na=False)
    assert not rows.duplicated(list(rows.columns[:-1])).any()
    assert rows.groupby(["data", "study", "target"])["seed"].nunique().min() >= 5
    value, quantity = rows["value"], rows["quantity"]
    assert value.map(math.isfinite).all()
    assert value[rows["study"] == "probes"].between(0, 100).all()
    rank = quantity.str.startswith(("cosine", "rank")) | quantity.str.contains("encoder")
    assert value[rank].between(-1, 1).all()
    length = quantity.isin(["R", "null"]) | quantity.str.contains("in ring")
    assert value[length].between(0, 1).all()
    total = rows[quantity == "share"].groupby(["data", "target", "layer", "seed"])["value"].sum()
    assert (total - 1).abs().max() < 1e-4
