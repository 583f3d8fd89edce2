"""Data sets of the libraries' own forms, written by the libraries themselves; nothing needs a network."""

from __future__ import annotations

import io
import os
import tarfile

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import dgdd

from dgdd_nb import benchmarks, hub
from dgdd_nb.check import check
from dgdd_nb.folders import from_folder, library_form
from dgdd_nb.hub import check_place, from_dataset, pinned, read_place
from dgdd_nb.methods import build
from dgdd_nb.study import Evaluation, Study, forecast, run_study

datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra hub)")
library = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
from huggingface_hub import errors  # noqa: E402

datasets.disable_progress_bars()
HASH = "0123456789abcdef0123456789abcdef01234567"
CLASSES = ["dog", "cat"]  # not in the order of the alphabet
FEATURES = datasets.Features(
    image=datasets.Image(),
    domain=datasets.Value("string"),
    label=datasets.ClassLabel(names=CLASSES),
    caption=datasets.Value("string"),
)


def pixels(i: int, height: int = 8, width: int = 9) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 255, (height, width, 3), dtype=np.uint8)


def rows(n: int = 40, start: int = 0) -> list[dict]:
    return [
        {
            "image": Image.fromarray(pixels(i)),
            "domain": ("photo", "art")[i % 2],
            "label": i // 2 % 2,
            "caption": f"number {i}",
        }
        for i in range(start, start + n)
    ]


def table(made: list[dict] | None = None):
    return datasets.Dataset.from_list(made or rows(), features=FEATURES)


def pq(folder, made=None):
    (folder / "data").mkdir(parents=True)
    table(made).to_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))
    return folder


def arrow(folder):
    datasets.DatasetDict(train=table(rows(30)), validation=table(rows(10, 30))).save_to_disk(folder)
    return folder


def metadata(kind: str):
    def write(folder):
        folder.mkdir()
        told = [{"file_name": f"{i}.png", **row} for i, row in enumerate(rows())]
        for row in told:
            row.pop("image").save(folder / row["file_name"])
            row["label"] = CLASSES[row["label"]]
        made = datasets.Dataset.from_list(told)
        writer = {"csv": made.to_csv, "jsonl": made.to_json, "parquet": made.to_parquet}[kind]
        writer(str(folder / f"metadata.{kind}"))
        return folder

    return write


