"""Every method keeps the contract; the registry says what a wrong name or option could have been."""

import functools
import inspect

import pytest
import torch

from dgdd_nb import methods
from dgdd_nb.distill import distill
from dgdd_nb.matching import DM
from dgdd_nb.methods import (
    METHODS,
    Work,
    build,
    check_method,
    distilled,
    is_fixed,
    make_set,
    register,
    resolve,
)
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import FreshEncoders

SHORT = {"steps": 2, "width": 8, "real_batch": 12}


def options_of(name: str) -> dict:
    """Those of a short run."""
    if resolve(name)[0] is distilled:
        return (
            SHORT if name.startswith("DM") else {**SHORT, "lr": 0.1}
        )  # width 8 has other features
    known = inspect.signature(resolve(name)[0]).parameters
    if "teacher" in known:
        short = {"steps": 2} if "steps" in known else {}
        short |= {"width": 4, "blocks": 1} if "blocks" in known else {}  # of a transfer network
        return short | {"teacher": {"width": 8, "recipe": {"epochs": 1}}}
    if name.startswith("MTT"):
        return {"steps": 2, "width": 8, "student_steps": 2, "expert": {"starts": 1, "epochs": 1}}
    return {"features": "pixels"} if name in ("herding", "k_center") else {}


@pytest.fixture(scope="module")
def source():
    return mini_digits(size=16, train=60, test=20).leave_out("street")[0]


@pytest.fixture
def registry():
    before = dict(METHODS)
    yield register
    METHODS.clear()
    METHODS.update(before)


def spread(source, ipc, seed, work, far=1):
    """A method of a module of one's own."""
    return make_set("random", source, ipc, seed + far)


def test_a_budget_has_a_name_and_what_is_said_beside_it_wins(source):
    made = make_set("DM", source, 1, budget="paper", steps=0, width=8)
    asked = {"lr": 1.0, "engine.real_batch": 256, "steps": 0, "engine.width": 8}
    assert {name: made.recipe[name] for name in asked} == asked
    few, many = resolve("M3D")[1]["rates"]  # for 128 and for 2,048 numbers in an embedding

    def rate(**options):
        return make_set("M3D", source, 1, steps=0, **options).recipe["lr"]

    assert rate() == few and rate(lr=3.0) == 3.0
    assert rate(budget="paper", width=32) == pytest.approx(few / 10)  # as DM's 1 is of 10
    assert rate(width=128) == pytest.approx((few * many) ** 0.5)  # 512 numbers, half-way
    assert rate(network="convnet-bn") == few and rate(network="resnet18") > rate(width=128) / 2
    with pytest.raises((TypeError, ValueError), match="width"):
        rate(width="8")
    with pytest.raises(ValueError, match="budget 'papr' .did you mean 'paper'"):
        make_set("DM", source, 1, budget="papr")


@pytest.mark.parametrize("name", [*METHODS, "test_methods:spread"])
def test_methods_keep_the_contract(name):
    assert check_method(name, **options_of(name)) == []


def test_what_a_method_may_do_wrong():
    def dice(source, ipc, seed, work):
        return make_set("random", source, ipc, int(torch.randint(10**6, ())))

    def spoil(source, ipc, seed, work):
        source.images[0] = 0
        return make_set("random", source, ipc + 1, seed)

    def stop(source, ipc, seed, work):
        return source.imges

    state = torch.get_rng_state()
    said = [" ".join(check_method(x)) for x in (dice, spoil, stop, lambda source: None)]
    assert torch.equal(state, torch.get_rng_state())
    assert "global dice" in said[0] and "another set" in said[0]
    assert "changes the images" in said[1] and "makes [4] images per class where 3" in said[1]
    assert "AttributeError" in said[2] and "too many positional arguments" in said[3]


def test_options_of_the_surgery_stand_beside_those_of_distillation(source):
    plain = make_set("DM", source, 3, 1, **SHORT)
    first = make_set("DM+SGS", source, 3, 1, alpha=2.0, beta=0.1, **SHORT)
    table = {"name": "SGS", "alpha": 2.0, "beta": 0.1}
    second = make_set("DM", source, 3, 1, surgery=table, **SHORT)
    assert torch.equal(first.images, second.images) and not torch.equal(first.images, plain.images)


