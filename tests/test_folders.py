"""Listings, folders that are wrong, and the cache of decoded images under real accidents; real data where present."""

import os
import time
import unicodedata
import warnings
from pathlib import Path
from unittest.mock import patch

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shared import QUICK, needs_posix, python, unpacked

from dgdd_nb import folders
from dgdd_nb.folders import Listing, Row, clear_cache, from_folder, list_images, read_image


def draw(path: Path, seed: int, side: tuple[int, int] = (6, 8)) -> Path:
    "A picture of random colours."
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


# from a listing to a data set


@pytest.fixture
def listing(tmp_path) -> Listing:
    "Two domains of two classes; a sixth of the pictures is in a split with a name of its own."
    rows = []
    for i in range(24):
        path = draw(tmp_path / f"{i}.png", i, (5, 4))
        split = "extra" if i >= 20 else ("val" if i % 5 == 0 else "train")
        rows.append(Row(path, "ab"[i % 2], split, f"class {i // 2 % 2}", f"film {i // 4}"))
    return Listing(tmp_path, rows)


def test_a_listing_becomes_a_data_set(listing, capsys):
    data = from_folder(listing)
    assert (data.domain_names, data.classes) == (("a", "b"), ("class 0", "class 1"))
    assert data.size == (5, 4) and data.counts().tolist() == [[6, 6], [6, 6]]
    assert data.split_names == ("train", "val", "extra")  # known names first, others after
    assert data.groups.tolist() == [i // 4 for i in range(24)]
    said = capsys.readouterr().out
    assert "classes: 0 class 0, 1 class 1" in said and "splits (train 16, val 4, extra 4)" in said
    names = {"domains": ["b", "a"], "classes": ["class 1"], "split_names": ["val", "train"]}
    some = from_folder(listing, (3, 2), **names, quiet=True)
    assert (some.domain_names, some.classes, some.size) == (("b", "a"), ("class 1",), (3, 2))
    assert some.split_names == ("val", "train") and capsys.readouterr().out == ""
    rows = [r for r in listing.rows if r.label == "class 1" and r.split != "extra"]
    assert [some.domain_names[d] for d in some.domains] == [r.domain for r in rows]
    assert [some.split_names[p] for p in some.splits] == [r.split for r in rows]


def test_without_groups_every_file_is_its_own_original(listing):
    listing.rows = [
        r._replace(group=None if i % 2 else r.group) for i, r in enumerate(listing.rows)
    ]
    groups = from_folder(listing, quiet=True).groups
    assert len(set(groups[1::2].tolist())) == 12 and len(set(groups[::2].tolist())) == 6
    assert not set(groups[::2].tolist()) & set(groups[1::2].tolist())


def test_without_splits_all_is_in_the_first(listing, capsys):
    listing.rows = [r._replace(split=None) for r in listing.rows]
    assert from_folder(listing).split_names == ("train",)
    assert "splits" not in capsys.readouterr().out
    assert from_folder(listing, cache=False, quiet=True).splits.sum() == 0


def test_a_file_may_be_in_two_splits_but_not_twice_in_one(listing):
    listing.rows.append(listing.rows[0]._replace(split="train"))
    assert len(from_folder(listing, quiet=True)) == 25  # 0.png is in val, and now in train
    listing.rows.append(listing.rows[0])
    with pytest.raises(ValueError, match="0.png is listed twice in split 'val'; list it once"):
        from_folder(listing, quiet=True)


@pytest.mark.parametrize("size", [0, -3, (4,), (4, 0), (1, 2, 3), "64", 2.5, (4.0, 4.0)])
def test_a_wrong_size_is_refused(listing, size):
    with pytest.raises(ValueError, match=r"size is a side in pixels or \(height, width\), not"):
        from_folder(listing, size, quiet=True)


def test_an_empty_choice_is_refused(listing):
    with pytest.raises(FileNotFoundError, match="holds no image"):
        from_folder(Listing(listing.root))
    listing.rows = [r for r in listing.rows if (r.domain, r.split) != ("b", "val")]
    with pytest.raises(FileNotFoundError, match="at once; choose others"):
        from_folder(listing, domains=["b"], split_names=["val"])
    listing.rows[0].path.unlink()
    with pytest.raises(
        FileNotFoundError, match="0.png cannot be opened .No such file.*; check the path"
    ):
        from_folder(listing, quiet=True)


# from folders to a listing


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def refusal(root: Path) -> str:
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
        ("training_set", "test_set", "test"),
        ("train2017", "val2017", "val"),
        ("images_train", "Test Images", "test"),
    ],
)
def test_splits_have_other_names(train, held, stored, tmp_path):
    paths = f"photo/{train}/cat/1.jpg", f"photo/{held}/cat/2.jpg", f"art/{train}/cat/1.jpg"
    listing = list_images(touch(tmp_path, *paths))
    assert (listing.names("domain"), listing.names("label")) == (["art", "photo"], ["cat"])
    assert listing.splits() == ["train", stored]


