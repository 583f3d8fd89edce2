"""DTL and DSM: styles, stop-gradients, mixing of rows, splits as in DomainBed, and what is refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dgdd_nb.data import Batch, Normalisation
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.evaluate import transfer_parts, transform_of
from dgdd_nb.files import generator
from dgdd_nb.methods import check_method, make_set
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import network
from dgdd_nb.study import Study, task_of
from dgdd_nb.teachers import squeeze
from dgdd_nb.transfer import (
    DTL,
    Restyle,
    TransferNet,
    image_moments,
    in_out,
    restyled,
    source_styles,
    style,
    style_distance,
)

SEE = Normalisation((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
TINY = {"width": 8, "recipe": {"name": "quick-plain", "max_steps": 4}}
OFF = dict.fromkeys(("ce", "style", "ce_styled", "per_style"), 0.0)


@pytest.fixture(scope="module")
def source():
    return mini_digits(size=16, train=60, test=20).leave_out("street")[0]


@pytest.fixture(scope="module")
def teacher(source):
    return squeeze(source, **TINY)


@pytest.fixture(scope="module")
def tiny(teacher):
    return {"teacher": teacher, "steps": 2, "width": 4, "blocks": 1, "visit": 1}


@pytest.fixture(scope="module")
def made(source, tiny):
    return make_set("DTL + DSM", source, 2, 0, **tiny)


@pytest.fixture(scope="module")
def small():
    """A classifier, a transfer network, images, labels and styles in double precision."""
    net = network("convnet-bn", classes=3, size=16, width=4, seed=0).double().eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-1, 1, generator=generator(0, "mean"))
    x = torch.randn(2, 3, 16, 16, generator=generator(0, "x"), dtype=torch.float64)
    psi = TransferNet(2, SEE, 2, 1, seed=1).double()
    with torch.no_grad():  # rows that differ
        for table in (*psi.scale, *psi.shift):
            table += 0.3 * torch.randn(table.shape, generator=generator(0, "rows"))
    with torch.no_grad():
        found = image_moments(net, x.roll(5, 3).repeat(2, 1, 1, 1) * 1.2)[1]
    return net.requires_grad_(False), psi, x, torch.tensor([0, 2]), [style(f, 2) for f in found]


def test_variance_within_and_between(teacher, source):
    """(5) is what is within images; with what is between them it is the variance of all pixels."""
    x, seen = source.normalisation()(source.images[:40]), []
    layer = next(m for m in teacher.net.modules() if isinstance(m, nn.BatchNorm2d))
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    found = image_moments(teacher.net, x)[1][0]
    handle.remove()
    pixels = seen[0].transpose(0, 1).flatten(1)
    m, s = style(found, variance="pooled")
    assert torch.allclose(m[0], pixels.mean(1), atol=1e-5)
    assert torch.allclose(s[0].square(), pixels.var(1, correction=0) + 1e-5, rtol=1e-4)
    within = seen[0].var((2, 3), correction=0).mean(0)
    assert torch.allclose(style(found)[1][0].square(), within + 1e-5, rtol=1e-4)
    assert len(layer._forward_pre_hooks) == 0  # nothing is left behind


@pytest.mark.parametrize("variance", ["per-image", "pooled"])
def test_styles_of_the_source_are_those_of_its_domains(teacher, source, variance):
    see = source.normalisation()
    for layer, styles in enumerate(source_styles(teacher.net, source, see, variance)):
        for k in range(source.K):
            x = see(source.images[source.domains == k])
            alone = style(image_moments(teacher.net, x)[1][layer], variance=variance)
            assert torch.allclose(styles[:, k], alone[:, 0], atol=1e-5)


def test_normalised_distance_by_hand():
    """One channel pair: differences 1 and 2, deviations over channels of 2 and 0.5."""
    wanted = [torch.tensor([[[0.0, 4.0]], [[1.0, 2.0]]])]
    found = [wanted[0] + torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])]
    assert float(style_distance(found, wanted)) == (1 / 2) ** 2 + (2 / 0.5) ** 2
    assert float(style_distance(found, wanted, normalised=False)) == 1 + 4
    assert float(style_distance(wanted, wanted)) == 0


def test_size_of_the_published_network():
    """Convolutions of methods such as magenta's, and a row of scale and shift for each channel."""
    channels = [32, 64, 128] + [128] * 10 + [64, 32, 3]
    kernels = [9, 3, 3] + [3] * 11 + [3, 9]
    came = [3, *channels[:-1]]
    convs = sum(a * b * k * k + b for a, b, k in zip(came, channels, kernels))
    net = TransferNet(4, SEE)
    assert sum(p.numel() for p in net.parameters()) == convs + 4 * 2 * sum(channels)
    assert [tuple(c.stride)[0] for c in net.convs][:4] == [1, 2, 2, 1]


