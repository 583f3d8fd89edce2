"""Gradient matching (Zhao, Mopuri and Bilen, ICLR 2021) for several domains: one file outside the package.

distill(source, GradientMatching(), SGS(), ipc=1)
distill(source, GradientMatching(), SGS(), ipc=10, encoders=partial(TrainedAlong, outer=10))
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from dgdd_nb.data import Batch
from dgdd_nb.files import derive_seed
from dgdd_nb.matching import Matcher
from dgdd_nb.networks import Encoder, Encoders


def ours(real: Tensor, synthetic: Tensor) -> Tensor:
    "1 - cosine per output filter or unit, summed; tensors of one axis (biases, norms) do not count."
    if real.ndim < 2:
        return synthetic.sum() * 0
    a, b = real.flatten(1), synthetic.flatten(1)
    return (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()


class GradientMatching(Matcher):
    "Distance of the parameter gradients that real and synthetic images of a class cause."

    def __call__(
        self, net: nn.Module, real: Batch, synthetic: Batch, dice: torch.Generator
    ) -> Tensor:
        weights = {name: w.detach().requires_grad_() for name, w in net.named_parameters()}

        def gradient(batch: Batch, here: Tensor, graph: bool) -> tuple[Tensor, ...]:
            logits = functional_call(net, weights, batch.images[here])
            loss = cross_entropy(logits, batch.labels[here])
            return torch.autograd.grad(loss, list(weights.values()), create_graph=graph)

        zero = synthetic.images.sum() * 0
        table = [[zero] * real.C for _ in range(real.K)]
        for c in synthetic.labels.unique().tolist():
            mine = gradient(synthetic, synthetic.labels == c, True)  # once for all domains
            for k in range(real.K):
                here = (real.labels == c) & (real.domains == k)
                if here.any():
                    theirs = gradient(real, here, False)
                    table[k][c] = sum(map(ours, theirs, mine))
        return torch.stack([torch.stack(row) for row in table])


class TrainedAlong(Encoders):
    "One network for `outer` image steps; between two of them it learns from the synthetic images."

    def __init__(
        self,
        build: Callable[[int], Encoder],
        seed: int,
        outer: int = 10,  # image steps per network
        inner: int = 50,  # epochs between two image steps, each of one batch
        lr: float = 0.01,
    ):
        self.seed, self.outer, self.inner, self.lr = seed, outer, inner, lr
        self.net, self.began = build(seed), -1

    def __call__(self, step: int) -> Encoder:
        if self.began != (first := step - step % self.outer):
            self.net.reset(derive_seed(self.seed, "encoder", first))
            self.began = first
        return self.net

    def learn(self, synthetic: Batch, step: int) -> None:
        if (step + 1) % self.outer == 0:
            return  # the next step has a new network
        optimiser = torch.optim.SGD(self.net.requires_grad_(True).parameters(), lr=self.lr)
        for _ in range(self.inner):
            optimiser.zero_grad()
            cross_entropy(self.net(synthetic.images), synthetic.labels).backward()
            optimiser.step()
        optimiser.zero_grad()
        self.net.requires_grad_(False)

    def state(self) -> dict[str, Tensor]:
        return {"began": torch.tensor(self.began), **self.net.state_dict()}

    def load(self, state: dict[str, Tensor]) -> None:
        self.began = int(state["began"])
        self.net.load_state_dict({k: v for k, v in state.items() if k != "began"})