def test_splits_beside_other_folders(tmp_path):
    root = touch(tmp_path, *(f"photo/{split}/cat/1.jpg" for split in ("train", "val", "extra")))
    text = refusal(root)
    assert "photo has folders of splits, but extra beside them is no split; move it" in text
    names = ["photo", "sketch", "test"]
    root = touch(tmp_path / "pets", *(f"{name}/cat/1.jpg" for name in names))
    assert "no split; if all are domains name them in domains=[...], else move" in refusal(root)
    assert list_images(root, names).names("domain") == names
    vehicles = list_images(touch(tmp_path / "vehicles", "a/train/1.jpg", "a/bus/1.jpg"))
    assert vehicles.names("label") == ["bus", "train"]


@pytest.mark.parametrize(
    "paths, splits",
    [
        (("train/cat/1.jpg", "train/dog/1.jpg", "test/cat/1.jpg"), ["train", "test"]),
        (("training_set/cat/1.jpg", "test_set/dog/1.jpg"), ["train", "test"]),
        (("cat/1.jpg", "dog/1.jpg"), ["train"]),
        (("images/cat/1.jpg", "images/dog/1.jpg"), ["train"]),
        (("cat/1.jpg", "dog/1.jpg", "dog/2.jpg", "dog/more/3.jpg"), ["train"]),
    ],
)
def test_classes_without_domains_are_one_domain(paths, splits, tmp_path):
    listing = list_images(touch(tmp_path / "pets", *paths))
    assert (listing.names("domain"), listing.names("label")) == (["pets"], ["cat", "dog"])
    assert listing.splits() == splits and "read as one domain, pets" in listing.notes[0]


def test_one_of_several_domains_can_be_asked_for(tmp_path):
    root = touch(tmp_path, "a/cat/1.jpg", "b/cat/1.jpg")
    assert "looks like one domain of several (to read it alone, pass domains=['a'])" in refusal(
        root / "a"
    )
    for place, domains in ((root / "a", ["a"]), (root / "a", "a"), (root, "a")):
        assert list_images(place, domains).names("domain") == ["a"]


@pytest.mark.parametrize(
    "paths",
    [
        [f"{d}/images/{c}/1.jpg" for d in ("amazon", "dslr") for c in ("bike", "mug")],
        [f"{d}/{c}/1.jpg" for d in ("amazon", "dslr") for c in ("bike", "mug")],
        ["amazon/bike/1.jpg", "amazon/mug/1.jpg", "amazon/1.jpg", "dslr/bike/1.jpg"],
    ],
)
def test_domains_with_and_without_a_folder_between(paths, tmp_path):
    listing = list_images(touch(tmp_path, *paths))
    assert (listing.names("domain"), listing.names("label")) == (
        ["amazon", "dslr"],
        ["bike", "mug"],
    )


def test_a_level_too_many_is_no_domain(tmp_path):
    for domain in ("art", "photo"):
        touch(tmp_path, *(f"{domain}/{c}/{b}/1.jpg" for c in ("cat", "dog") for b in ("b1", "b2")))
    text = refusal(tmp_path)
    assert "move the pictures of each class up into one folder" in text and "perhaps" not in text


def test_classes_that_are_called_like_splits(tmp_path):
    root = touch(tmp_path, "A/train/1.jpg", "A/bus/1.jpg", "C/train/1.jpg", "C/train/2.jpg")
    listing = list_images(root)
    assert listing.names("label") == ["bus", "train"] and len(listing.rows) == 4
    assert not listing.names("split") and not listing.empty
    assert "put it into a folder of its class" in refusal(touch(tmp_path / "x", "C/train/1.jpg"))


