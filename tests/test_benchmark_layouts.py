"""Readers of the published benchmarks on small fake trees, on files in original formats, and on real ones where present."""

import bz2
import gzip
import re
import shutil
from pathlib import Path

import fake_trees
import numpy as np
import pytest
import torch
from fake_trees import TREES
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shared import QUICK, unpacked

from dgdd_nb.benchmarks import BENCHMARKS, _compare_counts, _crops, _originals, _read_list
from dgdd_nb.benchmarks import list_benchmark, read, torchvision_digits
from dgdd_nb.check import check
from dgdd_nb.folders import Listing, Row


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    root = tmp_path_factory.mktemp("trees")
    made = {make: make(root / make.__name__) for make in dict.fromkeys(TREES.values())}
    return {name: made[make] for name, make in TREES.items()}


def listed(name, root, **options):
    return list_benchmark(BENCHMARKS[name], root, **options)


def quiet(name, root, **options):
    return read(name, root, 6, quiet=True, **options)


def test_every_benchmark_has_a_tree():
    assert set(BENCHMARKS) == set(TREES)
    for b in BENCHMARKS.values():
        assert len(set(b.classes)) == len(b.classes)
        assert b.total == sum(b.domains.values()) or not any(b.domains.values())


@pytest.mark.parametrize("name", TREES)
def test_published_names_and_order(name, trees):
    benchmark, data = BENCHMARKS[name], quiet(name, trees[name])
    assert data.domain_names == tuple(own for own in benchmark.domains if own in data.domain_names)
    assert data.classes == tuple(c for c in benchmark.classes if c in data.classes)
    assert len(data.domain_names) == (5 if name == "core50" else 4) and bool(data.present.all())


@pytest.mark.parametrize("name", TREES)
def test_the_folder_above_or_below_will_do(name, trees):
    base = BENCHMARKS[name].find(trees[name])
    inside = next(p for p in sorted(base.iterdir()) if p.is_dir())
    deeper = next(p for p in sorted(inside.iterdir()) if p.is_dir())
    for given_root in (base.parent, inside, deeper):
        assert BENCHMARKS[name].find(given_root).resolve() == base.resolve()
    with pytest.raises(FileNotFoundError, match="is made of"):
        read("pacs" if name == "vlcs" else "vlcs", trees[name])


def test_what_is_printed(trees, capsys):
    read("office_home", trees["office_home"].parent, 6)
    said = capsys.readouterr().out
    assert "note: the domains were found in" in said and "published are 2,427" in said
    quiet("office_home", trees["office_home"])
    assert capsys.readouterr().out == ""


def test_both_copies_of_one_benchmark_agree(tmp_path):
    for make in (fake_trees.vlcs, fake_trees.office_home):
        one, two = (make(tmp_path / str(dassl), dassl) for dassl in (True, False))
        one, two = quiet(make.__name__, one), quiet(make.__name__, two)
        assert (one.classes, one.domain_names) == (two.classes, two.domain_names)


def test_digits_dg_tests_on_train_and_val(trees):
    source, target = read("digits_dg", trees["digits_dg"], quiet=True).leave_out("svhn")
    assert source.size == (32, 32) and (len(source), len(target)) == (30, 20)
    assert (source.split_names, target.split_names) == (("train",), ("train", "val"))


def test_further_domains_by_their_folder(tmp_path, capsys):
    root = fake_trees.digits_dg(tmp_path)
    fake_trees.grow(root, ("usps",), "0123456789", 1, ("train",), "jpg")
    shutil.rmtree(root / "syn")
    assert read("digits_dg", root).K == 3
    said = capsys.readouterr().out
    assert "no folder for syn" in said and "not read: usps" in said
    names = ("usps", "mnist")
    assert quiet("digits_dg", root, domains=names).domain_names == names
    with pytest.raises(ValueError, match="did you mean 'usps'"):
        read("digits_dg", root, domains=["ups"])


def test_an_empty_domain_and_a_broken_file(tmp_path):
    root = fake_trees.pacs(tmp_path, lists=False)
    broken = root / "photo" / "dog" / "0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(OSError, match="0.png cannot be read"):
        quiet("pacs", root)
    shutil.rmtree(root / "photo")
    (root / "photo").mkdir()
    for domains in (None, ["photo", "sketch"]):
        with pytest.raises(ValueError, match="photo has no image.*domains="):
            quiet("pacs", root, domains=domains)
    assert quiet("pacs", root, domains=["art_painting", "cartoon", "sketch"]).K == 3


