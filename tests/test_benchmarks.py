"""The yardsticks in `benchmarks/` must compute what our engine computes; else a ratio of times means nothing."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from dgdd_nb.data import Batch, MultiDomain
from dgdd_nb.domain_gradients import domain_gradients
from dgdd_nb.engine import Engine, EngineSettings
from dgdd_nb.files import generator
from dgdd_nb.matching import DM
from dgdd_nb.networks import ConvNet

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench_cache  # noqa: E402
import bench_step  # noqa: E402
import public_loop  # noqa: E402
import roofline  # noqa: E402

C, IPC, REAL, SIZE, WIDTH = 3, 4, 6, 16, 8


def make_loop(strategy: str = "") -> public_loop.PublicLoop:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(C * 20, 3, SIZE, SIZE, generator=generator)
    labels = torch.arange(C).repeat(20)  # unsorted on purpose
    synthetic = torch.randn(C * IPC, 3, SIZE, SIZE, generator=generator)
    return public_loop.PublicLoop(
        images, labels, synthetic, IPC, width=WIDTH, real_batch=REAL, strategy=strategy, seed=1
    )


@pytest.mark.parametrize("domains", [1, 3])
def test_gradient_equals_ours(domains: int):
    """Augmentation off, same network and real images: the same gradient, also as the mean over domains."""
    loop = make_loop()
    net, batches = loop.network(), [loop.batch(c) for c in range(C)]
    (gradient,) = torch.autograd.grad(loop.loss(net, batches), loop.synthetic)
    encoder = ConvNet(C, SIZE, width=WIDTH)
    encoder.load_state_dict(net.state_dict())
    labels, mine = (torch.arange(C).repeat_interleave(n) for n in (REAL, IPC))
    where = torch.arange(domains).repeat_interleave(REAL // domains).repeat(C)
    real = Batch(torch.cat(batches), labels, where, domains, C)
    synthetic = Batch(loop.synthetic, mine, torch.full_like(mine, -1), domains, C)
    ours = domain_gradients(encoder, DM(), real, synthetic)
    assert gradient.abs().max() > 0
    assert (
        ours.g_dm - gradient
    ).abs().max() <= 5e-6 * gradient.abs().max()  # float32, sums in another order


def test_gradient_equals_the_engine_s():
    """The same for a step of the engine: its network and its real images handed to the public loop."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randint(0, 256, (C * 20, 3, SIZE, SIZE), generator=draw, dtype=torch.uint8)
    source = MultiDomain.from_arrays(
        x, torch.arange(C).repeat(20), torch.zeros(C * 20, dtype=torch.int64)
    )
    loop, settings = (
        make_loop(),
        EngineSettings(width=WIDTH, real_batch=REAL, augment="none", device="cpu"),
    )
    engine = Engine(source, DM(), None, settings, seed=5)
    ours = engine.gradients(loop.synthetic, torch.arange(C).repeat_interleave(IPC), step=2).g_dm
    net = loop.network()
    net.load_state_dict(engine.encoders(2).state_dict())
    index = source.sample(REAL, generator(5, "real", 2))
    batches = source.normalisation()(source.images[index]).split(REAL)
    (gradient,) = torch.autograd.grad(loop.loss(net, batches), loop.synthetic)
    assert (ours - gradient).abs().max() <= 5e-6 * gradient.abs().max()


def test_batches_are_of_one_class_without_repetition():
    loop = make_loop()
    for c in range(C):
        batch = loop.batch(c)
        assert batch.shape == (REAL, 3, SIZE, SIZE)
        found = (batch[:, None] == loop.images[loop.of_class[c]][None]).flatten(2).all(2)
        assert bool((found.sum(1) == 1).all()) and int(found.any(0).sum()) == REAL


@pytest.mark.parametrize("name", list(public_loop.GROUPS))
def test_real_and_synthetic_get_the_same_transform(name: str):
    x = torch.randn(7, 3, 12, 10, generator=torch.Generator().manual_seed(2))
    for seed in range(10):
        many, few = public_loop.augment(x, name, seed), public_loop.augment(x[:3], name, seed)
        assert torch.allclose(many[:3], few, atol=1e-6)
    assert any(not torch.equal(public_loop.augment(x, name, seed), x) for seed in range(10))