@pytest.mark.parametrize("given", ["", "top"])
def test_the_domain_comes_first(given, tmp_path):
    touch(tmp_path / "top", "train/photo/cat/1.jpg", "test/photo/cat/1.jpg", "test/art/cat/1.jpg")
    text = refusal(tmp_path / given)
    assert "the domain comes first: rename test/art/cat to art/test/cat" in text
    assert "perhaps" not in text
    assert list_images(tmp_path / "top" / "test").names("domain") == ["art", "photo"]


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
        (("a/images/cat/1.jpg", "b/images/cat/1.jpg"), "a", "."),
        (("a/training_set/cat/1.jpg", "b/test_set/cat/1.jpg"), "a", "."),
        (("train/cat/1.jpg", "test/cat/1.jpg"), "train", "."),
    ],
)
def test_which_folder_was_meant(paths, given, meant, tmp_path):
    top = tmp_path / "outer" / "top"
    text = refusal((touch(top, *paths) / given).resolve())
    assert text.endswith(f"; perhaps you mean {top}.")


def test_the_class_comes_last(tmp_path):
    root = touch(tmp_path, *(f"A/cat/{split}/1.jpg" for split in ("train", "test")))
    assert refusal(root).endswith("the class comes last: rename A/cat/test to A/test/cat.")


def test_results_of_ours_are_no_domains(tmp_path):
    root = touch(tmp_path, "a/cat/1.jpg", "b/cat/1.jpg", "set/distilled.safetensors")
    touch(root, "set/pictures/1.jpg", "work/study.json", "work/trials/t/1.jpg", "old/trials/1.jpg")
    assert list_images(root).names("domain") == ["a", "b", "old"]


def test_images_beside_class_folders_and_hidden_ones(tmp_path):
    flat = touch(tmp_path / "flat", "photo/train/1.jpg")
    assert "put it into a folder of its class" in refusal(flat)
    text = refusal(touch(tmp_path / "phone", "a/b/1.heic"))
    assert "(there is" in text and "1.heic" in text
    hidden = touch(tmp_path / "mac", "__MACOSX/a/b/1.jpg", ".trash/a/b/c/1.jpg")
    assert "nor anywhere below" in refusal(hidden)


def test_domains_that_differ_in_case_or_blanks(tmp_path):
    root = touch(tmp_path, "photo/cat/1.jpg", "Photo /cat/1.jpg", "photos/cat/1.jpg")
    with pytest.raises(ValueError, match="'Photo ' and 'photo' differ in case or blanks alone"):
        from_folder(root)


def test_names_that_sort_alike_have_one_order(tmp_path):
    root = touch(tmp_path, *(f"a/{name}/1.jpg" for name in ("1", "01", "001", "10")))
    assert list_images(root).names("label") == ["001", "01", "1", "10"]


def test_a_domain_without_images_is_named(tmp_path):
    for domain in "ab":
        draw(tmp_path / domain / "dog" / "0.png", 0)
    (tmp_path / "c" / "dog").mkdir(parents=True)
    (tmp_path / "notes").mkdir()  # no class folders: not a domain
    text = "Domain c has no image in a class folder: put images into c/CLASS, .*domains="
    with pytest.raises(ValueError, match=text):
        from_folder(tmp_path, quiet=True, cache=False)
    draw((tmp_path / "c" / "dog").rename(tmp_path / "elsewhere").parent / "c" / "0.png", 0)
    with pytest.raises(ValueError, match=text):  # a level too high
        from_folder(tmp_path, quiet=True, cache=False)
    assert from_folder(tmp_path, domains=["a", "b"], quiet=True, cache=False).K == 2


# files of every kind


def in_class(tmp_path: Path) -> Path:
    "A tree of two domains and two classes; the folder of one class."
    for i, place in enumerate(("A/cat", "A/dog", "B/cat", "B/dog")):
        draw(tmp_path / place / "0.png", i)
    return tmp_path / "A" / "cat"