def test_full_folder_beside_splits_is_passed_over(tmp_path, capsys):
    root = fake_trees.vlcs(tmp_path)
    fake_trees.grow(root / "SUN", ("full",), "01234", 1, kind="jpg")
    assert len(read("vlcs", root, 6)) == 60
    assert "passed over full of sun" in capsys.readouterr().out


@QUICK
@given(st.sampled_from(sorted(BENCHMARKS)), st.data())
def test_class_names_in_any_spelling(name, data):
    wanted = data.draw(st.sampled_from(BENCHMARKS[name].classes))
    spellings = (str, str.upper, str.lower, lambda s: s.replace("_", " "))
    spelling = data.draw(st.sampled_from(spellings))
    assert BENCHMARKS[name].class_of(spelling(wanted)) == wanted


# PACS and its lists


def test_lists_give_splits(trees):
    data = quiet("pacs", trees["pacs"])
    assert data.split_names == ("train", "crossval") and data.splits.bincount().tolist() == [56, 56]
    source, target = data.leave_out("photo")
    assert (len(source), len(target)) == (42, 28)
    assert quiet("pacs", trees["pacs"] / "images").split_names == data.split_names
    assert quiet("pacs", trees["pacs"], lists=False).split_names == ("train",)
    with pytest.raises(ValueError, match="leave them out for vlcs"):
        read("vlcs", trees["vlcs"], lists=True)


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16"])
def test_list_files_of_windows_editors(tmp_path, coding):
    root = fake_trees.pacs(tmp_path)
    for path in (root / "splits").iterdir():
        path.write_bytes(path.read_text().replace("\n", "\r\n").encode(coding))
    assert quiet("pacs", root, lists=True).split_names == ("train", "crossval")
    path.write_bytes(b"art_painting/caf\xe9/1.png 1")
    with pytest.raises(ValueError, match="is not a text in UTF-8 .byte 17 .*save it as UTF-8"):
        quiet("pacs", root, lists=True)


def test_two_complete_copies_are_not_guessed_among(tmp_path):
    root = fake_trees.pacs(tmp_path, lists=False)
    shutil.copytree(root, tmp_path / "PACS_old")
    with pytest.raises(ValueError, match="copies of pacs that are equally complete, .*PACS.* name"):
        listed("pacs", tmp_path)
    assert listed("pacs", root).rows and listed("pacs", root / "photo").rows
    assert "equally complete" in check(tmp_path, quiet=True).problems[0]
    shutil.rmtree(tmp_path / "PACS_old" / "photo")
    assert listed("pacs", tmp_path).root == root
    assert len(quiet("pacs", root, domains="photo").domain_names) == 1


@pytest.mark.parametrize("ending", ["\n", "\r\n", " \n"])
def test_list_files_of_other_systems(tmp_path, ending):
    root = fake_trees.pacs(tmp_path)
    fake_trees.write_lists(root, ending=ending)
    assert len(quiet("pacs", root)) == 112


def test_the_sketch_that_dassl_leaves_out(tmp_path):
    root = fake_trees.pacs(tmp_path)
    sketch = root / "images" / "sketch" / "dog" / "n02103406_4068-1.png"
    fake_trees.picture(sketch)
    fake_trees.write_lists(root)
    listing = listed("pacs", root)
    assert len(listing.rows) == 112 and any("as Dassl does" in note for note in listing.notes)
    assert len(listed("pacs", root, lists=False).rows) == 113
    sketch.unlink()  # named, but not there: fine
    assert len(listed("pacs", root).rows) == 112


def test_lists_that_do_not_fit(tmp_path):
    root = fake_trees.pacs(tmp_path)
    splits, path = root / "splits", root / "splits" / "cartoon_train_kfold.txt"
    good = path.read_text()
    for text, told in (
        (good.replace("dog/0.png 1", "dog/0.png 3"), "Line 1 of"),
        (good + "cartoon/dog/new.png 1\n", "not below"),
        (good + good, "twice"),
        (good + "nonsense\n", "Line 15 of"),
        (good + "cartoon/cow/0.png 1\n", "Line 15"),
        (good + (splits / "cartoon_crossval_kfold.txt").read_text(), "twice"),
    ):
        path.write_text(text)
        with pytest.raises((ValueError, OSError), match=told):
            quiet("pacs", root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="cartoon_train_kfold.txt; bring it"):
        quiet("pacs", root)
    shutil.rmtree(splits)
    with pytest.raises(FileNotFoundError, match="lists=False"):
        quiet("pacs", root, lists=True)