def test_steps_repeat_by_seed():
    first, second = make_loop(public_loop.STRATEGY), make_loop(public_loop.STRATEGY)
    for loop in (first, second):
        torch.manual_seed(0)  # the public loop takes its networks from the global generator
        losses = [loop.step() for _ in range(4)]
        assert all(loss > 0 for loss in losses)
    assert torch.equal(first.synthetic, second.synthetic)
    assert not torch.equal(first.synthetic, make_loop().synthetic)


def test_flops_by_hand():
    """32 x 32, width 128: convolutions at 32, 16 and 8 pixels; 258 real images and 10 synthetic ones per class."""
    per_image = 2 * 9 * (3 * 128 * 32**2 + 128 * 128 * 16**2 + 128 * 128 * 8**2)
    assert bench_step.Case().flops(3) == 10 * per_image * (258 + 10 * (1 + 3))


def test_steps_take_turns():
    order = []
    steps = {name: (lambda name=name: order.append(name)) for name in "abc"}
    seconds = bench_step.measure(steps, rounds=3, device="cpu", warm_up=1)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert all(len(times) == 3 for times in seconds.values())
    row = bench_step.row(
        "g", bench_step.Case(), "b", {"a": [2.0, 2.0, 6.0], "b": [1.0, 4.0, 2.0]}, "a", faster=True
    )
    assert (row["ratio"], row["lowest"], row["highest"], row["seconds"]) == (
        "2.000",
        "0.500",
        "3.000",
        "2.0000",
    )


def test_smoke_run_writes_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    for place in ("dgdd_nb.engine", bench_step.__name__):
        monkeypatch.setattr(f"{place}.bfloat16_gain", lambda: 2.0)
    out = tmp_path / "step.csv"
    bench_step.main(["--quick", "--rounds", "1", "--out", str(out)])
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["group"] for row in rows} == set(bench_step.GROUPS)
    off = {row["step"]: float(row["off"]) for row in rows if row["off"]}
    assert off["DM+SGS"] == 0 < off["DM+SGS, bfloat16"] < 0.05
    assert all(float(row["seconds"]) >= 0 and row["torch"] == torch.__version__ for row in rows)
    assert all(
        "naive K+1 passes" in {r["step"] for r in rows if r["case"] == c}
        for c in {row["case"] for row in rows if row["group"] == "growth"}
    )
    assert {r["step"] for r in rows if r["group"] == "objectives"} >= {"HDD", "HDD+SGS", "DataDAM"}
    assert {r["step"] for r in rows if r["group"] == "posthoc"} >= {"plain", "FACT", "AdvFreq"}
    assert "| case | step |" in capsys.readouterr().out


def test_roofline(capsys: pytest.CaptureFixture):
    parts = {name: (calls, work) for name, calls, work, _, _ in roofline.parts(bench_step.Case())}
    operations = sum(calls * work for calls, work in parts.values())
    assert operations == pytest.approx(bench_step.Case().flops(1))
    roofline.main(["--quick", "--rounds", "1"])
    assert "step of DM" in capsys.readouterr().out


def test_cache_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    from PIL import Image

    for name in ("a/dog/0.png", "a/cat/0.png", "b/dog/0.png", "b/cat/0.png"):
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True)
        Image.linear_gradient("L").save(path)
    out = tmp_path / "cache.csv"
    words = [
        "bench_cache.py",
        str(tmp_path / "own"),
        "--size",
        "8",
        "--rounds",
        "2",
        "--out",
        str(out),
    ]
    monkeypatch.setattr(sys, "argv", words)
    bench_cache.main()
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["round"], row["folder"], row["images"], row["side"]) for row in rows] == [
        (n, "own", "4", "8") for n in "01"
    ]
    assert all(float(row["decoded_s"]) > 0 < float(row["cached_s"]) for row in rows)
    assert "(medians of 2)" in capsys.readouterr().out
