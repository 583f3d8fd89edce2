"""Teachers: trained once, also by several processes; views, labels, bytes, stored logits, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shared import python
from torch.nn import functional

from dgdd_nb import teachers as module
from dgdd_nb.coresets import random
from dgdd_nb.data import Batch
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.evaluate import evaluate, transfer_parts, with_part
from dgdd_nb.files import generator
from dgdd_nb.methods import Work, make_set
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.teachers import Relabel, Teacher, random_views, relabel, squeeze, store_labels
from dgdd_nb.train import PLUGS, check_training, get_recipe, learning_rates

SHORT = {"epochs": 2, "batch": 16}
JUDGE = {"seeds": 1, "width": 8, "device": "cpu", "recipe": SHORT | {"augment": "none"}}


@pytest.fixture(scope="module")
def digits():
    return mini_digits(size=16, train=60, test=20).leave_out("street")


@pytest.fixture(scope="module")
def teacher(digits):
    return squeeze(digits[0], width=8, recipe=SHORT)


@pytest.fixture(scope="module")
def soft(digits, teacher):
    return relabel(random(digits[0], 3, seed=0), teacher, scale=(0.5, 1.0), temperature=4.0)


def test_a_teacher_is_trained_once(digits, teacher, tmp_path, monkeypatch):
    asked = {"width": 8, "recipe": SHORT}
    assert squeeze(digits[0], **asked) is teacher
    assert squeeze(digits[0], **asked, seed=1).facts["sha256"] != teacher.facts["sha256"]
    module._KEPT.clear()
    first = squeeze(digits[0], **asked, folder=tmp_path)
    assert first.facts == teacher.facts and [*tmp_path.glob("*.safetensors")]
    module._KEPT.clear()
    monkeypatch.setattr(module, "train", None)  # it is read
    again = squeeze(digits[0], **asked, folder=tmp_path)
    x = torch.randn(4, 3, 16, 16, generator=generator(0, "x"))
    assert torch.equal(again.net(x), teacher.net(x)) and not again.net.training


def test_other_processes_find_the_same_teacher(digits, tmp_path):
    script = (
        "import sys; from dgdd_nb.mini_digits import mini_digits; from dgdd_nb.teachers import squeeze\n"
        "source = mini_digits(size=16, train=60, test=20).leave_out('street')[0]\n"
        "print(squeeze(source, width=8, recipe={'epochs': 2, 'batch': 16}, folder=sys.argv[1]).facts['sha256'])"
    )
    module._KEPT.clear()
    here = squeeze(digits[0], width=8, recipe=SHORT, folder=tmp_path).facts["sha256"]
    assert python(script, tmp_path).strip() == here and len([*tmp_path.glob("*.safetensors")]) == 1


def test_small_stem_keeps_the_resolution():
    for size, side in ((16, 16), (32, 32), (64, 16)):
        net = module.backbone("resnet18", size, classes=3, seed=0)
        x = torch.zeros(1, 3, size, size)
        assert net.eval().extract(x, ("layer1",))["layer1"].shape[-1] == side


def test_views_are_what_the_dice_say():
    x = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    labels, other = torch.tensor([0, 2]), torch.tensor([1, 0])
    plain = {"scale": (1.0, 1.0), "flip": False}
    same, y = random_views(x, labels, other, generator(0, "v"), 3, **plain, mix=0)
    assert y.argmax(1).tolist() == [0, 2] and same.shape == x.shape
    views, y = random_views(x, labels, other, generator(0, "v"), 3, (0.2, 1.0), mix=1.0)
    again, _ = random_views(x, labels, other, generator(0, "v"), 3, (0.2, 1.0), mix=1.0)
    assert torch.equal(views, again) and torch.allclose(y.sum(1), torch.ones(2))
    alone = torch.zeros(2, 3, 8, 8)
    alone[0] = 1  # the area of the other image can be counted
    mixed, y = random_views(alone, labels, other, generator(3, "v"), 3, **plain, mix=1.0)
    assert torch.allclose(mixed.mean((1, 2, 3))[0], y[0, 0], atol=1e-6)


@pytest.mark.parametrize("loss", ["kl", "mse+ce", "recipe"])
@pytest.mark.parametrize("pool", ["mean", "rescaled"])
def test_the_labels_and_the_loss(digits, teacher, loss, pool):
    state = {f"{i}/{k}": x * (1 + i) for i in range(2) for k, x in teacher.net.state_dict().items()}
    plug = Relabel(
        state, [teacher.facts] * 2, loss=loss, pool=pool, temperature=4.0, scale=(0.5, 1.0)
    )
    assert check_training(transform=plug, net=None) != []  # made for other classes
    few = random(digits[0], 1)
    batch = Batch(few.images, few.labels, few.domains, few.K, few.C)
    made = plug(batch, None, generator(0, "d"))
    nets = [
        module._network_of(teacher.facts, {k[2:]: x for k, x in state.items() if k[0] == i}).eval()
        for i in "01"
    ]
    said = torch.stack([net(made.images) for net in nets]).detach()
    if pool == "rescaled":
        norms = torch.stack([z.norm() for z in said])
        said = torch.stack([z / n * norms.mean() for z, n in zip(said, norms)])
    said = said.mean(0)
    assert torch.allclose(made.labels, (said / 4).softmax(1), atol=1e-6)
    logits = torch.randn(len(few), few.C, generator=generator(1, "d"))
    q, p = (said / 4).log_softmax(1), (logits / 4).log_softmax(1)
    wanted = {
        "kl": 16 * (q.exp() * (q - p)).sum(1).mean(),
        "mse+ce": (logits - said).square().mean()
        - 0.1 * (plug.hard * logits.log_softmax(1)).sum(1).mean(),
        "recipe": functional.cross_entropy(logits, made.labels),
    }[loss]
    found = plug.loss(functional.cross_entropy)(logits, made.labels)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_set_with_a_teacher_is_saved_counted_and_judged(digits, soft, tmp_path):
    weights = sum(x.nbytes for x in soft.transfer.values())
    assert soft.bytes == random(digits[0], 3).bytes + weights
    again = DistilledSet.load(soft.save(tmp_path / "set"))
    one, two = (evaluate(x, digits[1], **JUDGE) for x in (soft, again))
    assert np.array_equal(one.values, two.values)
    control = make_set(
        "relabelled",
        digits[0],
        3,
        work=Work(shared=tmp_path),
        teacher={"width": 8, "recipe": SHORT},
        soft={"scale": (0.5, 1.0), "temperature": 4.0},
    )
    assert np.array_equal(evaluate(control, digits[1], **JUDGE).values, one.values)


def test_a_chain_restyles_before_the_teacher_looks(digits, soft, monkeypatch):
    def brighter(batch, net, dice, state, by):
        return replace(batch, images=batch.images + by * state["one"])

    monkeypatch.setitem(PLUGS["transform"], "brighter", brighter)
    made = random(digits[0], 3, seed=0)
    first = with_part(made, "brighter", {"one": torch.ones(1)}, by=0.5)
    told = {k: x for k, x in soft.recipe["transfer"]["relabel"].items() if k != "teachers"}
    teacher = squeeze(digits[0], width=8, recipe=SHORT)
    chain = relabel(first, teacher, **told)
    assert chain.transfer_name == "brighter+relabel" and set(transfer_parts(chain)) == {
        "brighter",
        "relabel",
    }
    moved = relabel(replace(made, images=made.images + 0.5), teacher, **told)
    one, two = (evaluate(x, digits[1], **JUDGE).train_accuracy for x in (chain, moved))
    assert np.allclose(one, two)


def test_stored_logits_are_what_the_teacher_would_say(digits, soft, teacher):
    stored = store_labels(soft, 2, JUDGE["recipe"], seed=3)
    told = {k: x for k, x in soft.recipe["transfer"]["relabel"].items() if k != "teachers"}
    asked = relabel(random(digits[0], 3, seed=0), teacher, **told, seed=3)
    both = {"seeds": 2} | {k: x for k, x in JUDGE.items() if k != "seeds"}
    one, two = (evaluate(x, digits[1], **both) for x in (stored, asked))
    assert np.allclose(one.train_accuracy, two.train_accuracy, atol=4)
    assert stored.transfer["logits"].shape == (2 * len(soft), 10)
    assert stored.transfer["logits"].dtype == torch.float16


def test_half_cosine_ends_at_half_the_rate():
    recipe = get_recipe("quick", schedule="half-cosine", epochs=1000, max_steps=None)
    rates, restart = learning_rates(recipe, 1)
    assert rates[0] == recipe.lr and abs(rates[-1] / recipe.lr - 0.5) < 1e-2 and restart is None


def test_what_is_refused(digits, soft, teacher):
    source, target = digits
    made = random(source, 3, seed=0)
    known = {"width": 8, "recipe": SHORT, "normalisation": source.normalisation()}
    each = [squeeze(source.only(n), **known) for n in source.domain_names]
    few, large = source.of_classes("0", "1"), mini_digits(32, train=40, test=20)
    apart = relabel(made, each, pool="domain")
    gone = {k: x for k, x in soft.transfer.items() if "classifier" not in k}
    foreign = replace(
        soft,
        recipe={"transfer": {"relabel": {"teachers": [teacher.facts | {"network": "os:system"}]}}},
    )
    stored = store_labels(soft, 1, JUDGE["recipe"])
    for wrong, says in (
        (lambda: evaluate(replace(soft, transfer=gone), target, **JUDGE), "is gone"),
        (lambda: evaluate(replace(soft, recipe={}), target, **JUDGE), "does not say which teacher"),
        (lambda: evaluate(foreign, target, **JUDGE), "may not import"),
        (
            lambda: evaluate(replace(apart, domains=0 * made.domains - 1), target, **JUDGE),
            "knows domain -1",
        ),
        (lambda: relabel(made, each[:2], pool="domain"), "No teacher learned from domain"),
        (lambda: relabel(made, teacher, scale=(0.0, 1.0)), "scale is two areas"),
        (lambda: relabel(made, []), "There is no teacher"),
        (lambda: relabel(made, squeeze(few, **known)), "classes of a teacher must be"),
        (lambda: relabel(made, squeeze(large, **known)), r"the set's, \(16, 16\), not \(32, 32\)"),
        (
            lambda: relabel(made, squeeze(source.only("scan"), width=8, recipe=SHORT)),
            "normalisation of a teacher",
        ),
        (lambda: evaluate(stored, target, **JUDGE), "asks for more"),
        (
            lambda: evaluate(
                stored, target, **JUDGE | {"recipe": SHORT | {"batch": 8, "augment": "none"}}
            ),
            "other views",
        ),
        (lambda: store_labels(made, 1), "no teachers to ask"),
        (lambda: squeeze(source, pretrained=True), "no ImageNet weights"),
        (lambda: squeeze(source, "resnet18", width=8), "belong to ConvNets"),
    ):
        with pytest.raises(ValueError, match=says) as error:
            wrong()
        assert str(error.value).endswith(".") and "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError):
        Teacher.load("nowhere.safetensors")