def test_notes_about_lists(tmp_path):
    root = fake_trees.pacs(tmp_path)
    fake_trees.write_lists(root, first=0)
    fake_trees.picture(root / "images" / "photo" / "dog" / "later.png")
    test = root / "splits" / "photo_test_kfold.txt"
    test.write_text(test.read_text().split("\n", 1)[1])
    notes = " | ".join(listed("pacs", root).notes)
    assert "left out 1 images that no list names, such as photo/dog/later.png" in notes
    assert "test lists do not repeat" in notes and "run from 0" in notes


@QUICK
@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(-1, 3), st.integers(0, 11))
def test_one_wrong_label_is_found(tmp_path_factory, labels, wrong, place):
    classes, path = BENCHMARKS["pacs"].classes, tmp_path_factory.mktemp("list") / "list.txt"
    lines = [f"photo/{classes[label]}/{i}.png {label + 1}" for i, label in enumerate(labels)]
    path.write_text("\n".join(lines))
    assert _read_list(path) == ([line.split()[0] for line in lines], 1)
    place %= len(lines)
    lines[place] = lines[place].split()[0] + f" {labels[place] + 1 + (wrong or 2)}"
    path.write_text("\n".join(lines))
    if len(lines) == 1 and wrong == -1:
        assert _read_list(path)[1] == 0  # alone it may be a list that counts from 0
    else:
        with pytest.raises(ValueError, match=f"Line {1 if place == 0 and wrong != -1 else ''}"):
            _read_list(path)


# CORe50


