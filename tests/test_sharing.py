"""Sets that go out and sets of others that come in; nothing is sent, and no code of a file is run."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import replace

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_cli import dgdd

from dgdd_nb.data import Normalisation
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.sharing import eight_bits, png_copy, publish, stored_numbers

datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra hub)")
pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hub)")
from huggingface_hub import DatasetCard  # noqa: E402

HASH = "89abcdef0123456789abcdef0123456789abcdef"
SCALE = Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


def a_set(soft=False, factor=1, N=6):
    dice = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % 3
    y = torch.rand(N, 3, generator=dice).softmax(1) if soft else labels
    x = 1.5 * torch.randn(N, 3, 8, 8, generator=dice)
    names = ("cup", "dog", "house"), ("photo", "art")
    return DistilledSet(x, y, torch.arange(N) % 3 - 1, *names, SCALE, decode_factor=factor)


@pytest.mark.parametrize("soft, factor", [(False, 1), (True, 1), (True, 2)])
def test_what_is_written_is_read_by_two_libraries(soft, factor, tmp_path):
    made = a_set(soft, factor)
    made.publish("me/toy", licence="cc-by-4.0", data=f"hf:a/b@{HASH}", folder=tmp_path / "out")
    back = DistilledSet.load(tmp_path / "out")
    assert torch.equal(back.images, made.images) and torch.equal(back.labels, made.labels)
    table = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)
    whole, found = made.decoded(), list(table)
    assert table.features["label"].names == list(made.classes)
    pictures = np.stack([np.asarray(row["image"]) for row in found]).transpose(0, 3, 1, 2)
    assert np.array_equal(pictures, whole.pictures().numpy())
    assert [row["label"] for row in found] == whole.hard_labels.tolist()
    tags = [*made.domain_names, "none"]
    assert [row["domain"] for row in found] == [tags[k] for k in whole.domains.tolist()]
    if soft:
        assert torch.equal(torch.tensor([row["soft_label"] for row in found]), whole.labels)
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.source_datasets == [f"a/b@{HASH}"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.task_categories == ["image-classification"]
    value = made.images * torch.tensor(SCALE.std).view(3, 1, 1)
    value = value + torch.tensor(SCALE.mean).view(3, 1, 1)
    clipped = int(((value < -0.5 / 255) | (value > 255.5 / 255)).sum())
    assert f"{clipped:,} of {made.images.numel():,} values" in card.text and clipped > 10


def test_publishing_makes_the_repository_and_sends_the_folder(monkeypatch):
    seen = []

    def create(self, to, **how):
        seen.append((to, how["repo_type"], how["private"]))

    def upload(self, *, repo_id, folder_path, **how):
        seen.append(sorted(os.listdir(folder_path)))
        return type("Info", (), {"oid": HASH})

    there = type("Info", (), {"private": True})
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda self, to: there)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    assert a_set().publish("me/toy", licence="mit") == f"hf:me/toy@{HASH}"
    names = ["README.md", "card.json", "data", "distilled.safetensors", "overview.png"]
    assert seen == [("me/toy", "dataset", True), names]
    with pytest.raises(ValueError, match="me/toy is there already and private"):
        a_set().publish("me/toy", licence="mit", private=False)
    assert len(seen) == 3  # nothing was sent


def test_a_set_on_the_hub_is_loaded_by_name_and_revision(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    base = tmp_path / "datasets--me--toy"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(HASH)
    made = a_set()
    made.publish("me/toy", licence="mit", folder=base / "snapshots" / HASH)
    for place in ("hf:me/toy", f"hf:me/toy@{HASH}"):
        assert torch.equal(DistilledSet.load(place).images, made.images)
    file = base / "snapshots" / HASH / "distilled.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="checksum differs"):
        DistilledSet.load("hf:me/toy")


def dc(made, path):
    made.export(path)
    return path


def mtt(made, path):
    home = path.with_suffix("")
    home.mkdir()
    torch.save(made.images, home / "images_best.pt")
    torch.save(made.labels, home / "labels_best.pt")
    torch.save(torch.tensor(0.25), home / "lr_best.pt")
    return home


def old_numpy(made, path):
    "As the code of DC saved with NumPy 1: scores as NumPy's numbers beside the data."
    scores = {"ConvNet": [np.float64(0.3), np.float32(0.4)], "all": np.arange(3.0)}
    new = path.with_name("new.pt")
    torch.save({"data": [[made.images, made.labels]], "accs_all_exps": scores}, new)
    with zipfile.ZipFile(new) as a, zipfile.ZipFile(path, "w") as b:
        for name in a.namelist():
            b.writestr(name, a.read(name).replace(b"cnumpy._core.multi", b"cnumpy.core.multi"))
    return path


LISTS = pytest.mark.skipif(
    not hasattr(torch.serialization, "safe_globals"),
    reason="torch takes a list of names from 2.5 on",
)


@pytest.mark.parametrize(
    "write", [dc, mtt, pytest.param(old_numpy, marks=LISTS)], ids=lambda f: f.__name__
)
def test_files_of_others_come_back_to_the_bit(write, tmp_path):
    made = a_set()
    place = write(made, tmp_path / "res_DM_mine_ConvNet_2ipc.pt")
    back = DistilledSet.from_files(place, normalisation=SCALE, classes=made.classes)
    assert torch.equal(back.images, made.images) and torch.equal(back.labels, made.labels)
    assert (back.domain_names, back.classes) == ((), made.classes)
    if write is mtt:
        assert back.recipe["learning_rate"] == 0.25


@pytest.mark.parametrize("scale, values", [(1, "0..1"), (255, "0..255")])
def test_pictures_as_numbers_are_normalised_once_somebody_says_so(scale, values, tmp_path):
    made = a_set()
    numbers = made.pictures().float() / 255 * scale
    torch.save([numbers, made.labels], tmp_path / "cifar10.pt")
    with pytest.raises(ValueError, match=f"look like {values}"):
        DistilledSet.from_files(tmp_path / "cifar10.pt", normalisation=SCALE)
    back = DistilledSet.from_files(tmp_path / "cifar10.pt", normalisation=SCALE, values=values)
    assert torch.allclose(back.images, png_copy(made).images, atol=1e-5)


@pytest.mark.parametrize("form", ["folders", "train", "parquet", "uint8"])
def test_pictures_of_others_are_read_as_pictures(form, tmp_path):
    made, place = a_set(), tmp_path / form
    if form in ("folders", "train"):
        for i, picture in enumerate(made.pictures().permute(0, 2, 3, 1).numpy()):
            (place / made.classes[i % 3]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place / made.classes[i % 3] / f"{i}.png")
        shutil.copytree(place, tmp_path / "beside")  # of ten images per class, say, and of fifty
    elif form == "parquet":
        made.publish("me/x", licence="mit", folder=tmp_path / "out")
        place = next((tmp_path / "out" / "data").iterdir())
    else:
        place = tmp_path / "x.pt"
        torch.save([made.pictures(), made.labels], place)
    back = DistilledSet.from_files(place, normalisation=SCALE, classes=made.classes)
    order = back.labels.argsort(stable=True), made.labels.argsort(stable=True)
    assert torch.equal(back.images[order[0]], png_copy(made).images[order[1]])


def test_classes_of_folders_are_chosen_by_name_and_numbers_named(tmp_path):
    made, use = a_set(), {"normalisation": SCALE}
    for i, picture in enumerate(made.pictures().permute(0, 2, 3, 1).numpy()):
        for name in (f"names/{made.classes[i % 3]}", f"numbers/0000{i % 3 * 2}"):
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / name / f"{i}.png")
    back = DistilledSet.from_files(tmp_path / "names", classes=["house", "cup"], **use)
    assert back.classes == ("house", "cup") and len(back) == 4
    wanted = png_copy(made).images[[2, 5, 0, 3]]
    assert torch.equal(back.images[back.labels.argsort(stable=True)], wanted)
    with pytest.raises(ValueError, match="Unknown class 'owl'"):
        DistilledSet.from_files(tmp_path / "names", classes=[*made.classes, "owl"], **use)
    back = DistilledSet.from_files(tmp_path / "numbers", classes=list("abcde"), **use)
    assert back.classes == tuple("abcde") and back.labels.unique().tolist() == [0, 2, 4]


class Code:
    def __reduce__(self):
        return os.mkdir, ("ran",)


GOOD = a_set()
FILES = {
    "code": ({"data": [[Code(), 1]]}, "wants to run .*, and nothing is run"),
    "no run": ({"data": []}, "holds 0 runs"),
    "nothing known": ({"weights": 1}, "none of the known layouts"),
    "shapes": ([GOOD.images[:2], GOOD.labels], r"images \(2, 3, 8, 8\) and labels \(6,\)"),
    "lists": ([{"a": 1}, GOOD.labels], "a dict where the images should be"),
    "whole numbers": ([GOOD.pictures().int() + 1, GOOD.labels], "whole numbers from 1 to 256"),
    "hidden": ([GOOD.images, GOOD.labels - 1], "label of -1"),
    "diverged": ([GOOD.images * float("nan"), GOOD.labels], "NaN or infinity"),
    "whitened": ([GOOD.images * 50, GOOD.labels], "fit no usual normalisation"),
    "unsaid": ([GOOD.images, GOOD.labels], "does not say how its images were normalised"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_is_one_sentence_and_runs_nothing(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, wanted = FILES[case]
    name = "set.pt" if case == "unsaid" else "cifar10.pt"
    torch.save(content, tmp_path / name)
    with pytest.raises(ValueError, match=wanted) as found:
        DistilledSet.from_files(tmp_path / name)
    assert str(found.value).endswith(".") and "\n" not in str(found.value)
    assert os.listdir(tmp_path) == [name]


def test_damaged_and_missing_files(tmp_path):
    torch.save([GOOD.images, GOOD.labels], tmp_path / "a.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:200])
    (tmp_path / "text.pt").write_text("hello " * 9)
    for name in ("cut.pt", "text.pt"):
        with pytest.raises(ValueError, match="is no file that torch wrote"):
            stored_numbers(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        DistilledSet.from_files(tmp_path / "none.pt")


@pytest.mark.parametrize(
    "call, wanted",
    [
        (lambda: publish(GOOD, "me/x"), "A licence is never guessed"),
        (lambda: publish(GOOD, "x", licence="mit"), "OWNER/NAME"),
        (lambda: publish(3, "me/x", licence="mit"), "must be a DistilledSet"),
        (lambda: a_set(soft=True).export("x.pt"), "no room for soft labels"),
        (lambda: DistilledSet.from_files("x.pt", values="raw"), "Unknown values 'raw'"),
    ],
)
def test_what_cannot_be_done_is_refused(call, wanted):
    with pytest.raises((ValueError, TypeError), match=wanted):
        call()


def test_the_copy_holds_what_pictures_hold_and_is_a_method():
    copy = png_copy(GOOD)
    assert torch.equal(copy.pictures(), GOOD.pictures()) and copy.clipped_share() == 0
    assert torch.equal(png_copy(copy).images, copy.images)
    source = mini_digits(size=16, train=60, test=20).leave_out("street")[0]
    made = eight_bits(source, 3, 1, None, of="random")
    assert torch.equal(made.pictures(), png_copy(made).pictures()) and len(made) == 30


def test_the_commands_send_nothing_here_and_judge_a_set_of_others(tmp_path):
    where = "--method", "random", "--ipc", 3, "--device", "cpu", "--out", tmp_path / "mine"
    assert dgdd("distill", *where)[0] == 0
    few = "--networks", 1, "--width", 4, "--workers", 1, "--set", "epochs=1"
    assert dgdd("evaluate", tmp_path / "mine", *few)[0] == 0
    status, said = dgdd("publish", tmp_path / "mine", "--to", "me/x", "--dry-run")
    assert status == 1 and "A licence is never guessed" in said
    how = "--to", "me/x", "--licence", "mit"
    status, said = dgdd("publish", tmp_path / "mine", *how, "--dry-run")
    assert status == 0 and "Nothing was sent" in said
    card = (tmp_path / "mine" / "to-publish" / "README.md").read_text()
    assert "dgdd distill --data mini-digits" in card and "| random" in card
    assert str(tmp_path) not in card
    status, said = dgdd("publish", tmp_path / "mine", *how)
    assert status == 1 and "no network to the hub" in said
    file = tmp_path / "res_DM_svhn_ConvNet_3ipc.pt"
    assert dgdd("export", tmp_path / "mine", file)[0] == 0
    assert dgdd("import", file, "--out", tmp_path / "other")[0] == 0
    data = "--data", "mini-digits", "--size", 16, "--target", "street"
    status, said = dgdd("evaluate", tmp_path / "other", tmp_path / "mine", *data, *few)
    assert status == 0 and "random - other" in said
    rows = pd.read_csv(tmp_path / "other" / "scores.csv")
    assert set(rows.method) == {"other", "random"}


def test_names_are_no_markup_on_a_card(tmp_path):
    rows = [("a|b", "street", 0, n, 50.0 + n) for n in range(2)]
    names = ["method", "target", "distillation_seed", "network_seed", "accuracy"]
    scores = pd.DataFrame(rows, columns=names)
    a_set().publish("me/toy", licence="mit", scores=scores, folder=tmp_path)
    assert r"| a\|b " in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_second_import_takes_nothing_over_from_the_first(tmp_path):
    for seed, name in enumerate(("a.pt", "b.pt")):
        made = replace(a_set(), images=torch.randn(6, 3, 8, 8, generator=torch.manual_seed(seed)))
        made.export(tmp_path / name)
    where = "--normalisation", "cifar10", "--out", tmp_path / "set"
    for name in ("a.pt", "b.pt"):
        assert dgdd("import", tmp_path / name, *where)[0] == 0
        assert not (tmp_path / "set" / "scores.csv").exists()
        for left in ("scores.csv", "overview.png"):
            (tmp_path / "set" / left).write_text("of the first")
    assert "had no score of this set" in dgdd("import", tmp_path / "a.pt", *where)[1]
    assert not (tmp_path / "set" / "overview.png").exists()


def test_a_folder_of_tables_is_imported_like_one_of_them(tmp_path):
    a_set().publish("me/toy", licence="mit", folder=tmp_path)
    whole = DistilledSet.from_files(tmp_path / "data", normalisation="cifar10")
    one = DistilledSet.from_files(next((tmp_path / "data").iterdir()), normalisation="cifar10")
    assert torch.equal(whole.images, one.images)
