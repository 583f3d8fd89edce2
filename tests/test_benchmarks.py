"""The yardsticks in `benchmarks/` must compute what our engine computes; else a ratio of times means nothing."""

import sys
from pathlib import Path

import pytest
import torch

from dgdd_nb.domain_gradients import domain_gradients
from dgdd_nb.matching import DM
from dgdd_nb.networks import ConvNet

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import public_loop  # noqa: E402

C, IPC, REAL, SIZE, WIDTH = 3, 4, 6, 16, 8


def make_loop(strategy: str = "") -> public_loop.PublicLoop:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(C * 20, 3, SIZE, SIZE, generator=generator)
    labels = torch.arange(C).repeat(20)  # unsorted on purpose
    synthetic = torch.randn(C * IPC, 3, SIZE, SIZE, generator=generator)
    return public_loop.PublicLoop(
        images, labels, synthetic, IPC, width=WIDTH, real_batch=REAL, strategy=strategy, seed=1
    )


@pytest.mark.parametrize("domains", [1, 3])
def test_gradient_equals_ours(domains: int):
    """Augmentation off, same network and real images: the same gradient, also as the mean over domains."""
    loop = make_loop()
    net, batches = loop.network(), [loop.batch(c) for c in range(C)]
    (gradient,) = torch.autograd.grad(loop.loss(net, batches), loop.synthetic)
    encoder = ConvNet(C, SIZE, width=WIDTH)
    encoder.load_state_dict(net.state_dict())
    ours = domain_gradients(
        encoder, DM(), torch.cat(batches), torch.arange(C).repeat_interleave(REAL),
        torch.arange(domains).repeat_interleave(REAL // domains).repeat(C),
        loop.synthetic, torch.arange(C).repeat_interleave(IPC), domains, C,
    )  # fmt: skip
    assert gradient.abs().max() > 0
    assert (ours.g_dm - gradient).abs().max() <= 5e-6 * gradient.abs().max()  # float32, sums in another order


def test_batches_are_of_one_class_without_repetition():
    loop = make_loop()
    for c in range(C):
        batch = loop.batch(c)
        assert batch.shape == (REAL, 3, SIZE, SIZE)
        found = (batch[:, None] == loop.images[loop.of_class[c]][None]).flatten(2).all(2)
        assert bool((found.sum(1) == 1).all()) and int(found.any(0).sum()) == REAL


@pytest.mark.parametrize("name", list(public_loop.GROUPS))
def test_real_and_synthetic_get_the_same_transform(name: str):
    x = torch.randn(7, 3, 12, 10, generator=torch.Generator().manual_seed(2))
    for seed in range(10):
        many, few = public_loop.augment(x, name, seed), public_loop.augment(x[:3], name, seed)
        assert torch.allclose(many[:3], few, atol=1e-6)
    assert any(not torch.equal(public_loop.augment(x, name, seed), x) for seed in range(10))


def test_steps_repeat_by_seed():
    first, second = make_loop(public_loop.STRATEGY), make_loop(public_loop.STRATEGY)
    for loop in (first, second):
        torch.manual_seed(0)  # the public loop takes its networks from the global generator
        losses = [loop.step() for _ in range(4)]
        assert all(loss > 0 for loss in losses)
    assert torch.equal(first.synthetic, second.synthetic)
    assert not torch.equal(first.synthetic, make_loop().synthetic)