def tars(folder):
    folder.mkdir()
    with tarfile.open(folder / "train-000.tar", "w") as file:
        for i, row in enumerate(rows()):
            row["image"].save(png := io.BytesIO(), "PNG")
            told = f'{{"domain": "{row["domain"]}"}}'.encode()
            label = CLASSES[row["label"]].encode()
            for end, data in (("png", png.getvalue()), ("label.txt", label), ("json", told)):
                info = tarfile.TarInfo(f"{i:03d}.{end}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    return folder


FORMS = {
    "parquet": pq,
    "arrow": arrow,
    **{f"metadata.{kind}": metadata(kind) for kind in ("csv", "jsonl", "parquet")},
    "tar": tars,
}


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DGDD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cached(tmp_path, monkeypatch):
    "Put a folder into the hub's own cache, as a download would."
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def put(repo: str, write):
        base = tmp_path / "hub" / f"datasets--{repo.replace('/', '--')}"
        (base / "refs").mkdir(parents=True)
        (base / "refs" / "main").write_text(HASH)
        (base / "snapshots").mkdir()
        return write(base / "snapshots" / HASH)

    return put


def expected() -> torch.Tensor:
    return torch.from_numpy(np.stack([pixels(i) for i in range(40)]).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_stands_where_a_folder_does(form, tmp_path):
    place = FORMS[form](tmp_path / "set")
    assert library_form(place) == form.partition(".")[0]
    data = from_folder(place, quiet=True)
    order = [int(np.flatnonzero((expected() == x).all((1, 2, 3)))[0]) for x in data.images]
    assert sorted(order) == list(range(40))
    told = rows()
    assert [data.domain_names[k] for k in data.domains] == [told[i]["domain"] for i in order]
    assert [data.classes[c] for c in data.labels] == [CLASSES[told[i]["label"]] for i in order]
    assert data.split_names == (("train", "val") if form == "arrow" else ("train",))
    report = check(place, quiet=True)
    assert report.ok and report.counts["photo", "dog"] == 10 and len(report.looks) == 40
    only = build({"name": "from_folder", "root": str(place), "domains": ["art"], "quiet": True})
    assert only.domain_names == ("art",) and len(only) == 20
    status, said = dgdd("check", place)
    assert status == 0 and "Nothing to repair" in said and "the class" in said


def told(folder, head: str, lines: list[str], files: list[str], name: str = "metadata.csv"):
    "Pictures and a table of metadata, as people write it."
    for i, file in enumerate(files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(i)).save(folder / file)
    (folder / name).write_text("\n".join([head, *lines]))
    return folder


def test_texts_of_a_csv_file_stay_as_they_are_written(tmp_path):
    files = [f"{i}.png" for i in range(10)]
    lines = [f"{f},{'01 1 02 NA -1'.split()[i % 5]},{i}" for i, f in enumerate(files)]
    place = told(tmp_path / "m [v2]", "file_name,label,count", lines, files)
    data = from_folder(place, quiet=True)
    assert set(data.classes) == {"01", "1", "02", "NA", "-1"} and data.K == 1


def test_a_column_says_the_split(tmp_path):
    files = [f"{i}.png" for i in range(8)]
    lines = [f"{f},{'ab'[i % 2]},{('training', 'test')[i // 4]}" for i, f in enumerate(files)]
    place = told(tmp_path / "set", "file_name,label,split", lines, files)
    data = from_folder(place, quiet=True)
    assert data.split_names == ("train", "test") and data.splits.tolist() == [0] * 4 + [1] * 4
    assert len(from_folder(place, quiet=True, split_names=["test"])) == 4
    made = [
        {"image": r["image"], "label": "ab"[i % 2], "split": "val"} for i, r in enumerate(rows(4))
    ]
    assert from_dataset(datasets.Dataset.from_list(made), quiet=True).split_names == ("val",)


def test_a_table_in_the_root_tells_of_folders_of_splits(tmp_path):
    files = [f"{split}/{i}.png" for split in ("train", "test") for i in range(4)]
    lines = [f"{f},{'ab'[i % 2]}" for i, f in enumerate(files)]
    data = from_folder(told(tmp_path / "set", "file_name,label", lines, files), quiet=True)
    assert data.split_names == ("train", "test") and len(data) == 8


def test_pictures_that_no_row_names_are_told(tmp_path, capsys):
    lines = [f"{i}.png,{'ab'[i % 2]}" for i in range(4)]
    files = [f"{i}.png" for i in range(6)]
    place = told(tmp_path / "set", "file_name,label", lines, files)
    assert len(from_folder(place)) == 4
    wanted = "2 pictures (such as 4.png) stand in no row of a table"
    assert wanted in capsys.readouterr().out and wanted in str(check(place, quiet=True))


TREE = [f"{d}/{c}/{i}.png" for d in "AB" for c in ("cat", "dog") for i in range(2)]
PAIR = ["0.png", "1.png"]
TOLD = {
    "cameras": (
        ("file_name,camera", [f"{f},{'XY'[i % 2]}" for i, f in enumerate(TREE)], TREE),
        r"lie in folders \(A/cat, A/dog, B/cat, ...\) that it does not name: add columns",
    ),
    "semicolons": (
        ("file_name;label", ["0.png;a", "1.png;b"], PAIR),
        r"with commas between them \(not semicolons\)",
    ),
    "a lost file": (
        ("file_name,label", ["0.png,a", "9.png,b"], PAIR),
        r"1 of 2 rows of .* name no file in this folder \(such as row 1: .*9.png\)",
    ),
    "a file elsewhere": (
        ("file_name,label", ["0.png,a", "../1.png,b"], ["0.png", "../1.png"]),
        "such as row 1: ",
    ),
}


@pytest.mark.parametrize("case", TOLD)
def test_metadata_that_cannot_be_right_is_one_sentence(case, tmp_path):
    files, wanted = TOLD[case]
    place = told(tmp_path / "set", *files)
    with pytest.raises(ValueError, match=wanted):
        from_folder(place, quiet=True)
    assert len(check(place, quiet=True).problems) == 1


def test_folders_of_domains_that_a_table_does_not_name_are_told(tmp_path, capsys):
    lines = [f"{f},{f.split('/')[1]}" for f in TREE]
    data = from_folder(told(tmp_path / "set", "file_name,label", lines, TREE))
    assert data.K == 1 and data.classes == ("cat", "dog")
    assert "(A, B, ...) that it does not name and are read as one domain" in capsys.readouterr().out


def test_metadata_of_other_things_is_no_table_of_pictures(tmp_path):
    place = told(tmp_path / "set", "original_file_name,author", ["x,y"], TREE)
    assert library_form(place) is None and from_folder(place, quiet=True).domain_names == ("A", "B")


def test_a_changed_file_of_the_same_size_and_date_is_decoded(tmp_path):
    place = told(tmp_path / "set", "file_name,label", ["0.bmp,a", "1.bmp,b"], ["0.bmp", "1.bmp"])
    first, file = from_folder(place, quiet=True), place / "0.bmp"
    date = file.stat().st_mtime_ns
    Image.fromarray(pixels(7)).save(file)
    os.utime(file, ns=(date, date))
    assert not torch.equal(from_folder(place, quiet=True).images, first.images)


SOURCES = {
    "a table": lambda: table(),
    "a stream": lambda: table().to_iterable_dataset(),
    "a stream without types": lambda: datasets.IterableDataset.from_generator(rows),
    "tuples": lambda: [(r["image"], CLASSES[r["label"]], r["domain"]) for r in rows()],
    "tensors": lambda: [
        (torch.from_numpy(pixels(i)).permute(2, 0, 1).float() / 255, r["label"], r["domain"])
        for i, r in enumerate(rows())
    ],
    "dictionaries": lambda: [{**r, "image": pixels(i)} for i, r in enumerate(rows())],
    "splits": lambda: datasets.DatasetDict(train=table(rows(30)), test=table(rows(10, 30))),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_object_gives_the_same_images(kind, capsys):
    data = from_dataset(SOURCES[kind]())
    assert torch.equal(data.images, expected())
    assert [data.domain_names[k] for k in data.domains] == [row["domain"] for row in rows()]
    assert "the class" in capsys.readouterr().out
    resized = from_dataset(SOURCES[kind](), (4, 6), quiet=True)
    assert resized.size == (4, 6)


def test_a_stream_longer_than_a_piece_is_put_together():
    made = [{"image": Image.fromarray(pixels(i, 2, 2)), "label": i % 2} for i in range(1500)]
    data = from_dataset(iter_only(made), quiet=True)
    wanted = np.stack([pixels(i, 2, 2) for i in range(1500)]).transpose(0, 3, 1, 2)
    assert np.array_equal(data.images.numpy(), wanted)


class iter_only(torch.utils.data.IterableDataset):  # noqa: N801
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def test_one_set_per_domain_is_joined_by_the_names_of_classes(capsys):
    class Digits(list):
        classes = ["0 - zero", "1 - one", "2 - two"]  # noqa: RUF012

    zero = Digits((Image.fromarray(pixels(i)), i % 3) for i in range(9))
    other = [(Image.fromarray(pixels(i)), i % 2) for i in range(10, 20)]
    third = datasets.Dataset.from_list(
        [{"img": Image.fromarray(pixels(i)), "digit": "10"[i % 2]} for i in range(20, 26)],
        features=datasets.Features(img=datasets.Image(), digit=datasets.Value("string")),
    )
    data = from_dataset({"mnist": zero, "usps": other, "svhn": third})
    assert data.domain_names == ("mnist", "usps", "svhn") and data.classes == ("0", "1", "2")
    assert data.counts().tolist() == [[3, 3, 3], [5, 5, 0], [3, 3, 0]]
    assert "not every domain has" in capsys.readouterr().out


def test_pictures_of_every_mode_decode_as_in_folders(tmp_path):
    grey = Image.fromarray(pixels(0)[..., 0])
    deep = Image.fromarray(pixels(1)[..., 0].astype(np.uint16) * 257)
    clear = Image.fromarray(np.dstack([pixels(2), pixels(3)[..., :1]]), "RGBA")
    lying = Image.fromarray(pixels(4, 9, 8))
    lying.getexif()[274] = 6
    made = {
        "grey.png": grey,
        "deep.png": deep,
        "clear.png": clear,
        "ink.jpg": Image.fromarray(pixels(5)).convert("CMYK"),
    }
    home = tmp_path / "d" / "c"
    home.mkdir(parents=True)
    for name, picture in made.items():
        picture.save(home / name)
    lying.save(home / "lying.png", exif=lying.getexif())
    files = sorted(home.iterdir())
    listed = datasets.Dataset.from_dict(
        {"image": [str(path) for path in files], "label": ["c"] * 5},
        features=datasets.Features(image=datasets.Image(), label=datasets.Value("string")),
    )
    (tmp_path / "pq").mkdir()
    listed.to_parquet(str(tmp_path / "pq" / "train.parquet"))
    ours = from_folder(tmp_path / "d", (8, 9), quiet=True, cache=False).images
    order = sorted(range(5), key=lambda i: files[i].name)
    assert torch.equal(from_dataset(listed, (8, 9), quiet=True).images, ours[order])
    assert torch.equal(from_folder(tmp_path / "pq", (8, 9), quiet=True).images, ours[order])


def test_a_second_start_opens_the_kept_pixels_and_a_changed_file_is_decoded(tmp_path, monkeypatch):
    place, seen = pq(tmp_path / "set"), []
    real = hub.decode_all
    monkeypatch.setattr(hub, "decode_all", lambda *a: seen.append(1) or real(*a))
    first = from_folder(place, 8, quiet=True)
    assert torch.equal(from_folder(place, 8, quiet=True).images, first.images) and len(seen) == 1
    file = next((place / "data").iterdir())
    table(rows(40, 100)).to_parquet(str(file))
    assert not torch.equal(from_folder(place, 8, quiet=True).images, first.images)
    assert len(seen) == 2


def test_a_place_on_the_hub_is_pinned_to_its_hash(cached, tmp_path):
    cached("me/toy", pq)
    assert pinned("hf:me/toy") == f"hf:me/toy@{HASH}" == pinned(f"hf:me/toy@{HASH}")
    data = from_folder("hf:me/toy", quiet=True)
    assert torch.equal(data.images, expected()) and data.classes == ("dog", "cat")
    where = "--data", "hf:me/toy", "--target", "art", "--size", 16
    how = "--ipc", 2, "--method", "random", "--device", "cpu", "--out", tmp_path / "made"
    status, said = dgdd("distill", *where, *how)
    assert status == 0, said
    assert HASH in (tmp_path / "made" / "distill.json").read_text()
    assert dgdd("check", "hf:me/toy")[0] == 0
    status, said = dgdd("check", "hf:me/toy:large")
    assert status == 1 and "Unknown configuration 'large'" in said


def test_a_study_on_the_hub_that_ran_is_forecast(cached, tmp_path):
    cached("me/toy", pq)
    way = Evaluation(networks=1, width=4, recipe={"name": "quick", "epochs": 1})
    data = {"name": "from_folder", "root": "hf:me/toy", "size": 8, "quiet": True}
    study = Study(("random",), data=data, ipc=1, seeds=1, evaluations=way)
    run_study(study, tmp_path / "r", backend="sequential", progress=False)
    assert str(forecast(study, tmp_path / "r")) == "Nothing is missing."


def pacs_like(folder):
    "The columns of the copy of PACS on the hub, with other spellings of names, in another order."
    names = list(reversed(benchmarks.BENCHMARKS["pacs"].classes))
    made = [
        {"image": Image.fromarray(pixels(10 * k + c)), "domain": d, "label": c}
        for k, d in enumerate(["photo", "Art Painting", "sketch", "cartoon"])
        for c in range(7)
    ]
    features = {k: FEATURES[k] for k in ("image", "domain")}
    features = datasets.Features(**features, label=datasets.ClassLabel(names=names))
    (folder / "data").mkdir(parents=True)
    made = datasets.Dataset.from_list(made, features=features)
    made.to_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))
    return folder


def test_pacs_of_the_hub_has_the_names_and_the_order_of_the_folders(cached, tmp_path, capsys):
    cached("flwrlabs/pacs", pacs_like)
    data, known = benchmarks.pacs(size=8), benchmarks.BENCHMARKS["pacs"]
    assert data.domain_names == tuple(known.domains) and data.classes == tuple(known.classes)
    assert "7 images of photo, published are 1,670" in capsys.readouterr().out
    status, said = dgdd("check", "hf:flwrlabs/pacs")
    assert status == 1 and "published are 2,048" in said
    status, said = dgdd("distill", "--data", "pacs", "--target", "photo", "--dry-run")
    assert status == 0 and "art_painting, cartoon, sketch" in said
    with pytest.raises(ValueError, match="Unknown class of pacs 'dgo'"):
        made = pacs_like(tmp_path / "odd") and table([{**r, "label": 0} for r in rows()])
        read_place_of(made, tmp_path / "odd2")


def read_place_of(made, folder):
    "A table with a class that PACS does not have, read as PACS."
    made = made.cast_column("label", datasets.ClassLabel(names=["dgo", "cat"]))
    folder.mkdir()
    made.to_parquet(str(folder / "train.parquet"))
    return benchmarks.pacs(folder, 8, quiet=True)


def test_a_configuration_in_a_folder_needs_no_network_once_it_is_there(cached, monkeypatch):
    tree = pytest.importorskip("huggingface_hub._tree_cache", reason="an older huggingface_hub")
    folder = cached("me/two", lambda folder: pq(folder / "small") and folder)
    (folder / "README.md").write_text("one of two")
    names = "README.md", "small/data/train-00000-of-00001.parquet", "large/data/x.parquet"
    entries = {name: tree.TreeCacheEntry(1, "x", None, None, None) for name in names}
    tree.write_tree_cache(str(folder.parent.parent), HASH, entries)
    assert hub.fetch(f"hf:me/two:small@{HASH}") == folder
    for missing in ("hf:me/two", "hf:me/two:large"):
        with pytest.raises(ConnectionError, match="no copy of me/two here"):
            hub.fetch(f"{missing}@{HASH}")


def response(status: int):
    "An answer of the hub, of the library's own kind: before its version 1 that of requests."
    web = pytest.importorskip(errors.HfHubHTTPError.__mro__[1].__module__.partition(".")[0])
    asked = web.Request("GET", "https://huggingface.co/api")
    if web.__name__ != "requests":
        return web.Response(status, request=asked)
    made = web.Response()
    made.status_code, made.request = status, asked.prepare()
    return made


ANSWERS = {
    "gated": (
        lambda: errors.GatedRepoError("x", response=response(403)),
        "is gated: ask for access",
    ),
    "private": (
        lambda: errors.RepositoryNotFoundError("x", response=response(401)),
        "hf auth login",
    ),
    "revision": (
        lambda: errors.RevisionNotFoundError("x", response=response(404)),
        "no revision 'v9'",
    ),
    "server": (
        lambda: errors.HfHubHTTPError("x", response=response(400)),
        "The hub refused me/toy",
    ),
    "busy": (
        lambda: errors.HfHubHTTPError("x", response=response(503)),
        "The hub does not answer.*hf download me/toy --revision v9 ",
    ),
    "offline": (lambda: errors.OfflineModeIsEnabled("x"), "The hub does not answer"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_the_hub_answers_is_one_sentence(case, cached, monkeypatch):
    make, wanted = ANSWERS[case]

    def answer(*a, **k):
        raise make()

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", answer)
    with pytest.raises(OSError, match=wanted) as found:
        pinned("hf:me/toy@v9")
    assert str(found.value).endswith(".") and "\n" not in str(found.value)


def broken() -> list[dict]:
    return [*rows(4), {**rows(1)[0], "image": {"bytes": b"oops", "path": None}}]


BAD = {
    "a column": (lambda: from_dataset(table(), label="lable"), "did you mean 'label'"),
    "a split": (lambda: from_dataset(SOURCES["splits"](), split="tset"), "did you mean 'test'"),
    "no class": (
        lambda: from_dataset(table([{**r, "label": -1} for r in rows()])),
        "have no class",
    ),
    "a hidden split": (
        lambda: from_dataset(
            datasets.DatasetDict(train=table(), test=table([{**r, "label": -1} for r in rows()]))
        ),
        "In split test of .* 40 of 40 rows have no class",
    ),
    "a split without": (
        lambda: from_dataset(
            datasets.DatasetDict(train=table(), test=table().remove_columns("label"))
        ),
        "no column 'label' in split test of .* leave that split out",
    ),
    "captions": (
        lambda: from_dataset(
            [(Image.fromarray(pixels(i, 2, 2)), f"caption {i}") for i in range(1000)]
        ),
        "'label' has 1,000 texts, too many",
    ),
    "captions by name": (lambda: from_dataset(table(), label="caption"), "is no label"),
    "bytes": (lambda: from_dataset(table(broken())), "Row 4 of .* cannot be read as an image"),
    "lists": (
        lambda: from_dataset(
            datasets.Dataset.from_dict({"image": [[[1, 2], [3, 4]]] * 4, "label": ["a", "b"] * 2})
        ),
        "holds lists of numbers",
    ),
    "no picture": (
        lambda: from_dataset(datasets.Dataset.from_dict({"label": ["a", "b"] * 2})),
        "No column holds pictures",
    ),
    "an empty picture": (
        lambda: from_dataset(table([*rows(4), {**rows(1)[0], "image": None}])),
        "Row 4 of .* has no picture",
    ),
    "nothing in common": (
        lambda: from_dataset(
            {"a": [(rows(1)[0]["image"], "x")] * 4, "b": [(rows(1)[0]["image"], "y")] * 4}
        ),
        "no name in common",
    ),
    "normalised": (
        lambda: from_dataset([(torch.randn(3, 4, 4), 0), (torch.randn(3, 4, 4), 1)]),
        "without Normalize",
    ),
    "no data set": (lambda: from_dataset(3), "is no data set"),
    "no items": (lambda: from_dataset([]), "no row in"),
    "an item": (lambda: from_dataset([5]), "An item of .* is of the type int"),
    "a place": (lambda: from_dataset("hf:me/toy/deep"), "write hf:OWNER/NAME"),
    "no folder": (lambda: from_dataset("parquet:/nowhere/at/all"), "There is no folder"),
    "pictures": (lambda: read_place("."), "from_folder reads pictures"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case):
    call, wanted = BAD[case]
    with pytest.raises((ValueError, TypeError, OSError), match=wanted) as found:
        call()
    text = str(found.value)
    assert text.endswith(".") and "\n" not in text and (text[0].isupper() or text[0] in "'/")


def test_brackets_in_a_path_are_told(tmp_path):
    with pytest.raises(ValueError, match="in a path for a pattern: rename"):
        from_folder(pq(tmp_path / "pq [1]"), quiet=True)


def test_check_names_rows_and_pictures_in_two_splits(tmp_path):
    empty = {**rows(1)[0], "image": None}
    halves = datasets.DatasetDict(train=table([*broken(), empty]), test=table(rows(6, 3)))
    halves.save_to_disk(tmp_path / "set")
    report = check_place(tmp_path / "set", quiet=True)
    found = " ".join(report.problems)
    assert "train/row 4" in found and "cannot be read" in found
    assert "(train/row 5) has no picture; leave the row out." in found
    assert "1 picture in 2 splits, as train/row 3 and test/row 0" in found
    hidden = table([{**r, "label": -1} for r in rows()])
    hidden.save_to_disk(tmp_path / "hidden")
    assert "have no class" in check_place(tmp_path / "hidden", quiet=True).problems[0]


def test_without_the_extra_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ImportError, match=r'pip install "dgdd_nb\[hub\]"'):
        hub.library("datasets")


def test_a_cache_that_holds_a_part_is_completed(cached, tmp_path, monkeypatch):
    folder = cached("me/toy", pq)
    whole = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    asked, one = [], type("File", (), {"size": 1})
    info = type("Info", (), {"card_data": None, "sha": HASH})
    info.siblings = [type("File", (one,), {"rfilename": name}) for name in [*whole, "second"]]
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *a, **k: info)
    real = library.snapshot_download

    def download(*a, **how):
        if not how.get("local_files_only"):
            asked.append(how)
            (folder / "second").write_text("here")
        return real(*a, **how | {"local_files_only": True})

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for _ in range(2):  # the second time all of it is there
        assert hub.fetch(f"hf:me/toy@{HASH}") == folder
    assert len(asked) == 1


def test_a_dot_in_a_name_on_the_hub_begins_no_suffix():
    assert hub._name_of("hf:me/digits-v1.5") == "digits-v1.5"
