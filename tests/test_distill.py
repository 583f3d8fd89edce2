"""A run: bits that resume, whatever is plugged in; what a checkpoint refuses; what a user is told."""

from __future__ import annotations

import gc
import os
import signal
import warnings
from functools import partial

import pytest
import torch
from test_engine import C, Dice, General, K, make_source, spread

from dgdd_nb.distill import describe, distill, estimate, initial_images, pick
from dgdd_nb.distilled import assign_domains
from dgdd_nb.matching import DM
from dgdd_nb.networks import FreshEncoders
from dgdd_nb.surgery import SGS, MatchedDM, OwnDomain, Stack

SMALL = {"ipc": 2, "steps": 7, "real_batch": 9, "width": 8, "seed": 2, "device": "cpu"}
SMALL |= {"progress": False, "lr": 1.0}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


RUNS = {
    "DM": (DM(), None, {}),
    "layers": (DM(layers=("pool1", "embed")), SGS(), {}),
    "dice": (Dice(), SGS(1.0, 0.3), {}),
    "spread": (spread, MatchedDM(1.0), {"momentum": 0.9}),
    "general": (General(DM()), SGS(1.0, 0.3, reading="b"), {}),
    "general, plain": (General(spread), None, {"momentum": 0.0}),
    "shuffled": (DM(), SGS(1.0, 0.3, agreement="shuffled"), {"init": "noise"}),
    "stack": (DM(), Stack((OwnDomain(0.3), SGS())), {"init": "random", "keep_every": 3}),
    "mixture": (DM(), None, {"draw": "mixture"}),
    "life": (DM(), SGS(), {"encoders": partial(FreshEncoders, life=3)}),
    "cut": (DM(), SGS(), {"micro_batch": 7, "micro_batch_synthetic": 4, "ipc": [1, 4, 2, 2, 3]}),
    "batch norm": (DM(), SGS(), {"network": "convnet-bn"}),
    "frozen": (DM(), SGS(), {"network": "convnet-bn", "batch_norm": "frozen"}),
    "no augmentation": (DM(), SGS(), {"augment": "none", "width": 64}),
}


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_a_broken_run_ends_with_the_same_bits(name, holes, tmp_path):
    matcher, surgery, more = RUNS[name]
    source, settings = make_source(holes), SMALL | more
    whole = distill(source, matcher, surgery, **settings)
    rest = settings | {"checkpoint": tmp_path / "run.safetensors"}
    distill(source, matcher, surgery, **rest | {"steps": 4})
    resumed = distill(source, matcher, surgery, **rest)
    assert torch.equal(resumed.images, whole.images)
    assert resumed.history.keys() == whole.history.keys()
    assert torch.equal(resumed.history["losses"], whole.history["losses"])
    if "keep_every" in more:
        assert torch.equal(resumed.history["kept"], torch.stack(list(whole.history["kept"])))
        assert whole.history["kept_at"] == [0, 3, 6, 7]
    columns = 1 if name == "general, plain" else K
    assert whole.history["losses"].shape == (7, columns)
    assert resumed.recipe == whole.recipe and whole.recipe["steps"] == 7


def test_a_checkpoint_resumes_its_own_run_alone(tmp_path):
    source, file = make_source(), tmp_path / "run.safetensors"
    run = SMALL | {"checkpoint": file, "steps": 3}
    made = distill(source, DM(), SGS(), **run)
    for changes, words in [
        ({"lr": 3.0}, "lr: 1.0 there, 3.0 here"),
        ({"surgery": None}, "surgery"),
        ({"surgery": SGS(beta=0.2)}, "surgery"),
        ({"matcher": spread}, "matcher"),
        ({"encoders": partial(FreshEncoders, life=2)}, "encoders"),
        ({"source": make_source(True)}, "other images"),
        ({"steps": 2}, "done more steps"),
        ({"micro_batch": 7}, "resume='anyway'"),
    ]:
        plugs = {"source": source, "matcher": DM(), "surgery": SGS(), **run, **changes}
        with pytest.raises(ValueError, match=words):
            distill(**plugs)
    again = distill(source, DM(), SGS(), **run, micro_batch=7, resume="anyway")
    assert torch.equal(again.images, made.images)
    anew = distill(source, DM(), None, **run | {"resume": "never"})
    assert anew.recipe["surgery"] is None
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        distill(source, DM(), None, **run)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT")
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    def interrupt(run, found):
        if run.at == 5:
            os.kill(os.getpid(), signal.SIGINT)

    source, file = make_source(), tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt, match=r"after step 5 of 7.*resumes"):
        distill(source, DM(), **SMALL, checkpoint=file, callback=interrupt)
    resumed = distill(source, DM(), **SMALL, checkpoint=file)
    assert torch.equal(resumed.images, distill(source, DM(), **SMALL).images)


