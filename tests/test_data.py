"""Images with a class and a domain: what comes in, what a split keeps together, what a draw promises."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shared import QUICK

from dgdd_nb import data as module
from dgdd_nb.data import Batch, MultiDomain, channel_statistics
from dgdd_nb.data import did_you_mean, number_of, unknown_name


def noise(n: int, size: int = 5) -> torch.Tensor:
    "Random images, none of them flat."
    dice = torch.Generator().manual_seed(n)
    images = torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=dice)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0, 255
    return images


@st.composite
def tables(draw: st.DrawFn) -> MultiDomain:
    "Any data set of up to 40 images: holes, groups that span cells, several splits."
    n, K, C = draw(st.integers(2, 40)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    row = lambda top: draw(st.lists(st.integers(0, top - 1), min_size=n, max_size=n))  # noqa: E731
    domains, labels, splits, groups = row(K), row(C), row(2), row(12)
    names = [[f"{kind}{i}" for i in numbers] for kind, numbers in (("c", labels), ("d", domains))]
    both = {"splits": splits, "split_names": ("train", "test"), "groups": groups}
    return MultiDomain.from_arrays(noise(n), *names, **both)


@QUICK
@given(tables(), st.integers(1, 5), st.integers(0, 9))
def test_sample_draws_from_every_cell(data: MultiDomain, n: int, seed: int) -> None:
    index = data.sample(n, torch.Generator().manual_seed(seed))
    assert torch.equal(data.select(index).counts(), data.counts().clamp(max=n))
    assert len(index.unique()) == len(index) and (data.cell[index].diff() >= 0).all()
    again = data.sample(n, torch.Generator().manual_seed(seed))
    assert torch.equal(index, again)


@QUICK
@given(tables(), st.floats(0.05, 0.9), st.integers(0, 9))
def test_hold_out_keeps_originals_together(data: MultiDomain, share: float, seed: int) -> None:
    try:
        rest, held = data.hold_out(share, seed)
    except ValueError as error:
        assert "two originals" in str(error)
        return
    assert len(rest) + len(held) == len(data)
    assert not set(rest.groups.tolist()) & set(held.groups.tolist())
    assert rest.classes == held.classes == data.classes and rest.K == data.K


def test_hold_out_takes_its_share_of_every_cell() -> None:
    for seed in range(50):  # cells of 1 to 30 single images
        dice = torch.Generator().manual_seed(seed)
        cell = torch.randint(30, (200,), generator=dice) * torch.randint(2, (200,), generator=dice)
        labels = cell.unique(return_inverse=True)[1]
        data = MultiDomain.from_arrays(noise(200), labels, torch.zeros(200, dtype=torch.long))
        wanted = (0.2 * data.counts()).round().clamp(min=1).minimum(data.counts() - 1)
        assert torch.equal(data.hold_out(0.2, seed)[1].counts(), wanted.long())


def test_hold_out_takes_the_smallest_original_where_all_are_large() -> None:
    groups = torch.tensor([0] * 90 + [1] * 10)
    data = MultiDomain.from_arrays(noise(100), *torch.zeros(2, 100).long(), groups=groups)
    assert {len(data.hold_out(0.05, seed)[1]) for seed in range(6)} == {10}


@QUICK
@given(tables())
def test_leave_out_takes_the_train_split_of_the_others(data: MultiDomain) -> None:
    target = data.domain_names[0]
    own = data.domains == 0
    rest = ~own & (data.splits == 0)
    if data.K == 1 or {*data.domains[rest].tolist()} < {*data.domains[~own].tolist()}:
        with pytest.raises(ValueError):
            data.leave_out(target)
        return
    source, target = data.leave_out(target)
    test = own & (data.splits == 1)
    assert target.domain_names == data.domain_names[:1] and target.K == 1
    assert source.domain_names == data.domain_names[1:] and source.classes == data.classes
    assert torch.equal(target.images, data.images[test if test.any() else own])
    assert sorted(source.groups.tolist()) == sorted(data.groups[rest].tolist())


def test_a_domain_without_a_split_to_learn_from_is_named() -> None:
    split = ["train", "val", "train", "train", "train"]
    names = {"splits": split, "split_names": ("train", "val")}
    data = MultiDomain.from_arrays(noise(5), [0, 1, 0, 1, 0], list("abcbc"), **names)
    data = data.select([1, 2, 4, 0])
    assert data.leave_out("b")[0].domain_names == ("a", "c")
    with pytest.raises(ValueError, match="'b' has images, but none in the split train"):
        data.leave_out("a")


def test_select_only_and_split() -> None:
    data = MultiDomain.from_arrays(
        noise(7), [0, 0, 0, 1, 1, 0, 1], ["sea", "sky", "sand", "sea", "sky", "sky", "sea"]
    )
    assert data.counts().tolist() == [[1, 2], [2, 1], [1, 0]] and not data.present[2, 1]
    assert data.only("sand", "sea").domains.tolist() == [1, 0, 1, 1]
    assert torch.equal(data.only(["sand", "sea"]).images, data.only("sand", "sea").images)
    assert data.of_classes("1", "0").labels.tolist() == [1, 1, 1, 0, 0, 1, 0]
    assert data.of_classes(["1"]).classes == ("1",) and len(data.of_classes("1")) == 3
    with pytest.raises(ValueError, match="Name each class to keep once"):
        data.of_classes("1", "1")
    assert data.select([6, 0]).labels.tolist() == [1, 0]
    assert data.select(data.labels == 1).labels.tolist() == [1, 1, 1]
    assert data.split("train").split_names == ("train",) and len(data.to("cpu")) == 7
    assert "7 images of 5x5 pixels, 2 classes, 3 domains (sea 3, sky 3, sand 1)" in repr(data)


def test_names_in_any_form_of_text() -> None:
    words = np.array(["cat", "dog"] * 4)
    for labels in (words, words.astype(object), words.tolist(), list(words)):
        data = MultiDomain.from_arrays(noise(8), labels, labels, classes=["dog", "cat"])
        assert data.labels.tolist() == [1, 0] * 4 and data.domain_names == ("cat", "dog")
    images = [image.permute(1, 2, 0).numpy() for image in noise(8)]
    with pytest.raises(ValueError, match=r"images.transpose\(0, 3, 1, 2\)"):
        MultiDomain.from_arrays(images, words, words)
    grey = MultiDomain.from_arrays(noise(8)[:, :1].numpy(), words, words)
    assert torch.equal(grey.images, noise(8)[:, [0, 0, 0]])
    mirrored = MultiDomain.from_arrays(noise(8).numpy()[:, ::-1], words, words)  # BGR
    assert torch.equal(mirrored.images, noise(8).flip(1))


def test_pictures_and_single_names_in_place_of_arrays() -> None:
    pictures = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in noise(4)]
    data = MultiDomain.from_arrays(pictures, [0, 1, 0, 1], "photo")
    assert torch.equal(data.images, noise(4)) and data.domain_names == ("photo",)
    named = MultiDomain.from_arrays(noise(2), [b"a", b"b"], [0, 0], domain_names="photo")
    assert (named.classes, named.domain_names) == (("a", "b"), ("photo",))
    deep = (noise(4).numpy().astype("uint16") * 257, [0, 1, 0, 1], "photo")
    for images, sentence in [
        (deep[0], "uint16 from .*: divide by 257 if white is 65535"),
        (
            [*pictures[:3], pictures[3].resize((9, 9))],
            r"one shape, not \(3, 5, 5\) and \(3, 9, 9\)",
        ),
        ([x.convert("RGBA") for x in pictures], r"the form RGBA, not RGB: convert it first"),
        (7, "must be an array or a list, not 7"),
    ]:
        with pytest.raises((ValueError, TypeError), match=sentence):
            MultiDomain.from_arrays(images, *deep[1:])
    for gap in (None, float("nan")):
        with pytest.raises(ValueError, match="Image 1 has no class: give it one"):
            MultiDomain.from_arrays(noise(2), np.array(["a", gap], dtype=object), "photo")


@pytest.mark.parametrize(
    ("labels", "names", "sentence"),
    [
        ([1, 2, 1, 2], None, "go from 1 to 2, but must go from 0 to 1: subtract 1"),
        ([1, 2, 1, 2], ["a", "b"], "subtract 1"),
        ([1, 5, 1, 5], None, "go from 1 to 5, but must go from 0 to 1: renumber them"),
        ([0, 10**9, 0, 0], None, "renumber them"),
        ([0, -1, 0, 0], None, "go from -1 to 0"),
        ([0, 5, 0, 5], None, "go from 0 to 5, but must go from 0 to 1"),
        ([0, 1, 0, 1], ["a", "a"], "'a' is given twice"),
        ([0, 1, 0, 1], ["a", "b", "c"], "No image has the class 'c'"),
        ([0.0, 1, 0, 1], None, "one integer for each of 4 images"),
        ([True, False, True, True], None, "one integer"),
        ([0, 1, 0], None, "one integer for each of 4 images"),
        (["cat", "dgo", "cat", "dog"], ["cat", "dog"], "did you mean 'dog'"),
    ],
)
def test_labels_that_are_refused(labels: list, names: list | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MultiDomain.from_arrays(noise(4), labels, [0, 0, 1, 1], classes=names)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: x[0], r"shape \(N, 3, H, W\)"),
        (lambda x: x[:0], r"shape \(N, 3, H, W\)"),
        (lambda x: x[:, [0, 1, 2, 2]], r"images\[:, :3\]"),
        (lambda x: x / 255, r"\(images \* 255\)"),
        (lambda x: x.float(), "convert them with images.round"),
        (lambda x: x.float() / 100 - 1, "undo their normalisation"),
        (
            lambda x: x.numpy().astype("uint16"),
            r"not uint16 from 0 to 255: convert them with images.astype",
        ),
        (lambda x: x.to(torch.uint16), r"not uint16 from 0 to 255: .* images.to\(torch.uint8\)"),
        (lambda x: x.int() * 257, r"not int32 from 0 to .*: divide by 257 .*to\(torch.uint8\)"),
        (lambda x: torch.full_like(x, 7), "4 of 4 images are one flat colour"),
    ],
)
def test_images_that_are_refused(change: callable, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence):
        MultiDomain.from_arrays(change(noise(4)), [0, 1, 0, 1], [0, 0, 1, 1])


def test_what_is_normalised_is_not_normalised_again() -> None:
    look = channel_statistics(noise(4))
    with pytest.raises(TypeError, match="leave out what is normalised already"):
        look(look(noise(4)))


def test_of_a_large_file_a_sample_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE", 0)
    images, row = noise(2500), torch.arange(2500) % 2
    images[[1, 2400]] = 7  # each third image is looked at
    with pytest.raises(ValueError, match="1 of 834 images are one flat .*index 2400"):
        MultiDomain.from_arrays(images, row, row)
    images[2400, :, 0] = 8
    assert len(MultiDomain.from_arrays(images, row, row)) == 2500


def test_statistics_are_exact_and_reversible() -> None:
    images = noise(9, 5)
    look, pixels = channel_statistics(images), images.double() / 255
    assert np.allclose(look.mean, pixels.mean((0, 2, 3)), atol=1e-12)
    assert np.allclose(look.std, pixels.std((0, 2, 3), correction=0), atol=1e-12)
    assert torch.equal(look.inverse(look(images)), images)


def test_batch() -> None:
    batch = Batch(torch.randn(4, 3, 2, 2), torch.rand(4, 5), torch.tensor([0, 1, -1, 2]), K=3, C=5)
    assert len(batch) == 4 and batch.to("cpu").K == 3
    assert batch.united().K == 1 and batch.united().domains.tolist() == [0] * 4


def test_names() -> None:
    assert number_of("domain", "photo", ("scan", "photo")) == 1
    assert did_you_mean("foto", ["photo"]) == " (did you mean 'photo'?)"
    assert did_you_mean("zzz", ["photo"]) == ""
    assert len(str(unknown_name("class", 7, [f"c{i}" for i in range(10**5)]))) < 300
