"""Listings made by hand, and real benchmarks; the latter are skipped where their archive is absent."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from shared import unpacked

from dgdd_nb.folders import Listing, Row, from_folder, from_listing, list_images


@pytest.fixture
def listing(tmp_path) -> Listing:
    "Two domains of two classes; a sixth of the pictures is in a part with a name of its own."
    rows, generator = [], np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / f"{i}.png"
        Image.fromarray(generator.integers(0, 256, (5, 4, 3), dtype=np.uint8)).save(path)
        part = "extra" if i >= 20 else ("val" if i % 5 == 0 else "train")
        rows.append(Row(path, "ab"[i % 2], part, f"class {i // 2 % 2}", f"film {i // 4}"))
    return Listing(tmp_path, rows)


def test_a_listing_becomes_a_data_set(listing, capsys):
    data = from_listing(listing)
    assert (data.domain_names, data.classes, data.size) == (
        ("a", "b"),
        ("class 0", "class 1"),
        (5, 4),
    )
    assert data.split_names == ("train", "val", "extra")  # known names first, others after
    assert data.counts().tolist() == [[6, 6], [6, 6]] and data.groups.tolist() == [
        i // 4 for i in range(24)
    ]
    assert "classes: 0 class 0, 1 class 1" in capsys.readouterr().out
    some = from_listing(
        listing,
        (3, 2),
        domains=["b", "a"],
        classes=["class 1"],
        split_names=["val", "train"],
        quiet=True,
    )
    assert (some.domain_names, some.classes, some.size) == (("b", "a"), ("class 1",), (3, 2))
    assert some.split_names == ("val", "train") and capsys.readouterr().out == ""
    rows = [r for r in listing.rows if r.label == "class 1" and r.part != "extra"]
    assert [some.domain_names[d] for d in some.domains] == [r.domain for r in rows]
    assert [some.split_names[p] for p in some.splits] == [r.part for r in rows]


def test_without_groups_every_file_is_its_own_original(listing):
    listing.rows = [
        r._replace(group=None if i % 2 else r.group) for i, r in enumerate(listing.rows)
    ]
    groups = from_listing(listing, quiet=True).groups
    assert len(set(groups[1::2].tolist())) == 12 and len(set(groups[::2].tolist())) == 6
    assert not set(groups[::2].tolist()) & set(groups[1::2].tolist())


def test_without_parts_all_is_in_the_first(listing):
    listing.rows = [r._replace(part=None) for r in listing.rows]
    assert from_listing(listing, quiet=True).split_names == ("train",)
    assert from_listing(listing, cache=False, quiet=True).splits.sum() == 0


def test_a_file_may_be_in_two_parts_but_not_twice_in_one(listing):
    listing.rows.append(listing.rows[0]._replace(part="train"))
    assert len(from_listing(listing, quiet=True)) == 25  # 0.png is in val, and now in train
    listing.rows.append(listing.rows[0])
    with pytest.raises(ValueError, match="0.png is listed twice in part 'val'; list it once"):
        from_listing(listing, quiet=True)


@pytest.mark.parametrize("size", [0, -3, (4,), (4, 0), (1, 2, 3), "64", 2.5, (4.0, 4.0)])
def test_a_wrong_size_is_refused(listing, size):
    with pytest.raises(ValueError, match=r"size is a side in pixels or \(height, width\), not"):
        from_listing(listing, size, quiet=True)


def test_an_empty_choice_is_refused(listing):
    with pytest.raises(FileNotFoundError, match="holds no image"):
        from_listing(Listing(listing.root))
    listing.rows = [r for r in listing.rows if (r.domain, r.part) != ("b", "val")]
    with pytest.raises(FileNotFoundError, match="at once; choose others"):
        from_listing(listing, domains=["b"], split_names=["val"])
    listing.rows[0].path.unlink()
    with pytest.raises(FileNotFoundError, match="0.png is gone or locked; list the images again"):
        from_listing(listing, quiet=True)


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def refusal(root) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        list_images(root)
    return str(caught.value)


@pytest.mark.parametrize(
    "train, held, stored",
    [
        ("train", "valid", "val"),
        ("Train", "Val", "val"),
        ("TRAINING", "Validation", "val"),
        ("training", "testing", "test"),
        ("train", "Crossval", "crossval"),
    ],
)
def test_parts_have_other_names(train, held, stored, tmp_path):
    root = touch(
        tmp_path, f"photo/{train}/cat/1.jpg", f"photo/{held}/cat/2.jpg", f"art/{train}/cat/1.jpg"
    )
    listing = list_images(root)
    assert (listing.names(1), listing.splits(), listing.names(3)) == (
        ["art", "photo"],
        ["train", stored],
        ["cat"],
    )


def test_parts_beside_other_folders(tmp_path):
    root = touch(tmp_path, *(f"photo/{part}/cat/1.jpg" for part in ("train", "val", "extra")))
    assert "photo has the parts train, val, but extra beside is no part" in refusal(root)
    assert list_images(touch(tmp_path / "vehicles", "a/train/1.jpg", "a/bus/1.jpg")).names(3) == [
        "bus",
        "train",
    ]


@pytest.mark.parametrize("given", ["", "top"])
def test_the_domain_comes_first(given, tmp_path):
    touch(tmp_path / "top", "train/photo/cat/1.jpg", "test/photo/cat/1.jpg", "test/art/cat/1.jpg")
    text = refusal(tmp_path / given)
    assert (
        "the domain comes first: rename test/art/cat to art/test/cat" in text
        and "perhaps" not in text
    )
    assert list_images(tmp_path / "top" / "test").names(1) == [
        "art",
        "photo",
    ]  # one part alone can be read


@pytest.mark.parametrize(
    "paths, given, meant",
    [
        (("a/cat/1.jpg", "b/cat/1.jpg"), "..", "."),
        (("a/cat/1.jpg", "b/cat/1.jpg"), "a", "."),
        (("a/cat/1.jpg", "b/cat/1.jpg"), "a/cat", "."),
        (("a/train/cat/1.jpg", "b/test/cat/1.jpg"), "..", "."),
        (("a/train/cat/1.jpg", "b/train/cat/1.jpg"), "a", "."),
        (("a/train/cat/1.jpg", "b/test/cat/1.jpg"), "a/train", "."),
        (("a/Train/cat/1.jpg", "b/test/cat/1.jpg"), "a/Train/cat", "."),
        (("cat/1.jpg", "dog/1.jpg"), ".", None),
        (("train/cat/1.jpg", "test/cat/1.jpg"), ".", None),
        (("train/cat/1.jpg", "test/cat/1.jpg"), "train", None),
        (("only/cat/1.jpg",), "only", None),
    ],
)
def test_which_folder_was_meant(paths, given, meant, tmp_path):
    top = tmp_path / "outer" / "top"
    text = refusal((touch(top, *paths) / given).resolve())
    assert text.endswith(
        f"; perhaps you mean {top}."
        if meant
        else "put each domain's classes into a folder of its own."
    )


def test_images_beside_class_folders_and_hidden_ones(tmp_path):
    assert "put it into a folder of its class" in refusal(
        touch(tmp_path / "flat", "photo/train/1.jpg")
    )
    assert (
        "(there is" in (no := refusal(touch(tmp_path / "phone", "a/b/1.heic"))) and "1.heic" in no
    )
    assert "nor anywhere below" in refusal(
        touch(tmp_path / "mac", "__MACOSX/a/b/1.jpg", ".trash/a/b/c/1.jpg")
    )


def test_domains_that_differ_in_case_or_blanks(tmp_path):
    root = touch(tmp_path, "photo/cat/1.jpg", "Photo /cat/1.jpg", "photos/cat/1.jpg")
    with pytest.raises(
        ValueError, match="domains 'Photo ' and 'photo' differ in case or blanks alone"
    ):
        from_folder(root)


def test_a_part_that_no_folder_names_is_not_shown(listing, capsys):
    from_listing(listing)
    assert "parts (train 16, val 4, extra 4)" in capsys.readouterr().out
    listing.rows = [r._replace(part=None) for r in listing.rows]
    from_listing(listing)
    assert "splits" not in capsys.readouterr().out


def test_pacs_has_the_published_counts(tmp_path):
    root = unpacked("PACS", "pacs_64px.tar", tmp_path)
    pacs = from_folder(root, 64, cache=tmp_path / "cache")
    assert len(pacs) == 9991
    assert pacs.domain_names == ("art_painting", "cartoon", "photo", "sketch")
    assert pacs.classes == ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
    assert pacs.counts().tolist() == [
        [379, 255, 285, 184, 201, 295, 449],
        [389, 457, 346, 135, 324, 288, 405],
        [189, 202, 182, 186, 199, 280, 432],
        [772, 740, 753, 608, 816, 80, 160],
    ]
    source, target = pacs.leave_out("sketch")
    assert (source.K, len(source), len(target)) == (3, 6062, 3929)
    with patch("dgdd_nb.images.read_all") as decode:  # the second start, from the cache, mapped
        again = from_folder(root, 64, cache=tmp_path / "cache", quiet=True)
    assert not decode.called and torch.equal(again.images, pacs.images)
    assert torch.equal(again.labels, pacs.labels) and again.normalisation() == pacs.normalisation()


def test_digits_have_train_and_val(tmp_path):
    names = ("usps", "street_chars")
    root = unpacked("digits_dg_like", "digits_real_32px.tar", tmp_path, keep=names)
    digits = from_folder(root, domains=names, workers=2)
    assert digits.split_names == ("train", "val")
    assert digits.size == (32, 32)
    assert digits.split("train").counts().tolist() == [
        [480] * 10,
        [62, 52, 47, 29, 30, 33, 34, 25, 17, 29],
    ]
    assert digits.split("val").counts().tolist() == [[120] * 10, [16, 13, 12, 7, 7, 8, 8, 6, 4, 7]]
    source, target = digits.leave_out("street_chars")
    assert (len(source), len(target)) == (4800, 446)  # the whole target, as in the literature


def test_a_domain_without_images_is_named(tmp_path):
    for domain, name in (("a", "dog"), ("b", "dog"), ("c", "dog")):
        (tmp_path / domain / name).mkdir(parents=True)
        if domain != "c":
            Image.linear_gradient("L").resize((8, 8)).save(tmp_path / domain / name / "0.png")
    (tmp_path / "notes").mkdir()  # no class folders: not a domain
    with pytest.raises(
        FileNotFoundError, match="domain c has class folders and no image.*domains="
    ):
        from_folder(tmp_path, quiet=True, cache=False)
    assert from_folder(tmp_path, domains=["a", "b"], quiet=True, cache=False).K == 2
