"""Distilled sets: shares of domains, tiles, what is refused, and files that come back as they were."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from dgdd_nb.data import Normalisation
from dgdd_nb.distilled import DistilledSet, assign_domains, decode, images_per_class
from dgdd_nb.files import read_json, save_tensors
from dgdd_nb.mini_digits import mini_digits

FACTS = ("classes", "domain_names", "normalisation", "recipe", "decode_factor")


@pytest.fixture
def made() -> DistilledSet:
    "100 images of 16 x 16 pixels, ten classes, three domains."
    labels, domains = assign_domains(10, torch.ones(3, 10).bool())
    images = torch.randn(100, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    names = tuple("0123456789"), ("scan", "photo", "print")
    normalisation = Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    history = {"loss": torch.linspace(1, 0, 5), "note": "a run"}
    return DistilledSet(images, labels, domains, *names, normalisation, {"seed": 0}, 1, history)


def test_ipc_in_all_its_forms():
    assert images_per_class(np.int64(2), "ab") == [2, 2]
    assert images_per_class({0: 1, 1: 2}, range(2)) == [1, 2]
    for wish in (1.5, True, [1, 2, -1], "ab", 0, [1, 2], {"a": 1}):
        with pytest.raises(ValueError, match="ipc"):
            images_per_class(wish, ["a", "b", "c"])


def test_domains_are_even_where_nothing_is_absent():
    for K, C, n in itertools.product(range(1, 6), range(1, 8), range(1, 12)):
        labels, domains = assign_domains(n, torch.ones(K, C).bool())
        totals = torch.bincount(domains, minlength=K)
        assert totals.max() - totals.min() <= 1 and len(labels) == n * C


def test_tiles_against_cutting_by_hand():
    sheets = torch.randn(3, 3, 12, 18, dtype=torch.float64)
    for f in (1, 2, 3):
        h, w, tiles = 12 // f, 18 // f, itertools.product(sheets, range(f), range(f))
        hand = [s[:, i * h : (i + 1) * h, j * w : (j + 1) * w] for s, i, j in tiles]
        hand = interpolate(torch.stack(hand), size=(12, 18), mode="bilinear", align_corners=False)
        assert torch.equal(decode(sheets, f), hand)
    small = sheets[:1, :, :4, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: decode(s, 2), small)


WRONG = {
    "NaN or infinity": lambda s: {"images": s.images / 0},
    r"\(N, 3, H, W\)": lambda s: {"images": s.images[:, :1]},
    "not torch.uint8": lambda s: {"images": s.pictures()},
    "not torch.int64": lambda s: {"images": [1]},
    r"int64 \(100,\)": lambda s: {"labels": s.labels.int()},
    "Labels must lie in 0..9": lambda s: {"labels": s.labels + 1},
    "probabilities": lambda s: {"labels": 2 * torch.eye(10)[s.labels]},
    r"-1\.\.2": lambda s: {"domains": s.domains + 1},
    "Domains must be int64": lambda s: {"domains": s.domains[:50]},
    "stands twice": lambda s: {"classes": ["a"] * 10},
    "does not divide": lambda s: {"decode_factor": 3},
    "history.f": lambda s: {"history": {"f": {1}}},
    "transfer_name": lambda s: {"transfer": {"scale": torch.ones(2)}},
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_right_is_refused(made, words):
    with pytest.raises((ValueError, TypeError), match=words):
        replace(made, **{"images": made.images} | WRONG[words](replace(made)))


def test_what_can_be_read_off(made):
    assert (made.C, made.K, made.size, len(made), made.soft) == (10, 3, (16, 16), 100, False)
    assert made.to("cpu").device == torch.device("cpu")
    grown = replace(made, images=made.images.clone().requires_grad_())
    assert not grown.images.requires_grad
    assert made.bytes == 100 * 3 * 16 * 16 * 4 + 100 * 8
    edge = made.normalisation(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    edge[..., 0] -= 1  # half of the values are below black
    one = replace(made, images=edge, labels=made.labels[:1], domains=made.domains[:1])
    assert one.clipped_share() == 0.5
    pixels = torch.randint(0, 256, (100, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(replace(made, images=made.normalisation(pixels)).pictures(), pixels)
    source = mini_digits(size=16, train=200, test=0)  # 800 images; a class takes one byte
    assert made.condensation(source) == 100 * 100 * 769 / (800 * 769)
    with pytest.raises(TypeError, match="not a DistilledSet"):
        made.condensation(made)


def test_soft_labels_tiles_and_a_transfer_network_come_back_as_they_were(made, tmp_path):
    teacher = 0.9 * torch.eye(10)[made.labels] + 0.01
    state = {"scale": torch.ones(3, 16), "blocks/0": torch.zeros(2)}
    rich = replace(made, labels=teacher, decode_factor=2, transfer=state, transfer_name="styler")
    images, labels = rich.to_dataset().tensors
    assert torch.equal(rich.hard_labels, made.labels) and rich.soft
    assert torch.equal(labels[4:8], teacher[[1] * 4])
    assert torch.equal(rich.decoded().domains[4:8], made.domains[[1] * 4])
    assert torch.equal(images[4:8], decode(made.images[1:2], 2))
    assert rich.bytes == made.images.nbytes + 100 * 10 * 4 + 4 * (48 + 2)
    assert rich.stored_bytes == 100 * 768 + 100 * 10 * 4 + 4 * (48 + 2)
    again = DistilledSet.load(rich.save(tmp_path / "set"))
    for name in ("images", "labels", "domains"):
        assert torch.equal(getattr(again, name), getattr(rich, name))
    for name in FACTS:
        assert getattr(again, name) == getattr(rich, name)
    assert torch.equal(again.history["loss"], rich.history["loss"])
    assert again.history["note"] == "a run" and again.transfer_name == "styler"
    assert again.transfer.keys() == state.keys()
    assert torch.equal(again.transfer["scale"], state["scale"])


def test_a_file_of_the_first_layout_is_read(made, tmp_path):
    """Sets stored before there were transfer networks have no word about them."""
    tensors = {name: getattr(made, name) for name in ("images", "labels", "domains")}
    meta = {"kind": "distilled set", **{name: getattr(made, name) for name in FACTS}}
    save_tensors(tmp_path / "distilled.safetensors", tensors, meta | {"history": None})
    again = DistilledSet.load(tmp_path)
    assert torch.equal(again.images, made.images)
    assert again.history is None and again.transfer is None


def test_pictures_and_card(made, tmp_path):
    folder = made.save(tmp_path / "set")
    for c, k in ((0, 0), (7, 2)):  # the PNG files hold exactly the pictures
        stored = made.pictures()[(made.labels == c) & (made.domains == k)]
        for number, picture in enumerate(stored):
            path = folder / "pictures" / str(c) / f"{made.domain_names[k]}_{number:03d}.png"
            assert np.array_equal(np.asarray(Image.open(path)).transpose(2, 0, 1), picture)
    other = {"labels": torch.full((100, 10), 0.1), "decode_factor": 2, "history": None}
    soft = replace(made, domains=made.domains - 1, domain_names=("a", "b"), **other)
    soft.save(folder)  # replaces the set, its pictures and its card
    assert [path.name for path in (folder / "pictures").iterdir()] == ["0"]
    assert len(list((folder / "pictures" / "0").glob("none_*.png"))) == 34
    card = read_json(folder / "card.json")
    assert (card["labels"], card["training images"], card["bytes"]) == ("soft", 400, soft.bytes)
    assert card["images per domain"] == {"a": 33, "b": 33, "none": 34}


def test_files_that_are_not_ours_and_full_disks(made, tmp_path):
    (tmp_path / "album" / "pictures").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="not ours"):
        made.save(tmp_path / "album")
    folder = made.save(tmp_path / "set")
    with (
        patch("PIL.Image.Image.save", side_effect=OSError(28, "No space left on device")),
        pytest.raises(OSError, match="left on device; the set itself is whole"),
    ):
        made.save(folder)
    assert torch.equal(DistilledSet.load(folder).labels, made.labels)
    whole = (folder / "distilled.safetensors").read_bytes()
    (folder / "distilled.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="damaged"):
        DistilledSet.load(folder)
    with pytest.raises(FileNotFoundError, match="name a saved set"):
        DistilledSet.load(tmp_path)


def test_show_marks_domains(made):
    ax = made.show()
    assert [text.get_text() for text in ax.get_yticklabels()] == list(made.classes)
    assert len(ax.lines) == 100
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(made.domain_names)
    few = replace(made, domains=torch.full_like(made.domains, -1)).show(per_class=3)
    assert len(few.lines) == 0 and few.get_legend() is None
    plt.close("all")


def test_lists_and_arrays_will_do(made):
    listed = replace(made, labels=made.labels.tolist(), domains=made.domains.numpy())
    assert torch.equal(listed.labels, made.labels) and torch.equal(listed.domains, made.domains)
    assert images_per_class(np.array([1, 2]), "ab") == images_per_class(torch.tensor([1, 2]), "ab")
    for name, wrong in {
        "labels": None,
        "domains": "ab",
        "normalisation": ((0.5,) * 3,) * 2,
    }.items():
        with pytest.raises(TypeError, match=f"The {name} of a set must be a"):
            replace(made, **{name: wrong})


@pytest.mark.parametrize("std", [(0.0,) * 3, (-1.0,) * 3, (0.1,), None, (float("nan"),) * 3, "abc"])
def test_a_deviation_is_above_zero(std):
    with pytest.raises(ValueError, match="three numbers above 0"):
        Normalisation((0.5,) * 3, std)


NOT_WHOLE = {
    "classes": [None, 3, [1, 2], ["a"]],
    "domain_names": [None, "abc"],
    "normalisation": [None, {}, {"mean": [0.5] * 3}, {"mean": 0.5, "std": 0.5}, [0.5, 0.5]],
    "recipe": [None, []],
    "history": [3, []],
    "decode_factor": [None, "2", 2.5, 0, -1, 3, 10**12],
    "transfer_name": [None, 3, "styler"],
    "surprise": [1],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in NOT_WHOLE for v in NOT_WHOLE[n]])
def test_a_stored_set_is_checked_as_a_whole(made, tmp_path, name, value):
    tensors = {name: getattr(made, name) for name in ("images", "labels", "domains")}
    meta = {"kind": "distilled set", **{name: getattr(made, name) for name in FACTS}}
    save_tensors(
        tmp_path / "distilled.safetensors", tensors, {**meta, "history": None, name: value}
    )
    with pytest.raises(ValueError, match="is no whole set: make it anew"):
        DistilledSet.load(tmp_path)


@pytest.mark.parametrize("without", ["classes", "normalisation", "recipe", "images", "domains"])
def test_a_stored_set_lacks_something(made, tmp_path, without):
    tensors = {name: getattr(made, name) for name in ("images", "labels", "domains")}
    meta = {"kind": "distilled set", "history": None, **{n: getattr(made, n) for n in FACTS}}
    tensors.pop(without, None), meta.pop(without, None)
    save_tensors(tmp_path / "distilled.safetensors", tensors, meta)
    with pytest.raises(ValueError, match=f"is no whole set: make it anew.*{without}"):
        DistilledSet.load(tmp_path)


def test_tiles_that_would_fill_all_memory(made):
    large = torch.zeros(1, 3, 1, 1).expand(1, 3, 1024, 1024)
    one = {"labels": made.labels[:1], "domains": made.domains[:1], "images": large}
    with pytest.raises(ValueError, match="makes 12288 GiB of the images: lower it"):
        replace(made, **one, decode_factor=1024)


def test_ready_sets_are_small_whole_and_have_a_card():
    from dgdd_nb.distilled import READY, ready_set

    for name in READY:
        folder = Path(__file__).parents[1] / "dgdd_nb" / "sets" / name
        made, card = ready_set(name), json.loads((folder / "card.json").read_text("utf-8"))
        assert 100_000 < sum(path.stat().st_size for path in folder.iterdir()) < 200_000
        assert made.ipc == dict.fromkeys("0123456789", 10) and made.images.dtype == torch.float32
        assert "street" not in made.domain_names and card["recipe"]["unseen domain"] == "street"
        assert card["recipe"]["steps"] == made.recipe["steps"] == 1000
        assert made.images.half().equal(DistilledSet.load(folder).images)
    with pytest.raises(ValueError, match="did you mean 'digits-dm'"):
        ready_set("digit-dm")


def test_networks_get_float32_whatever_a_set_was_made_from():
    labels = np.array([[0.25, 0.75], [1.0, 0.0]])
    scale = Normalisation((0.5,) * 3, (0.5,) * 3)
    made = DistilledSet(np.zeros((2, 3, 8, 8)), labels, [0, 0], ("a", "b"), ("one",), scale)
    whole = made.decoded()
    assert whole.images.dtype == whole.labels.dtype == torch.float32
