"""`check` on fake trees with one trap each, and on the real data where present."""

import shutil
from pathlib import Path

import fake_trees
import numpy as np
import pytest
from fake_trees import TREES, grow, picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shared import QUICK, unpacked

from dgdd_nb.benchmarks import BENCHMARKS, list_benchmark, read
from dgdd_nb.check import _guess, check, look_at


def own(root: Path) -> Path:
    return grow(root / "own", ("photo", "drawing"), ("cup", "dog", "house"), 3)


def told(root: Path, **options):
    report = check(root, quiet=True, **options)
    return report, " | ".join(report.problems), " | ".join(report.notes)


def test_a_good_folder_has_nothing_to_repair(tmp_path, capsys):
    report = check(own(tmp_path))
    assert (report.ok, report.name, report.layout) == (True, None, "domain/class")
    assert capsys.readouterr().out == f"{report}\n" and "Nothing to repair." in str(report)
    assert report.counts == {(d, c): 3 for d in report.domains for c in report.classes}
    asked = "Domains are: drawing, photo; classes are: cup, dog, house; is that right?"
    assert report.notes == [asked]
    assert "18 images, 2 domains, 3 classes, 6x6" in str(report)  # no split: no folder names one
    assert report.sizes == {(6, 6): 18}
    assert not (report.broken or report.flat or report.grey or report.duplicates)


@pytest.mark.parametrize("name", TREES)
def test_benchmarks_are_recognised(name, tmp_path):
    sessions = {"core50": range(1, 12), "core50_hard": (5, 7, 9, 10)}.get(name)
    films = {"sessions": sessions, "frames": (0,)} if sessions else {}
    root = TREES[name](tmp_path, **films)
    assert _guess(root) == _guess(root.parent) == name
    report, problems, _ = told(root)
    assert report.name == name and len(report.listing.rows) == len(report.looks) > 0
    if name != "terra_incognita":
        assert "fetch the whole set" in problems  # fakes are small
        assert all("published" in problem for problem in report.problems)


def test_layouts(tmp_path):
    for root, layout in (
        (fake_trees.pacs(tmp_path / "a"), "domain/class with lists"),
        (fake_trees.pacs(tmp_path / "b", lists=False), "domain/class"),
        (fake_trees.vlcs(tmp_path / "c"), "domain/split/class"),
        (fake_trees.core50(tmp_path / "d", (5, 7, 9, 10), (0,)), "session/object"),
    ):
        assert check(root, quiet=True).layout == layout


def test_named_but_something_else(tmp_path):
    report, problems, _ = told(own(tmp_path), name="pacs")
    assert not report.ok and "is made of" in problems and report.layout == "unknown"
    with pytest.raises(ValueError, match="did you mean 'pacs'"):
        check(tmp_path, "pasc")
    with pytest.raises(FileNotFoundError, match="check the path"):
        check(tmp_path / "nowhere")


def test_wrong_level(tmp_path):
    root = own(tmp_path)
    for wrong in (root / "photo", tmp_path):
        report, problems, _ = told(wrong)
        assert not report.ok and f"perhaps you mean {root}" in problems
    report, problems, _ = told(grow(tmp_path / "one", ("photo",), ("cup", "dog")))
    assert report.ok and "There is one domain, photo" in " ".join(report.notes)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_broken_files(content, tmp_path):
    path = own(tmp_path) / "photo" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:80] if content is None else content)
    report, problems, _ = told(tmp_path / "own")
    assert report.broken == [path] and "1 file (photo/dog/1.png) cannot be read" in problems