def test_core50_reads_numbers(trees):
    listing = listed("core50_hard", trees["core50_hard"])
    assert [row.domain for row in listing.rows[::150]] == ["s5", "s7", "s9", "s10"]
    for row in listing.rows:
        thing = int(row.path.parent.name[1:])
        label = BENCHMARKS["core50"].classes[(thing - 1) // 5]
        assert (row.label, row.group) == (label, f"o{thing}")
    tenth, third = (listed("core50_hard", trees["core50_hard"], every=n) for n in (10, 3))
    assert len(tenth.rows) == 400
    assert len({listing.selection, tenth.selection, third.selection}) == 3
    assert len(listed("core50", trees["core50"]).rows) == 750


@pytest.mark.parametrize(
    ("name", "found", "lacking", "noted"),
    [
        ("pacs", {"photo": 1669}, "1,669 images of photo, published are 1,670", ""),
        ("pacs", {"photo": 1670, "sketch": 3928}, "", "3,928 images of sketch.*Dassl leaves one"),
        (
            "terra_incognita",
            dict.fromkeys(BENCHMARKS["terra_incognita"].domains, 1),
            "",
            "4 images",
        ),
        ("core50", dict.fromkeys(BENCHMARKS["core50"].domains, 1), "11 images in all", ""),
    ],
)
def test_published_counts(name, found, lacking, noted):
    rows = [Row(Path(), domain, None, "x") for domain, n in found.items() for _ in range(n)]
    listing = Listing(Path(), rows)
    _compare_counts(BENCHMARKS[name], listing)
    for told, wanted in ((listing.counts, lacking), (listing.notes, noted)):
        assert len(told) == bool(wanted) and re.search(wanted, "".join(told))


def test_core50_options_and_files_elsewhere(tmp_path):
    root = fake_trees.core50(tmp_path, sessions=(2, 10), frames=(0,))
    with pytest.raises(ValueError, match="at least 1"):
        read("core50", root, every=0)
    (root / "s2" / "o1" / "Thumbs.db").touch()
    assert quiet("core50", root, domains=["s10", "s2"]).domain_names == ("s10", "s2")
    (root / "s2" / "o1" / "C_02_01_000.png").rename(root / "s2" / "o2" / "C_02_01_000.png")
    with pytest.raises(
        ValueError, match="session 2, object 1, but lies elsewhere; put it into s2/o1"
    ):
        read("core50", root)


# digits in their original formats


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    import scipy.io

    root, dice = tmp_path_factory.mktemp("originals"), np.random.default_rng(0)
    labels, raw = np.arange(400) % 10, root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = dice.integers(0, 256, (400, 28, 28), dtype=np.uint8)
    for split, n in (("train", 400), ("t10k", 10)):
        arrays = {"images-idx3": images[:n], "labels-idx1": labels[:n].astype(np.uint8)}
        for kind, array in arrays.items():
            header = np.array([0x0800 + array.ndim, *array.shape], ">i4").tobytes()
            (raw / f"{split}-{kind}-ubyte").write_bytes(header + array.tobytes())
            (raw / f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    grey = dice.uniform(-1, 1, (300, 256))
    lines = [
        f"{y + 1} " + " ".join(f"{i + 1}:{v:.4f}" for i, v in enumerate(row))
        for y, row in zip(labels, grey)
    ]
    (root / "usps.bz2").write_bytes(bz2.compress("\n".join(lines[:200]).encode()))
    (root / "usps.t.bz2").write_bytes(bz2.compress("\n".join(lines[200:]).encode()))
    colour = dice.integers(0, 256, (32, 32, 3, 200), dtype=np.uint8)
    y = np.where(labels[:200] == 0, 10, labels[:200])[:, None].astype(np.uint8)
    scipy.io.savemat(root / "train_32x32.mat", {"X": colour, "y": y})
    return root, images, colour


@pytest.fixture
def unsigned(monkeypatch):
    "SVHN without the sum of the real file."
    from torchvision.datasets import SVHN

    url, name, _ = SVHN.split_list["train"]
    monkeypatch.setattr(SVHN, "split_list", {"train": [url, name, None]})


def test_original_formats(originals, unsigned):
    root, images, colour = originals
    x, y = _originals("mnist", root, download=False)
    assert np.array_equal(x, images) and y.tolist() == [i % 10 for i in range(400)]
    x, y = _originals("usps", root, download=False)
    assert x.shape == (300, 16, 16) and (y.min(), y.max()) == (0, 9)
    x, y = _originals("svhn", root, download=False)
    assert np.array_equal(x, colour.transpose(3, 2, 0, 1)) and (y.min(), y.max()) == (0, 9)


def test_five_digit_domains(originals, unsigned):
    root, images, colour = originals
    data = torchvision_digits(root, per_class=10, quiet=True)
    assert data.domain_names == ("mnist", "usps", "svhn", "mnist_m_made", "syn_made")
    assert data.counts().tolist() == [[10] * 10] * 5
    assert data.split("val").counts().tolist() == [[2] * 10] * 5
    assert torch.equal(data.images, torchvision_digits(root, per_class=10, quiet=True).images)
    handwritten = [set(data.only(name).groups.tolist()) for name in data.domain_names]
    assert sum(map(len, handwritten)) == len(set().union(*handwritten)) == 500
    svhn = data.only("svhn")
    taken = colour.transpose(3, 2, 0, 1)[svhn.groups.numpy() - 3 * 10**7]  # 32 pixels: not resized
    assert np.array_equal(svhn.images.numpy(), taken)
    one = torchvision_digits(root, domains=("syn",), per_class=10, quiet=True)
    assert torch.equal(one.images, data.only("syn_made").images)


def test_digits_that_are_missing(tmp_path, originals):
    with pytest.raises(OSError, match="is missing.*download=True"):
        torchvision_digits(tmp_path, per_class=10)
    with pytest.raises(OSError, match="svhn is missing"):  # a file with another sum
        torchvision_digits(originals[0], domains=("svhn",), per_class=10)
    with pytest.raises(ValueError, match="lower per_class to at most 20"):
        torchvision_digits(originals[0], domains=("mnist", "mnist_m"), per_class=25, quiet=True)
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        torchvision_digits(originals[0], domains=("mnits",))


def test_backgrounds_of_your_own(tmp_path):
    pixels = np.arange(3072, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("where this comes from")
    crops = _crops(tmp_path, 4, 32, seed=0)
    assert crops.shape == (4, 3, 32, 32) and torch.equal(crops[0], crops[3])  # only one place fits
    assert _crops(tmp_path, 4, 9, seed=0).shape == (4, 3, 9, 9)
    with pytest.raises(FileNotFoundError, match="no photograph of at least 33x33"):
        _crops(tmp_path, 4, 33, seed=0)


# real images (PACS: in test_check)


@pytest.mark.data
def test_real_digits(tmp_path):
    keep = ("mnist/val", "mnist_m/val")
    root = unpacked("digits_dg_like", "digits_real_32px.tar", tmp_path, keep=keep)
    data = read("digits_dg", root, cache=False, quiet=True)
    assert data.counts().tolist() == [[120] * 10] * 2 and data.split_names == ("val",)