def picture(seed: int = 9) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "name, form", [("9.jfif", "JPEG"), ("9.jpe", "JPEG"), ("9", "PNG"), ("9.tga", "TGA")]
)
def test_what_pillow_reads_is_read(name, form, tmp_path, capsys):
    picture().save(in_class(tmp_path) / name, format=form)
    assert len(from_folder(tmp_path, cache=False)) == 5 and "note" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, told",
    [
        ("9.dcm", "1 file (A/cat/9.dcm) of a form that is not read (.dcm): convert"),
        ("9.npy", "of a form that is not read (.npy)"),
        ("9.heic", "of a form that is not read (.heic)"),
        ("README", "1 path (A/cat/README) without an image"),
        ("more/1.png", "1 image (A/cat/more/1.png) a level too deep: move up"),
        ("../1.png", "1 image (A/1.png) where no reader looks: move to DOMAIN/CLASS/"),
        ("0.png.1", "1 image (A/cat/0.png.1) without the ending of one: add .png"),
        ("../zebra/", "1 folder (A/zebra) without an image: fill or remove"),
        ("pipe.png", "1 path (A/cat/pipe.png) without an image"),
    ],
)
def test_what_is_not_read_is_named(name, told, tmp_path, capsys):
    path = in_class(tmp_path) / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith("/"):
        path.mkdir()
    elif name == "pipe.png":
        getattr(os, "mkfifo", lambda path: pytest.skip("this system has no pipes"))(path)
    elif ".png" in name:
        picture().save(path, format="PNG")
    else:
        path.write_text("words")
    assert len(from_folder(tmp_path, cache=False)) == 4
    assert told in capsys.readouterr().out


def test_a_class_with_underscores_is_a_class(tmp_path):
    draw(in_class(tmp_path).parent / "__background__" / "0.png", 8)
    assert "__background__" in from_folder(tmp_path, cache=False, quiet=True).classes


RAMP = np.tile(np.linspace(0, 1, 16), (4, 1))


@pytest.mark.parametrize(
    "grey, range",
    [
        (RAMP.astype("f4"), None),
        ((RAMP * 255).astype("f4"), None),
        ((RAMP * 65535).astype("f4"), None),
        ((RAMP * 255).astype("u2"), "0 to 255"),  # or a dark one of 16 bits
        ((RAMP * 65535).astype("u2"), None),
        ((RAMP * 255).astype("i4"), None),
        ((2 * RAMP - 1).astype("f4"), "-1 to 1"),
        ((RAMP * 4095).astype("u2"), "0 to 4095"),
        ((RAMP * 20 + 30000).astype("u2"), "30000 to 30020"),  # varies: never called flat
        ((4000 * RAMP - 1000).astype("i4"), "-1000 to 3000"),
        (np.where(RAMP > 0.5, np.nan, RAMP).astype("f4"), "nan to nan"),
    ],
)
def test_grey_values_of_more_than_8_bits(grey, range, tmp_path):
    Image.fromarray(grey).save(tmp_path / "x.tif")
    if range is None:
        pixels = read_image(tmp_path / "x.tif")[0]
        assert (pixels.min(), pixels.max()) == (0, 255) and len(np.unique(pixels)) == 16
        return
    with pytest.raises(OSError, match=rf"x.tif has grey values .* \({range}\); scale them to 0"):
        read_image(tmp_path / "x.tif")


def test_a_note_of_which_side_is_up_that_is_no_number(tmp_path):
    note = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02x\0\0\0\0\0\0\0"
    picture().save(tmp_path / "x.jpg", exif=note)
    assert Image.open(tmp_path / "x.jpg").getexif()[274] == "x"
    assert folders._first_size(tmp_path / "x.jpg") == read_image(tmp_path / "x.jpg").shape[1:]


def test_a_picture_that_is_too_large_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    picture().save(tmp_path / "x.png")
    with pytest.raises(OSError, match=r"x.png is too large .*48 pixels.*smaller copy.*-resize"):
        read_image(tmp_path / "x.png")
    for path in (tmp_path, tmp_path / "gone.png"):
        with pytest.raises(OSError, match="is no file; name|cannot be opened .No such file"):
            read_image(path)


def test_a_flat_picture_is_not_to_be_deleted(tmp_path):
    Image.new("RGB", (8, 6), "red").save(in_class(tmp_path) / "9.png")
    with pytest.raises(
        OSError, match="9.png is one flat colour at 6x8 pixels; look at it, and move"
    ):
        from_folder(tmp_path, cache=False)


# names


