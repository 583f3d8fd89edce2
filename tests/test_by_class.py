"""One distillation, its classes shared out: the bits of the undivided run, on processes, after kills, for every method."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from joblib import parallel_config

from dgdd_nb.by_class import distill_by_class, fair_block, merge, shares
from dgdd_nb.data import MultiDomain
from dgdd_nb.distill import distill
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.engine import class_blocks
from dgdd_nb.matching import DM
from dgdd_nb.surgery import SGS, MatchedDM, OwnDomain
from shared import QUICK

C, K, SMALL = 5, 3, {"ipc": 3, "steps": 4, "real_batch": 9, "width": 8, "seed": 2, "device": "cpu"}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_source(size: int = 8, holes: bool = False, domains: int = K) -> MultiDomain:
    """Random pictures, 4 to 8 in each cell; with `holes` class 1 is absent from domain 0, and class 4 is in domain 2 alone."""
    dice = torch.Generator().manual_seed(0)
    cells = [(c, k, 4 + (c + k) % 5) for c in range(C) for k in range(domains)]
    if holes:
        cells = [(c, k, n) for c, k, n in cells if (c, k) != (1, 0) and (c != 4 or k == 2)]
    labels = torch.cat([torch.full((n,), c) for c, _, n in cells])
    where = torch.cat([torch.full((n,), k) for _, k, n in cells])
    x = torch.randint(0, 256, (len(labels), 3, size, size), generator=dice, dtype=torch.uint8)
    return MultiDomain.from_tensors(x, labels, where, classes=[f"class {c}" for c in range(C)])


def spread(real, synthetic):
    """An objective whose union is not the mean of its domains."""
    return (real["embed"].var(0) - synthetic["embed"].var(0)).square().sum()


class Dice(DM):
    """An objective with random numbers of its own."""

    def draw(self, generator, dims):
        return torch.randn(dims["embed"], generator=generator, device=generator.device)

    def __call__(self, real, synthetic, draw=None):
        return ((real["embed"].mean(0) - synthetic["embed"].mean(0)) * draw).square().sum()


def assert_same(parts: DistilledSet, whole: DistilledSet) -> None:
    """Images, tags, history and recipe, to the last bit."""
    for name in ("images", "labels", "domains"):
        assert torch.equal(getattr(parts, name), getattr(whole, name)), name
    assert parts.history.keys() == whole.history.keys()
    for name, value in whole.history.items():
        same = (
            torch.equal(parts.history[name], value)
            if isinstance(value, torch.Tensor)
            else parts.history[name] == value
        )
        assert same, name
    assert {k: v for k, v in parts.recipe.items() if k != "split"} == whole.recipe


def compare(
    source: MultiDomain, objective=None, surgery=None, parts: int = 2, **more
) -> DistilledSet:
    settings = SMALL | more
    found = distill_by_class(source, objective or DM(), surgery, parts=parts, **settings)
    whole = distill(
        source, objective or DM(), surgery, **settings | {"block": found.recipe["place"]["block"]}
    )
    assert_same(found, whole)
    return found


SURGERIES = [
    None,
    SGS(),
    SGS(1.0, 0.3),
    SGS(1.0, 0.3, reading="b"),
    MatchedDM(1.0),
    OwnDomain(0.3),
    *(SGS(1.0, 0.3, agreement=name) for name in ("unbiased", "constant", "shuffled", "pixel")),
]


@pytest.mark.parametrize("surgery", SURGERIES, ids=lambda s: repr(s).partition("#")[0].strip())
def test_every_surgery(surgery):
    found = compare(make_source(), DM(), surgery)
    assert found.recipe["split"] == [["class 0", "class 1"], ["class 2", "class 3", "class 4"]]


@pytest.mark.parametrize(
    "more",
    [
        {"momentum": 0.0},
        {"momentum": 0.9, "lr": 3.0},
        {"init": "noise"},
        {"init": "random"},
        {"keep_every": 2},
        {"steps": 0},
        {"augment": "none", "width": 64},
        {"augment": "none", "channels_last": True},
        {"chunk": 7},
        {"block": 3},
        {"block": 4},
        {"parts": 5},
        {"parts": 1},
        {"ipc": [1, 7, 2, 2, 4]},
        {"ipc": {f"class {c}": 1 + c for c in range(C)}, "parts": 3},
        {"network": "convnet-bn", "batch_norm": "frozen"},
    ],
    ids=str,
)
def test_every_setting(more):
    compare(make_source(), DM(), SGS(1.0, 0.3), **more)


@pytest.mark.parametrize("surgery", [None, SGS(1.0, 0.3), MatchedDM(1.0)], ids=str)
@pytest.mark.parametrize("objective", [DM(), spread, Dice()], ids=["DM", "spread", "dice"])
def test_absent_cells_and_uneven_numbers(objective, surgery):
    compare(
        make_source(holes=True), objective, surgery, parts=3, ipc=[2, 5, 2, 3, 2], real_batch=15
    )


def test_sizes_that_fill_no_register_and_many_domains():
    compare(
        make_source(size=10, domains=7),
        DM(),
        SGS(1.0, 0.3, reading="b"),
        depth=1,
        real_batch=14,
        parts=4,
    )


@QUICK
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 30), st.integers(1, 200)
)
def test_shares_are_whole_blocks(per_class, parts, limit):
    parts = min(parts, len(per_class))
    block = fair_block(per_class, parts, limit)
    found = shares(per_class, parts, block)
    assert sum(found, []) == list(range(len(per_class))) and len(found) == parts and all(found)
    starts = {first for first, _ in class_blocks(tuple(per_class), block)}
    assert all(part[0] in starts for part in found)
    assert max(map(len, found)) <= max(map(len, shares(per_class, parts, 1)))


@pytest.mark.parametrize("only", [[3], ["class 1", 3], ["class 4", "class 0"], "class 2"], ids=str)
def test_some_classes_alone(only):
    """Whatever the block: a class inside a block is cut out of it."""
    source, settings = make_source(), SMALL | {"keep_every": 2}
    for block in (3, 7):
        whole = distill(source, DM(), SGS(1.0, 0.3), block=block, **settings)
        some = distill(source, DM(), SGS(1.0, 0.3), block=block, only=only, **settings)
        mine = torch.isin(whole.labels, some.labels.unique())
        assert some.classes == source.classes and sorted(some.recipe["only"]) == sorted(
            {source.classes[i] for i in some.labels}
        )
        assert torch.equal(some.images, whole.images[mine]) and torch.equal(
            some.domains, whole.domains[mine]
        )
        assert torch.equal(some.history["kept"], whole.history["kept"][:, mine])


def test_a_part_resumes(tmp_path):
    source, surgery, file = make_source(), SGS(1.0, 0.3), tmp_path / "part.safetensors"
    settings = SMALL | {"only": [1, 2], "block": 6, "keep_every": 3, "momentum": 0.9}
    whole = distill(source, DM(), surgery, **settings | {"steps": 7})
    distill(source, DM(), surgery, **settings | {"steps": 4, "keep_every": 3}, checkpoint=file)
    resumed = distill(source, DM(), surgery, **settings | {"steps": 7}, checkpoint=file)
    assert torch.equal(resumed.images, whole.images) and torch.equal(
        resumed.history["losses"], whole.history["losses"]
    )
    for other in ({"only": [1, 3]}, {"only": None}):
        with pytest.raises(ValueError, match="belongs to another run .only"):
            distill(source, DM(), surgery, **settings | {"steps": 7} | other, checkpoint=file)


def test_an_old_recipe_is_as_it_was():
    """Without `only` a run describes itself as ever: old checkpoints resume."""
    recipe = distill(make_source(), DM(), None, **SMALL | {"steps": 1}).recipe
    assert not {"only", "split"} & (recipe.keys() | recipe["place"].keys())
    assert not any("only" in key for key in recipe)


def test_parts_from_files(tmp_path):
    """Made elsewhere, saved, loaded, joined."""
    source, settings = make_source(), SMALL | {"block": 6}
    whole = distill(source, DM(), SGS(), **settings)
    for number, only in enumerate(([0, 1], [2, 3], [4])):
        distill(source, DM(), SGS(), only=only, **settings).save(tmp_path / str(number))
    joined = merge([DistilledSet.load(tmp_path / str(number)) for number in (2, 0, 1)])
    assert_same(joined, DistilledSet.load(whole.save(tmp_path / "whole")))
    again = DistilledSet.load(joined.save(tmp_path / "joined"))
    assert again.recipe == joined.recipe and torch.equal(again.images, joined.images)


def die_once(run, found):
    """The process of the last class dies at step 3, without a word, the first time it gets there."""
    marker = Path(os.environ["DGDD_TEST_MARKER"])
    if 4 in run.engine.only and run.at == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_processes_and_a_killed_worker(tmp_path, monkeypatch):
    monkeypatch.setenv("DGDD_TEST_MARKER", str(tmp_path / "died"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    source, settings = (
        make_source(),
        SMALL | {"checkpoint": tmp_path / "parts", "checkpoint_every": 2},
    )
    dies = pytest.raises(RuntimeError, match="a worker died.*finished steps are kept")
    with parallel_config(backend="loky", n_jobs=2), dies:
        distill_by_class(source, DM(), SGS(1.0, 0.3), callback=die_once, **settings)
    assert (tmp_path / "parts" / "part-2-of-2.safetensors").exists()
    found = distill_by_class(
        source, DM(), SGS(1.0, 0.3), **settings
    )  # what the processes left undone, in this one
    assert_same(
        found, distill(source, DM(), SGS(1.0, 0.3), **SMALL, block=found.recipe["place"]["block"])
    )


def test_what_mixes_classes_is_refused():
    class Mixing(DM):
        mixes_classes = True

    def whiten(g_domain, g_dm, **_):
        return g_dm / g_dm.norm()

    whiten.mixes_classes = True
    for more, words in [
        ({"objective": Mixing()}, "Mixing mixes classes"),
        ({"surgery": whiten}, "whiten mixes classes"),
        ({"network": "convnet-bn"}, "frozen"),
        ({"parts": 6}, "at most 5 parts for 5 classes"),
        ({"parts": 0}, "not 0"),
        ({"block": 100}, "a smaller block"),
        ({"only": [1]}, "leave out only"),
        ({"widht": 3}, "distill has no option 'widht'"),
    ]:
        with pytest.raises(ValueError, match=words):
            distill_by_class(make_source(), **{"objective": DM(), **SMALL, **more})
    for only, words in [
        ([], "no class"),
        (["class7"], "did you mean 'class"),
        ([7], "unknown class 7"),
        ([True], "True"),
    ]:
        with pytest.raises(ValueError, match=words):
            distill(make_source(), DM(), only=only, **SMALL)
