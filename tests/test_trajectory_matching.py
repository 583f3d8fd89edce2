"""Trajectory matching against golden values and unrolling; a run, its resume, and what is refused."""

from dataclasses import replace

import pytest
import torch
from shared import assert_near, load

import dgdd_nb.trajectory_matching as module
from dgdd_nb.augment import crop, cutout
from dgdd_nb.methods import Work, make_set
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import ConvNet
from dgdd_nb.study import Method, Study, trials
from dgdd_nb.trajectory_matching import (
    Experts,
    TrajectoryMatching,
    train_experts,
    trajectory_gradients,
)

PRECISION = [("f64", torch.float64, 1e-12, 1e-12), ("f32", torch.float32, 2e-6, 2e-5)]


@pytest.fixture(scope="module")
def golden():
    return load("mtt.npz")


def walk(golden, case, targets, dtype=torch.float64):
    "Losses, pixel gradients and rate gradients of a golden case."
    shape = golden["param_shape/features.0.weight"]
    C = int(golden["param_shape/classifier.weight"][0])
    size, depth = golden["syn"].shape[-1], int(golden["depth"])
    net = ConvNet(C, size, width=int(shape[0]), depth=depth, seed=0).to(dtype)
    assert [n for n, _ in net.named_parameters()] == golden["param_names"].tolist()
    to = lambda x: torch.as_tensor(x).to(dtype)  # noqa: E731
    labels = torch.as_tensor(golden["labels"])

    def batches(x, n):
        index = torch.as_tensor(golden[f"{case}/indices"][n])
        at = (index >= 0).nonzero().flatten()
        index, x = index[at], x[index[at]]
        if case == "dsa_crop":
            x = crop(
                x, *(torch.as_tensor(golden[f"{case}/shift_{k}"][n])[at] for k in ("rows", "cols"))
            )
        if case == "dsa_cutout":
            where = (torch.as_tensor(golden[f"{case}/offset_{k}"][n])[at] for k in ("rows", "cols"))
            x = cutout(x, *where, tuple(golden[f"{case}/size"].tolist()))
        return x, labels[index]

    given = to(golden["start"]), to(targets), to(golden["syn"]), float(golden["syn_lr"])
    return trajectory_gradients(net, *given, int(golden["syn_steps"]), batches)


@pytest.mark.parametrize("case", ["full", "mini", "dsa_crop", "dsa_cutout"])
@pytest.mark.parametrize("name, dtype, exact, near", PRECISION)
def test_cases(golden, case, name, dtype, exact, near):
    losses, pixels, rate = walk(golden, case, golden["target"][None], dtype)
    assert_near(losses[0], golden[f"{case}/loss_{name}"], exact)
    assert_near(pixels[0], golden[f"{case}/grad_syn_{name}"], near)
    assert_near(rate[0], golden[f"{case}/grad_lr_{name}"], near)


def test_domains_share_one_student(golden):
    pooled = golden["domains/target_pooled"][None]
    losses, pixels, rate = walk(golden, "full", golden["domains/target"])
    assert_near(losses, golden["domains/loss_domain_f64"], 1e-12)
    assert_near(pixels, golden["domains/grad_syn_domain_f64"], 1e-12)
    assert_near(rate, golden["domains/grad_lr_domain_f64"], 1e-12)
    losses, pixels, _ = walk(golden, "full", pooled)
    assert_near(losses[0], golden["domains/loss_pooled_f64"], 1e-12)
    assert_near(pixels[0], golden["domains/grad_syn_pooled_f64"], 1e-12)


@pytest.fixture(scope="module")
def source():
    return mini_digits(size=16, train=60, test=20).leave_out("street")[0]


@pytest.fixture(scope="module")
def experts(source):
    return train_experts(source, starts=2, epochs=1, batch=32, width=8)


def test_experts_are_stored_and_differ(experts, tmp_path):
    experts.save(tmp_path / "x.safetensors")
    again = Experts.load(tmp_path / "x.safetensors")
    assert torch.equal(again.targets, experts.targets) and again.data == experts.data
    assert experts.targets.shape[:2] == (2, 4)
    ways = (experts.targets - experts.starts[:, None]).norm(dim=2)
    assert bool((ways > 0).all())
    assert torch.equal(experts.targets[0, -1], experts.starts[1])  # the pooled expert goes on


