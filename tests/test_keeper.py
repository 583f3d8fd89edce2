"""Methods with steps of their own: stopped in the middle, they go on to the same bits."""

import os
import signal

import pytest
import torch

from dgdd_nb.files import Stopped
from dgdd_nb.methods import Keeper, Work, make_set
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.teachers import squeeze

TINY = {"width": 8, "recipe": {"name": "quick-plain", "max_steps": 4}}
DENSE = {"batch": 10, "together": True, "dense": 1.0, "relative": True}
CASES = {
    "SRe2L": ("SRe2L", {"steps": 6, "batch": 10, "jitter": 2}),
    "in crops": ("SRe2L", {"steps": 6, "batch": 20, "crop": (0.5, 1.0), "flip": True}),
    "per domain": ("SRe2L per domain", {"steps": 4}),
    "G-VBSM": ("G-VBSM", {"steps": 6, **DENSE}),
    "DTL": ("DTL", {"steps": 4, "visit": 2, "batch": 2, "width": 4, "blocks": 1}),
}


@pytest.fixture(scope="module")
def source():
    return mini_digits(size=16, train=60, test=20).leave_out("street")[0]


@pytest.fixture(scope="module")
def teachers(source):
    first, second = squeeze(source, **TINY), squeeze(source, seed=1, **TINY)
    each = [squeeze(source.only(name), **TINY) for name in source.domain_names]
    return {"per domain": each, "G-VBSM": [first, second]} | dict.fromkeys(
        ("SRe2L", "in crops", "DTL"), first
    )


@pytest.mark.parametrize("last", [1, 5, 8])
@pytest.mark.parametrize("case", CASES)
def test_a_stopped_method_ends_with_the_same_bits(case, last, source, teachers, tmp_path):
    name, options = CASES[case]
    options = {"teacher": teachers[case], "soft": False, **options}
    whole = make_set(name, source, 3, 1, **options)
    path, seen = tmp_path / "unfinished.safetensors", []

    def moved(done, steps):
        seen.append(done)
        if done == last:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped, match=f"Stopped after step {last} of .* resumes"):
        make_set(name, source, 3, 1, Work(path, moved=moved), **options)
    with pytest.raises(ValueError, match="belongs to another run .*name another file"):
        make_set(name, source, 3, 2, Work(path), **options)
    made = make_set(name, source, 3, 1, Work(path, moved=lambda *at: seen.append(at[0])), **options)
    assert torch.equal(made.images, whole.images)
    assert all(torch.equal(made.history[key], x) for key, x in whole.history.items())
    assert seen == list(range(1, len(seen) + 1))  # no step twice
    anew = make_set(name, source, 3, 2, Work(path, resume="never"), **options)
    assert not torch.equal(anew.images, whole.images)
    again = make_set(name, source, 3, 2, Work(path, moved=lambda *_: pytest.fail()), **options)
    assert torch.equal(again.images, anew.images)  # it was finished


def test_ctrl_c_at_the_end_of_a_turn_is_not_lost(source, teachers, tmp_path, monkeypatch):
    options = {"teacher": teachers["per domain"], "soft": False, "steps": 4}
    save, once = Keeper.save, [True]

    def interrupted(keeper, path):  # while the last step of the first turn is written
        save(keeper, path)
        if keeper.at == (4, 12) and once:
            once.clear()
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Keeper, "save", interrupted)
    path = tmp_path / "unfinished.safetensors"
    with pytest.raises(Stopped, match="Stopped after step 4 of 12"):
        make_set("SRe2L per domain", source, 3, 1, Work(path, "never"), **options)
    monkeypatch.undo()
    seen = []
    make_set(
        "SRe2L per domain", source, 3, 1, Work(path, moved=lambda *at: seen.append(at)), **options
    )
    assert seen[0] == (5, 12)


def test_teachers_that_are_others(source, teachers, tmp_path):
    "Trained anew they may have other last bits: that is another place, not another run."
    path, options = tmp_path / "unfinished.safetensors", {"soft": False, "steps": 2}
    first, second = teachers["G-VBSM"]
    make_set("SRe2L", source, 1, 1, Work(path), teacher=first, **options)
    with pytest.raises(ValueError, match="other circumstances .teachers: .*resume='anyway'"):
        make_set("SRe2L", source, 1, 1, Work(path), teacher=second, **options)
    make_set("SRe2L", source, 1, 1, Work(path, "anyway"), teacher=second, **options)
    with pytest.raises(ValueError, match="did you mean 'jitter'"):
        make_set("SRe2L", source, 1, 1, Work(path), teacher=first, jiter=2, **options)
    with pytest.raises(ValueError, match="listed twice"):
        make_set("G-VBSM", source, 2, 1, teacher=[first, first], **options)


@pytest.mark.parametrize("way, says", [("exact", "resumes"), ("never", "resume='exact' resumes")])
def test_what_a_stop_says(way, says, tmp_path):
    keeper = Keeper(Work(str(tmp_path / "unfinished.safetensors"), way))
    with (
        pytest.raises(Stopped, match=f"Stopped after step 1 of 2; the same call .*{says}"),
        keeper.begin(),
    ):
        os.kill(os.getpid(), signal.SIGINT)
        keeper.after(1, 2, lambda: {"x": torch.zeros(1)})
    (tmp_path / "file").write_text("")
    keeper = Keeper(Work(tmp_path / "file" / "unfinished.safetensors", way))
    with (
        pytest.raises(Stopped, match="after step 1 of 2; what came after .* is lost"),
        keeper.begin(),
    ):
        os.kill(os.getpid(), signal.SIGINT)
        keeper.after(1, 2, lambda: {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="Unknown way to resume 'always'"):
        Work(resume="always")


def test_a_checkpoint_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    keeper = Keeper(Work(tmp_path / "file" / "unfinished.safetensors"))
    with keeper.begin(), pytest.warns(UserWarning, match="No checkpoint at step 1"):
        keeper.after(1, 1, lambda: {"x": torch.zeros(1)})