def test_one_name_in_two_unicode_forms(tmp_path):
    one, two = (unicodedata.normalize(form, "\xe9t\xe9") for form in ("NFC", "NFD"))
    touch(tmp_path / "x", f"A/{one}/1.jpg", f"B/{two}/1.jpg")
    touch(tmp_path / "y", f"{one}/cat/1.jpg", f"{two}/cat/1.jpg")
    if len(list((tmp_path / "y").iterdir())) == 1:
        pytest.skip("this system has one form alone")
    for root, names in (("x", (["A", "B"], [one])), ("y", ([one], ["cat"]))):
        listing = list_images(tmp_path / root)
        assert (listing.names("domain"), listing.names("label")) == names
        assert len(listing.rows) == 2 and not folders.name_problems(listing)
    for domain in ("A", "B"):
        draw(tmp_path / "z" / domain / two / "0.png", 1)
    assert from_folder(tmp_path / "z", classes=[one], quiet=True, cache=False).classes == (one,)


@pytest.mark.parametrize("split", ["", "train/", "val/"])
def test_classes_that_differ_in_case(split, tmp_path):
    touch(tmp_path, *(f"{d}/train/{c}/1.jpg" for d in "AB" for c in ("cat", "dog")))
    root = touch(tmp_path, *(f"{d}/{split}{c}/1.jpg" for d in "CD" for c in ("Cat", "dog")))
    with pytest.raises(ValueError, match=r"'Cat' .in C.* and 'cat' .in A/train. differ in case"):
        from_folder(root)
    touch(tmp_path, "B/train/Cat/1.jpg")  # both in one place: two classes
    assert list_images(root).names("label") == ["Cat", "cat", "dog"]
    assert not folders.name_problems(list_images(root))


def test_a_misspelt_class_in_every_split(tmp_path):
    places = [("A", "house"), ("B", "house"), ("C", "hosue")]
    root = touch(tmp_path, *(f"{d}/{s}/{c}/1.jpg" for d, c in places for s in ("train", "val")))
    with pytest.raises(ValueError, match="'hosue' is in 'C' alone, which has no 'house'"):
        from_folder(root)


def test_two_spellings_of_one_number(tmp_path):
    touch(tmp_path, *(f"A/{i}/1.jpg" for i in (1, 2)), *(f"B/0{i}/1.jpg" for i in (1, 2)))
    with pytest.raises(
        ValueError, match=r"'01' \(in B\) and '1' \(in A\), 2 pairs in all, differ in"
    ):
        from_folder(tmp_path)
    root = touch(tmp_path / "domains", "s1/cat/1.jpg", "s01/cat/1.jpg")
    with pytest.raises(ValueError, match="Domains 's01' and 's1' .* spelling of a number"):
        from_folder(root)


@needs_posix
@pytest.mark.parametrize("name", [b"A/caf\xe9/0.png", b"A/cat/caf\xe9.png", b"caf\xe9/cat/0.png"])
def test_names_that_are_not_text(name, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), name)
    try:
        os.makedirs(os.path.dirname(path))
        open(path, "wb").close()
    except OSError:
        pytest.skip("this system has such names not")
    assert r"caf\xe9" in refusal(tmp_path) and "is not UTF-8" in refusal(tmp_path)


def test_many_classes_take_no_quadratic_time():
    rows = [
        Row(Path(f"{d}/{c} of {d}/{i}.jpg"), d, None, f"{c} of {d}")
        for d in ("art", "photo")
        for c in range(1000)
        for i in range(20)
    ]
    listing = Listing(Path(), rows)
    start = time.perf_counter()
    folders.name_problems(listing)
    list(folders._notes(listing, listing.names("label")))
    assert time.perf_counter() - start < 20


def test_paths_as_users_write_them(tmp_path, monkeypatch):
    in_class(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path))
    for root in ("~/data", "$PLACE/data"):
        some = from_folder(root, np.int64(4), domains="A", classes="dog", quiet=True, cache="~/c")
        assert (some.domain_names, some.classes, some.size) == (("A",), ("dog",), (4, 4))
    assert (tmp_path / "c").is_dir()


def test_names_inside_a_folder_are_taken_as_they_are(tmp_path):
    in_class(tmp_path)
    (tmp_path / "B").rename(tmp_path / "$HOME")
    assert len(from_folder(tmp_path, quiet=True, cache=False)) == 4


def test_a_choice_names_each_once(tmp_path):
    in_class(tmp_path)
    for kind, name in (("domains", "A"), ("classes", "cat"), ("split_names", "train")):
        with pytest.raises(ValueError, match=f"{name!r} is named twice; name it once"):
            from_folder(tmp_path, **{kind: [name, name]})