@pytest.mark.parametrize("size", [(16, 16), (17, 22)])
def test_restyled_images_have_their_size_and_can_be_shown(size):
    net, x = TransferNet(2, SEE, 4, 1), torch.randn(3, 3, *size, generator=generator(0, "x"))
    out = net(x, torch.eye(2)[[0, 1, 0]])
    low, high = (SEE(torch.full((1, 3, 1, 1), v, dtype=torch.uint8)) for v in (0, 255))
    assert out.shape == x.shape and (out >= low).all() and (out <= high).all()


def test_rows_mix_styles(small):
    """lambda 0 and 1 are one domain, exactly; a domain reads its own row only."""
    _, psi, x, _, _ = small
    eye = torch.eye(2, dtype=torch.float64)
    one, two = (psi(x, eye[[k, k]]) for k in (0, 1))
    assert not torch.allclose(one, two, atol=1e-3)
    for share, pure in ((1.0, one), (0.0, two)):
        assert torch.equal(psi(x, (share * eye[0] + (1 - share) * eye[1]).expand(2, 2)), pure)
    half = psi(x, torch.full((2, 2), 0.5, dtype=torch.float64))
    assert not torch.equal(half, one) and not torch.equal(half, two)
    (grad,) = torch.autograd.grad(one.sum(), [psi.scale[2]], retain_graph=True)
    assert grad[0].abs().sum() > 0 and (grad[1] == 0).all()


WHO = [  # loss, through, does it move the images, the network?
    ("ce", True, True, False),
    ("style", True, True, False),
    ("ce_styled", True, True, True),
    ("ce_styled", False, False, True),
    ("per_style", True, False, True),
    ("per_style", False, False, True),
]


@pytest.mark.parametrize("loss, through, images, network", WHO)
def test_stop_gradients(small, loss, through, images, network):
    g, of_net, _ = DTL(**OFF | {loss: 1.0}, through=through)(*small)
    assert (float(g.norm()) > 0) is images
    assert (sum(float(p.norm()) for p in of_net) > 0) is network


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("variance", ["per-image", "pooled"])
def test_gradients_against_finite_differences(small, variance, normalised):
    """Images: all that may move them; network: all that may move it; along a random direction."""
    net, psi, x, y, styles = small
    rule = DTL(0.7, 0.02, 0.3, 0.01, normalised=normalised, variance=variance)
    g, of_net, losses = rule(net, psi, x, y, styles)
    weights = list(psi.parameters())

    def value(names, x):
        found = rule(net, psi, x, y, styles)[2]
        return float(sum(vars(rule)[own] * found[name].detach() for own, name in names.items()))

    way = torch.randn(x.shape, generator=generator(0, "way"), dtype=x.dtype)
    of_images = {"ce": "ce", "style": "avg", "ce_styled": "ce_styled"}
    slope = (value(of_images, x + 1e-7 * way) - value(of_images, x - 1e-7 * way)) / 2e-7
    assert slope == pytest.approx(float((g * way).sum()), rel=1e-4)
    of_psi, ends, step = {"ce_styled": "ce_styled", "per_style": "per_style"}, [], 1e-8
    ways = [torch.randn(p.shape, generator=generator(1, "way"), dtype=p.dtype) for p in weights]
    for sign in (1, -1):
        with torch.no_grad():
            for p, w in zip(weights, ways):
                p += sign * step * w
        ends.append(value(of_psi, x))
        with torch.no_grad():
            for p, w in zip(weights, ways):
                p -= sign * step * w
    wanted = sum(float((p * w).sum()) for p, w in zip(of_net, ways))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(wanted, rel=1e-4)