def test_forms_colours_and_sizes(tmp_path):
    root = own(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    Image.new("RGB", (6, 6), "red").save(root / "photo/cup/0.png")
    Image.fromarray(noise).save(root / "photo/cup/1.png")
    Image.fromarray(noise).convert("RGB").save(root / "photo/cup/2.jpg", quality=60)
    Image.open(root / "photo/dog/0.png").quantize(4).save(root / "photo/dog/9.png")
    Image.open(root / "photo/dog/0.png").convert("CMYK").save(root / "photo/dog/8.jpg")
    Image.open(root / "photo/dog/0.png").convert("RGBA").save(root / "photo/dog/7.png")
    report, problems, notes = told(root)
    assert "1 file (photo/cup/0.png) of one flat colour" in problems and len(report.problems) == 1
    assert report.sizes == {(6, 6): 20, (20, 20): 2} and "2 sizes from 6x6 to 20x20" in notes
    assert (
        "pass size=64, for instance, when reading (in a study file: size = 64 under [data])"
        in notes
    )
    assert {p.name for p in report.grey} == {"1.png", "2.jpg"} and "2 grey images" in notes
    for form in ("form P", "form CMYK", "form RGBA with transparency"):
        assert form in notes


def test_pictures_on_their_side_and_films(tmp_path):
    root = own(tmp_path)
    tall = Image.new("RGB", (6, 10), "red")
    tall.paste("blue", (0, 0, 3, 5))
    turned = Image.Exif()
    turned[274] = 6
    tall.save(root / "photo/dog/7.jpg", exif=turned)
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    for frame in frames:
        frame.paste("green", (0, 0, 3, 3))
    frames[0].save(root / "photo/dog/8.gif", save_all=True, append_images=frames[1:])
    report, _, notes = told(root)
    assert report.sizes == {(6, 6): 19, (6, 10): 1}  # as `from_folder` reads it
    assert "1 file (photo/dog/8.gif) with several frames; only the first is read" in notes


def test_a_grey_domain_is_normal(tmp_path):
    root = own(tmp_path)
    for path in (root / "drawing").rglob("*.png"):
        Image.open(path).convert("L").save(path)
    report, _, notes = told(root)
    assert report.ok and report.notes[1].startswith("All images of drawing are grey; nothing to do")
    Image.new("L", (6, 6)).save(root / "drawing/cup/0.png")
    (root / "drawing/dog/0.png").write_bytes(b"damaged")  # nothing is known of these two
    report, problems, notes = told(root)
    assert len(report.problems) == 2 and "All images of drawing are grey; nothing to do" in notes


@pytest.mark.parametrize(
    "other, kind, serious",
    [
        ("photo/train/cup/copy.png", "repeated file", False),
        ("photo/train/dog/copy.png", "2 classes", True),
        ("drawing/train/cup/copy.png", "2 domains", False),
        ("photo/val/cup/copy.png", "2 splits", True),
        ("drawing/val/cup/copy.png", "2 splits", True),
    ],
)
def test_copies(other, kind, serious, tmp_path):
    root = grow(tmp_path / "own", ("photo", "drawing"), ("cup", "dog"), 2, ("train", "val"))
    shutil.copy(root / "photo/train/cup/0.png", root / other)
    report, problems, notes = told(root)
    assert {p.name for p in report.duplicates[0]} == {"0.png", "copy.png"}
    assert report.ok != serious and kind in (problems if serious else notes)
    assert "warning" not in problems + notes
    if kind == "2 classes":
        grow(root, ("photo",), ("house",), 2, ("train",))
        shutil.copy(root / "photo/train/cup/0.png", root / "photo/train/house/copy.png")
        assert "1 picture in 3 classes" in told(root)[1] and "keep one of each" in told(root)[1]


def test_names_of_classes(tmp_path):
    root = own(tmp_path)
    (root / "drawing" / "house").rename(root / "drawing" / "hosue")
    _, problems, notes = told(root)
    assert "'hosue' is in 'drawing' alone" in problems and "photo has no hosue" in notes
    (root / "drawing" / "hosue").rename(root / "drawing" / "tree")
    report, _, notes = told(root)
    assert report.ok and "drawing has no house" in notes


def test_labels_off_by_one(tmp_path):
    root = grow(tmp_path / "numbers", ("a",), "0123")
    report, problems, _ = told(grow(root, ("b",), "1234"))
    assert "numbered from 0 in a, from 1 in b" in problems
    report, _, notes = told(grow(tmp_path / "ones", ("a", "b"), "1234"))
    assert report.ok and "label 0 is folder 1" in notes
    report, _, notes = told(grow(tmp_path / "zeros", ("a", "b"), "0123"))
    assert report.ok and len(report.notes) == 1
    root = fake_trees.pacs(tmp_path)
    fake_trees.write_lists(root, first=2)
    report, problems, _ = told(root)
    assert "labels should run from 1" in problems and len(report.listing.rows) == 112
    fake_trees.write_lists(root, first=0)
    assert "Labels in the lists run from 0" in told(root)[2]


def test_vlcs_numbered_from_one(tmp_path):
    root = fake_trees.vlcs(tmp_path)
    for n in (4, 3, 2, 1, 0):
        for part in ("train", "crossval", "test"):
            (root / "SUN" / part / str(n)).rename(root / "SUN" / part / str(n + 1))
    report, problems, _ = told(root)
    assert (
        report.name == "vlcs"
        and "nknown class folder of vlcs '5'" in problems
        and "from 1 in SUN" in problems
    )


def test_other_classes_in_domains_of_a_benchmark_are_your_own(tmp_path):
    domains, classes = ("art", "cartoon", "photo", "sketch"), ("car", "cat", "dog", "house")
    report, _, _ = told(grow(tmp_path / "own", domains, classes, 1))
    assert report.ok and report.name is None


def test_what_the_split_train_lacks(tmp_path):
    root = grow(tmp_path / "own", "bcd", ("cat", "dog"), 1, ("train", "val"))
    grow(root, "a", ("cat", "dog"), 1, ("val",))
    shutil.rmtree(root / "b" / "train" / "dog")
    (root / "d" / "val").rename(tmp_path / "elsewhere")
    report, problems, _ = told(root)
    assert "No image of a is in the split train, so nothing would be learnt" in problems
    assert "No image of dog in b is in the split train" in problems and len(report.problems) == 2


def test_results_of_ours_are_no_strays(tmp_path):
    root = own(tmp_path)
    picture(root / "distilled" / "pictures" / "0.png")
    (root / "distilled" / "distilled.safetensors").touch()
    report, _, _ = told(root)
    assert report.domains == ["drawing", "photo"] and len(report.notes) == 1


def test_a_misspelt_class_of_a_benchmark(tmp_path):
    root = fake_trees.pacs(tmp_path, lists=False)
    (root / "photo" / "giraffe").rename(root / "photo" / "girafe")
    report, problems, _ = told(root)
    assert report.name == "pacs" and "did you mean 'giraffe'" in problems and "photo" in problems


def test_order_of_numbers(tmp_path):
    _, _, notes = told(grow(tmp_path / "s", ("s1", "s2", "s10"), ("o2", "o10")))
    assert "Domain folder s10 comes before s2" in notes
    assert "Class folder o10 comes before o2" in notes
    assert "comes before" not in told(grow(tmp_path / "t", ("s01", "s02", "s10"), ("a", "b")))[2]


def test_what_nobody_reads(tmp_path):
    root = own(tmp_path)
    picture(root / "photo" / "beside.png")
    picture(root / "photo" / "dog" / "more" / "deep.png")
    (root / "photo" / "dog" / "Thumbs.db").write_bytes(b"x")
    (root / "photo" / "dog" / ".hidden").write_bytes(b"x")
    (root / "read_me.txt").write_text("x")
    picture(root / "figures" / "0.png")
    assert "Domain figures has no image in a class folder: put" in told(root)[1]
    shutil.rmtree(root / "figures")
    report, _, notes = told(root)
    assert report.ok and "1 image (photo/beside.png) where no reader looks" in notes
    assert "1 image (photo/dog/more/deep.png) a level too deep: move up" in notes
    assert "without an image" in notes and ".hidden" not in notes


def test_pictures_in_forms_that_nobody_reads(tmp_path):
    root = own(tmp_path)
    for name in ("cup/IMG_1.HEIC", "cup/2.avif", "dog/3.svg", "tree/4.raw", "dog/notes.txt"):
        (root / "photo" / name).parent.mkdir(exist_ok=True)
        (root / "photo" / name).touch()
    report, _, notes = told(root)
    assert "4 files (such as photo/cup/" in notes and "convert or unpack to PNG or JPEG" in notes
    assert "1 path (photo/dog/notes.txt) without an image" in notes


def test_domains_that_differ_in_case_and_swapped_levels(tmp_path):
    root = grow(tmp_path / "own", ("photo", "Photo "), ("cup", "dog"), 2)
    assert "Domains 'Photo ' and 'photo' differ in case or blanks" in told(root)[1]
    swapped = grow(tmp_path / "swapped", ("cup", "dog"), ("art", "photo"), 2)
    asked = "Domains are: cup, dog; classes are: art, photo; is that right?"
    assert asked in told(swapped)[2]
    many = check(grow(tmp_path / "many", "ab", [f"c{i}" for i in range(20)], 1), quiet=True)
    assert "c7 and 12 more; is" in many.notes[0] and "fewest of a class" in str(many)
    assert "Domains are" not in told(fake_trees.pacs(tmp_path / "pacs"))[2]


def test_pacs_without_the_sketch(tmp_path, monkeypatch):
    root = fake_trees.pacs(tmp_path)
    fake_trees.picture(root / "images" / "sketch" / "dog" / "n02103406_4068-1.png")
    fake_trees.write_lists(root)
    _, _, notes = told(root)
    assert "Left out sketch/dog/n02103406_4068-1.png, as Dassl does" in notes


def test_some_of_many_files(tmp_path):
    report, _, notes = told(own(tmp_path), most=5)
    assert "Opened 5 of 18 files; to open all, in Python: check(root, most=18)." in notes
    for most in (0, 1, 5, 7, 10, 17, 18, 19):
        assert len(told(tmp_path / "own", most=most)[0].looks) == min(most, 18)


@QUICK
@given(st.sampled_from("1 L P RGB RGBA CMYK I;16 LA".split()), st.integers(1, 9), st.integers(1, 9))
def test_any_form_can_be_looked_at(tmp_path_factory, mode, height, width):
    dice, deep = np.random.default_rng(height * 10 + width), mode == "I;16"
    noise = dice.integers(0, 65536 if deep else 256, (height, width))
    image = Image.fromarray(noise.astype(np.uint16 if deep else np.uint8))
    path = tmp_path_factory.mktemp("form") / ("x.tif" if mode == "CMYK" else "x.png")
    (image if deep else image.convert(mode)).save(path)
    seen = look_at(path)
    assert seen.size == (height, width) and (seen.grey or mode == "CMYK")
    assert seen.flat == (height * width == 1) or min(height, width) * max(height, width) < 20


@pytest.mark.data
def test_real_pacs(tmp_path):
    root = unpacked("PACS", "pacs_64px.tar", tmp_path)
    listing = list_benchmark(BENCHMARKS["pacs"], root)
    assert not listing.notes and not listing.counts
    assert read("pacs", root, 8, domains=["photo"], cache=False, quiet=True).counts().sum() == 1670
    report, _, notes = told(root, workers=1, most=2000)
    assert report.ok and report.name == "pacs" and set(report.sizes) == {(64, 64)}
    assert "All images of sketch are grey" in notes
    assert sum(report.counts.values()) == BENCHMARKS["pacs"].total


@pytest.mark.data
def test_real_digits_are_your_own(tmp_path):
    keep = ("mnist/val", "usps/val")
    root = unpacked("digits_dg_like", "digits_real_32px.tar", tmp_path, keep=keep)
    report, _, notes = told(root, workers=2)
    assert (report.ok, report.name, report.duplicates) == (True, None, [])
    assert "All images of usps are grey" in notes


def test_links_to_nowhere_and_folders_named_like_files(tmp_path):
    for domain in "ab":
        (tmp_path / domain / "dog").mkdir(parents=True)
        Image.linear_gradient("L").resize((8, 8)).save(tmp_path / domain / "dog" / "0.png")
    (tmp_path / "a" / "dog" / "folder.png").mkdir()
    try:
        (tmp_path / "b" / "dog" / "link.png").symlink_to(tmp_path / "gone.png")
    except OSError:
        pytest.skip("this system makes no links")
    report = check(tmp_path, quiet=True)
    assert [path.name for path in report.broken] == ["link.png"] and not report.ok


@pytest.mark.parametrize("name", ["pictures.tar", "notes"])
def test_a_file_in_place_of_a_folder(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(NotADirectoryError, match=f"{name} is a file; unpack it if it is an arch"):
        check(tmp_path / name)


def test_the_command_says_so_too(tmp_path):
    from typer.testing import CliRunner

    from dgdd_nb.cli import app

    (tmp_path / "pictures.tar").touch()
    done = CliRunner().invoke(app, ["check", str(tmp_path / "pictures.tar")])
    assert done.exit_code == 1 and "is a file; unpack it" in done.output
    assert "Traceback" not in done.output


def test_an_unknown_benchmark_is_told_before_anything_is_fetched():
    with pytest.raises(ValueError, match="Unknown benchmark 'pasc'.*did you mean 'pacs'"):
        check("hf:me/never-asked-for", "pasc")