def test_an_unwritable_checkpoint_loses_no_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="The run goes on"):
        made = distill(make_source(), DM(), **SMALL, checkpoint=tmp_path / "file" / "x.safetensors")
    assert len(made) == 2 * C


def test_nothing_grows_with_the_steps():
    counts = []

    def count(run, found):
        if run.at in (3, 6):
            gc.collect()
            counts.append(sum(isinstance(x, torch.Tensor) for x in gc.get_objects()))
            counts.append(run.losses.shape)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some objects complain about being looked at
        distill(make_source(), DM(), SGS(), **SMALL, callback=count)
    assert counts[:2] == counts[2:] and counts[1] == (7, K)


def test_what_a_user_is_told(capsys):
    source, quick = make_source(), {**SMALL, "progress": True}
    distill(source, DM(), SGS(), **quick)
    assert "7 steps" in (err := capsys.readouterr().err) and "MiB" in err
    distill(source, DM(), SGS(), **SMALL)
    assert capsys.readouterr().err == ""
    options = {k: v for k, v in SMALL.items() if k not in ("progress", "lr", "seed")}
    for data in (source, make_source(True)):
        found = estimate(data, DM(), SGS(), **options)
        assert found.total == 7 * found.seconds > 0


def test_the_forecast_changes_no_bits():
    source = make_source()
    loud = distill(source, DM(), SGS(), **SMALL | {"progress": True})
    assert torch.equal(loud.images, distill(source, DM(), SGS(), **SMALL).images)


def test_starts():
    source = make_source(True)
    labels, domains = assign_domains(3, source.present)
    for init in ("uniform", "random", "noise"):
        x = initial_images(source, labels, domains, init, seed=3)
        assert torch.equal(x, initial_images(source, labels, domains, init, seed=3))
        assert x.dtype == torch.float32 and x.shape == (len(labels), 3, 8, 8)
        if init == "noise":
            continue
        pictures = source.normalisation().inverse(x)
        same = (pictures[:, None] == source.images[None]).flatten(2).all(2)
        assert bool((source.labels[same.int().argmax(1)] == labels).all() and same.any(1).all())
        if init == "uniform":
            assert bool((source.domains[same.int().argmax(1)] == domains).all())
    group, wanted = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0, 0, 1, 1, 2])
    for seed in range(20):
        index = pick(group, wanted, torch.Generator().manual_seed(seed))
        assert torch.equal(group[index], wanted) and index[0] != index[1]


def test_descriptions():
    assert describe(DM()) == {"name": "DM", "layers": ["embed"]}
    assert describe(spread)["name"].endswith("spread") and describe(None) is None
    made = describe(Stack((SGS(), OwnDomain(0.3))))
    assert [one["name"] for one in made["surgeries"]] == ["SGS", "OwnDomain"]
    recipe = distill(make_source(), spread, **SMALL | {"steps": 0}).recipe
    assert recipe["matcher"]["name"].endswith("spread")
    assert recipe["encoders"]["name"].endswith("FreshEncoders")
    assert recipe["engine.draw"] == "per domain"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"ipc": 0}, "ipc"),
        ({"stesp": 1}, "did you mean 'steps'"),
        ({"widht": 1}, "did you mean 'width'"),
        ({"width": "wide"}, "width"),
        ({"real_batch": 0}, "at least 1"),
        ({"steps": -1}, "at least 0"),
        ({"lr": 0.0}, "above 0"),
        ({"init": "zeros"}, "noise"),
        ({"draw": "mixtur"}, "mixture"),
        ({"resume": "maybe"}, "'exact'"),
        ({"matcher": "DM"}, r"DM\(\)"),
        ({"matcher": DM(layers=("embedd",))}, "embed"),
        ({"source": make_source().only("0"), "surgery": SGS()}, "there is only '0'"),
        ({"lr": 1e30}, "lower lr"),
    ],
    ids=str,
)
def test_each_mistake_gets_one_sentence(changes, words):
    arguments = {"source": make_source(), "matcher": DM(), **SMALL, **changes}
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        distill(**arguments)
    assert "\n" not in str(caught.value)