def test_mixing_draws_two_domains(made):
    """Rows are shares of at most two domains, most of them near one; pure: of one."""
    plug = transform_of(made).parts[0]
    rows = plug.rows(3000, generator(0, "rows"))
    assert torch.equal(rows, plug.rows(3000, generator(0, "rows")))
    assert torch.allclose(rows.sum(1), torch.ones(3000)) and ((rows > 0).sum(1) <= 2).all()
    assert rows.mean(0).sub(1 / 3).abs().max() < 0.03
    assert 0.7 < (rows.amax(1) > 0.99).float().mean() < 0.85  # two equal ones in a third
    state = transfer_parts(made)["restyle"]
    pure = Restyle(state, styles="pure").rows(50, generator(0, "rows"))
    assert torch.equal(pure.amax(1), torch.ones(50))


def test_what_the_teacher_labels_is_restyled(made, teacher):
    """The chain restyles, then labels; a shared seed shows equal views."""
    assert made.transfer_name == "restyle+relabel"
    batch = Batch(made.images, made.labels, made.domains, made.K, made.C)
    first = transform_of(made).parts[0](batch, None, generator(0, "x"))
    rows = transform_of(made).parts[0].rows(len(batch), generator(0, "x"))
    net = TransferNet.of_state(transfer_parts(made)["restyle"])
    assert torch.equal(first.images, net(batch.images, rows))
    for k, name in enumerate(made.domain_names):
        row = torch.eye(3)[k].expand(len(made), -1)
        assert torch.equal(restyled(made, name), net(made.images, row))
    for share in (0.0, 0.5):
        some = Restyle(net.state_dict(), share=share)(batch, None, generator(0, "x")).images
        restyled_ones = (some == first.images).flatten(1).all(1)
        assert torch.equal(restyled_ones, ~(some == batch.images).flatten(1).all(1))
        assert 20 * share - 6 <= restyled_ones.sum() <= 20 * share + 6 * (share > 0)
    whole = transform_of(made)(batch, teacher.net, generator(0, "x"))
    assert whole.labels.shape == (20, 10) and not torch.equal(whole.images, first.images)


def test_sets(source, tiny, made, tmp_path):
    """The seed decides all; the network is stored, counted and used after loading."""
    again = make_set("DTL + DSM", source, 2, 0, **tiny)
    assert torch.equal(made.images, again.images)
    assert all(torch.equal(x, again.transfer[key]) for key, x in made.transfer.items())
    assert not torch.equal(made.images, make_set("DTL", source, 2, 1, **tiny).images)
    back = DistilledSet.load(made.save(tmp_path))
    assert torch.equal(restyled(back, "scan"), restyled(made, "scan"))
    plain = make_set("DTL", source, 2, 0, **tiny)
    assert torch.equal(plain.images, made.images) and plain.transfer_name == "relabel"
    hard = make_set("DTL + DSM", source, 2, 0, **tiny, soft=False)
    assert torch.equal(hard.images, made.images) and hard.transfer_name == "restyle"
    state = transfer_parts(made)["restyle"]
    assert made.stored_bytes - plain.stored_bytes == sum(x.nbytes for x in state.values())
    assert made.history["losses"].shape == (2 * 10, 4)  # a batch of each class
    assert check_method("DTL", **tiny) == []


