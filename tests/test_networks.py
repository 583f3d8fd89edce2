"""Encoders: features by name, weights from a seed, other people's networks, and which one is used at which step."""

import functools
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from dgdd_nb.data import Batch
from dgdd_nb.files import derive_seed
from dgdd_nb.networks import (
    Backbone,
    ConvNet,
    Encoder,
    Encoders,
    FreshEncoders,
    block_tail,
    check_encoders,
    default_depth,
    default_width,
    has_batch_norm,
    network,
)

X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_sizes():
    assert [default_depth(s) for s in (8, 16, 28, 32, 48, 64, 96, 128)] == [3] * 5 + [4] * 2 + [5]
    assert [default_width(s) for s in (8, 16, 17, 32)] == [32, 32, 128, 128]
    assert network(classes=10, size=16, seed=0).features[0].out_channels == 32


def test_state_names_are_those_of_the_reference():
    stems = [*(f"features.{i}" for i in (0, 1, 4, 5, 8, 9)), "classifier"]
    names = [f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias")]
    assert list(ConvNet(10, 32, seed=0).state_dict()) == names


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "instance", "group"])
def test_every_norm_runs(norm):
    net = ConvNet(3, (8, 16), width=8, depth=2, seed=1, norm=norm)
    out = net.extract(torch.ones(2, 3, 8, 16), net.layer_names)
    assert out["logits"].shape == (2, 3) and out["embed"].shape == (2, 8 * 8)


def test_nothing_is_computed_after_the_deepest_layer():
    net, runs = ConvNet(10, 32, width=8, seed=0), []
    for module in net.features:
        module.register_forward_hook(lambda m, i, o: runs.append(m))
    net.extract(X, ("pool1", "conv2"))
    assert runs == list(net.features[:5])
    found = net.extract(X, ("act2", "conv1", "conv1"))
    assert list(found) == ["act2", "conv1"] and net.extract(X, ()) == {}
    assert torch.equal(found["act2"], net.features[:7](X))
    assert torch.equal(net.embed(X), net.features(X).flatten(1))
    assert torch.equal(net(X), net.classifier(net.features(X).flatten(1)))


def test_tail_is_used_where_nobody_looks_inside():
    net, calls = ConvNet(10, 32, width=8, seed=0), []
    want = net.extract(X, net.layer_names)
    net.tail = lambda *a: (calls.append(1), block_tail(*a))[1]
    for layers, tails in (
        (("logits",), 3),
        (("act2", "embed"), 2),
        (("conv2",), 1),
        (("pool1",), 1),
    ):
        calls.clear()
        found = net.extract(X, layers)
        assert len(calls) == tails
        assert all(torch.equal(found[name], want[name]) for name in layers)
    batch = ConvNet(10, 32, width=8, norm="batch", seed=0)
    batch.tail = block_tail  # does not fit this network, so it is not used
    assert torch.equal(batch.eval()(X), batch.classifier(batch.features(X).flatten(1)))
    h = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    ones, zeros = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda h: block_tail(h, ones, zeros), h)
    with_graph, without = block_tail(h, ones, zeros), block_tail(h.detach(), ones, zeros)
    assert torch.allclose(with_graph, without, atol=1e-14)  # pooled either way