@pytest.mark.parametrize("union", ["pooled", "mean"])
@pytest.mark.parametrize("name", ["MTT", "MTT+SGS"])
def test_run_and_resume(source, experts, name, union, tmp_path):
    options = {"experts": experts, "student_steps": 2, "width": 8, "union": union}
    made = make_set(name, source, 3, **options, steps=3)
    work = Work(tmp_path / "x.safetensors")
    make_set(name, source, 3, work=work, **options, steps=1)
    resumed = make_set(name, source, 3, work=work, **options, steps=3)
    assert torch.equal(made.images, resumed.images)
    again = make_set(name, source, 3, work=work, **options, steps=3)  # has nothing left to do
    assert made.recipe["student"] == resumed.recipe["student"] == again.recipe["student"]
    assert made.recipe["student"]["rate"] not in (0, 0.01)
    other = replace(experts, targets=experts.targets + 1)
    with pytest.raises(ValueError, match="belongs to another run .encoders"):
        make_set(name, source, 3, work=work, **options | {"experts": other}, steps=3)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"experts": "nowhere.safetensors"}, FileNotFoundError, "There are no experts in"),
        ({"width": 16}, ValueError, "The experts have .* parameters and the network has"),
        ({"rate": 1e9}, ValueError, "lower the rate, now 1e.09"),
        ({"rate": -1.0}, ValueError, "rate must be a finite number above 0"),
        ({"lr_rate": 1e6}, ValueError, "The student's rate diverged to .* lower lr_rate"),
        ({"union": "all"}, ValueError, "Unknown union 'all'"),
        ({"alpha": 9.0}, ValueError, "no option 'alpha'"),
        ({"experts": None, "expert": {"startz": 1}}, ValueError, "did you mean 'starts'"),
    ],
)
def test_refusals(source, experts, options, error, words):
    given = {"experts": experts, "student_steps": 2, "width": 8, "steps": 2} | options
    with pytest.raises(error, match=words):
        make_set("MTT", source, 3, **given)


def test_the_surgery_gets_its_options(source, experts):
    given = {"experts": experts, "student_steps": 1, "width": 8, "steps": 1}
    table = {"name": "SGS", "beta": 0.3}
    made = make_set("MTT", source, 3, **given, surgery=table, reading="b", alpha=0.5)
    assert made.recipe["surgery"].items() >= {"alpha": 0.5, "beta": 0.3, "reading": "b"}.items()


def test_experts_of_other_images_and_a_matcher_without_experts(source, experts):
    with pytest.raises(ValueError, match="learned from other images"):
        make_set("MTT", source.only("scan"), 3, experts=experts, steps=1, width=8)
    with pytest.raises(ValueError, match="needs experts"):
        make_set("DM", source, 3, matcher="dgdd_nb.trajectory_matching:TrajectoryMatching", steps=1)
    with pytest.raises(ValueError, match="steps must be a whole number from 1"):
        TrajectoryMatching(0)


def test_trials_share_their_experts(source, tmp_path, monkeypatch):
    "Methods with one seed train them once, with the bits of experts of one's own."
    short = {"steps": 2, "student_steps": 2, "width": 4, "expert": {"starts": 1, "epochs": 1}}
    alone = make_set("MTT", source, 3, 0, **short)
    made, count = module.train_experts, []
    monkeypatch.setattr(
        module, "train_experts", lambda *a, **k: count.append(k["device"]) or made(*a, **k)
    )
    work = Work(shared=tmp_path, device="cpu")
    sets = [make_set(name, source, 3, 0, work, **short) for name in ("MTT", "MTT", "MTT+SGS")]
    assert torch.equal(sets[0].images, alone.images) and torch.equal(sets[1].images, alone.images)
    make_set("MTT", source, 3, 0, Work(shared=tmp_path), **short)
    assert count == ["cpu"]
    make_set("MTT", source, 3, 1, work, **short)
    assert len(count) == 2 and len(list(tmp_path.glob("experts-*.safetensors"))) == 2


def test_a_study_gives_its_steps():
    data = {"name": "mini_digits", "size": 16}
    study = Study((Method("MTT"),), data=data, targets="street", distill={"steps": 2})
    assert trials(study)[0].settings["distill"] == {"steps": 2}
