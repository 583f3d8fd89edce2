"""What `evaluate` promises and a notebook has no time for: worker processes, other networks, batch norm in one loop."""

import math
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from dgdd_nb.coresets import random
from dgdd_nb.data import MultiDomain
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.evaluate import (
    Difference,
    evaluate,
    leave_one_out,
    network_seeds,
    one_task,
    own_task,
    paired_difference,
    student_interval,
    summarise,
)
from dgdd_nb.files import derive_seed
from dgdd_nb.networks import network as build
from dgdd_nb.train import EMA, KL, PLUGS, get_recipe, train


def toy(n: int, size: int = 16) -> MultiDomain:
    """Two classes of bright and dark squares in noise, two domains."""
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 200, (n, 3, size, size), generator=generator)
    labels = torch.arange(n) % 2
    images[labels == 1, :, 4:12, 4:12] += 55
    return MultiDomain.from_arrays(images.to(torch.uint8), labels, torch.arange(n) // 2 % 2)


SHORT = get_recipe("quick", epochs=2)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("together", [False, True])
def test_a_network_that_diverges_leaves_the_others_their_scores(together, one_thread):
    bad = derive_seed(1, "evaluate-network")

    def start(seed):
        net = build(classes=2, size=16, seed=seed, width=4)
        if seed == bad:
            torch.nn.init.constant_(net.classifier.weight, math.nan)
        return net

    options = {"recipe": SHORT, "network": start, "device": "cpu", "together": together}
    with pytest.warns(UserWarning, match=r"^Network seed 1: .*at step 0.*Without a score.*1 of 3"):
        found = evaluate(toy(24), toy(40), seeds=3, **options)
    assert np.isnan(found.values).tolist() == [False, True, False] and math.isnan(found.mean)
    fine = evaluate(toy(24), toy(40), seeds=(0, 2), **options)
    np.testing.assert_allclose(found.values[[0, 2]], fine.values, atol=6)  # one by one, or stacked
    line = summarise(pd.concat([found.rows("DM")]))
    assert line.networks.tolist() == [2]  # too few for a claim of three
    with pytest.raises(ValueError, match="Network seed 1: Training diverged"):
        evaluate(toy(24), toy(40), seeds=[1], **options)


def test_workers_give_the_same_numbers_and_need_no_registry(one_thread, monkeypatch):
    monkeypatch.setitem(PLUGS["schedule"], "ours", lambda steps, _: (np.ones(steps), None))
    recipe = get_recipe(SHORT, schedule="ours")
    options = {"seeds": (3, 1, 2), "recipe": recipe, "width": 8, "device": "cpu"}
    alone = evaluate(toy(24), toy(40), **options)
    shared = evaluate(toy(24), toy(40), workers=2, **options)
    assert np.array_equal(alone.values, shared.values)
    assert np.array_equal(alone.train_accuracy, shared.train_accuracy)
    assert alone.seeds == shared.seeds == (3, 1, 2)


@pytest.mark.parametrize("network", ["convnet", "convnet-bn", "resnet18"])
def test_one_loop_agrees_with_one_by_one(network):
    """Within 2.5 % of the target: rounding differs, and a batch norm over 8 images amplifies it."""
    size = 32 if network == "resnet18" else 16
    width = None if network == "resnet18" else 8
    options = {"seeds": 2, "recipe": SHORT, "network": network, "width": width, "device": "cpu"}
    sets = toy(24, size), toy(80, size)
    apart, stacked = evaluate(*sets, **options), evaluate(*sets, together=True, **options)
    assert np.abs(apart.values - stacked.values).max() <= 2.5


@pytest.mark.parametrize(
    "setting, domains, sources, scored",
    [
        ("MDG", "street", "scan photo print", "street scan photo print"),
        ("ID", "street", "scan photo print", None),
        ("SDG", "street", "street", "scan photo print street"),
    ],
)
def test_one_task_scores_known_domains_on_images_it_never_trained_on(
    setting, domains, sources, scored
):
    """The data hold images out, so every setting scores its source domains too, on other images."""
    data = mini_digits(16, train=20, test=10)
    task = one_task(data, setting, domains)
    assert task.name == domains and task.source.domain_names == tuple(sources.split())
    assert list(task.targets) == (scored or sources).split()
    trained = {image.numpy().tobytes() for image in task.source.images}
    for name, target in task.targets.items():
        assert target.domain_names == (name,) and len(target) == 10
        assert not trained & {image.numpy().tobytes() for image in target.images}


@pytest.mark.parametrize("setting, targets", [("MDG", 1), ("ID", 3), ("SDG", 3)])
def test_without_parts_only_the_unseen_domains_are_scored(setting, targets):
    """ID is the exception: it puts a part aside. Every domain has its turn."""
    data = mini_digits(16, train=20, test=10)
    data = MultiDomain.from_arrays(
        data.images, data.labels, data.domains, classes=data.classes, domain_names=data.domain_names
    )
    tasks = list(leave_one_out(data, setting))
    assert [task.name for task in tasks] == list(data.domain_names)
    assert {len(task.targets) for task in tasks} == {targets}
    assert all((setting == "SDG") == (task.source.domain_names == (task.name,)) for task in tasks)


@pytest.mark.parametrize(
    "seeds, networks, anew, verdict",
    [
        (5, 10, True, "a is better"),
        (5, 10, False, "no claim: all seeds share their networks"),
        (5, 9, True, "not enough networks to claim a difference"),
        (4, 10, True, "not enough seeds to claim a difference"),
        (1, 1, True, "not enough seeds to claim a difference"),
    ],
)
def test_verdict_names_what_is_missing(seeds, networks, anew, verdict):
    difference = Difference("a", "b", (1.0,) * seeds, 0.5, 1.5, networks, anew)
    assert difference.verdict == verdict and verdict in str(difference)


def table(values: dict, shared: bool = False) -> pd.DataFrame:
    "Rows from method -> target -> (seeds, networks) accuracies."
    return pd.DataFrame(
        {
            "method": method,
            "target": target,
            "distillation_seed": seed,
            "network_seed": n if shared else network_seeds(99, seed)[n],
            "accuracy": accuracy,
        }
        for method, targets in values.items()
        for target, runs in targets.items()
        for seed, run in enumerate(runs)
        for n, accuracy in enumerate(run)
    )


def test_summary_keeps_the_two_spreads_apart():
    rows = table({"a": {"x": [[50, 52], [46, 48], [53, 53]]}, "b": {"x": [[40, 40]]}})
    a, b = (line for _, line in summarise(rows).iterrows())
    assert (a["method"], a["target"], a["seeds"], a["networks"]) == ("a", "x", 3, 2)
    assert a["mean"] == pytest.approx(151 / 3) and a["std_seeds"] == pytest.approx(
        np.std([51, 47, 53], ddof=1)
    )
    assert a["std_networks"] == pytest.approx(np.sqrt((2 + 2 + 0) / 3))
    assert (b["mean"], b["seeds"]) == (40, 1) and np.isnan(b["std_seeds"])
    assert summarise(rows, baseline="b").loc[0, "difference"] == pytest.approx(11)


def test_an_average_takes_seeds_with_every_target():
    rows = table({"a": {"x": [[50], [60]], "y": [[10], [20], [90]]}})
    average = summarise(rows).iloc[-1]
    assert (average["target"], average["mean"], average["seeds"]) == ("average", 35, 2)


def test_a_method_that_lacks_a_target_has_no_average():
    rows = table({"a": {"x": [[50]], "y": [[10]]}, "b": {"x": [[60]]}})
    a, b = summarise(rows, baseline="b").iloc[-2:].itertuples()
    assert (a.mean, a.seeds, b.seeds) == (30, 1, 0) and math.isnan(b.mean)
    assert math.isnan(a.difference)  # from what?
    assert summarise(rows.query("method == 'b'")).iloc[-1]["mean"] == 60


def test_without_a_common_seed_there_is_no_difference():
    rows = table({"a": {"x": [[50]], "y": [[50], [50]]}, "b": {"x": [[40]], "y": [[40], [40]]}})
    rows = rows[(rows["target"] == "x") | (rows["distillation_seed"] == 1)]  # no seed has both
    with pytest.raises(ValueError, match="no distillation seed that has all targets"):
        paired_difference(rows, "a", "b")
    found = summarise(rows, baseline="b").set_index(["method", "target"])
    assert found.loc[("a", "x"), "difference"] == 10
    assert math.isnan(found.loc[("a", "average"), "difference"])


def test_paired_difference_by_hand():
    rows = table(
        {"a": {"x": [[50, 52], [46, 48], [53, 53]]}, "b": {"x": [[49, 49], [46, 44], [49, 51]]}}
    )
    found = paired_difference(rows, "a", "b")
    assert found.values == (2, 2, 3) and (found.seeds, found.networks) == (3, 2)
    half = 4.302653 * np.std([2, 2, 3], ddof=1) / np.sqrt(3)
    assert [found.low, found.high] == pytest.approx([7 / 3 - half, 7 / 3 + half], rel=1e-6)
    assert student_interval([1.0]) != student_interval([1.0, 2.0])
    with pytest.raises(ValueError, match="did you mean 'a'"):
        paired_difference(rows, "aa", "b")
    with pytest.raises(ValueError, match="share no distillation seed"):
        paired_difference(rows, "a", "b", "nowhere")


def test_shared_networks_make_no_claim():
    runs = {"a": {"x": 50 + np.eye(5, 10)}, "b": {"x": 40 + np.zeros((5, 10))}}
    assert paired_difference(table(runs), "a", "b").verdict == "a is better"
    assert paired_difference(table(runs, shared=True), "a", "b").verdict.startswith("no claim")
    equal = {"a": {"x": np.eye(5, 10)}, "b": {"x": np.eye(5, 10)[::-1]}}
    assert paired_difference(table(equal), "a", "b").verdict == "no difference shown"


def test_scores_become_rows_and_global_random_state_is_left_alone():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    seeds = network_seeds(2, 3)
    scores = evaluate(toy(24), toy(40), seeds=seeds, recipe=SHORT, width=8, device="cpu")
    rows = scores.rows("DM", 3)
    columns = ["method", "target", "distillation_seed", "network_seed", "accuracy"]
    assert list(rows.columns) == columns and rows["network_seed"].tolist() == [3000, 3001]
    assert rows["accuracy"].tolist() == scores.values.tolist()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_a_network_can_be_a_module_or_a_function():
    options = {"seeds": 2, "recipe": SHORT, "device": "cpu"}
    start = build(classes=2, size=16, width=8, seed=5)
    state = {name: value.clone() for name, value in start.state_dict().items()}
    module = evaluate(toy(24), toy(40), network=start, **options)
    assert all(torch.equal(value, state[name]) for name, value in start.state_dict().items())
    made = lambda seed: build(classes=2, size=16, width=8, seed=seed)  # noqa: E731
    named = evaluate(toy(24), toy(40), width=8, **options)
    function = evaluate(toy(24), toy(40), network=made, **options)
    assert np.array_equal(function.values, named.values) and module.values.shape == (2,)


def shift(batch, net, dice, state: dict):
    "A transfer network for the tests: adds a constant."
    return replace(batch, images=batch.images + state["shift"])


def test_the_judge_honours_a_transfer_network(monkeypatch):
    made = random(mini_digits(16, train=40, test=20).leave_out("street")[0], 2)
    target = mini_digits(16, train=40, test=20).only("street")
    options = {"seeds": 1, "recipe": SHORT, "width": 8, "device": "cpu"}
    rich = replace(made, transfer={"shift": torch.full((1,), 5.0)}, transfer_name="shift")
    with pytest.raises(ValueError, match="adds it to PLUGS"):
        evaluate(rich, target, **options)
    monkeypatch.setitem(PLUGS["transform"], "shift", shift)
    moved = evaluate(rich, target, **options)
    by_hand = evaluate(made, target, transform=partial(shift, state={"shift": 5.0}), **options)
    assert np.array_equal(moved.values, by_hand.values)
    assert rich.bytes == made.bytes + 4
    nets = [build(classes=10, size=16, seed=0, width=8) for _ in range(2)]
    ours = train(nets[0], rich, SHORT)
    hand = train(nets[1], made, SHORT, transform=partial(shift, state={"shift": 5.0}))
    assert ours == hand


QUICK = {"recipe": get_recipe("quick", epochs=1), "width": 4, "device": "cpu"}


@pytest.mark.parametrize(
    "given, plain",
    [
        ({"seeds": np.int64(2)}, {"seeds": 2}),
        ({"seeds": torch.tensor(2)}, {"seeds": 2}),
        ({"seeds": np.array([3, 1])}, {"seeds": (3, 1)}),
        ({"device": torch.device("cpu"), "workers": np.int64(1), "seeds": 1}, {"seeds": 1}),
        ({"hooks": print, "seeds": 1}, {"seeds": 1}),
    ],
)
def test_natural_types_give_the_same_scores(given, plain):
    one, two = (evaluate(toy(8), toy(40), **QUICK | x) for x in (given, plain))
    assert np.array_equal(one.values, two.values) and one.seeds == two.seeds


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"target": {}}, "nothing to score on"),
        ({"target": toy(8).leave_out("0")}, "score on a MultiDomain"),
        ({"seeds": "2"}, "number of networks"),
        ({"seeds": 1.5}, "number of networks"),
        ({"seeds": -1}, "seeds must be a whole number from 1"),
        ({"workers": -1}, "workers must be a whole number from 1"),
        ({"network": 3}, "a name, a module or a function"),
        ({"network": lambda seed: build(classes=5, size=16, seed=0), "width": None}, "5 outputs"),
        ({"network": lambda seed: build(classes=2, size=16, seed=0)}, "width and depth belong"),
        ({"width": 0}, "width must be"),
        ({"depth": 50}, "lower the depth"),
        ({"recipe": None}, "A recipe is a name"),
        ({"hooks": 3}, "hooks is a list"),
    ],
)
def test_each_mistake_gets_one_sentence(changes, words):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        evaluate(**{"train_set": toy(8), "target": toy(8), "seeds": 1, **QUICK, **changes})
    assert "\n" not in str(caught.value)