def test_tail_in_channels_last_order_is_the_same_function():
    h = torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    last = h.contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = [torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    fixed = [w.detach() for w in weights]
    want, got = block_tail(h, *fixed), block_tail(last, *fixed)
    assert type(got.grad_fn).__name__ == "_TailBackward" and torch.allclose(got, want, atol=1e-14)
    assert torch.autograd.gradcheck(lambda h: block_tail(h, *fixed), last)
    assert torch.autograd.gradcheck(block_tail, (last, *weights))
    assert torch.autograd.gradgradcheck(lambda h: block_tail(h, *fixed), last)
    v = torch.randn(3, *got.shape, dtype=torch.float64)
    one_by_one = [torch.autograd.grad(got, last, row, retain_graph=True)[0] for row in v]
    (batched,) = torch.autograd.grad(got, last, v, is_grads_batched=True)
    assert torch.allclose(batched, torch.stack(one_by_one), atol=1e-14)


@pytest.mark.parametrize("norm", ["instance", "batch", "layer"])
def test_reset_equals_building_anew(norm):
    net, before = ConvNet(10, 16, width=8, norm=norm, seed=1), torch.get_rng_state()
    net.train()(X[..., :16, :16])  # moves the running statistics of a batch norm
    net.reset(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(net, ConvNet(10, 16, width=8, norm=norm, seed=2))
    torch.manual_seed(2)
    anew = ConvNet(10, 16, width=8, norm=norm)
    assert all(map(torch.equal, net.state_dict().values(), anew.state_dict().values()))
    assert same(net.double(), anew.double())


def little(classes, size):
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Dropout(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, classes))


def test_a_network_of_torchvision():
    net = network("resnet18", classes=10, size=32, seed=4)
    state = torch.get_rng_state()
    net.reset(5)
    assert torch.equal(state, torch.get_rng_state()) and has_batch_norm(net)
    assert same(net, network("resnet18", classes=10, size=32, seed=5))
    runs = []
    net.net.layer2.register_forward_hook(lambda m, i, o: runs.append(1))
    net.extract(X, ("layer1",))
    assert not runs
    found = net.eval().extract(X, ("fc", "embed", "logits", "layer1.0.bn2"))
    assert list(found) == ["fc", "embed", "logits", "layer1.0.bn2"]
    assert torch.equal(found["fc"], found["logits"]) and found["embed"].shape == (4, 512)
    images = X.clone().requires_grad_()
    net.embed(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_hooks_follow_weights_that_are_put_in():
    net = network("vit_b_16", classes=3, size=32, seed=0).eval()
    other = dict(network("vit_b_16", classes=3, size=32, seed=1).named_parameters())
    got = torch.func.functional_call(net, other, (X,))
    net.reset(1)
    assert torch.equal(net(X), got)


def test_ones_own_by_module_and_function(monkeypatch):
    module = types.ModuleType("my_networks")
    made = []
    module.little = lambda classes, size: (made.append(1), little(classes, size))[1]
    module.conv = lambda classes, size: ConvNet(classes, size, width=4)
    monkeypatch.setitem(sys.modules, "my_networks", module)
    net = network("my_networks:little", classes=5, size=8, seed=0)
    assert (
        len(made) == 1
        and isinstance(net, Backbone)
        and net.layer_names[-3:] == ("embed", "5", "logits")
    )
    x = X[..., :8, :8]
    assert torch.equal(net(x), net(x)) and torch.equal(
        net.extract(x, "0 1".split())["0"], net.net[0](x)
    )
    assert same(net, network("my_networks:little", classes=5, size=8, seed=0))
    conv = network("my_networks:conv", classes=5, size=8, seed=3)  # an encoder stays what it is
    assert isinstance(conv, ConvNet) and same(conv, ConvNet(5, 8, width=4, seed=3))
    with pytest.raises(ValueError, match="write module:function"):
        network("my_networks:big", classes=5, size=8, seed=0)
    with pytest.raises(ValueError, match="must be a function of classes and size"):
        network("math:sqrt", classes=5, size=8, seed=0)


def test_timm_by_name():
    pytest.importorskip("timm")
    for name in ("resnet10t", "vit_tiny_patch16_224"):
        net = network(f"timm:{name}", classes=4, size=32, seed=0)
        assert net(X).shape == (4, 4) and net.embed(X).shape == (4, net.embed_size)
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        network("timm:resnet81", classes=4, size=32, seed=0)


def test_timm_missing_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="needs timm; install it"):
        network("timm:resnet18", classes=4, size=32, seed=0)


def build(seed: int) -> Encoder:
    return ConvNet(3, 8, width=4, depth=1, seed=seed).requires_grad_(False)


def test_fresh_encoders_are_a_function_of_seed_and_step():
    for life in (1, 5):
        encoders = FreshEncoders(build, seed=3, life=life)
        for step in (0, 1, 4, 5, 12, 2):
            assert same(encoders(step), build(derive_seed(3, "encoder", step - step % life)))


class Along(Encoders):
    "A network trained along on the synthetic images, with momentum."

    keep, life = ("net", "momentum"), 1

    def __init__(self, build, seed):
        self.net = build(derive_seed(seed, "along"))
        self.momentum = [torch.zeros_like(p) for p in self.net.parameters()]

    def __call__(self, step):
        return self.net

    def learn(self, synthetic: Batch, step: int) -> None:
        weights = [p.detach().clone().requires_grad_() for p in self.net.parameters()]
        names = [name for name, _ in self.net.named_parameters()]
        logits = torch.func.functional_call(
            self.net, dict(zip(names, weights)), (synthetic.images,)
        )
        loss = nn.functional.cross_entropy(logits, synthetic.labels)
        grads = torch.autograd.grad(loss, weights)
        for p, m, g in zip(self.net.parameters(), self.momentum, grads, strict=True):
            m.mul_(0.5).add_(g)
            p.sub_(0.1 * m)

    def state(self):
        found = {}
        if "net" in self.keep:
            found |= {f"net.{name}": value for name, value in self.net.state_dict().items()}
        if "momentum" in self.keep:
            found |= {f"momentum.{i}": m for i, m in enumerate(self.momentum)}
        return found

    def load(self, state):
        net = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
        self.net.load_state_dict(net or self.net.state_dict())
        for i, m in enumerate(self.momentum):
            m.copy_(state.get(f"momentum.{i}", m))


def test_checker_is_content():
    for life in (1, 2, 5, 40):
        assert check_encoders(functools.partial(FreshEncoders, life=life)) == []
    assert check_encoders(Along) == []


class Counting(FreshEncoders):
    "Draws new weights at every second call, whatever the step."

    calls, every = 0, 2

    def __call__(self, step):
        self.calls += 1
        self.net.reset((self.calls - 1) // self.every)
        return self.net


class Global(FreshEncoders):
    def __call__(self, step):
        torch.rand(1)
        return super().__call__(step)


class Hungry(FreshEncoders):
    def __call__(self, step):
        return super().__call__(step).requires_grad_()


class Bare(FreshEncoders):
    def __call__(self, step):
        return nn.Linear(2, 2)


class Painter(FreshEncoders):
    def learn(self, synthetic, step):
        synthetic.images.zero_()


class Another(FreshEncoders):
    made = []

    def __init__(self, build, seed):
        self.made.append(self)
        super().__init__(build, seed + len(self.made))


def variant(**changes) -> type:
    return type("Variant", (Along,), changes)


WRONG = {
    "Asked twice": type("Always", (Counting,), {"every": 1}),
    "global generator": Global,
    "requires_grad_": Hungry,
    "goes on from `state`": Counting,
    "put what `learn` changes": variant(keep=("net",)),
    "into the state": variant(keep=("momentum",)),
    "life = 0": variant(life=0),
    "within its life of 3": variant(life=3),
    "AttributeError": Bare,
    "NotImplementedError": lambda build, seed: Encoders(),
    "changes the synthetic images": Painter,
    "one seed see different": Another,
}


@pytest.mark.parametrize("words", WRONG)
def test_checker_says_what_is_wrong(words):
    before = torch.get_rng_state()
    said = check_encoders(WRONG[words])
    assert any(words in sentence for sentence in said), said
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"width": 0}, "width must be a whole number from 1"),
        ({"depth": -1}, "depth must be a whole number from 1"),
        ({"depth": 10**6}, "lower the depth"),
        ({"classes": 2.0}, "classes must be"),
        ({"size": 16.0}, "a side in pixels or"),
        ({"size": (16,)}, "a side in pixels or"),
        ({"seed": 1.5}, "seed must be"),
        ({"name": 3}, "Unknown network '?3"),
        ({"width": 10**6}, "does not fit into memory"),
    ],
    ids=str,
)
def test_sizes_are_whole_numbers(changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        network(**{"name": "convnet", "classes": 2, "size": 16, "seed": 0, **changes})


def test_natural_types_and_another_default_give_the_same_network():
    given = {"classes": np.int64(2), "size": torch.Size((16, 24)), "seed": np.int64(3)}
    net = network(**given, width=np.int64(4))
    torch.set_default_dtype(torch.float64)
    try:
        other = network(classes=2, size=(16, 24), seed=3, width=4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, net.parameters(), other.parameters()))
