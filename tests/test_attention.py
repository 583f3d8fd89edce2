"""DataDAM against values computed with the public code, and as one method among others."""

import pytest
import torch
from shared import assert_near, load

from dgdd_nb.attention import DataDAM, attention_map
from dgdd_nb.domain_gradients import check_matcher, class_losses, domain_gradients, layout_of
from dgdd_nb.data import Batch
from dgdd_nb.methods import make_set
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import network

LAYERS = ("layer0", "layer1", "embed")
PRECISION = [("f64", torch.float64, 1e-12), ("f32", torch.float32, 5e-6)]


@pytest.mark.parametrize("name, dtype, tolerance", PRECISION)
@pytest.mark.parametrize("p", [1, 4])
@pytest.mark.parametrize("loop", [False, True])
def test_loss_and_gradients_are_those_of_the_public_code(name, dtype, tolerance, p, loop):
    golden = load("datadam.npz")
    real, synthetic = (
        {layer: torch.tensor(golden[f"{layer}/{side}"]).to(dtype) for layer in LAYERS}
        for side in ("real", "syn")
    )
    leaves = {layer: x.requires_grad_() for layer, x in synthetic.items()}
    dam = DataDAM(LAYERS, p=p, balance=float(golden["task_balance"]))
    kept = dam.per_image(leaves)
    for layer in LAYERS[:2]:
        assert_near(kept[layer], golden[f"p{p}/{layer}/attention_syn_{name}"], tolerance)
    C, m = int(golden["n_classes"]), int(golden["ipc"])
    labels = torch.arange(C).repeat_interleave(int(golden["n_real_per_class"]))
    batch = Batch(real["embed"], labels, 0 * labels, 1, C)
    layout = layout_of(batch, torch.arange(C).repeat_interleave(m))
    copies = {layer: x[None] for layer, x in kept.items()}
    loss = class_losses(dam, dam.per_image(real), copies, layout, loop=loop).sum()
    assert_near(loss, golden[f"p{p}/loss_{name}"], tolerance)
    for layer, g in zip(LAYERS, torch.autograd.grad(loss, list(leaves.values()))):
        assert_near(g, golden[f"p{p}/{layer}/grad_syn_{name}"], tolerance)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_gradient_of_a_map(p):
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: attention_map(x, p), x.requires_grad_())
    zero = torch.zeros(1, 3, 2, 2, requires_grad=True)
    assert torch.autograd.grad(attention_map(zero, p).sum(), zero)[0].isfinite().all()


@pytest.mark.parametrize("net", ["convnet", "convnet-bn"])
def test_the_union_is_the_mean(net):
    net = network(net, classes=3, size=16, width=4, seed=0).requires_grad_(False)
    assert check_matcher(DataDAM(), net) == []


def test_surgery_by_name_and_wrong_layers():
    source = mini_digits(16, train=40, test=20).leave_out("street")[0]
    options = {"steps": 2, "width": 32, "real_batch": 9, "device": "cpu"}
    made = [make_set(name, source, 3, 0, **options) for name in ("DataDAM", "DataDAM+SGS")]
    assert not torch.equal(made[0].images, made[1].images)
    assert [x.recipe["lr"] for x in made] == [0.8, 0.8]
    with pytest.raises(ValueError, match=r"layer 'logits' has features of shape \(10,\)"):
        make_set(
            "DataDAM", source, 3, 0, **options, matcher={"name": "DataDAM", "layers": ["logits"]}
        )
    with pytest.raises(ValueError, match="p must be a finite number from 1"):
        DataDAM(p=0)
