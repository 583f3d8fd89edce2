"""The placebo of the trial: DM but for a breath."""

import torch

from dgdd_nb.domain_gradients import DomainGradients
from dgdd_nb.surgery import check_surgery
from dgdd_nb.trial import Placebo


def test_the_direction_is_off_by_the_size_and_by_its_own_dice():
    dice = torch.Generator().manual_seed(0)
    g = torch.randn(3, 4, 3, 8, 8, generator=dice)
    found = DomainGradients(g, g.mean(0), torch.zeros(3, 2), torch.full((3, 4), 1 / 3))
    labels = torch.tensor([0, 0, 1, 1])
    domains = torch.tensor([0, 1, 2, 0])
    for size in (1e-5, 1e-2):
        off = Placebo(size)(found, labels, domains, torch.Generator().manual_seed(1)) - found.g_dm
        share = off.square().mean().sqrt() / found.g_dm.square().mean().sqrt()
        torch.testing.assert_close(share, torch.tensor(size), rtol=0.1, atol=0)
    assert check_surgery(Placebo()) == []
