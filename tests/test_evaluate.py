"""What `evaluate` promises and a notebook has no time for: worker processes, other networks, batch norm in one loop."""

import numpy as np
import pytest
import torch

from dgdd_nb.data import MultiDomain, mini_digits
from dgdd_nb.evaluate import Difference, evaluate, get_recipe, leave_one_out, one_task


def toy(n: int, size: int = 16) -> MultiDomain:
    """Two classes of bright and dark squares in noise, two domains."""
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 200, (n, 3, size, size), generator=generator)
    labels = torch.arange(n) % 2
    images[labels == 1, :, 4:12, 4:12] += 55
    return MultiDomain.from_tensors(images.to(torch.uint8), labels, torch.arange(n) // 2 % 2)


SHORT = get_recipe("quick", epochs=2)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_workers_give_the_same_numbers(one_thread):
    options = {"seeds": (3, 1, 2), "recipe": SHORT, "width": 8, "device": "cpu"}
    alone = evaluate(toy(24), toy(40), **options)
    shared = evaluate(toy(24), toy(40), workers=2, **options)
    assert np.array_equal(alone.values, shared.values)
    assert np.array_equal(alone.train_accuracy, shared.train_accuracy)
    assert alone.seeds == shared.seeds == (3, 1, 2)


def test_workers_and_one_loop_exclude_each_other():
    with pytest.raises(ValueError, match="one by one"):
        evaluate(toy(24), toy(40), workers=2, together=True, device="cpu")


@pytest.mark.parametrize("network", ["convnet", "convnet-bn", "resnet18"])
def test_one_loop_agrees_with_one_by_one(network):
    """Within 2.5 % of the target: rounding differs, and a batch norm over 8 images amplifies it."""
    size = 32 if network == "resnet18" else 16
    width = None if network == "resnet18" else 8
    options = {"seeds": 2, "recipe": SHORT, "network": network, "width": width, "device": "cpu"}
    sets = toy(24, size), toy(80, size)
    apart, stacked = evaluate(*sets, **options), evaluate(*sets, together=True, **options)
    assert np.abs(apart.values - stacked.values).max() <= 2.5


def test_global_random_state_is_left_alone():
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    evaluate(toy(24), toy(40), seeds=1, recipe=SHORT, width=8, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


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
    data = MultiDomain.from_tensors(
        data.images, data.labels, data.domains, classes=data.classes, domain_names=data.domain_names
    )
    tasks = list(leave_one_out(data, setting))
    assert [task.name for task in tasks] == list(data.domain_names)
    assert {len(task.targets) for task in tasks} == {targets}
    assert all((setting == "SDG") == (task.source.domain_names == (task.name,)) for task in tasks)


@pytest.mark.parametrize(
    "seeds, networks, verdict",
    [
        (5, 10, "a is better"),
        (5, 9, "not enough networks to claim a difference"),
        (4, 10, "not enough seeds to claim a difference"),
        (1, 1, "not enough seeds to claim a difference"),
    ],
)
def test_verdict_names_what_is_missing(seeds, networks, verdict):
    assert Difference("a", "b", (1.0,) * seeds, 0.5, 1.5, networks).verdict == verdict