def test_steps_go_to_every_batch_and_both_teachers(source, teacher, tiny):
    """Batches smaller than ipc, a visit that does not divide the steps, two teachers by turns."""
    how = tiny | {"steps": 3, "visit": 2, "batch": 2, "teacher": [teacher, teacher]}
    made = make_set("DTL", source, 3, 0, **how, start="real")
    assert made.history["losses"].shape == (3 * 10 * 2, 4)
    before = make_set("DTL", source, 3, 0, **how | {"steps": 1, "lr": 1e-6}, start="real")
    moved = (made.images - before.images).abs().flatten(1).amax(1)
    assert (moved > 1e-3).all()
    look = source.normalisation()(source.images)  # and none leaves what can be shown
    assert made.images.amin() >= look.amin() - 1e-5 and made.images.amax() <= look.amax() + 1e-1


def test_splits_as_in_domainbed():
    """Sources in and out, target in for the test; a study learns and scores accordingly."""
    table = {"name": "mini_digits", "size": 16, "train": 60, "test": 40}
    data = in_out(table, "street", trial=1)
    counts = torch.zeros(4, 4).long()
    counts.index_put_((data.domains, data.splits), torch.tensor(1), accumulate=True)
    assert counts.sum() == 400 and (counts.sum(1) == 100).all()
    k = data.domain_names.index("street")
    assert (counts[k, :2] == 0).all() and (counts[torch.arange(4) != k, 2:] == 0).all()
    assert all(18 <= n <= 22 for n in (counts[:, 1] + counts[:, 3]).tolist())
    inside, outside = data.split("train").groups, data.split("val").groups
    assert not set(inside.tolist()) & set(outside.tolist())
    other = in_out(table, "street", trial=2)
    assert not torch.equal(other.images, data.images)
    assert torch.equal(in_out(table, "street", trial=1).images, data.images)
    plug = {"name": "dgdd_nb.transfer:in_out", "data": table, "target": "street"}
    study = Study(("random",), data=plug, targets=("street",))
    task = task_of(study, "street")
    assert len(task.source) == int(counts[:, 0].sum())
    assert len(task.targets["street"]) == int(counts[k, 2])
    task = task_of(replace(study, setting="validation"), "street")
    assert sum(map(len, task.targets.values())) == int(counts[:, 1].sum())


REFUSALS = [
    ({"styles": "both"}, "Unknown styles 'both'"),
    ({"losses": {"styles": 1}}, "styles"),
    ({"losses": {"variance": "running"}}, "Unknown variance 'running'"),
    ({"start": "black"}, "Unknown start 'black'"),
    ({"visit": 0}, "visit must be a whole number from 1"),
    ({"lr": 0}, "lr must be a finite number above 0"),
    ({"share": 0.5}, "take styles='mixed' or 'pure'"),
    ({"styles": "mixed", "share": 2}, "share must be a finite number from 0 to 1"),
    ({"styles": "mixed", "alpha": 0}, "alpha must be a finite number above 0"),
    ({"teacher": TINY | {"network": "convnet"}, "steps": 0}, "The teacher has no batch norm"),
]


@pytest.mark.parametrize("options, words", REFUSALS)
def test_refusals(source, tiny, options, words):
    with pytest.raises(ValueError, match=words) as error:
        make_set("DTL", source, 1, 0, **tiny | options)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_refused_at_relabelling(source, tiny, made):
    batch = Batch(made.images, made.labels, made.domains, 2, made.C)
    with pytest.raises(ValueError, match="has styles for 3 domains and the set has 2: keep"):
        transform_of(made)(batch, None, generator(0, "x"))
    with pytest.raises(ValueError, match="Unknown style 'sketch'"):
        restyled(made, "sketch")
    with pytest.raises(ValueError, match="The shares of styles must sum to 1, not 1.1."):
        restyled(made, {"scan": 0.5, "photo": 0.6})
    with pytest.raises(ValueError, match="The set brings no transfer network: make it"):
        restyled(make_set("DTL", source, 1, 0, **tiny), "scan")
    torn = {k: x for k, x in made.transfer.items() if not k.startswith("restyle/")}
    with pytest.raises(ValueError, match="The transfer network of the set is gone"):
        transform_of(replace(made, transfer=torn))
    with pytest.raises(ValueError, match="Unknown domain 'sketch'"):
        in_out(source, "sketch")
