"""DM losses and gradients against values computed with the public reference code."""

import pytest
import torch
from shared import assert_near, load, state

from dgdd_nb.domain_gradients import class_losses, domain_gradients, from_features, layout_of
from dgdd_nb.matching import DM
from dgdd_nb.networks import ConvNet

PRECISION = [("f64", torch.float64, 1e-12), ("f32", torch.float32, 5e-6)]


@pytest.fixture(scope="module")
def dm():
    return load("dm.npz")


def flat(values, dtype, classes):
    "(classes, n, ...) -> images of all classes, their labels."
    x = torch.tensor(values[:classes]).to(dtype)
    return x.flatten(0, 1), torch.arange(classes).repeat_interleave(x.shape[1])


@pytest.mark.parametrize("which, classes", [("one_class", 1), ("all_classes", 3)])
@pytest.mark.parametrize("name, dtype, tolerance", PRECISION)
@pytest.mark.parametrize("loop", [False, True])
def test_features(dm, name, dtype, tolerance, which, classes, loop):
    key = f"feat/{which}/loss_{name}"
    if key not in dm:
        pytest.skip("this combination is not in the golden file")
    (real, real_labels), (syn, labels) = (
        flat(dm["feat/real"], dtype, classes),
        flat(dm["feat/syn"], dtype, classes),
    )
    layout = layout_of(real_labels, torch.zeros_like(real_labels), labels, 1, classes)
    leaf = syn[None].clone().requires_grad_()
    loss = class_losses(DM(), {"embed": real}, {"embed": leaf}, layout, loop=loop).sum()
    assert_near(loss, dm[key], tolerance)
    grad = torch.autograd.grad(loss, leaf)[0][0]
    assert_near(
        grad.view(classes, -1, grad.shape[1]), dm[f"feat/{which}/grad_syn_{name}"], tolerance
    )


def pixels(dm, kind, name, dtype, which, classes):
    (real, real_labels), (syn, labels) = (
        flat(dm["net/real"], dtype, classes),
        flat(dm["net/syn"], dtype, classes),
    )
    net = ConvNet(
        3,
        16,
        width=16,
        depth=int(dm["net/depth"]),
        norm="batch" if kind == "bn" else "instance",
        seed=0,
    )
    net.load_state_dict(state(dm, f"{kind}/state/"))
    return net.to(dtype).train(), real, real_labels, syn, labels


@pytest.mark.parametrize("which, classes", [("one_class", 1), ("all_classes", 3)])
@pytest.mark.parametrize("name, dtype, tolerance", PRECISION)
@pytest.mark.parametrize("kind", ["net", "bn"])
def test_pixels(dm, kind, name, dtype, tolerance, which, classes):
    key = f"{kind}/{which}/loss_{name}"
    if key not in dm:
        pytest.skip("this combination is not in the golden file")
    net, real, real_labels, syn, labels = pixels(dm, kind, name, dtype, which, classes)
    found = domain_gradients(
        net, DM(), real, real_labels, torch.zeros_like(real_labels), syn, labels, K=1, C=classes
    )
    assert_near(found.losses.sum(), dm[key], tolerance)
    for g in (found.g_dm, found.g_domain[0]):
        assert_near(
            g.view(classes, -1, *g.shape[1:]), dm[f"{kind}/{which}/grad_syn_{name}"], tolerance
        )


def test_union_of_two_domains(dm):
    "Real images dealt out to two domains: the union gradient is still the golden one."
    net, real, real_labels, syn, labels = pixels(dm, "net", "f64", torch.float64, "all_classes", 3)
    domains = torch.arange(8).ge(3).long().repeat(3)  # 3 and 5 images: unequal on purpose
    x = syn.requires_grad_()
    layout = layout_of(real_labels, domains, labels, 2, 3)
    features = {"embed": net.embed(x)}
    found = from_features(DM(), {"embed": net.embed(real).detach()}, features, x, layout)
    assert_near(found.g_dm.view(3, -1, 3, 16, 16), dm["net/all_classes/grad_syn_f64"], 1e-12)
