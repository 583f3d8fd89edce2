"""Objectives and matchers: the general way against the fast one, and what the checker says of broken plug-ins."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch.func import functional_call

from dgdd_nb.data import Batch
from dgdd_nb.domain_gradients import check_matcher, domain_gradients, layout_of
from dgdd_nb.matching import DM, Matcher, Objective, as_matcher
from dgdd_nb.networks import ConvNet

K, C = 3, 2


def distance(real, synthetic):
    "Not squared, so the union gradient is not the mean over domains."
    return (real["embed"].mean(0) - synthetic["embed"].mean(0)).square().sum().sqrt()


@dataclass(frozen=True)
class Slow(Matcher):
    "Any objective the general way: every cell with a forward pass of its own."

    objective: Objective

    def __call__(self, net, real, synthetic, dice):
        draw = self.objective.draw(dice, dict.fromkeys(self.objective.layers))
        features = net.extract(synthetic.images, self.objective.layers)
        theirs = net.extract(real.images, self.objective.layers)
        losses = torch.zeros(real.K, real.C, dtype=real.images.dtype)
        for k in range(real.K):
            for c in range(real.C):
                cell, mine = (real.labels == c) & (real.domains == k), synthetic.labels == c
                if cell.any() and mine.any():
                    a = {name: f[cell].detach() for name, f in theirs.items()}
                    b = {name: f[mine] for name, f in features.items()}
                    losses[k, c] = self.objective(a, b, draw)
        return losses

    @property
    def union_is_mean(self):
        return self.objective.union_is_mean


@dataclass(frozen=True)
class Projected(Objective):
    "Means along one random direction per step."

    def draw(self, generator, dims):
        return torch.randn(1, generator=generator)

    def __call__(self, real, synthetic, draw=None):
        return (draw * (real["embed"].mean(0) - synthetic["embed"].mean(0))).square().sum()


def problem(counts, per_class=(2, 1), dtype=torch.float64):
    "Real images with these counts (K, C) per cell, synthetic ones per class, and an encoder."
    dice, counts = torch.Generator().manual_seed(0), torch.tensor(counts)
    labels = torch.arange(C).repeat_interleave(counts.sum(0))
    domains = torch.cat([torch.arange(K).repeat_interleave(n) for n in counts.T])
    x = (
        torch.randn(len(labels), 3, 8, 8, generator=dice, dtype=dtype)
        + domains[:, None, None, None]
    )
    s = torch.randn(sum(per_class), 3, 8, 8, generator=dice, dtype=dtype)
    mine = torch.arange(C).repeat_interleave(torch.tensor(per_class))
    net = ConvNet(C, 8, width=4, seed=0).to(dtype).requires_grad_(False)
    return net, Batch(x, labels, domains, K, C), Batch(s, mine, 0 * mine, K, C)


@pytest.mark.parametrize("counts", [[[4, 4]] * 3, [[4, 2], [3, 0], [5, 6]]])
@pytest.mark.parametrize(
    "objective", [DM(), DM(("act1", "embed")), as_matcher(distance), Projected()]
)
def test_general_way_is_the_fast_way(counts, objective):
    net, real, synthetic = problem(counts)
    fast, slow = (domain_gradients(net, x, real, synthetic) for x in (objective, Slow(objective)))
    for name in ("g_domain", "g_dm", "losses", "weight"):
        assert torch.allclose(getattr(fast, name), getattr(slow, name), atol=1e-10), name


def test_absent_cell_pulls_at_nothing():
    net, real, synthetic = problem([[4, 2], [3, 0], [5, 6]])
    found = domain_gradients(net, DM(), real, synthetic)
    assert (found.g_domain[1, synthetic.labels == 1] == 0).all() and found.losses[1, 1] == 0
    assert torch.allclose(found.weight[:, -1], torch.tensor([0.25, 0, 0.75]).double())


def test_union_is_one_domain():
    net, real, synthetic = problem([[4, 2], [3, 1], [5, 6]])
    for objective in (DM(), as_matcher(distance)):
        union = domain_gradients(net, objective, real.united(), synthetic)
        found = domain_gradients(net, objective, real, synthetic)
        assert torch.allclose(found.g_dm, union.g_domain[0], atol=1e-12)


def test_no_class_sees_another():
    "Features of one class alone give the gradients of that class."
    net, real, synthetic = problem([[4, 4]] * 3)
    all_of, moved = synthetic.images, synthetic.images.clone()
    moved[synthetic.labels == 1] += 1
    a, b = (
        domain_gradients(net, DM(), real, replace(synthetic, images=x)) for x in (all_of, moved)
    )
    same = synthetic.labels == 0
    assert torch.allclose(a.g_dm[same], b.g_dm[same]) and not torch.allclose(a.g_dm, b.g_dm)


def test_dice_are_the_same_for_all_and_follow_the_seed():
    net, real, synthetic = problem([[4, 4]] * 3)
    dice = lambda seed: torch.Generator().manual_seed(seed)  # noqa: E731
    for matcher in (Projected(), Slow(Projected())):
        one, two, three = (
            domain_gradients(net, matcher, real, synthetic, dice(s)).g_dm for s in (1, 1, 2)
        )
        assert torch.equal(one, two) and not torch.allclose(one, three)


def test_unsorted_batches_are_refused():
    net, real, synthetic = problem([[4, 4]] * 3)
    back = Batch(real.images.flip(0), real.labels.flip(0), real.domains.flip(0), K, C)
    with pytest.raises(ValueError, match="Sort by class"):
        layout_of(back, synthetic.labels)


def test_what_can_be_matched():
    assert as_matcher(DM()) == DM() and isinstance(as_matcher(distance), Objective)
    whole = as_matcher(lambda net, real, synthetic, dice: synthetic.images.sum())
    assert isinstance(whole, Matcher) and not isinstance(whole, Objective)
    for wrong in (DM, "DM", 3):
        with pytest.raises(TypeError, match="write its parentheses, or a function"):
            as_matcher(wrong)


# ---- plug-ins


def gradients_of_the_weights(net, real, synthetic, dice):
    "Gradient matching in short: squared distance of the gradients of the classifier's loss."
    weights = {n: p.detach().requires_grad_() for n, p in net.named_parameters()}

    def gradient(images, labels, graph):
        loss = torch.nn.functional.cross_entropy(functional_call(net, weights, (images,)), labels)
        return torch.autograd.grad(loss, weights["classifier.weight"], create_graph=graph)[0]

    losses = [
        [
            (
                gradient(real.images[at], real.labels[at], False)
                - gradient(synthetic.images[mine], synthetic.labels[mine], True)
            )
            .square()
            .sum()
            for c in range(real.C)
            for at, mine in [((real.labels == c) & (real.domains == k), synthetic.labels == c)]
        ]
        for k in range(real.K)
    ]
    return torch.stack([torch.stack(row) for row in losses])


@pytest.mark.parametrize(
    "matcher", [DM(), DM(("act1",)), distance, Projected(), Slow(DM()), gradients_of_the_weights]
)
def test_honest_matchers_pass(matcher):
    assert check_matcher(matcher) == []


def mean_gap(real, synthetic):
    return real["embed"].mean(0) - synthetic["embed"].mean(0)


def takes_a_number(real, synthetic):
    return mean_gap(real, synthetic).square().sum() * real["embed"].std().item()


def branches(real, synthetic):
    gap = mean_gap(real, synthetic).square().sum()
    return gap if gap > 1 else 2 * gap


def rolls_global_dice(real, synthetic):
    return (mean_gap(real, synthetic) * torch.randn(real["embed"].shape[1])).square().sum()


def works_in_place(real, synthetic):
    return real["embed"].sub_(synthetic["embed"].mean(0)).square().sum()


def has_no_graph(real, synthetic):
    return mean_gap(real, synthetic).detach().square().sum()


def does_not_look(real, synthetic):
    return real["embed"].square().sum()


def not_a_number(real, synthetic):
    return mean_gap(real, synthetic).square().sum() / 0


def not_a_scalar(real, synthetic):
    return mean_gap(real, synthetic)


class Boasts(DM):
    def __call__(self, real, synthetic, draw=None):
        return super().__call__(real, synthetic).sqrt()  # union_is_mean is inherited, and wrong


def whole(change):
    "A matcher of (net, real, synthetic, dice) with one fault."

    def matcher(net, real, synthetic, dice):
        return change(Slow(DM())(net, real, synthetic, dice), real, synthetic)

    return matcher


BROKEN = [  # the engine names them, too
    (takes_a_number, "takes a number out of a tensor"),
    (branches, "(if, while)|takes a number out"),
    (rolls_global_dice, "rolls dice of its own|global dice"),
    (works_in_place, "in place"),
    (has_no_graph, "no graph|do not depend"),
    (does_not_look, "no graph|do not depend"),
    (not_a_number, "NaN or infinity"),
    (not_a_scalar, "shape"),
    (whole(lambda losses, real, synthetic: losses[0]), "shape"),
    (whole(lambda losses, real, synthetic: 1.0), "type float"),
    (whole(lambda losses, real, synthetic: losses.detach()), "no graph|do not depend"),
    (whole(lambda losses, real, synthetic: losses * torch.rand(1)), "global dice"),
    (whole(lambda losses, real, synthetic: losses / 0), "NaN or infinity"),
    (whole(lambda losses, real, synthetic: (real.images.zero_(), losses)[1]), "in place"),
]
UNSOUND = [
    (Boasts(), "says union_is_mean"),
    (lambda real: 0, "fails on an ordinary batch"),
    (Objective(), "write __call__"),
    (Matcher(), "write __call__"),
    (whole(lambda losses, real, synthetic: losses.T), "shape"),
]


@pytest.mark.parametrize("matcher, says", BROKEN + UNSOUND)
def test_broken_matchers_are_named(matcher, says):
    found = check_matcher(matcher)
    assert any(part in words for part in says.split("|") for words in found), found
    assert all(words[0].isupper() and words.endswith(".") for words in found), found
