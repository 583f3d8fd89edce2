"""MixStyle (Zhou et al., ICLR 2021) as a transform of any training: it mixes feature statistics inside the network.

One file outside the package, built on the training seam alone. In a study: `transform = {name = "plugins.mixstyle:MixStyle"}`.
"""

import numpy as np
import torch
from torch import Tensor, nn

from dgdd_nb.data import Batch


def mix_statistics(x: Tensor, share: Tensor, partner: Tensor) -> Tensor:
    "Channel means and deviations of each map, mixed with those of its partner; no gradient to them."
    std = (x.var((2, 3), keepdim=True) + 1e-6).sqrt().detach()
    mean = x.mean((2, 3), keepdim=True).detach()
    mixed_std = share * std + (1 - share) * std[partner]
    return (x - mean) / std * mixed_std + share * mean + (1 - share) * mean[partner]


class MixStyle:
    "With probability p per batch, mix styles after a layer; partners come from other domains if there are any."

    def __init__(self, layer: str = "features.3", p: float = 0.5, alpha: float = 0.1):
        self.layer, self.p, self.alpha = (
            layer,
            p,
            alpha,
        )  # features.3: the first pooling of a ConvNet
        self.net, self.handle, self.drawn = None, None, None

    def __call__(self, batch: Batch, net: nn.Module, dice: torch.Generator) -> Batch:
        if net is not self.net:
            if self.handle is not None:
                self.handle.remove()
            self.net, self.handle = (
                net,
                net.get_submodule(self.layer).register_forward_hook(self._mix),
            )
        score = torch.rand(len(batch), len(batch), generator=dice)
        same = batch.domains[:, None] == batch.domains
        partner = (score.to(same.device) + same.float()).argmin(1)
        numpy = np.random.default_rng(int(torch.randint(2**62, (), generator=dice)))
        share = torch.tensor(numpy.beta(self.alpha, self.alpha, (len(batch), 1, 1, 1))).to(
            batch.images
        )
        self.drawn = (share, partner) if numpy.random() < self.p else None
        return batch

    def _mix(self, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        drawn, self.drawn = self.drawn, None  # for one forward pass
        return mix_statistics(output, *drawn) if drawn is not None and module.training else None