def test_encoders_by_name(source):
    """A study can say how long a network is kept, or name a factory of one's own."""
    plain = make_set("DM", source, 1, **SHORT)
    for plug in ("fresh", {"name": "fresh", "life": 1}, "dgdd_nb.networks:FreshEncoders"):
        assert torch.equal(make_set("DM", source, 1, encoders=plug, **SHORT).images, plain.images)
    kept = make_set("DM", source, 1, encoders={"name": "fresh", "life": 5}, **SHORT)
    factory = functools.partial(FreshEncoders, life=5)
    ours = distill(source, DM(), ipc=1, seed=0, encoders=factory, progress=False, **SHORT)
    assert torch.equal(kept.images, ours.images) and not torch.equal(kept.images, plain.images)


def test_register_functions_and_other_names(source, registry):
    registry("far", spread, far=5)
    registry("farther", "far", far=7)
    assert resolve("farther") == (spread, {"far": 7})
    for name, seed in (("far", 5), ("farther", 7)):
        assert torch.equal(
            make_set(name, source, 1).images, make_set("random", source, 1, seed).images
        )
    assert torch.equal(make_set(spread, source, 1).images, make_set("random", source, 1, 1).images)


def test_progress_and_checkpoint(source, tmp_path):
    path, seen = tmp_path / "work.safetensors", []
    work = Work(path, moved=lambda *at: seen.append(at))
    first = make_set("DM", source, 1, work=work, checkpoint_every=1, **SHORT)
    assert seen == [(1, 2), (2, 2)] and path.exists()
    more = make_set("DM", source, 1, work=work, **{**SHORT, "steps": 3})
    assert seen[2:] == [(3, 3)] and not torch.equal(more.images, first.images)
    whole = make_set("DM", source, 1, **{**SHORT, "steps": 3})
    assert torch.equal(more.images, whole.images)


def test_what_leaves_nothing_to_chance(monkeypatch):
    fixed = {("whole", None), ("herding", "pixels"), ("k_center", "pixels")}
    for name in METHODS:
        for features in (None, "pixels"):
            options = {} if features is None else {"features": features}
            assert is_fixed(name, options) == (
                (name, features) in fixed or name == "whole" or features == "pixels"
            )
    monkeypatch.setitem(METHODS, "plain herding", ("herding", {"features": "pixels"}))
    assert is_fixed("plain herding", {}) and not is_fixed("plain herding", {"features": None})


@pytest.mark.parametrize(
    "name, options, says",
    [
        ("DM+SGD", {}, "did you mean 'DM.SGS'"),
        ("DM+SGS", {"alhpa": 1.0}, "did you mean 'alpha'"),
        ("DM", {"stpes": 1}, "did you mean 'steps'"),
        ("random", {"per_doman": True}, "did you mean 'per_domain'"),
        ("whole", {"ipc2": 1}, "ipc2"),
        ("nowhere:spread", {}, "cannot be imported"),
        ("test_methods:spred", {}, "cannot be imported"),
        ("test_methods:spread", {"fra": 1}, "did you mean 'far'"),
        ("DM", {"matcher": "DN"}, "There is no part 'DN'"),
        ("DM", {"surgery": {"alpha": 1}}, "needs a name"),
        ("DM", {"encoders": {"name": "fresh", "lfie": 5}}, "did you mean 'life'"),
        ("DM", {"encoders": {"name": "fresh", "life": 0}}, "life must be a whole number"),
    ],
)
def test_mistakes_get_a_sentence(source, name, options, says):
    with pytest.raises(ValueError, match=says):
        make_set(name, source, 1, **options)


def test_controls_by_pseudo_domains_keep_the_counts(source):
    one = source.only("scan")
    real = build({"name": "pseudo_domains", "K": 2}, one, seed=1, width=8)
    mixed = methods.shuffled_domains(real, seed=1)
    assert torch.equal(real.counts(), mixed.counts()) and not torch.equal(
        real.domains, mixed.domains
    )
    assert torch.equal(mixed.domains, methods.shuffled_domains(real, seed=1).domains)
