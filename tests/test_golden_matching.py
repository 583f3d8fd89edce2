"""DM losses and gradients against values computed with the public reference code; all sizes come from the file."""

import pytest
import torch
from shared import assert_near, load, state

from dgdd_nb.data import Batch
from dgdd_nb.domain_gradients import class_losses, domain_gradients, layout_of
from dgdd_nb.matching import DM
from dgdd_nb.networks import ConvNet

PRECISION = [("f64", torch.float64, 1e-12), ("f32", torch.float32, 5e-6)]
WHICH = pytest.mark.parametrize("which", ["one_class", "all_classes"])
EXACT = pytest.mark.parametrize("name, dtype, tolerance", PRECISION)


@pytest.fixture(scope="module")
def dm():
    return load("dm.npz")


def batch(arrays, key, which, dtype):
    "Images or features of the first class or of all, (C, n, ...), as a batch of one domain."
    x = torch.tensor(arrays[key])[: 1 if which == "one_class" else None].to(dtype)
    labels = torch.arange(len(x)).repeat_interleave(x.shape[1])
    return Batch(x.flatten(0, 1), labels, 0 * labels, 1, len(x))


def encoder(arrays, kind, dtype):
    "The golden network: its width, its classes and the side of its images are read off the file."
    weights = state(arrays, f"{kind}/state/")
    net = ConvNet(
        len(weights["classifier.weight"]),
        tuple(arrays["net/real"].shape[-2:]),
        width=len(weights["features.0.weight"]),
        depth=int(arrays["net/depth"]),
        norm="batch" if kind == "bn" else "instance",
        seed=0,
    )
    net.load_state_dict(weights)
    return net.to(dtype).train()


@WHICH
@EXACT
@pytest.mark.parametrize("loop", [False, True])
def test_features(dm, name, dtype, tolerance, which, loop):
    if f"feat/{which}/loss_{name}" not in dm:
        pytest.skip("this combination is not in the golden file")
    real, synthetic = (batch(dm, f"feat/{x}", which, dtype) for x in ("real", "syn"))
    leaf = synthetic.images[None].clone().requires_grad_()
    layout = layout_of(real, synthetic.labels)
    loss = class_losses(DM(), {"embed": real.images}, {"embed": leaf}, layout, loop=loop).sum()
    assert_near(loss, dm[f"feat/{which}/loss_{name}"], tolerance)
    golden = dm[f"feat/{which}/grad_syn_{name}"]
    assert_near(torch.autograd.grad(loss, leaf)[0].view(golden.shape), golden, tolerance)


@WHICH
@EXACT
@pytest.mark.parametrize("kind", ["net", "bn"])
def test_pixels(dm, kind, name, dtype, tolerance, which):
    if f"{kind}/{which}/loss_{name}" not in dm:
        pytest.skip("this combination is not in the golden file")
    real, synthetic = (batch(dm, f"net/{x}", which, dtype) for x in ("real", "syn"))
    found = domain_gradients(encoder(dm, kind, dtype), DM(), real, synthetic)
    assert_near(found.losses.sum(), dm[f"{kind}/{which}/loss_{name}"], tolerance)
    golden = dm[f"{kind}/{which}/grad_syn_{name}"]
    for g in (found.g_dm, found.g_domain[0]):
        assert_near(g.view(golden.shape), golden, tolerance)


def test_union_of_two_domains(dm):
    "Real images dealt out to two domains: the union gradient is still the golden one."
    real, synthetic = (batch(dm, f"net/{x}", "all_classes", torch.float64) for x in ("real", "syn"))
    n = len(real) // real.C
    domains = torch.arange(n).ge(n // 2 - 1).long().repeat(real.C)  # unequal on purpose
    two = Batch(real.images, real.labels, domains, 2, real.C)
    found = domain_gradients(encoder(dm, "net", torch.float64), DM(), two, synthetic)
    golden = dm["net/all_classes/grad_syn_f64"]
    assert_near(found.g_dm.view(golden.shape), golden, 1e-12)