# the cache


@pytest.fixture
def album(tmp_path) -> list[Path]:
    "Twelve pictures in two folders."
    return [draw(tmp_path / "album" / f"{i % 2}" / f"{i}.png", i) for i in range(12)]


def decode(paths: list[Path], size: tuple[int, int] | None = (6, 8)) -> torch.Tensor:
    return folders.decode_all(paths, size or (6, 8), workers=1)


def cached(paths: list[Path], cache: Path, size=(6, 8), selection: str = "") -> torch.Tensor:
    listing = Listing(paths[0].parents[1], selection=selection)
    return folders._cached(listing, paths, size, workers=1, cache=cache)


def read(paths: list[Path], cache: Path, size: tuple[int, int] | None = (6, 8)) -> torch.Tensor:
    "The images from the cache, which have to be those on the disk; no warning."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = cached(paths, cache, size)
    assert got.dtype == torch.uint8 and torch.equal(got, decode(paths, size))
    return got


@pytest.fixture
def count(monkeypatch):
    "How many files `cached` has decoded since the last look."
    seen = []
    monkeypatch.setattr(folders, "read_image", lambda *a: seen.append(a) or read_image(*a))

    def since(*arguments, **options) -> int:
        seen.clear()
        cached(*arguments, **options)
        return len(seen)

    return since


def test_a_second_start_decodes_nothing(album, tmp_path, count):
    cache = tmp_path / "cache"
    assert [count(album, cache) for _ in range(3)] == [12, 0, 0]
    for options in ({"size": (4, 4)}, {"size": None}, {"selection": "five"}):  # live side by side
        assert (count(album, cache, **options), count(album, cache)) == (12, 0)
        assert count(album, cache, **options) == 0
    assert count(album[::2], cache) == 6 and count(album, cache) == 0  # one folder of two
    assert clear_cache(cache) > 5 * 12 * 4 * 4 * 3 and count(album, cache) == 12


@pytest.mark.parametrize(
    "change",
    [
        *("edited", "touched", "added", "removed", "renamed", "replaced by an older one"),
        pytest.param("written in place, with its old time", marks=needs_posix),
    ],
)
def test_a_changed_source_is_decoded_again(album, tmp_path, count, change):
    cache = tmp_path / "cache"
    read(album, cache)
    if change == "edited":
        draw(album[3], 99)
    elif change == "touched":
        os.utime(album[3], ns=(0, 10**18))
    elif change == "added":
        album.append(draw(album[3].with_name("x.png"), 98))
    elif change == "removed":
        album.pop(3).unlink()
    elif change == "renamed":
        album[3] = album[3].rename(album[3].with_name("y.png"))
    elif change.startswith("written"):
        time_before = album[3].stat().st_mtime_ns
        album[3].write_bytes(album[3].read_bytes())
        os.utime(album[3], ns=(0, time_before))
    else:
        old = draw(tmp_path / "old.png", 97)
        os.utime(old, ns=(0, 10**15))
        old.replace(album[3])
    assert count(album, cache) == len(album) and count(album, cache) == 0
    read(album, cache)
    assert len(list(cache.iterdir())) == 1, "what is superseded goes"


def test_threads_whatever_surrounds_the_call(album):
    """Within a block that asks joblib for processes, pixels must still arrive in this one."""
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert torch.equal(folders.decode_all(album, (6, 8), workers=2), decode(album))


