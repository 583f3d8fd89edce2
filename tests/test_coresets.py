"""Choices of real images: balance, ties, the encoder behind the default features."""

import pytest
import torch

from dgdd_nb.coresets import (
    by_features,
    find_features,
    herd,
    herding,
    k_center,
    random,
    spread_out,
    whole,
)
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.files import generator


@pytest.fixture(scope="module")
def source():
    return mini_digits(16, train=60, test=10).leave_out("scan")[0]


def test_random_is_balanced_over_classes_and_domains(source):
    assert random(source, 10).hard_labels.bincount().tolist() == [10] * 10
    totals = random(source, 10).counts().sum(1)
    assert totals.max() - totals.min() <= 1
    assert random(source, 2).counts().sum(0).tolist() == [2] * 10  # ipc < K: domains take turns
    assert random(source, [1] * 5 + [3] * 5).hard_labels.bincount().tolist() == [1] * 5 + [3] * 5
    lacking = source.select(~((source.labels == 3) & (source.domains == 0)))
    assert random(lacking, 6).counts()[:, 3].tolist() == [0, 3, 3]


def test_random_is_a_function_of_the_seed_and_takes_no_image_twice(source):
    assert torch.equal(random(source, 4, seed=1).images, random(source, 4, seed=1).images)
    assert not torch.equal(random(source, 4, seed=1).images, random(source, 4, seed=2).images)
    index = random(source, 6).recipe["index"]
    assert len(set(index)) == 60
    assert torch.equal(random(source, 6).pictures(), source.images[index])
    assert len(whole(source)) == len(source)


def test_too_few_images_are_named(source):
    with pytest.raises(ValueError, match="in domain 'photo', .*lower ipc"):
        random(source, 100)
    with pytest.raises(ValueError, match="Class '0' has 18 images,"):
        random(source, 100, per_domain=False)
    with pytest.raises(ValueError, match="There are 180 images, 1000000000 are asked for"):
        random(source, 10**9)
    with pytest.raises(ValueError, match="ipc must be"):
        random(source, 0)


def test_equal_images_are_not_taken_twice():
    equal = torch.ones(5, 3)
    assert sorted(herd(equal, 5).tolist()) == sorted(spread_out(equal, 5).tolist())
    assert sorted(herd(equal, 5).tolist()) == list(range(5))


def test_features_by_default_come_from_an_encoder_trained_on_the_source(source):
    tiny = source.select(source.sample(2, generator(0, "tiny")))
    found = k_center(tiny, 3)
    assert found.recipe["features"] == "ConvNet trained on the source, recipe quick"
    assert found.recipe["method"] == "k-center"
    features = find_features(tiny)[0]
    assert found.recipe["index"] == k_center(tiny, 3, features=features).recipe["index"]
    assert not torch.equal(features, find_features(tiny, seed=1)[0])
    assert herding(tiny, 2, features="pixels").recipe["features"] == "pixels"
    for wrong in ("pixel", torch.zeros(3, 2)):
        with pytest.raises(ValueError, match="Features must"):
            herding(tiny, 2, features=wrong)


def test_features_and_rules_that_decide_nothing_are_refused(source):
    nan = torch.full((len(source), 2), float("nan"))
    for choose in (herding, k_center):
        with pytest.raises(ValueError, match="NaN"):
            choose(source, 1, features=nan)
        with pytest.raises(ValueError, match="Features must"):
            choose(source, 1, features=type(source))
    with pytest.raises(ValueError, match="not 3 different rows"):
        by_features("first", lambda f, k: [0] * k, source, 9, features="pixels")
    with pytest.raises(TypeError, match="source, target = "):
        random((source, source), 1)
    with pytest.raises(ValueError, match="seed must be"):
        random(source, 1, seed=1.5)
    for rule in (herd, spread_out):
        with pytest.raises(AssertionError):
            rule(torch.randn(3, 2), 5)
