"""A run: bits that resume, whatever is plugged in; what a checkpoint refuses; what a user is told."""

from __future__ import annotations

import gc
import os
import signal
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from test_engine import C, Dice, General, K, make_source, spread

from torch.utils.data import TensorDataset

from dgdd_nb.attention import DataDAM
from dgdd_nb.augment import strategy_for
from dgdd_nb.data import Normalisation
from dgdd_nb.distill import begin, describe, distill, estimate, initial_images, pick
from dgdd_nb.distilled import assign_domains
from dgdd_nb.engine import EngineSettings, FeatureStore
from dgdd_nb.hyperbolic import HDD
from dgdd_nb.kernels import M3D, NCFM
from dgdd_nb.matching import DM, as_matcher
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
    "pool": (DM(), SGS(), {"encoders": partial(FreshEncoders, life=2, pool=2)}),
    "redraw": (DM(), None, {"encoders": partial(FreshEncoders, life=3, redraw=True)}),
    "clusters": (DM(), SGS(), {"draw": "clusters", "renew": 3}),
    "herded": (DM(), SGS(), {"draw": "herded"}),
    "pool, frozen": (
        DM(),
        None,
        {
            "network": "convnet-bn",
            "batch_norm": "frozen",
            "encoders": partial(FreshEncoders, life=2, pool=2),
        },
    ),
    "cut": (DM(), SGS(), {"micro_batch": 7, "micro_batch_synthetic": 4, "ipc": [1, 4, 2, 2, 3]}),
    "batch norm": (DM(), SGS(), {"network": "convnet-bn"}),
    "frozen": (DM(), SGS(), {"network": "convnet-bn", "batch_norm": "frozen"}),
    "sheets": (DM(), SGS(), {"decode_factor": 2}),
    "no augmentation": (DM(), SGS(), {"augment": "none", "width": 64}),
}


def test_the_start_has_a_seed_of_its_own_if_asked():
    source = make_source()
    start = lambda **seeds: distill(source, DM(), **SMALL | {"steps": 0} | seeds).images  # noqa: E731
    assert torch.equal(start(seed=5), start(seed=4, start_seed=5))
    assert not torch.equal(start(seed=5), start(seed=5, start_seed=4))
    runs = [distill(source, DM(), **SMALL | {"seed": s, "start_seed": 1}).images for s in (2, 3)]
    assert not torch.equal(*runs)


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


def test_only_a_file_of_this_run_is_called_its_last_good_state(tmp_path):
    source, file = make_source(), tmp_path / "run.safetensors"
    rest = SMALL | {"checkpoint": file, "checkpoint_every": 3}
    distill(source, DM(), **rest)
    with pytest.raises(ValueError, match=r"lower lr, now 1e\+30\.$"):
        distill(source, DM(), **rest | {"resume": "never", "lr": 1e30})

    def spoil(run, found):
        if run.at == 4:
            run.synthetic.data.fill_(torch.nan)

    with pytest.raises(ValueError, match=r"NaN at step 5: .* holds the last good state\.$"):
        distill(source, DM(), **rest | {"resume": "never"}, callback=spoil)


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


def test_an_unwritable_checkpoint_is_told_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="could not be written"):
        distill(make_source(), DM(), **SMALL, checkpoint=tmp_path / "file" / "x.safetensors")


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


@pytest.mark.filterwarnings("ignore:Fewer real")
def test_a_sheet_starts_as_real_images_of_its_class_and_domain():
    flat = make_source()
    number = (flat.labels * 40 + flat.domains * 10).view(-1, 1, 1, 1).to(torch.uint8)
    flat = replace(flat, images=number.expand(-1, 3, 8, 8).clone())  # grey says who it is
    made = distill(flat, DM(), **SMALL | {"steps": 0, "decode_factor": 2, "ipc": 3})
    inside = made.normalisation.inverse(made.decoded().images)[:, 0, 3, 3].view(-1, 4)
    mine = (made.labels * 40 + made.domains * 10)[:, None]
    assert made.decode_factor == 2 and bool((inside == mine).all())
    noise = distill(flat, DM(), **SMALL | {"steps": 0, "decode_factor": 2, "init": "noise"})
    assert 0.8 < noise.images.std() < 1.2


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
    with pytest.raises(ValueError, match="did you mean 'random'"):
        initial_images(source, labels, domains, "randm")
    group, wanted = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0, 0, 1, 1, 2])
    for seed in range(20):
        index = pick(group, wanted, torch.Generator().manual_seed(seed))
        assert torch.equal(group[index], wanted) and index[0] != index[1]


