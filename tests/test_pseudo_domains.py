"""Pseudo-domains: sentences for bad input, merging, matching, determinism, and a data set whose styles are known."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from dgdd_nb.data import MultiDomain
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.distill import distill
from dgdd_nb.matching import DM
from dgdd_nb.networks import network
from dgdd_nb.pseudo_domains import (
    _match_styles,
    _merge_small,
    cluster_report,
    pseudo_domains,
    separation,
    style_statistics,
    zscore,
)
from dgdd_nb.surgery import SGS


@pytest.fixture(scope="module")
def digits() -> MultiDomain:
    return mini_digits(size=16, train=200, test=50)


@pytest.fixture(scope="module")
def known() -> MultiDomain:
    "Three obvious styles (dark, middling and busy, bright) in each of two classes, tags hidden in `groups`."
    dice = torch.Generator().manual_seed(0)
    style, label = torch.arange(60) % 3, torch.arange(60) // 3 % 2
    contrast, level = torch.tensor([8.0, 90, 8])[style], torch.tensor([30.0, 128, 220])[style]
    shape = torch.rand(60, 3, 16, 16, generator=dice) - 0.5
    shape[label == 1, :, :8] *= 0.5  # the classes differ too
    images = (
        (level[:, None, None, None] + contrast[:, None, None, None] * shape)
        .clamp(0, 255)
        .to(torch.uint8)
    )
    return MultiDomain.from_arrays(images, label, torch.zeros(60, dtype=torch.long), groups=style)


def quietly(*args, **kwargs) -> MultiDomain:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pseudo_domains(*args, **kwargs)


def test_statistics_of_the_image_itself(digits):
    some = digits.select(torch.arange(5))
    x, found = some.normalisation()(some.images), style_statistics(some, ("input",))
    assert torch.allclose(found[:, :3], x.mean((2, 3)), atol=1e-6)
    assert torch.allclose(found[:, 3:], x.flatten(2).std(2, correction=0), atol=1e-6)


def test_statistics_leave_the_encoder_as_it_was(digits):
    some = digits.select(torch.arange(40))
    whole = style_statistics(some, ("input", "conv1"))
    assert whole.dtype == torch.float32 and whole.shape == (40, 6 + 64) and not whole.requires_grad
    assert torch.equal(whole[:, :6], style_statistics(some, ("input",)))
    encoder = network(classes=10, size=16, seed=3).train()
    assert torch.equal(style_statistics(some, encoder=encoder), style_statistics(some, seed=3))
    assert encoder.training and not torch.equal(
        style_statistics(some, seed=3), style_statistics(some)
    )
    assert style_statistics(some, width=8).shape == (40, 16)


def test_nothing_is_left_after_the_norm(digits):
    before, after = style_statistics(digits, ("conv1",)), style_statistics(digits, ("norm1",))
    assert (after[:, :32].abs() < 1e-5).all() and ((after[:, 32:] - 1).abs() < 0.01).all()
    assert zscore(before).any() and not zscore(after).any()


def test_zscore():
    odd = torch.tensor([[1.0, 5, 0], [3, 5, 0], [5, 5, 0]])
    assert torch.allclose(
        zscore(odd)[:, 0], torch.tensor([-1.5, 0, 1.5], dtype=torch.float64).sign() * 1.5**0.5
    )
    assert not zscore(odd)[:, 1:].any() and not zscore(torch.zeros(3, 2)).any()
    assert zscore(odd, torch.tensor([True, True, False]))[:, 0].tolist() == [-1, 1, 3]


def test_separation_of_blobs_and_of_noise():
    blob = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tag = torch.arange(60) % 3
    apart, mixed = separation(blob + 100 * torch.eye(3)[tag], tag), separation(blob, tag)
    assert apart["purity"] == 1 and apart["nmi"] == pytest.approx(1) and apart["silhouette"] > 0.9
    assert apart["chance"] == pytest.approx(1 / 3)
    assert mixed["nmi"] < 0.2 and abs(mixed["silhouette"]) < 0.1


def test_matching_undoes_a_shuffle_and_a_shift_of_the_class():
    dice = np.random.default_rng(0)
    for _ in range(20):
        reference, order = dice.normal(size=(5, 8)), dice.permutation(5)
        found = _match_styles(reference[order] + 100 * dice.normal(size=8), reference)
        assert (order[found] == np.arange(5)).all()


def test_small_clusters_are_merged():
    line = np.array([[0.0], [1.0], [5.0], [9.0]])
    assert _merge_small([30, 3, 27, 2], line, 10) == [0, 0, 2, 2]
    assert _merge_small([30, 30, 30, 30], line, 10) == [0, 1, 2, 3]
    assert _merge_small([0, 9, 9, 9], line, 1) == [1, 1, 2, 3]
    assert len(set(_merge_small([5, 4, 3, 3], line, 100))) == 1


def test_obvious_styles_are_found_exactly_and_numbered_by_brightness(known):
    for per_class in (True, False):
        tagged = pseudo_domains(known, 3, per_class=per_class, layers=("input",))
        assert adjusted_rand_score(known.groups, tagged.domains) == 1
        assert torch.equal(tagged.domains, known.groups) and tagged.domain_names == (
            "style 0",
            "style 1",
            "style 2",
        )
    truth = replace(known, domains=known.groups, domain_names=("dark", "busy", "bright"))
    report = cluster_report(truth, tagged, ("input",))
    assert report.ari_domain == 1 and report.nmi_domain == pytest.approx(1)
    assert report.nmi_class < 1e-6 and report.least_cell == 10


def test_everything_but_the_tags_is_kept(digits):
    tagged = quietly(digits, 3)
    for name in ("images", "labels", "splits", "groups"):
        assert torch.equal(getattr(tagged, name), getattr(digits, name))
    assert (tagged.classes, tagged.split_names) == (digits.classes, digits.split_names)
    assert tagged.counts().sum() == len(digits) and torch.equal(
        digits.domains.unique(), torch.arange(4)
    )


def test_deterministic_and_free_of_the_order(digits):
    data = digits.split("train")
    tagged, order = (
        quietly(data, 3),
        torch.randperm(len(data), generator=torch.Generator().manual_seed(1)),
    )
    assert torch.equal(quietly(data, 3).domains, tagged.domains)
    assert torch.equal(quietly(data.select(order), 3).domains, tagged.domains[order])
    own = style_statistics(data)
    mixed = quietly(data.select(order), 3, features=own[order])
    assert torch.equal(quietly(data, 3, features=own).domains[order], mixed.domains)


def test_test_images_and_true_domains_play_no_part(digits):
    train = quietly(digits.split("train"), 3).domains
    assert torch.equal(quietly(digits, 3).split("train").domains, train)
    spoilt = digits.images.clone()
    spoilt[digits.splits == 1] = spoilt[digits.splits == 1].flip(3)
    assert torch.equal(quietly(replace(digits, images=spoilt), 3).split("train").domains, train)
    one = replace(digits, domains=torch.zeros_like(digits.domains), domain_names=("all",))
    assert torch.equal(quietly(one, 3).split("train").domains, train)
    with pytest.raises(ValueError, match="holds no image"):
        untrained = torch.zeros_like(digits.splits)
        pseudo_domains(replace(digits, split_names=("test", "train"), splits=untrained))


def test_numbers_mean_the_same_in_all_classes(known):
    shifted = known.images.clone().int()
    shifted[known.labels == 1] += 25  # one class is brighter throughout
    tagged = pseudo_domains(
        replace(known, images=shifted.clamp(0, 255).to(torch.uint8)), 3, layers=("input",)
    )
    assert torch.equal(tagged.domains, known.groups)


def test_small_cells_are_merged_with_a_message(digits):
    data = digits.split("train").only("photo")
    with pytest.warns(
        UserWarning, match=r"fewer than 5 training images were merged.*class '\d' style"
    ):
        tagged = pseudo_domains(data, 3, min_size=5)
    counts = tagged.counts()
    assert (counts[counts > 0] >= 5).all() and (counts == 0).any() and (counts.sum(0) == 20).all()


def test_bad_input_is_refused_in_a_sentence(digits):
    one = digits.split("train").only("scan")  # 20 images of each class
    same = replace(one, images=one.images[:1].expand(200, -1, -1, -1).contiguous())
    twins = replace(one, images=one.images[one.labels + 10 * (torch.arange(200) // 10 % 2)])
    lone = one.select(
        torch.cat([torch.arange(200)[one.labels != 3], (one.labels == 3).nonzero().flatten()[:2]])
    )
    resnet = network("resnet18", classes=10, size=16, seed=0)
    refused = {
        r"K=1 divides nothing.*surgery=None": lambda: pseudo_domains(one, 1),
        r"200 training images cannot have K=201": lambda: pseudo_domains(one, 201, per_class=False),
        r"Class '0' has 20 training images, too few for K=21.*per_class=False": lambda: (
            pseudo_domains(one, 21)
        ),
        r"Class '3' has 2 training images": lambda: pseudo_domains(lone, 3),
        r"min_size=15 cannot be met.*use 1 to 10": lambda: pseudo_domains(one, 3, min_size=15),
        r"min_size=0": lambda: pseudo_domains(one, 3, min_size=0),
        r"all have the same style statistics": lambda: pseudo_domains(same, 3),
        r"the same style statistics \(after an instance norm": lambda: pseudo_domains(
            one, 3, layers=("norm1",)
        ),
        r"Class '0' holds 2 different styles, so with K=3 a cluster would be empty": lambda: (
            pseudo_domains(twins, 3)
        ),
        r"Unknown layer 'con1' \(did you mean 'conv1'\?\)": lambda: pseudo_domains(
            one, 3, layers=("con1",)
        ),
        r"Unknown layer 'embed'": lambda: style_statistics(one, ("embed",)),
        r"Layer 'fc' has no pixels": lambda: style_statistics(one, ("fc",), encoder=resnet),
        r"tuple of one name or more, such as \('conv1',\), not \(\)": lambda: style_statistics(
            one, ()
        ),
        r"each of the 200 images": lambda: pseudo_domains(one, 3, features=torch.zeros(3, 2)),
        r"finite numbers": lambda: pseudo_domains(one, features=torch.full((200, 2), torch.nan)),
        r"not the same images": lambda: cluster_report(digits, one),
    }
    for sentence, call in refused.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match=sentence) as caught:
                call()
        assert "\n" not in str(caught.value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a small class is no obstacle here, and nothing is merged
        assert pseudo_domains(lone, 3, per_class=False, min_size=1).K == 3


def test_one_style_left_is_refused(known):
    with pytest.raises(ValueError, match="Only one style is left.*surgery=None"):
        quietly(known, 3, per_class=False, layers=("input",), min_size=15)


def test_report_without_a_truth(digits):
    one = digits.split("train").only("street")
    report = cluster_report(one, quietly(one, 2))
    assert np.isnan(report.nmi_domain) and np.isnan(report.ari_domain)
    assert -1 <= report.silhouette <= 1 and 0 <= report.least_cell <= 10


def test_distils_like_any_other_source(digits):
    one = digits.split("train").only("print")
    tagged = quietly(one, 3)
    made = distill(
        tagged, DM(), SGS(), ipc=3, steps=2, real_batch=12, width=8, device="cpu", progress=False
    )
    assert made.images.shape == (30, 3, 16, 16) and torch.isfinite(made.images).all()
    assert made.domain_names == tagged.domain_names and set(made.domains.tolist()) == {0, 1, 2}
    with pytest.raises(ValueError, match="tag pseudo-domains"):
        distill(one, DM(), SGS(), ipc=3, steps=2)