def test_one_domain_is_scored_on_images_it_holds_out():
    """`ID` of a single domain: its split test, or a fifth where there are no splits."""
    data, splits = toy(40), torch.arange(40) // 20
    names = {"splits": splits, "split_names": ("train", "test"), "domain_names": ["all"]}
    parts = MultiDomain.from_arrays(data.images, data.labels, data.domains * 0, **names)
    for task in (one_task(parts, "ID", "all"), own_task(parts), *leave_one_out(parts, "ID")):
        assert torch.equal(task.source.images, data.images[:20]) and list(task.targets) == ["all"]
        assert torch.equal(task.targets["all"].images, data.images[20:])
    whole = data.only("0")
    task = one_task(whole, "ID", "0")
    assert len(task.source) + len(task.targets["0"]) == len(whole) and len(task.targets["0"]) == 4
    assert own_task(whole).targets == {}
    for setting in ("MDG", "SDG"):
        with pytest.raises(ValueError, match="take ID"):
            one_task(parts, setting, "all")


def test_what_is_scored_alone_needs_no_training_images():
    data, domains = toy(42), torch.arange(42) // 2 % 3
    names = {"splits": (domains == 2).long(), "split_names": ("train", "test")}
    parts = MultiDomain.from_arrays(data.images, data.labels, domains, **names)
    assert list(one_task(parts, "SDG", "0").targets) == ["1", "2"]
    assert list(one_task(parts, "MDG", "2").targets) == ["2"]
    with pytest.raises(ValueError, match="'2' has images, but none in the split train"):
        one_task(parts, "ID", "0")