def test_descriptions():
    assert describe(DM()) == {"name": "DM", "layers": ["embed"]}
    assert describe(spread)["name"].endswith("spread") and describe(None) is None

    def scaled(real, synthetic, weight):
        return weight * spread(real, synthetic)

    weighted, other = (describe(as_matcher(partial(scaled, weight=w))) for w in (0.1, 9))
    assert weighted != other and weighted["name"] == describe(scaled)["name"]
    assert describe(as_matcher(spread, ("norm1",))) != describe(as_matcher(spread))
    assert describe(partial(spread, 1)) != describe(partial(spread, 2))
    one, two, three = (describe(x) for x in (torch.ones(4), torch.zeros(4), torch.ones(2, 2)))
    assert one == describe(torch.ones(4)) and one != two and one != three
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
        ({"real_batch": 0}, "whole number from 1"),
        ({"steps": -1}, "whole number from 0"),
        ({"lr": 0.0}, "above 0"),
        ({"init": "zeros"}, "noise"),
        ({"draw": "mixtur"}, "mixture"),
        ({"resume": "maybe"}, "'exact'"),
        ({"matcher": "DM"}, r"DM\(\)"),
        ({"matcher": DM(layers=("embedd",))}, "embed"),
        ({"source": make_source().only("0"), "surgery": SGS()}, "there is only '0'"),
        ({"lr": 1e30}, "lower lr"),
        (
            {"source": make_source().select(make_source().labels != 1)},
            "Class 'class 1' is in no domain",
        ),
    ],
)
def test_each_mistake_gets_one_sentence(changes, words):
    arguments = {"source": make_source(), "matcher": DM(), **SMALL, **changes}
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        distill(**arguments)
    assert "\n" not in str(caught.value)


NORM = ((0.5, 0.4, 0.3), (0.2, 0.2, 0.25))


@pytest.mark.parametrize(
    "given, plain",
    [
        ({"ipc": np.array([1, 2, 1, 1, 1])}, {"ipc": [1, 2, 1, 1, 1]}),
        ({"ipc": torch.tensor([2] * C)}, {"ipc": 2}),
        ({"seed": np.int64(2), "lr": np.float32(1), "steps": torch.tensor(7)}, {}),
        ({"device": torch.device("cpu"), "width": np.int64(8)}, {}),
        ({"normalisation": Normalisation(*NORM)}, {"normalisation": NORM}),
        ({"normalisation": tuple(map(np.array, NORM))}, {"normalisation": NORM}),
        ({"surgery": SGS(alpha=np.float64(0.7))}, {"surgery": SGS(alpha=0.7)}),
    ],
)
def test_natural_types_give_the_same_set(given, plain):
    one, two = ({"source": make_source(), "matcher": DM(), **SMALL, **x} for x in (given, plain))
    one, two = distill(**one), distill(**two)
    assert torch.equal(one.images, two.images) and one.recipe == two.recipe


