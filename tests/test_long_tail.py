"""Imbalanced sets, and the weights and corrected amplitudes of small classes."""

import pytest
import torch
from shared import ROOT

from dgdd_nb.domain_gradients import check_matcher, domain_gradients
from dgdd_nb.engine import Engine, EngineSettings
from dgdd_nb.files import load_settings
from dgdd_nb.kernels import SDD
from dgdd_nb.long_tail import CSDM, long_tail
from dgdd_nb.methods import make_set
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.study import Study, prepared
from test_matching import problem

DICE = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def source():
    return mini_digits(size=8, train=200, test=0)  # 20 images of each class and domain


@pytest.mark.parametrize("factor", [1, 3.5, 20])
def test_profile(source, factor):
    order = "9876543210"
    counts = long_tail(source, factor, order=list(order)).counts()
    assert (counts == counts[0]).all()
    wanted = [round(20 * factor ** (-i / 9)) for i in range(10)]
    assert counts[0].flip(0).tolist() == wanted


def test_seed_draws_order_and_images(source):
    first, again, other = (long_tail(source, 10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.counts(), other.counts())
    shorter = long_tail(source, 4)  # the same order, and all that the longer tail has
    assert (shorter.counts() >= first.counts()).all()
    kept = {x.numpy().tobytes() for x in shorter.images}
    assert {x.numpy().tobytes() for x in first.images} <= kept
    assert first.classes == source.classes and first.domain_names == source.domain_names


def test_a_domain_that_lacks_a_class_stays_so(source):
    some = source.select((source.labels != 3) | (source.domains != 1))
    counts = long_tail(some, 5).counts()
    assert counts[1, 3] == 0
    assert all(len(set(column) - {0}) == 1 for column in counts.T.tolist())


def sets(n, m=5, D=6):
    return [{"embed": torch.randn(k, D, generator=DICE, dtype=torch.float64)} for k in (n, m)]


def drawn(D=6, **how):
    return SDD(**how).draw(torch.Generator().manual_seed(1), {"embed": (D,)})


def test_off_it_is_sdd():
    pair, draw = sets(4), drawn()
    off = CSDM(gamma=0, corrected=False, n_max=100)
    torch.testing.assert_close(off(*pair, draw), SDD()(*pair, draw), rtol=0, atol=0)


def test_weights():
    for n in (1, 10, 96, 500):
        alpha, beta = CSDM(gamma=0.7, n_max=96).weights(n)
        assert alpha + beta == pytest.approx(2)
        assert beta / alpha == pytest.approx(max(1, 96 / n) ** 0.7)


def test_corrected_length_is_right_on_average():
    "Of many small samples: |phi|^2 of a normal distribution is known."
    D, n = 3, 5
    t = 0.5 * torch.randn(40, D, generator=DICE, dtype=torch.float64)
    a = torch.randn(20_000, n, D, generator=DICE, dtype=torch.float64)

    def square(objective):
        amplitude, phase = torch.vmap(lambda x: objective.parts(x, x, t))(a)
        p, q = (f(a @ t.T).mean(1) for f in (torch.cos, torch.sin))
        B = (p.square() + q.square()).sqrt()
        return (B - amplitude.sqrt()).square().mean(0)  # A <= B, so A = B - root

    truth = (-t.square().sum(1)).exp()
    raw = ((a @ t.T).cos().mean(1).square() + (a @ t.T).sin().mean(1).square()).mean(0)
    torch.testing.assert_close(raw, truth + (1 - truth) / n, rtol=0.03, atol=0.005)
    found = square(CSDM())
    assert ((found - truth).abs() < 0.4 * (raw - truth)).all()  # what is left is the clipping


def test_gradients():
    (real, synthetic), draw = sets(4), drawn()
    objective = CSDM(bandwidth=9.0, n_max=20)
    leaf = synthetic["embed"].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: objective(real, {"embed": x}, draw), leaf)
    assert check_matcher(objective) == []


def test_the_run_says_what_a_full_class_is(source):
    tail = long_tail(source, 10)
    engine = Engine(tail, CSDM(), settings=EngineSettings(width=4, real_batch=12))
    assert engine.matcher.n_max == 12  # four domains, three images each
    net, real, synthetic = problem([[4, 2], [3, 2], [5, 6]])
    by_hand = domain_gradients(net, CSDM(n_max=12), real, synthetic)
    assert torch.equal(domain_gradients(net, CSDM(), real, synthetic).g_dm, by_hand.g_dm)


def test_method(source):
    tail = long_tail(source, 10, seed=2)
    few = {"steps": 2, "width": 4, "real_batch": 8, "lr": 0.1}
    made = make_set("CSDM+SGS", tail, 1, **few)
    assert made.recipe["matcher"]["n_max"] == 8 and made.recipe["surgery"]["name"] == "SGS"


def test_ready_table(source):
    study = load_settings(Study, ROOT / "benchmarks/tables/long_tail_mini.toml")
    assert len(study.methods) == 9 and study.baseline in [x.name for x in study.methods]
    factors = [method.prepare["factor"] for method in study.methods]
    assert sorted(factors) == [10] * 3 + [50] * 3 + [100] * 3
    small = [x for x in study.methods if x.prepare["factor"] == 10]
    one, *others = (prepared(x, source, 4).counts() for x in small)
    assert all(torch.equal(one, x) for x in others)
    assert torch.equal(one, long_tail(source, 10, seed=4).counts())


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda s: long_tail(s, 21), "leaves no image of class '.' in a domain.*at most 20"),
        (lambda s: long_tail(s, float("nan")), "factor must be a finite number from 1"),
        (lambda s: long_tail(s, 2, order=["1", "1"]), "each of the 10 classes once, not 2 names"),
        (lambda s: long_tail(s, 2, seed=1.5), "seed must be a whole number"),
        (lambda s: long_tail(s.images, 2), "source must be a MultiDomain, not Tensor"),
        (lambda s: CSDM(gamma=-1), "gamma must be a finite number from 0"),
        (lambda s: CSDM()(*sets(1), drawn()), "bring a second one"),
        (lambda s: make_set("CSDM+SGS", long_tail(s, 20), 1, width=4), "a second one"),
    ],
)
def test_refusals(source, call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call(source)