def test_seeds_and_levels_have_bounds():
    for wrong in (0, -1, 1001, 2.0):
        with pytest.raises(ValueError, match="networks"):
            network_seeds(wrong, 0)
    rows = table({"a": {"x": [[50], [60]]}, "b": {"x": [[10], [20]]}})
    for level in (0, 1, 95, math.nan):
        with pytest.raises(ValueError, match="level"):
            paired_difference(rows, "a", "b", level=level)


def test_the_recipe_without_augmentation_has_a_name():
    used = evaluate(toy(8), toy(8), seeds=1, recipe="quick-plain", width=4).recipe
    assert (used["name"], used["augment"]) == ("quick-plain", "none")
    assert used["network"]["width"] == 4 and used["network"]["depth"] == 3


def test_the_recipe_names_what_was_given_and_threads_stay(one_thread):
    torch.set_num_threads(1 + (os.cpu_count() or 1))
    before = torch.get_num_threads()
    used = evaluate(toy(8), toy(8), seeds=1, loss=KL(3.0), hooks=[EMA()], **QUICK).recipe
    assert torch.get_num_threads() == before
    assert used["loss"]["name"].endswith("KL") and used["hooks"][0]["name"].endswith("EMA")
    assert used["transform"] is None


def test_rows_of_a_whole_study_are_not_averaged_over_what_differs_in_kind():
    columns = [
        "method",
        "target",
        "distillation_seed",
        "network_seed",
        "domain",
        "seen",
        "accuracy",
    ]
    made = [
        [method, "p", seed, 1000 * seed + i, domain, domain != "p", 50.0 + i]
        for method in ("a", "b")
        for seed in range(5)
        for i in range(3)
        for domain in ("p", "q", "r")
    ]
    rows = pd.DataFrame(made, columns=columns)
    for call in (summarise, partial(paired_difference, a="a", b="b")):
        with pytest.raises(
            ValueError, match=r"mix several values of 'seen'.*rows\['seen'\] == False"
        ):
            call(rows)
    known = rows[rows["seen"]]  # two domains: as many networks as there are
    assert summarise(known)["networks"].tolist() == [3, 3]
    assert paired_difference(known, "a", "b").networks == 3
    with pytest.raises(ValueError, match="several values of 'ipc'"):
        summarise(known.assign(ipc=[1, 2] * (len(known) // 2)))
