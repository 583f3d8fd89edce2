"""The engine: what a step computes, whatever it is cut into, and what it says about plug-ins that break the contract."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shared import QUICK
from test_matching import BROKEN

from dgdd_nb.coresets import herd
from dgdd_nb.data import MultiDomain
from dgdd_nb.distilled import assign_domains, decode
from dgdd_nb.engine import Engine, EngineSettings, FeatureStore, class_groups, forecast
from dgdd_nb.engine import herd_products, memory_advice, nearest_to_centers
from dgdd_nb.matching import DM, Matcher
from dgdd_nb.networks import Encoders, FreshEncoders
from dgdd_nb.surgery import SGS

C, K, TINY = 5, 3, {"real_batch": 9, "width": 8, "device": "cpu"}


def make_source(holes: bool = False, size: int = 8) -> MultiDomain:
    "Random pictures, 4 to 8 in each cell; with holes class 1 is absent from domain 0, class 4 is in domain 2 alone."
    dice = torch.Generator().manual_seed(0)
    cells = [(c, k, 4 + (c + k) % 5) for c in range(C) for k in range(K)]
    if holes:
        cells = [(c, k, n) for c, k, n in cells if (c, k) != (1, 0) and (c != 4 or k == 2)]
    labels = torch.cat([torch.full((n,), c) for c, _, n in cells])
    where = torch.cat([torch.full((n,), k) for _, k, n in cells])
    x = torch.randint(0, 256, (len(labels), 3, size, size), generator=dice, dtype=torch.uint8)
    return MultiDomain.from_arrays(x, labels, where, classes=[f"class {c}" for c in range(C)])


def make_images(source: MultiDomain, ipc=3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    labels, domains = assign_domains(ipc, source.present)
    dice = torch.Generator().manual_seed(1)
    return torch.randn(len(labels), 3, *source.size, generator=dice), labels, domains


def engine(source, matcher=None, surgery=None, encoders=None, **settings) -> Engine:
    chosen = EngineSettings(**{**TINY, **settings})
    return Engine(source, matcher or DM(), surgery, chosen, seed=2, encoders=encoders)


def spread(real, synthetic):
    "An objective whose union is not the mean of its domains."
    return (real["embed"].var(0) - synthetic["embed"].var(0)).square().sum()


class Dice(DM):
    "An objective with random numbers of its own."

    def draw(self, generator, dims):
        return torch.randn(dims["embed"], generator=generator, device=generator.device)

    def __call__(self, real, synthetic, draw=None):
        return ((real["embed"].mean(0) - synthetic["embed"].mean(0)) * draw).square().sum()


class General(Matcher):
    "An objective in the general form."

    def __init__(self, objective, union_is_mean=False):
        self.objective, self.union_is_mean = objective, union_is_mean

    def __call__(self, net, real, synthetic, dice):
        a, b = (net.extract(x.images, ("embed",))["embed"] for x in (real, synthetic))
        draw = getattr(self.objective, "draw", lambda *_: None)(dice, {"embed": a.shape[1:]})
        more = (draw,) if isinstance(self.objective, DM) else ()
        table = [[b.sum() * 0 for _ in range(real.C)] for _ in range(real.K)]
        for c in synthetic.labels.unique().tolist():
            for k in range(real.K):
                here = (real.labels == c) & (real.domains == k)
                if here.any():
                    mine = {"embed": b[synthetic.labels == c]}
                    table[k][c] = self.objective({"embed": a[here]}, mine, *more)
        return torch.stack([torch.stack(row) for row in table])


def assert_close(a, b, exact=False):
    for name in ("g_domain", "g_dm", "losses", "weight"):
        x, y = getattr(a, name), getattr(b, name)
        assert torch.equal(x, y) if exact else torch.allclose(x, y, rtol=1e-3, atol=1e-5), name


CASES = [
    {},
    {"micro_batch": 7},
    {"micro_batch_synthetic": 4},
    {"channels_last": True, "micro_batch_synthetic": 3},
    {"network": "convnet-bn", "batch_norm": "frozen", "micro_batch_synthetic": 6},
    {"network": "convnet-bn", "batch_norm": "frozen", "micro_batch": 7},
    {"decode_factor": 2, "micro_batch_synthetic": 30},
]


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("matcher", [DM(), Dice(), spread], ids=["DM", "dice", "spread"])
@pytest.mark.parametrize("more", CASES, ids=str)
def test_cuts_repeats_and_the_general_way(matcher, holes, more):
    source = make_source(holes)
    images, labels, domains = make_images(source, ipc=[2, 5, 2, 3, 2] if holes else 3)
    base = {k: v for k, v in more.items() if k in ("network", "batch_norm", "decode_factor")}
    whole = engine(source, matcher, **base).gradients(images, labels, 4)
    made = engine(source, matcher, **more)
    made.gradients(images, labels, 1)
    found = made.gradients(images, labels, 4)
    assert_close(found, whole)
    assert_close(engine(source, matcher, **more).gradients(images, labels, 4), found, exact=True)
    mean = getattr(matcher, "union_is_mean", False)
    general = engine(source, General(matcher, mean), **more)
    assert_close(general.gradients(images, labels, 4, domains=domains), found)
    for one in (made, general):
        alone = one.gradients(images, labels, 4, separate=False)
        assert alone.g_domain is None and torch.allclose(alone.g_dm, found.g_dm, atol=1e-5)


@pytest.mark.parametrize("surgery", [None, SGS()])
def test_sheets_get_the_gradient_of_their_tiles(surgery):
    source = make_source()
    sheets, labels, domains = make_images(source)
    tiles = decode(sheets.requires_grad_(), 2)
    each = engine(source).gradients(tiles.detach(), labels.repeat_interleave(4), 4)
    found = engine(source, decode_factor=2).gradients(sheets, labels, 4)
    g_dm, *g_domain = (
        torch.autograd.grad(tiles, sheets, g, retain_graph=True)[0]
        for g in (each.g_dm, *each.g_domain)
    )
    assert torch.allclose(found.g_dm, g_dm) and torch.allclose(
        found.g_domain, torch.stack(g_domain)
    )
    assert torch.equal(found.losses, each.losses) and found.weight.shape == (K, len(sheets))
    made = sheets.detach().requires_grad_()
    engine(source, surgery=surgery, decode_factor=2).step(made, labels, domains, 4)
    assert torch.allclose(made.grad, found.g_dm) == (surgery is None)


def test_a_sheet_needs_equal_tiles():
    with pytest.raises(
        ValueError, match="decode_factor 3 does not divide the sides of 8 x 8: take"
    ):
        engine(make_source(), decode_factor=3)


@QUICK
@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 200))
def test_groups_hold_every_class_once_and_fit(per_class, limit):
    groups = class_groups(tuple(per_class), limit)
    assert [c for a, b in groups for c in range(a, b)] == list(range(len(per_class)))
    assert all(b - a == 1 or sum(per_class[a:b]) <= limit for a, b in groups)


def test_a_matcher_that_mixes_classes_gets_all_of_them():
    seen = []

    class Mixing(General):
        separable = False

        def __call__(self, net, real, synthetic, dice):
            seen.append(len(synthetic.labels.unique()))
            return super().__call__(net, real, synthetic, dice)

    source = make_source()
    images, labels, _ = make_images(source)
    engine(source, Mixing(DM()), micro_batch_synthetic=3).gradients(images, labels, 0)
    assert set(seen) == {C}


def test_mixture_is_drawn_from_the_union():
    source = make_source()
    made = engine(source, draw="mixture", real_batch=8)
    counts = torch.tensor([made.real.draw(t).counts for t in range(200)])  # (200, K, C)
    assert (counts.sum(1) == source.counts().sum(0).clamp(max=8)).all()
    share = counts.sum(0) / counts.sum((0, 1))
    assert torch.allclose(share, source.counts() / source.counts().sum(0), atol=0.05)
    for t in range(3):
        cell = (source.labels * K + source.domains)[made.real.draw(t).index]
        assert (cell.diff() >= 0).all() and len(made.real.draw(t).index.unique()) == len(cell)
    images, labels, _ = make_images(source)
    found = made.gradients(images, labels, 0)
    mean = torch.einsum("kn,knchw->nchw", found.weight, found.g_domain)
    assert torch.allclose(mean, found.g_dm, atol=1e-6)
    with pytest.raises(ValueError, match="compares domains"):
        engine(source, surgery=SGS(), draw="mixture")


@pytest.mark.parametrize("network", ["convnet", "convnet-bn"])
def test_a_life_of_three_steps(network):
    "Within a life nothing is drawn anew; any step can be computed on its own."
    source, kind = make_source(), {"network": network, "batch_norm": "frozen"}
    images, labels, _ = make_images(source)
    long = engine(source, encoders=partial(FreshEncoders, life=3), micro_batch_synthetic=6, **kind)
    steps = [long.gradients(images, labels, t) for t in range(5)]
    for other in (1, 2):
        assert_close(steps[other], steps[0], exact=True)
    assert not torch.equal(steps[3].g_dm, steps[0].g_dm)
    assert_close(steps[0], engine(source, **kind).gradients(images, labels, 0))
    late = engine(source, encoders=partial(FreshEncoders, life=3), micro_batch_synthetic=6, **kind)
    assert_close(late.gradients(images, labels, 4), steps[4], exact=True)


@pytest.mark.parametrize("life, pool", [(3, 2), (2, 5), (4, 4)])
def test_networks_of_a_pool_take_turns(life, pool):
    "Another network at every step, each used `life` times, renewed one after the other."
    turns = FreshEncoders(lambda seed: None, 0, life, pool)
    born = [turns.born(step) for step in range(20 * life * pool)]
    assert all(a != b for a, b in zip(born, born[1:]))
    assert {born.count(step) for step in set(born[life * pool : -life * pool])} == {life}
    new = [born[step] == step for step in range(len(born))]
    assert all(sum(new[t : t + life * pool]) == pool for t in range(life * pool, 10 * life * pool))


def test_a_pool_sees_at_a_birth_what_fresh_encoders_see():
    source, turns = make_source(), partial(FreshEncoders, life=2, pool=3)
    images, labels, _ = make_images(source)
    long, fresh = engine(source, encoders=turns), engine(source)
    for step in range(12):
        born = long.encoders.born(step)
        assert_close(
            long.gradients(images, labels, step), fresh.gradients(images, labels, born), exact=True
        )
        assert_close(
            engine(source, encoders=turns).gradients(images, labels, step),
            long.gradients(images, labels, step),
            exact=True,
        )


def test_a_life_can_have_other_images_at_each_step():
    source, (images, labels, _) = make_source(), make_images(make_source())
    made = engine(source, encoders=partial(FreshEncoders, life=3, redraw=True))
    seen, nets = [], []
    for step in range(4):
        made.gradients(images, labels, step)
        seen.append(made.drawn.index)
        nets.append(made.encoders(step).classifier.weight.clone())
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(nets[0], nets[2]) and not torch.equal(nets[2], nets[3])
    assert torch.equal(seen[3], engine(source).real.draw(3).index)


@pytest.mark.parametrize("draw", ["clusters", "herded"])
def test_representative_images_are_of_every_cell(draw):
    source = make_source(holes=True)
    made = engine(source, draw=draw, renew=4 if draw == "clusters" else None)
    index = [made.real.draw(step).index for step in range(8)]
    cells = torch.bincount(source.cell[index[0]], minlength=C * K)
    assert cells.tolist() == [min(3, n) for n in source.cell_sizes]
    assert (source.cell[index[0]].diff() >= 0).all() and len(index[0].unique()) == len(index[0])
    assert all(torch.equal(index[0], one) for one in index[: 4 if draw == "clusters" else 8])
    assert torch.equal(index[0], index[7]) == (draw == "herded")
    alone = engine(source, draw=draw, renew=made.settings.renew)
    assert torch.equal(alone.real.draw(7).index, index[7])  # whatever was asked before


def test_clusters_and_herding_by_products():
    dice = torch.Generator().manual_seed(0)
    centers = 100 * torch.randn(4, 6, generator=dice)
    rows = (centers.repeat_interleave(5, 0) + torch.randn(20, 6, generator=dice)).double()
    assert {int(i) // 5 for i in nearest_to_centers(rows, 4, 0)} == {0, 1, 2, 3}
    assert torch.equal(herd_products(rows @ rows.T, 7), herd(rows, 7))
    same = torch.ones(5, 2).double()
    assert len(nearest_to_centers(same, 3, 0)) == 3  # fewer different images than clusters


# ---- plug-ins that break the contract ----


class Restless(Encoders):
    def __init__(self, build, seed):
        self.net = build(seed)

    def __call__(self, step):
        torch.rand(1)
        return self.net


def becomes_a_number(real, synthetic):
    return (real["embed"].mean() - synthetic["embed"].mean()).item() ** 2


@pytest.mark.parametrize("plug, says", [*BROKEN, (becomes_a_number, "type float")])
def test_a_broken_matcher_gets_one_sentence(plug, says):
    source = make_source(holes=plug is becomes_a_number)  # with holes cell by cell, without vmap
    images, labels, domains = make_images(source)
    with pytest.raises(ValueError) as caught:
        engine(source, plug).step(images, labels, domains, 0)
    assert any(part in str(caught.value) for part in says.split("|")), caught.value
    assert "vmap" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words, surgery",
    [
        ("in place", lambda g, labels, domains, dice: g.g_dm * domains.mul_(0).sum()),
        ("shape", lambda g, labels, domains, dice: g.g_domain),
    ],
)
def test_a_broken_surgery_gets_one_sentence(words, surgery):
    source = make_source()
    with pytest.raises(ValueError, match=words):
        engine(source, surgery=surgery).step(*make_images(source), 0)


def test_other_errors_of_a_plug_in_stay_as_they_are():
    def wrong(real, synthetic):
        return real["embbed"]

    source = make_source()
    with pytest.raises(KeyError, match="embbed"):
        engine(source, wrong).step(*make_images(source), 0)
    with pytest.raises(ValueError, match="Restless: It rolls"):
        engine(source, encoders=Restless).step(*make_images(source), 0)


# ---- cost ----


@pytest.mark.parametrize(
    "error, words",
    [
        (RuntimeError("CUDA out of memory"), "try micro_batch=4, micro_batch_synthetic=2"),
        (torch.cuda.OutOfMemoryError("x"), "try micro_batch=4, micro_batch_synthetic=2"),
        (MemoryError(), "try micro_batch=4, micro_batch_synthetic=2"),
        (RuntimeError("something else"), "something else"),
        (KeyError("x"), "x"),
    ],
)
def test_out_of_memory_becomes_advice(error, words):
    kind = KeyError if isinstance(error, KeyError) else RuntimeError
    with pytest.raises(kind, match=words), memory_advice(micro_batch=8, micro_batch_synthetic=4):
        raise error


@pytest.mark.parametrize("life, pool", [(1, 1), (4, 1), (2, 3)])
@pytest.mark.parametrize("matcher", [DM(), General(DM())], ids=["DM", "general"])
def test_forecast_where_a_class_is_absent_from_domain_0(matcher, life, pool):
    source = make_source(True)
    _, labels, domains = make_images(source)
    made = engine(source, matcher, SGS(), partial(FreshEncoders, life=life, pool=pool))
    found = forecast(made, labels, domains, steps=500)
    assert found.total == 500 * found.seconds > 0 and found.memory > source.images.nbytes
    assert "500 steps" in str(found) and "MiB" in str(found)
    memory = replace(found, seconds=None)
    assert forecast(made, labels, domains, 500, measure=0) == memory and memory.total is None


def test_bfloat16_on_a_processor_with_and_without_units(monkeypatch):
    from dgdd_nb import engine as module

    source = make_source(size=16)
    images, labels, _ = make_images(source)
    plain = engine(source, width=64).gradients(images, labels, 0)
    monkeypatch.setattr(module, "bfloat16_gain", lambda: 0.02)
    with pytest.raises(ValueError, match=r"^Precision 'bfloat16' is 0\.02 times as fast as .*\.$"):
        engine(source, precision="bfloat16").gradients(images, labels, 0)
    assert engine(source).settings.precision == "float32"  # "auto", whatever the processor can do
    monkeypatch.setattr(module, "bfloat16_gain", lambda: 2.0)
    assert engine(source).settings.precision == "float32"
    half = engine(source, width=64, precision="bfloat16").gradients(images, labels, 0)
    off = float((half.g_domain - plain.g_domain).norm() / plain.g_domain.norm())
    assert half.g_domain.dtype == torch.float32 and 1e-5 < off < 0.02
    with pytest.raises(ValueError, match="General computes its own: use 'float32'"):
        engine(source, General(DM()), precision="bfloat16")


def test_the_gain_of_bfloat16_is_measured_without_global_dice():
    from dgdd_nb.engine import bfloat16_gain

    before = torch.get_rng_state()
    assert bfloat16_gain() > 0 and bfloat16_gain() == bfloat16_gain()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_folder_that_changes_meanwhile_does_not_stop_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "rglob", lambda *_: [tmp_path / "renamed by another run"])
    store = FeatureStore(tmp_path)
    store.keep(0, (0, 1), {"embed": torch.ones(2, 3)})
    monkeypatch.undo()
    store.keep(0, (0, 1), {"embed": torch.ones(2, 3)})
    assert torch.equal(store.find(0, (0, 1), torch.device("cpu"))["embed"], torch.ones(2, 3))