def test_given_constants_are_those_of_the_set():
    source = make_source()
    made = distill(source, DM(), **SMALL | {"steps": 0}, normalisation=NORM)
    assert made.normalisation == Normalisation(*NORM)
    assert made.recipe["engine.normalisation"] == [list(part) for part in NORM]
    known = {picture.numpy().tobytes() for picture in source.images}
    assert all(picture.numpy().tobytes() in known for picture in made.pictures())


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"surgery": SGS}, r"SGS\(\)"),
        ({"surgery": "SGS"}, r"SGS\(\)"),
        ({"surgery": lambda *given: None}, "direction has type NoneType"),
        ({"source": (make_source(), make_source())}, "source, target = "),
        ({"source": TensorDataset(torch.zeros(2))}, "from_arrays"),
        ({"encoders": "fresh"}, "FreshEncoders"),
        ({"normalisation": ((0.5,) * 3, (0.0,) * 3)}, "above 0"),
        ({"normalisation": 0.5}, "normalisation"),
        ({"checkpoint_every": 0}, "checkpoint_every must be a whole number from 1"),
        ({"keep_every": -1}, "keep_every must be"),
        ({"callback": 3}, "callback"),
        ({"checkpoint": 3}, "path of a file"),
        ({"width": 0}, "width must be a whole number from 1"),
        ({"width": 10**6}, "does not fit into memory"),
        ({"lr": float("nan")}, "finite"),
        ({"lr": 1e9}, "standard deviations: lower lr"),
        (
            {"source": make_source().select(make_source().domains == 1), "surgery": SGS()},
            "only '1'",
        ),
    ],
)
def test_what_was_accepted_without_a_word_gets_a_sentence(changes, words):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        distill(**{"source": make_source(), "matcher": DM(), **SMALL, **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("init, told", [("uniform", "domain '0'"), ("random", "0' .15 real")])
def test_copies_are_told(init, told):
    source, more = make_source(), SMALL | {"ipc": 100, "steps": 0}
    with pytest.warns(UserWarning, match=f"class .*{told}.*Lower ipc"):
        distill(source, DM(), **more, init=init)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distill(source, DM(), **more, init="noise")
        distill(source, DM(), **SMALL | {"steps": 0}, init=init)


def test_images_far_from_any_picture_are_told_once():
    with pytest.warns(UserWarning, match="far from any picture: lower lr, now 10000") as told:
        distill(make_source(), DM(), **SMALL | {"lr": 1e4})
    assert len(told) == 1


def test_records_hold_what_was_run_and_repeat_it():
    source = make_source()
    made = distill(source, DM(), SGS(), ipc=1, steps=2, progress=False)
    used = {k.removeprefix("engine."): v for k, v in made.recipe.items() if "engine." in k}
    used |= {k: v for k, v in made.recipe["place"].items() if k not in ("torch", "threads")}
    assert not any(value in (None, "auto") for value in used.values())
    assert (used["width"], used["depth"], used["real_batch"]) == (32, 3, 96)
    assert (
        used["augment"] == strategy_for("auto", source.classes) and used["precision"] == "float32"
    )
    again = distill(source, DM(), SGS(), ipc=1, steps=2, progress=False, **used)
    assert torch.equal(again.images, made.images) and again.recipe == made.recipe


def test_a_forecast_for_all_that_distill_accepts():
    more = {
        "lr": 1.0,
        "momentum": 0.9,
        "init": "noise",
        "seed": 3,
        "checkpoint": "x",
        "resume": "exact",
    }
    more |= {"keep_every": 2, "callback": print, "progress": False, "normalisation": NORM}
    more |= {"network": "convnet-bn", "width": 4, "checkpoint_every": 5}
    assert estimate(make_source(True), DM(), SGS(), ipc=1, steps=5, **more).total > 0
    for wrong, words in ({"lr": 0}, "lr"), ({"measure": -1}, "measure"), ({"stepz": 1}, "'steps'"):
        with pytest.raises(ValueError, match=words):
            estimate(make_source(), DM(), **wrong)


def test_what_the_caller_has_set_in_torch_changes_nothing():
    source, run = make_source(), SMALL | {"init": "noise"}
    plain = distill(source, DM(), SGS(), **run)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            made = distill(source, DM(), SGS(), **run)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        third = distill(source, DM(), SGS(), **run)
    assert torch.equal(made.images, plain.images) and torch.equal(third.images, plain.images)


SHARED = {
    **RUNS,
    "maps": (NCFM(frequencies=16, layers=("pool1",)), SGS(), {"width": 64}),  # channels last
    "HDD": (HDD(), SGS(), {}),
    "DataDAM": (DataDAM(), None, {}),
    "M3D": (M3D(), SGS(), {"width": 64}),
}


@pytest.mark.parametrize("name", SHARED)
def test_features_in_files_change_no_bit(name, tmp_path):
    """Whatever is plugged in; what cannot share them leaves no file."""
    matcher, surgery, more = SHARED[name]
    run = partial(distill, make_source(), matcher, surgery, **{**SMALL, **more})
    plain = run().images
    assert torch.equal(run(share=tmp_path).images, plain)  # leaves them
    files = sorted(tmp_path.rglob("*.safetensors"))
    own = isinstance(matcher, General) or "encoders" in more
    assert bool(files) != own
    for file in files[:1]:
        file.write_bytes(file.read_bytes()[:50])  # not whole: computed again
    assert torch.equal(run(share=tmp_path).images, plain)  # takes them


def test_a_store_of_features_stays_small(tmp_path):
    """The bound is that of the folder, not of a run."""
    for most, there in ((1, 0), (2**20, 3), (1, 3)):
        run = begin(distill, make_source(), DM(), None, None, {"steps": 3, "ipc": 1, "width": 8})
        run.engine.store = FeatureStore(tmp_path, most)
        for _ in range(there or 1):
            run.step()
        assert len([*tmp_path.rglob("*.safetensors")]) == there


def test_other_images_seeds_or_encoders_share_nothing(tmp_path):
    distill(make_source(), DM(), share=tmp_path, **SMALL)
    for change in ({"seed": 3}, {"width": 4}, {"real_batch": 6}, {"augment": "none"}):
        distill(make_source(), DM(), share=tmp_path, **SMALL | change)
    distill(make_source(), DM(), share=tmp_path, **SMALL | {"lr": 2.0, "init": "noise"})
    assert len([*tmp_path.iterdir()]) == 5


def test_features_of_an_objective_that_only_looks_known_are_not_shared(tmp_path):
    """A name does not say what a class of one's own keeps of an image, nor what hangs on an object."""

    class Own(DM):
        def per_image(self, features):
            return {name: f.abs() for name, f in features.items()}

    patched = DM()
    object.__setattr__(patched, "per_image", lambda features: {"embed": features["embed"] ** 2})
    for matcher in (Own(), patched):
        distill(make_source(), matcher, share=tmp_path, **SMALL)
    assert not [*tmp_path.iterdir()]


def test_engine_settings_are_given_one_by_one():
    with pytest.raises(ValueError, match="no option 'engine'"):
        distill(make_source(), DM(), engine=EngineSettings(width=4), **SMALL)
