"""RDED against golden values; which crops and domains it takes, and what is refused."""

import pytest
import torch
from shared import load

from dgdd_nb.data import Batch
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.evaluate import transform_of
from dgdd_nb.files import generator
from dgdd_nb.methods import Work, make_set
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.rded import ShufflePatches, random_crops, select_crops, stitch, surprise
from dgdd_nb.study import Study, rehearse
from dgdd_nb.teachers import squeeze, train


@pytest.fixture(scope="module")
def golden():
    return {name: torch.as_tensor(value) for name, value in load("rded.npz").items()}


@pytest.fixture(scope="module")
def source():
    return mini_digits(size=16, train=120, test=20).leave_out("street")[0]


@pytest.fixture(scope="module")
def teacher(source):
    return squeeze(source, width=8, recipe={"name": "quick-plain", "max_steps": 4})


def test_golden(golden):
    """What the observer sees, its scores, the choice and the sheets."""
    turns, seen, size = iter(golden["logits"]), [], (int(golden["size"]),) * 2
    patches, factor = golden["patches"], int(golden["factor"])

    def observer(x):
        seen.append(x)
        return next(turns)

    score = surprise(observer, patches, golden["label"].repeat(len(patches)), size)
    assert torch.equal(seen[0][0], golden["padded_first"])
    assert (score - golden["score"]).abs().max() <= 1e-6 * golden["score"].abs().max()
    assert torch.equal(score.argmin(0), golden["best_crop"])
    tiles, of = select_crops(patches, score, int(golden["ipc"]) * factor**2)
    assert torch.equal(of, golden["selected_image"]) and torch.equal(tiles, golden["selected"])
    assert torch.equal(stitch(tiles, factor, size), golden["stitched"])


@pytest.mark.parametrize("size, factor", [((16, 16), 2), ((17, 20), 3), ((8, 8), 1)])
def test_every_tile_has_its_place(size, factor):
    """Tiles of one colour each: sheet i holds k n + i, sides that do not divide included."""
    n = 3
    ranks = torch.arange(float(n * factor**2)).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    sheets = stitch(ranks, factor, size)
    assert sheets.shape == (n, 3, *size)
    for i, sheet in enumerate(sheets):
        wanted = [k * n + i for k in range(factor**2)]
        assert sheet[0].flatten().unique().tolist() == wanted


def test_crops_lie_in_the_image():
    """Each pixel tells its place: crops of an upright ramp run upwards, within its range."""
    ramp = torch.linspace(0, 1, 20).expand(4, 3, 12, 20)
    crops = random_crops(ramp, 6, (5, 7), generator(0, "crops"))
    assert crops.shape == (4, 6, 3, 5, 7) and crops.min() >= 0 and crops.max() <= 1
    assert (crops.diff(dim=-1) >= -1e-6).all() and (crops.diff(dim=-2).abs() < 1e-6).all()
    width = crops[..., -1] - crops[..., 0]
    assert width.max() > 2 * width.min()  # large and small ones
    whole = random_crops(ramp, 1, (12, 20), generator(0, "crops"), least=1.0)[:, 0]
    assert torch.allclose(whole, ramp, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3])
def test_tiles_are_shuffled_by_column_and_row(factor):
    """Every tile stays whole; those of one column stay in one column."""
    side, n = 4 * factor + 1, 40
    grid = torch.arange(side).div(4, rounding_mode="floor").clamp(max=factor - 1)
    x = (factor * grid[:, None] + grid).float().expand(n, 3, -1, -1)
    batch = Batch(x, torch.zeros(n).long(), torch.zeros(n).long(), 1, 1)
    plug = ShufflePatches({"factor": torch.tensor(factor)})
    seen = plug(batch, None, generator(0, "a")).images
    assert torch.equal(seen, plug(batch, None, generator(0, "a")).images)
    assert torch.equal(seen.flatten(1).sort(1)[0], x.flatten(1).sort(1)[0])
    column = seen % factor
    assert torch.equal(column, column[:, :, :1].expand_as(column))
    assert len(seen.flatten(1).unique(dim=0)) > factor


def test_balanced_sheets_have_one_domain(source, teacher):
    """Each domain as often as any other, and the tiles of a sheet agree with its tag."""
    made = make_set("RDED balanced", source, 3, 0, teacher=teacher, factor=2)
    assert made.domains.bincount().tolist() == [10, 10, 10]
    tiles = made.history["tiles"]
    assert tiles.shape == (30, 4) and (tiles == made.domains[:, None]).all()
    mixed = make_set("RDED", source, 3, 0, teacher=teacher, factor=2)
    alike = (mixed.history["tiles"] == mixed.history["tiles"][:, :1]).all(1)
    assert torch.equal(mixed.domains >= 0, alike) and not alike.all()


def test_the_best_image_of_a_class_comes_first(source, teacher):
    """At factor 1, whole images, the set is the source in the order of the observer's surprise."""
    how = {"teacher": teacher, "factor": 1, "least": 1.0, "crops": 1}
    made, see = make_set("RDED", source, 4, 0, **how), source.normalisation()
    mine = see(source.images[source.labels == 7])
    score = surprise(teacher.net, mine[:, None], torch.full((len(mine),), 7), source.size)[0]
    assert torch.allclose(made.images[made.labels == 7], mine[score.argsort()[:4]], atol=1e-6)


def test_seed_and_storage(source, teacher, tmp_path):
    """The seed decides all; a stored set shuffles and labels as before."""
    first, again, other = (
        make_set("RDED", source, 2, seed, teacher=teacher, factor=2) for seed in (0, 0, 1)
    )
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    back, seen = DistilledSet.load(first.save(tmp_path)), []
    for made in (first, back):
        batch = Batch(made.images, made.labels, made.domains, made.K, made.C)
        seen.append(transform_of(made)(batch, teacher.net, generator(0, "view")))
    hard = make_set("RDED", source, 2, 0, teacher=teacher, factor=2, soft=False)
    assert torch.equal(hard.images, first.images) and hard.transfer_name == "shuffle patches"
    views = [first, make_set("RDED", source, 2, teacher=teacher, factor=1)]
    assert [x.recipe["transfer"]["relabel"]["scale"][0] for x in views] == [0.5, 1.0]
    assert torch.equal(seen[0].images, seen[1].images)
    assert torch.equal(seen[0].labels, seen[1].labels)


def test_a_rehearsal_trains_no_teacher(monkeypatch):
    """Before a study begins each method is tried; a teacher then takes one step."""
    seen = []

    def watched(net, data, recipe, *rest, **how):
        seen.append(recipe.max_steps)
        return train(net, data, recipe, *rest, **how)

    monkeypatch.setattr("dgdd_nb.teachers.train", watched)
    data = {"name": "mini_digits", "size": 16, "train": 70, "test": 20}
    rehearse(Study(("RDED", "DTL"), data=data, targets=("street",), ipc=(2,)))
    assert set(seen) == {1}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"factor": 9}, "factor must be a whole number from 1 to 4, not 9."),
        ({"factor": 2, "ipc": 20}, "has 36 images in scan, photo, print and 80 tiles are wanted"),
        ({"crops": 0}, "crops must be a whole number from 1"),
        ({"least": 1.5}, "least must be a finite number above 0, to 1"),
        ({"per_class": 2.5}, "per_class must be a whole number"),
        ({"tiles": 2}, "Unknown option of RDED 'tiles'"),
    ],
)
def test_refusals(source, teacher, options, words):
    ipc = options.pop("ipc", 3)
    with pytest.raises(ValueError, match=words):
        make_set("RDED", source, ipc, 0, Work(), teacher=teacher, **options)