def test_a_file_that_changes_during_the_build_is_not_kept(album, tmp_path, monkeypatch):
    real = folders.decode_all
    monkeypatch.setattr(folders, "decode_all", lambda *a: (draw(album[0], 96), real(*a))[1])
    cached(album, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@QUICK
@given(st.data())
def test_no_damaged_file_is_trusted(tmp_path_factory, data):
    home = tmp_path_factory.mktemp("damage")
    album = [draw(home / "album" / "0" / f"{i}.png", i) for i in range(3)]
    want = read(album, home / "cache").clone()
    (file,) = (home / "cache").iterdir()
    blob = bytearray(file.read_bytes())
    how = data.draw(st.sampled_from(["cut", "flip", "grow", "other"]))
    place = data.draw(st.integers(0, len(blob) - 1))
    if how == "cut":
        del blob[place:]
    elif how == "flip":
        blob[place] ^= data.draw(st.integers(1, 255))
    elif how == "grow":
        blob += data.draw(st.binary(min_size=1, max_size=9))
    else:
        blob = data.draw(st.binary(max_size=200))
    file.write_bytes(blob)
    for _ in range(2):
        assert torch.equal(read(album, home / "cache"), want)


def test_damage_anywhere_in_a_large_file_is_seen(album, tmp_path, count):
    with patch.object(folders, "_IN_MEMORY", 0):
        want = read(album * 40, tmp_path / "cache").clone()
        (file,) = (tmp_path / "cache").iterdir()
        blob = bytearray(file.read_bytes())
        for place in range(500, len(blob), len(blob) // 7):
            file.write_bytes(blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :])
            assert torch.equal(read(album * 40, tmp_path / "cache"), want)


def test_a_found_size_and_a_given_one_share_the_cache(album, tmp_path, count):
    cache = tmp_path / "cache"
    assert count(album, cache, size=None) == 12 and count(album, cache, size=(6, 8)) == 0
    draw(album[3], 3, (9, 9))
    assert count(album, cache, size=(6, 8)) == 12
    with pytest.raises(ValueError, match="different sizes"):  # resized pixels are no answer
        cached(album, cache, None)


@QUICK
@given(st.integers(1, 5), st.sampled_from([None, (6, 8), (3, 5)]), st.booleans())
def test_same_bits_with_and_without_a_cache(tmp_path_factory, n, size, mapped):
    home = tmp_path_factory.mktemp("bits")
    album = [draw(home / "album" / "0" / f"{i}.jpg", i) for i in range(n)]
    with patch.object(folders, "_IN_MEMORY", 0 if mapped else folders._IN_MEMORY):
        first, second = (read(album, home / "cache", size) for _ in range(2))
        second += 1  # a copy: the file stays as it is
        assert torch.equal(read(album, home / "cache", size), first)


START = """
import os, signal, sys, warnings
warnings.simplefilter("error", UserWarning)
from pathlib import Path
from dgdd_nb import folders

album, cache = sorted(Path(sys.argv[1]).rglob("*.png")), Path(sys.argv[2])
right = folders.decode_all(album, (6, 8), 1)
build = lambda: folders._cached(folders.Listing(album[0].parents[1]), album, (6, 8), 1, cache)
"""

KILLED = """
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def half_written(path):
    with open(path, "wb") as out:
        out.write(b"half a card")
    die()

read, rename = folders.read_image, os.replace
calls = iter(range(100))
places = {
    "decoding": lambda: setattr(folders, "read_image", lambda *a: die() if next(calls) == 5 else read(*a)),
    "half written": lambda: setattr(Path, "open", lambda path, *a: half_written(path) if a == ("wb",) else open(path, *a)),
    "before the rename": lambda: setattr(os, "replace", die),
    "after the rename": lambda: setattr(os, "replace", lambda *a: (rename(*a), die())),
}
for place, prepare in places.items():
    folders.clear_cache(cache)
    child = os.fork()
    if child == 0:
        prepare()
        build()
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), place
    left = [p.suffix for p in cache.iterdir()] if cache.exists() else []
    for start in range(2):
        assert (build() == right).all(), place
    print(place, *left)
"""

TWO_AT_ONCE = """
children = []
for number in range(3):
    children.append(os.fork())
    if children[-1] == 0:
        for again in range(20):
            if not (build() == right).all():
                os._exit(1)
            for path in cache.glob("dgdd-*") if again % 5 == number else ():
                path.unlink(missing_ok=True)  # what is finished goes, at any moment
        os._exit(0)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
build()
folders.decode_all = None
assert (build() == right).all()
"""

FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))           # no file longer than 500 bytes
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert (build() == right).all() and len(caught) == 1
print(caught[0].message, list(cache.iterdir()))
"""


@needs_posix
def test_a_build_killed_anywhere_leaves_nothing_half(album, tmp_path):
    lines = python(START + KILLED, album[0].parents[1], tmp_path / "cache").splitlines()
    assert lines == [
        "decoding",
        "half written .part",
        "before the rename .part",
        "after the rename .pixels",
    ]


@needs_posix
def test_several_processes_at_once(album, tmp_path):
    python(START + TWO_AT_ONCE, album[0].parents[1], tmp_path / "cache")


@needs_posix
def test_a_full_disk_costs_the_cache_only(album, tmp_path):
    said = python(START + FULL, album[0].parents[1], tmp_path / "cache")
    assert "could not be kept" in said and "DGDD_CACHE" in said and said.endswith("[]\n")


def test_only_our_own_files_are_removed(album, tmp_path):
    cache = tmp_path / "cache"
    read(album, cache)
    for name in (f".dgdd-{'a' * 64}.pixels.0123abcd.part", "mine.npy", "dgdd-short.pixels"):
        (cache / name).write_bytes(b"x")
    clear_cache(cache)
    assert sorted(p.name for p in cache.iterdir()) == ["dgdd-short.pixels", "mine.npy"]


@pytest.mark.parametrize("kind", ["a file in the way", "read only"])
def test_a_folder_that_cannot_be_written_costs_the_cache_only(album, tmp_path, kind):
    cache = tmp_path / "cache"
    if kind == "read only":
        if not hasattr(os, "geteuid") or os.geteuid() == 0:
            pytest.skip("the super-user may write everywhere")
        cache.mkdir(mode=0o500)
    else:
        cache.write_text("here")
    with pytest.warns(UserWarning, match="could not be kept in .*; name another folder in DGDD"):
        got = cached(album, cache, None)
    assert torch.equal(got, decode(album))
    if kind == "read only":  # what lies there already is read
        cache.chmod(0o700)
        read(album, cache)
        cache.chmod(0o500)
        read(album, cache)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("DGDD_CACHE", str(tmp_path / "x"))
    assert folders._cache_folder(True) == tmp_path / "x"
    monkeypatch.delenv("DGDD_CACHE")
    monkeypatch.setenv("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", str(tmp_path))
    assert folders._cache_folder(True) == tmp_path / "dgdd_nb"
    assert folders._cache_folder(tmp_path) == tmp_path


def test_a_folder_of_domains_is_decoded_once(tmp_path, capsys):
    for i, name in enumerate(("photo/dog", "photo/cat", "sketch/dog", "sketch/cat")):
        draw(tmp_path / "pets" / name / "0.png", i)
    first = from_folder(tmp_path / "pets", cache=tmp_path / "cache")
    with patch.object(folders, "read_image", None):
        again = from_folder(tmp_path / "pets", cache=tmp_path / "cache")
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    said = capsys.readouterr().out
    assert said[: len(said) // 2] == said[len(said) // 2 :]


# real images


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
    with patch.object(folders, "decode_all") as decode:  # the second start, from the cache, mapped
        again = from_folder(root, 64, cache=tmp_path / "cache", quiet=True)
    assert not decode.called and torch.equal(again.images, pacs.images)
    assert torch.equal(again.labels, pacs.labels) and again.normalisation() == pacs.normalisation()


def test_digits_have_train_and_val(tmp_path):
    names = ("usps", "street_chars")
    root = unpacked("digits_dg_like", "digits_real_32px.tar", tmp_path, keep=names)
    digits = from_folder(root, domains=names, workers=2)
    assert (digits.split_names, digits.size) == (("train", "val"), (32, 32))
    train, val = ([62, 52, 47, 29, 30, 33, 34, 25, 17, 29], [16, 13, 12, 7, 7, 8, 8, 6, 4, 7])
    assert digits.split("train").counts().tolist() == [[480] * 10, train]
    assert digits.split("val").counts().tolist() == [[120] * 10, val]
    source, target = digits.leave_out("street_chars")
    assert (len(source), len(target)) == (4800, 446)  # the whole target, as in the literature


def test_a_domain_without_splits_is_trained_on(tmp_path):
    for i, place in enumerate(
        ("A/train/cat", "A/train/dog", "A/test/cat", "A/test/dog", "B/cat", "B/dog")
    ):
        (tmp_path / place).mkdir(parents=True)
        noise = np.random.default_rng(i).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / place / "0.png")
    found = from_folder(tmp_path, split_names=["test"], quiet=True)
    assert len(found) == 2 and found.domain_names == ("A",)
    both = from_folder(tmp_path, split_names=["test", "train"], quiet=True)
    assert len(both.only("B").split("train")) == 2


def test_grey_of_16_bits_is_one_form_whatever_the_order_of_its_bytes():
    values = np.arange(64).reshape(8, 8)
    for order in "<>":
        with pytest.raises(ValueError, match="0 to 63"):
            folders._eight_bits(values.astype(f"{order}u2"))
