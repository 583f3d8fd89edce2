"""The workshop: every solution passes, every blank and every typical mistake gets a message of its own."""

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from dgdd_nb.distill import distill
from dgdd_nb.evaluate import evaluate, student_interval
from dgdd_nb.matching import DM
from dgdd_nb.surgery import SGS

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).resolve().parents[1]
WORKSHOP = ROOT / "workshop"
spec = importlib.util.spec_from_file_location("checks", WORKSHOP / "checks.py")
checks = sys.modules["checks"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(checks)
NAMES = sorted(path.stem for path in (WORKSHOP / "source").glob("*.py"))


# ---------------------------------------------------------------- typical wrong answers, exercise by exercise
# Each is checked by the check whose name it starts with; the text is part of the sentence it must get.

WRONG: dict[str, list[tuple[Callable, Callable, str]]] = {name: [] for name in NAMES}


def wrong(exercise: int, check: Callable, text: str) -> Callable:
    """Put a wrong answer on the list."""

    def keep(answer: Callable) -> Callable:
        WRONG[NAMES[exercise - 1]].append((check, answer, text))
        return answer

    return keep


@wrong(1, checks.check_dm_loss, "the mean of the squared differences")
def loss_mean(real, synthetic):
    return ((real.mean(0) - synthetic.mean(0)) ** 2).mean()


@wrong(1, checks.check_dm_loss, "one number per dimension: square the differences and sum")
def loss_not_summed(real, synthetic):
    return (real.mean(0) - synthetic.mean(0)) ** 2


@wrong(1, checks.check_dm_loss, "leave the root out")
def loss_root(real, synthetic):
    return torch.linalg.norm(real.mean(0) - synthetic.mean(0))


@wrong(1, checks.check_dm_loss, "compares sums over the images")
def loss_sums(real, synthetic):
    return ((real.sum(0) - synthetic.sum(0)) ** 2).sum()


@wrong(1, checks.check_dm_loss, "average over axis 0")
def loss_mean_of_everything(real, synthetic):
    return (real.mean() - synthetic.mean()) ** 2


@wrong(1, checks.check_dm_loss, "must match the size of tensor")
def loss_unequal_sizes(real, synthetic):
    return ((real - synthetic).mean(0) ** 2).sum()


@wrong(1, checks.check_dm_loss, "plain number: .item()")
def loss_item(real, synthetic):
    return ((real.mean(0) - synthetic.mean(0)) ** 2).sum().item()


@wrong(1, checks.check_dm_loss, "no graph")
def loss_detached(real, synthetic):
    return ((real.mean(0) - synthetic.mean(0)) ** 2).sum().detach()


@wrong(1, checks.check_dm_loss, "compares pairs, not the means")
def loss_of_pairs(real, synthetic):
    return torch.cdist(real, synthetic).square().mean()


@wrong(1, checks.check_dm_loss, "compares pairs, not the means, and squares nothing")
def loss_of_pair_distances(real, synthetic):
    return torch.cdist(real, synthetic).mean()


@wrong(1, checks.check_dm_loss, "2 times what it should be, on all inputs tried")
def loss_doubled(real, synthetic):
    return 2 * good_loss(real, synthetic)


@wrong(1, checks.check_dm_loss, "has the wrong sign.")
def loss_negative(real, synthetic):
    return -good_loss(real, synthetic)


@wrong(1, checks.check_dm_loss, "too large by the factor 7, the number of feature dimensions")
def loss_times_dimensions(real, synthetic):
    return real.shape[1] * good_loss(real, synthetic)


@wrong(1, checks.check_dm_loss, "one number, but not the right one: it is")
def loss_of_medians(real, synthetic):
    return ((real.median(0).values - synthetic.median(0).values) ** 2).sum()


def good_loss(real, synthetic):
    return ((real.mean(0) - synthetic.mean(0)) ** 2).sum()


def good_gradient(encoder, real, images):
    s = images.clone().requires_grad_()
    return torch.autograd.grad(good_loss(encoder.embed(real), encoder.embed(s)), s)[0]


@wrong(1, checks.check_image_gradient, "sign flipped")
def gradient_descent_direction(encoder, real, images):
    return -good_gradient(encoder, real, images)


@wrong(1, checks.check_image_gradient, "reads the logits")
def gradient_of_logits(encoder, real, images):
    s = images.clone().requires_grad_()
    return torch.autograd.grad(good_loss(encoder(real), encoder(s)), s)[0]


@wrong(1, checks.check_image_gradient, "one entry: take its entry [0]")
def gradient_tuple(encoder, real, images):
    s = images.clone().requires_grad_()
    return torch.autograd.grad(good_loss(encoder.embed(real), encoder.embed(s)), s)


@wrong(1, checks.check_image_gradient, "torch.autograd.grad(loss, copy)[0]")
def gradient_backward(encoder, real, images):
    s = images.clone().requires_grad_()
    good_loss(encoder.embed(real), encoder.embed(s)).backward()
    return s.grad


@wrong(1, checks.check_image_gradient, "wrote the gradient into copy.grad")
def gradient_backward_looks_in_the_wrong_place(encoder, real, images):
    s = images.clone().requires_grad_()
    good_loss(encoder.embed(real), encoder.embed(s)).backward()
    return images.grad


@wrong(1, checks.check_image_gradient, "takes one image at a time")
def gradient_image_by_image(encoder, real, images):
    return torch.cat([good_gradient(encoder, real, image[None]) for image in images])


@wrong(1, checks.check_image_gradient, "switches on requires_grad of its input images")
def gradient_marks_input(encoder, real, images):
    images.requires_grad_()
    return torch.autograd.grad(good_loss(encoder.embed(real), encoder.embed(images)), images)[0]


@wrong(1, checks.check_image_gradient, "torch must follow the images")
def gradient_untracked(encoder, real, images):
    loss = good_loss(encoder.embed(real), encoder.embed(images)).detach()
    return torch.autograd.grad(loss, images)[0]


@wrong(1, checks.check_image_gradient, "copy first and embed the copy")
def gradient_copies_too_late(encoder, real, images):
    loss = good_loss(encoder.embed(real), encoder.embed(images))
    s = images.clone().requires_grad_()
    return torch.autograd.grad(loss, s)[0]


@wrong(1, checks.check_image_gradient, "something there is None")
def gradient_with_an_empty_loss(encoder, real, images):
    s, loss = images.clone().requires_grad_(), None
    return torch.autograd.grad(loss.sum(), s)[0]


@wrong(1, checks.check_image_gradient, "the loss, one number")
def gradient_forgot_to_differentiate(encoder, real, images):
    return good_loss(encoder.embed(real), encoder.embed(images)).detach()


@wrong(1, checks.check_domain_gradient, "not a tensor: join them")
def domains_as_list(encoder, real_by_domain, images):
    return [good_gradient(encoder, real, images) for real in real_by_domain]


@wrong(1, checks.check_domain_gradient, "one gradient of all domains together")
def domains_united(encoder, real_by_domain, images):
    return good_gradient(encoder, torch.cat(real_by_domain), images)


@wrong(1, checks.check_domain_gradient, "domains on axis 1")
def domains_on_axis_1(encoder, real_by_domain, images):
    return torch.stack([good_gradient(encoder, real, images) for real in real_by_domain], dim=1)


@wrong(1, checks.check_domain_gradient, "not torch.cat")
def domains_glued(encoder, real_by_domain, images):
    return torch.cat([good_gradient(encoder, real, images) for real in real_by_domain])


@wrong(1, checks.check_domain_gradient, "repeats the gradient of domain 0")
def domains_all_the_first(encoder, real_by_domain, images):
    return torch.stack([good_gradient(encoder, real_by_domain[0], images) for _ in real_by_domain])


@wrong(1, checks.check_domain_gradient, "adds up from domain to domain")
def domains_accumulate(encoder, real_by_domain, images):
    s, found = images.clone().requires_grad_(), []
    for p in encoder.parameters():
        p.requires_grad_(False)
    for real in real_by_domain:
        good_loss(encoder.embed(real), encoder.embed(s)).backward()
        found.append(s.grad.clone())
    return torch.stack(found)


@wrong(1, checks.check_domain_gradient, "times too small, and 4 is the number of domains")
def domains_divided(encoder, real_by_domain, images):
    K = len(real_by_domain)
    return torch.stack([good_gradient(encoder, real, images) / K for real in real_by_domain])


@wrong(1, checks.check_mean_gradient, "take the mean over them, not the sum")
def mean_is_sum(g_domain):
    return g_domain.sum(0)


@wrong(1, checks.check_mean_gradient, "axis 1, the images")
def mean_over_images(g_domain):
    return g_domain.mean(1)


@wrong(1, checks.check_mean_gradient, "changes its input g_domain in place")
def mean_in_place(g_domain):
    g_domain /= len(g_domain)
    return g_domain.sum(0)


@wrong(1, checks.check_mean_gradient, "drop keepdim=True")
def mean_keeps_axis(g_domain):
    return g_domain.mean(0, keepdim=True)


@wrong(2, checks.check_spectrum, 'norm="ortho"')
def spectrum_ortho(g):
    return torch.fft.rfft2(g, norm="ortho")


@wrong(2, checks.check_spectrum, "full spectrum")
def spectrum_full(g):
    return torch.fft.fft2(g)


@wrong(2, checks.check_spectrum, "transforms all axes")
def spectrum_all_axes(g):
    return torch.fft.rfftn(g)


@wrong(2, checks.check_spectrum, "transforms the first two axes")
def spectrum_first_axes(g):
    return torch.fft.rfft2(g, dim=(0, 1))


@wrong(2, checks.check_spectrum, "one-dimensional")
def spectrum_rows(g):
    return torch.fft.rfft(g)


@wrong(2, checks.check_spectrum, "lost its phases")
def spectrum_moduli(g):
    return torch.fft.rfft2(g).abs()


@wrong(2, checks.check_spectrum, "lost its imaginary part")
def spectrum_real(g):
    return torch.fft.rfft2(g).real


@wrong(2, checks.check_spectrum, "fftshift is for pictures")
def spectrum_shifted(g):
    return torch.fft.fftshift(torch.fft.rfft2(g), dim=(-2, -1))


@wrong(2, checks.check_spectrum, "returned a numpy array, not a tensor")
def spectrum_numpy(g):
    return np.fft.rfft2(g.numpy())


@wrong(2, checks.check_spectrum, "has the type torch.complex128")
def spectrum_double(g):
    return torch.fft.rfft2(g.double())


@wrong(2, checks.check_consensus, "take the mean over them, not the sum")
def consensus_sum(G):
    return G.sum(0)


@wrong(2, checks.check_consensus, "the domains stand on axis 0")
def consensus_axis(G):
    return G.mean(1)


@wrong(2, checks.check_consensus, "averages lengths")
def consensus_of_lengths(G):
    return G.abs().mean(0)


@wrong(2, checks.check_consensus, "length of the mean arrow")
def consensus_length(G):
    return G.mean(0).abs()


@wrong(2, checks.check_consensus, "leave .real out")
def consensus_real(G):
    return G.real.mean(0)


@wrong(2, checks.check_resultant_length, "no absolute values below")
def R_no_abs_below(G, eps):
    return G.sum(0).abs() / (G.sum(0) + eps)


@wrong(2, checks.check_resultant_length, "same length above and below")
def R_one_everywhere(G, eps):
    return G.sum(0).abs() / (G.sum(0).abs() + eps)


@wrong(2, checks.check_resultant_length, "sum above needs sum below")
def R_sum_over_mean(G, eps):
    return G.sum(0).abs() / (G.abs().mean(0) + eps)


@wrong(2, checks.check_resultant_length, "a mean stands above and a sum below")
def R_mean_over_sum(G, eps):
    return G.mean(0).abs() / (G.abs().sum(0) + eps)


@wrong(2, checks.check_resultant_length, "must stay in [0, 1]")
def R_over_largest(G, eps):
    return G.sum(0).abs() / (G.abs().max(0).values + eps)


@wrong(2, checks.check_resultant_length, "NaN where all domains are zero")
def R_without_eps(G, eps):
    return G.sum(0).abs() / G.abs().sum(0)


@wrong(2, checks.check_resultant_length, "counts eps 4 times")
def R_of_means(G, eps):
    return G.mean(0).abs() / (G.abs().mean(0) + eps)


@wrong(2, checks.check_resultant_length, "not a number of your own")
def R_own_eps(G, eps):
    return G.sum(0).abs() / (G.abs().sum(0) + 1e-8)


@wrong(2, checks.check_resultant_length, "adds eps above as well")
def R_eps_twice(G, eps):
    return (G.sum(0).abs() + eps) / (G.abs().sum(0) + eps)


@wrong(2, checks.check_resultant_length, "upside down")
def R_upside_down(G, eps):
    return G.abs().sum(0) / (G.sum(0).abs() + eps)


@wrong(2, checks.check_resultant_length, "complex mean direction")
def R_complex(G, eps):
    return G.sum(0) / (G.abs().sum(0) + eps)


@wrong(2, checks.check_resultant_length, "real part above")
def R_real_part(G, eps):
    return G.sum(0).real / (G.abs().sum(0) + eps)


@wrong(2, checks.check_noise_level, "sets the global seed")
def noise_seeds(K, samples, generator):
    torch.manual_seed(0)
    z = torch.randn(K, samples, dtype=torch.complex64)
    return (z.sum(0).abs() / z.abs().sum(0)).mean()


@wrong(2, checks.check_noise_level, "draws from the global random numbers")
def noise_global(K, samples, generator):
    z = torch.randn(K, samples, dtype=torch.complex64)
    return (z.sum(0).abs() / z.abs().sum(0)).mean()


@wrong(2, checks.check_noise_level, "does not use the generator")
def noise_own_generator(K, samples, generator):
    z = torch.randn(K, samples, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    return (z.sum(0).abs() / z.abs().sum(0)).mean()


@wrong(2, checks.check_noise_level, "a real arrow knows only two directions")
def noise_of_real_numbers(K, samples, generator):
    z = torch.randn(K, samples, generator=generator)
    return (z.sum(0).abs() / z.abs().sum(0)).mean()


@wrong(2, checks.check_noise_level, "all point the same way, up and right")
def noise_positive(K, samples, generator):
    z = torch.rand(K, samples, dtype=torch.complex64, generator=generator)
    return (z.sum(0).abs() / z.abs().sum(0)).mean()


@wrong(2, checks.check_noise_level, "returned 20000 numbers")
def noise_not_averaged(K, samples, generator):
    z = torch.randn(K, samples, dtype=torch.complex64, generator=generator)
    return z.sum(0).abs() / z.abs().sum(0)


@wrong(2, checks.check_noise_level, "the domains stand on axis 0, shape (K, samples)")
def noise_transposed(K, samples, generator):
    z = torch.randn(samples, K, dtype=torch.complex64, generator=generator)
    return (z.sum(0).abs() / z.abs().sum(0)).mean()


def back(X, size):
    return torch.fft.irfft2(X, s=size)


@wrong(3, checks.check_class_part, "is the mean gradient")
def class_without_R(G, R, size):
    return back(G.mean(0), size)


@wrong(3, checks.check_class_part, "R weighs the mean (8), not the sum")
def class_of_sum(G, R, size):
    return back(R * G.sum(0), size)


@wrong(3, checks.check_class_part, "even width although the image is odd")
def class_without_size(G, R, size):
    return torch.fft.irfft2(R * G.mean(0))


@wrong(3, checks.check_class_part, "still a spectrum")
def class_in_frequencies(G, R, size):
    return R * G.mean(0)


@wrong(3, checks.check_class_part, "use irfft2, not ifft2")
def class_by_full_inverse(G, R, size):
    return torch.fft.ifft2(R * G.mean(0)).real


@wrong(3, checks.check_class_part, "one part per domain")
def class_per_domain(G, R, size):
    return back(R * G, size)


@wrong(3, checks.check_class_part, "changes its input G in place")
def class_in_place(G, R, size):
    G *= R
    return back(G.mean(0), size)


@wrong(3, checks.check_domain_part, "which is reading (b)")
def domain_reading_b(G, R, size):
    return back(G - G.mean(0), size)


@wrong(3, checks.check_domain_part, "domain minus agreed part")
def domain_sign(G, R, size):
    return back(R * G.mean(0) - G, size)


@wrong(3, checks.check_domain_part, "each domain's own spectrum")
def domain_own_spectrum(G, R, size):
    return back(G - R * G, size)


@wrong(3, checks.check_domain_part, "weighs the deviation with R")
def domain_weighed(G, R, size):
    return back(R * (G - G.mean(0)), size)


@wrong(3, checks.check_domain_part, "averaged over the domains")
def domain_averaged(G, R, size):
    return back((G - R * G.mean(0)).mean(0), size)


@wrong(3, checks.check_own_part, "part of domain 0")
def own_first(g_dom, domain):
    return g_dom[0]


@wrong(3, checks.check_own_part, "averages over the domains")
def own_mean(g_dom, domain):
    return g_dom.mean(0)


@wrong(3, checks.check_own_part, "keeps all images for each of them")
def own_one_index(g_dom, domain):
    return g_dom[domain]


@wrong(3, checks.check_own_part, "off by one")
def own_off_by_one(g_dom, domain):
    return g_dom[domain - 1, torch.arange(len(domain))]


@wrong(3, checks.check_own_part, "always image 0")
def own_image_0(g_dom, domain):
    return g_dom[domain, 0]


@wrong(3, checks.check_own_part, "perhaps two indices are swapped")
def own_indices_swapped(g_dom, domain):
    return g_dom[torch.arange(len(domain)), domain]


@wrong(3, checks.check_update, "which climbs")
def update_plus(images, g_dm, g_cls, g_own, alpha, beta, lr):
    return images + lr * (g_dm + alpha * g_cls + beta * g_own)


@wrong(3, checks.check_update, "alpha and beta swapped")
def update_swapped(images, g_dm, g_cls, g_own, alpha, beta, lr):
    return images - lr * (g_dm + beta * g_cls + alpha * g_own)


@wrong(3, checks.check_update, "changes its input images in place")
def update_in_place(images, g_dm, g_cls, g_own, alpha, beta, lr):
    images -= lr * (g_dm + alpha * g_cls + beta * g_own)
    return images


@wrong(3, checks.check_update, "put the whole sum into brackets")
def update_brackets(images, g_dm, g_cls, g_own, alpha, beta, lr):
    return images - lr * g_dm + alpha * g_cls + beta * g_own


@wrong(3, checks.check_update, "forgets g_dm")
def update_without_dm(images, g_dm, g_cls, g_own, alpha, beta, lr):
    return images - lr * (alpha * g_cls + beta * g_own)


@wrong(3, checks.check_update, "forgets the learning rate")
def update_without_lr(images, g_dm, g_cls, g_own, alpha, beta, lr):
    return images - (g_dm + alpha * g_cls + beta * g_own)


@wrong(3, checks.check_update, "the step alone: subtract")
def update_step_alone(images, g_dm, g_cls, g_own, alpha, beta, lr):
    return lr * (g_dm + alpha * g_cls + beta * g_own)


@wrong(3, checks.check_update, "is the direction: go lr times along it")
def update_direction(images, g_dm, g_cls, g_own, alpha, beta, lr):
    return g_dm + alpha * g_cls + beta * g_own


@wrong(3, checks.check_update, "subtracts the domain part")
def update_minus_domain(images, g_dm, g_cls, g_own, alpha, beta, lr):
    return images - lr * (g_dm + alpha * g_cls - beta * g_own)


@wrong(4, checks.check_make_pair, "the two sets swapped")
def pair_swapped(source, ipc, steps, seed):
    plain, ours = (
        distill(source, DM(), surgery=s, ipc=ipc, steps=steps, seed=seed) for s in (None, SGS())
    )
    return ours, plain


@wrong(4, checks.check_make_pair, "distils plain DM twice")
def pair_without_surgery(source, ipc, steps, seed):
    return tuple(distill(source, DM(), ipc=ipc, steps=steps, seed=seed) for _ in range(2))


@wrong(4, checks.check_make_pair, "different seeds, 5 and 6")
def pair_other_seed(source, ipc, steps, seed):
    plain = distill(source, DM(), ipc=ipc, steps=steps, seed=seed)
    return plain, distill(source, DM(), surgery=SGS(), ipc=ipc, steps=steps, seed=seed + 1)


@wrong(4, checks.check_make_pair, "uses seed 0 whatever it is asked for")
def pair_default_seed(source, ipc, steps, seed):
    return tuple(distill(source, DM(), surgery=s, ipc=ipc, steps=steps) for s in (None, SGS()))


@wrong(4, checks.check_make_pair, "different steps, 2 and 4: an unfair advantage")
def pair_more_steps(source, ipc, steps, seed):
    plain = distill(source, DM(), ipc=ipc, steps=steps, seed=seed)
    return plain, distill(source, DM(), surgery=SGS(), ipc=ipc, steps=2 * steps, seed=seed)


@wrong(4, checks.check_make_pair, "different lr, 10.0 and 20.0")
def pair_other_lr(source, ipc, steps, seed):
    plain = distill(source, DM(), ipc=ipc, steps=steps, seed=seed)
    return plain, distill(source, DM(), surgery=SGS(), ipc=ipc, steps=steps, seed=seed, lr=20.0)


@wrong(4, checks.check_make_pair, "returned one set")
def pair_of_one(source, ipc, steps, seed):
    return distill(source, DM(), surgery=SGS(), ipc=ipc, steps=steps, seed=seed)


@wrong(4, checks.check_make_pair, "surgery=SGS")
def pair_surgery_as_objective(source, ipc, steps, seed):
    return distill(source, SGS, ipc=ipc), distill(source, surgery=SGS(), ipc=ipc)


@wrong(4, checks.check_accuracies, "returned the Scores object")
def accuracies_scores(distilled, target, networks, recipe):
    return evaluate(distilled, target, seeds=networks, recipe=recipe)


@wrong(4, checks.check_accuracies, "one number, the mean")
def accuracies_mean(distilled, target, networks, recipe):
    return evaluate(distilled, target, seeds=networks, recipe=recipe).mean


@wrong(4, checks.check_accuracies, "best network's accuracy")
def accuracies_best(distilled, target, networks, recipe):
    return evaluate(distilled, target, seeds=networks, recipe=recipe).values.max()


@wrong(4, checks.check_accuracies, "5 values for 3 networks")
def accuracies_default_networks(distilled, target, networks, recipe):
    return evaluate(distilled, target, recipe=recipe).values


@wrong(4, checks.check_accuracies, "ignores the recipe")
def accuracies_default_recipe(distilled, target, networks, recipe):
    return evaluate(distilled, target, seeds=networks).values


@wrong(4, checks.check_accuracies, "train on the distilled set and score on the target")
def accuracies_on_itself(distilled, target, networks, recipe):
    return evaluate(target, target, seeds=networks, recipe=recipe).values


@wrong(4, checks.check_paired_interval, "for independent runs")
def interval_of_networks(ours, plain):
    d = (ours - plain).ravel()
    return d.mean(), *student_interval(d)


@wrong(4, checks.check_paired_interval, "forgets the pairs")
def interval_unpaired(ours, plain):
    from scipy.stats import t

    a, b = ours.mean(1), plain.mean(1)
    half = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)) * t.ppf(0.975, 2 * len(a) - 2)
    return a.mean() - b.mean(), a.mean() - b.mean() - half, a.mean() - b.mean() + half


@wrong(4, checks.check_paired_interval, "sign flipped")
def interval_sign(ours, plain):
    d = plain.mean(1) - ours.mean(1)
    return d.mean(), *student_interval(d)


@wrong(4, checks.check_paired_interval, "uses 1.96")
def interval_normal(ours, plain):
    d = ours.mean(1) - plain.mean(1)
    half = 1.96 * d.std(ddof=1) / np.sqrt(len(d))
    return d.mean(), d.mean() - half, d.mean() + half


@wrong(4, checks.check_paired_interval, "mean ± standard deviation")
def interval_of_spread(ours, plain):
    d = ours.mean(1) - plain.mean(1)
    return d.mean(), d.mean() - d.std(ddof=1), d.mean() + d.std(ddof=1)


@wrong(4, checks.check_paired_interval, "averages over the distillation seeds")
def interval_axis(ours, plain):
    d = ours.mean(0) - plain.mean(0)
    return d.mean(), *student_interval(d)


@wrong(4, checks.check_paired_interval, "best network of each set")
def interval_of_best(ours, plain):
    d = ours.max(1) - plain.max(1)
    return d.mean(), *student_interval(d)


@wrong(4, checks.check_paired_interval, "returned 2 numbers")
def interval_without_mean(ours, plain):
    return student_interval(ours.mean(1) - plain.mean(1))


@wrong(4, checks.check_claim, "zero lies inside the interval")
def claim_by_mean(low, high, seeds, networks):
    if seeds < 5 or networks < 10:
        return "not enough seeds to claim a difference"
    return "SGS is better" if low + high > 0 else "SGS is worse"


@wrong(4, checks.check_claim, "fewer than 5 distillation seeds")
def claim_without_counting(low, high, seeds, networks):
    if low <= 0 <= high:
        return "no difference shown"
    return "SGS is better" if low > 0 else "SGS is worse"


@wrong(4, checks.check_claim, "fewer than 10 networks")
def claim_counts_seeds_alone(low, high, seeds, networks):
    if seeds < 5:
        return "not enough seeds to claim a difference"
    return claim_without_counting(low, high, seeds, networks)


@wrong(4, checks.check_claim, "better and worse are swapped")
def claim_swapped(low, high, seeds, networks):
    if low <= 0 <= high:
        return "no difference shown"
    return "SGS is worse" if low > 0 else "SGS is better"


@wrong(4, checks.check_claim, "too few runs come first")
def claim_in_wrong_order(low, high, seeds, networks):
    if low <= 0 <= high:
        return "no difference shown"
    if seeds < 5 or networks < 10:
        return "not enough seeds to claim a difference"
    return "SGS is better" if low > 0 else "SGS is worse"


@wrong(4, checks.check_claim, "none of the four sentences")
def claim_equal(low, high, seeds, networks):
    return "they are equal"


# ---------------------------------------------------------------- the checks


@pytest.mark.parametrize("exercise", NAMES)
def test_typical_mistakes_get_their_own_sentence(exercise):
    assert len(WRONG[exercise]) >= 5
    found = {}
    for check, answer, text in WRONG[exercise]:
        verdict = check(answer)
        assert not verdict, answer.__name__
        assert text in verdict.sentence, f"{answer.__name__}: {verdict}"
        assert repr(verdict) == f"Not yet: {verdict.sentence}"
        assert "\n" not in verdict.sentence and verdict.sentence[-1] in ".?", verdict
        assert verdict.sentence not in found.values(), (
            f"{answer.__name__} is told what another was: {verdict}"
        )
        found[answer.__name__] = verdict.sentence
    assert {check for check, *_ in WRONG[exercise]} == set(checks.EXERCISES[exercise])


def test_a_verdict_is_shown_as_text_that_wraps():
    verdict = checks.Verdict(False, "f stopped in the line `a < b`.")
    assert repr(verdict) == "Not yet: f stopped in the line `a < b`."
    assert verdict._repr_html_() == "<p>Not yet: f stopped in the line <code>a &lt; b</code>.</p>"


ALL_CHECKS = [check for group in checks.EXERCISES.values() for check in group]


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.__name__)
def test_any_answer_gets_a_sentence(check):
    """Empty, of the wrong kind, crashing, with other arguments, or not a function at all."""
    seen = set()
    state = torch.get_rng_state()

    def crashes(*inputs):
        raise RuntimeError("I am new here")

    def asks_for_nothing():
        return 1

    odd = (
        lambda *_: None,
        lambda *_: ...,
        lambda *_: "text",
        lambda *_: [1, 2],
        lambda *_: 3.5,
        lambda *_: torch.full((3, 1), torch.nan),
        lambda *_: {},
        crashes,
        asks_for_nothing,
        7,
        None,
    )
    for answer in odd:
        verdict = check(answer)
        assert not verdict and verdict.sentence.endswith("."), verdict
        seen.add(verdict.sentence)
    assert (
        "I am new here" in check(crashes).sentence
        and "raise RuntimeError" in check(crashes).sentence
    )
    assert "blank is still empty" in check(lambda *_: None).sentence
    assert "could not be called as" in check(asks_for_nothing).sentence
    assert torch.equal(state, torch.get_rng_state()), "the check moved the global random numbers"
    assert len(seen) >= 6


# ---------------------------------------------------------------- the notebooks


def code_cells(path: Path) -> list[str]:
    """The code of a notebook."""
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def outputs(nb: nbformat.NotebookNode) -> list:
    """All outputs, from the top to the bottom."""
    return [out for cell in nb.cells if cell.cell_type == "code" for out in cell.outputs]


def verdicts(nb: nbformat.NotebookNode) -> list[str]:
    """What the checks said."""
    shown = [out.data["text/plain"] for out in outputs(nb) if "text/plain" in out.get("data", {})]
    return [text for text in shown if " is right: " in text or "Not yet" in text]


def pictures(nb: nbformat.NotebookNode | Path) -> int:
    """How many pictures are drawn."""
    nb = nbformat.read(nb, 4) if isinstance(nb, Path) else nb
    return sum("image/png" in out.get("data", {}) for out in outputs(nb))


def test_a_seed_is_noticed_whatever_it_was_before():
    state = torch.get_rng_state()
    for seed in (0, 1):
        torch.manual_seed(seed)
        assert "sets the global seed" in checks.check_noise_level(noise_seeds).sentence
        assert torch.initial_seed() == seed
    torch.set_rng_state(state)


@pytest.mark.parametrize("name", NAMES)
def test_solution_passes_all_checks(name, monkeypatch):
    """Run in a fresh kernel, in the folder of the workshop, with one thread."""
    monkeypatch.delenv("MPLBACKEND", raising=False)  # else the kernel draws nothing inline
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    nb = nbformat.read(WORKSHOP / "solutions" / f"{name}.ipynb", 4)
    stored = verdicts(nb)
    where = {"metadata": {"path": str(WORKSHOP)}}
    nbclient.NotebookClient(nb, timeout=300, kernel_name="python3", resources=where).execute()
    assert all(" is right: " in text for text in verdicts(nb)), verdicts(nb)
    assert len(verdicts(nb)) == len(checks.EXERCISES[name])
    assert pictures(nb), "the pictures are drawn"
    assert (stored, pictures(WORKSHOP / "solutions" / f"{name}.ipynb")) == (
        verdicts(nb),
        pictures(nb),
    ), "the stored outputs are not those of a run: python tools/workshop.py --run"


@pytest.mark.parametrize("name", NAMES)
def test_unsolved_notebook_runs_and_names_every_blank(name, monkeypatch):
    """Run all on the notebook as it is handed out: no traceback, and one message per blank."""
    import matplotlib.pyplot as plt

    monkeypatch.chdir(WORKSHOP)
    space, messages = {"__name__": "exercise"}, []
    monkeypatch.setattr(plt, "show", lambda: None)
    with plt.rc_context():
        for source in code_cells(WORKSHOP / f"{name}.ipynb"):
            exec(compile(source, name, "exec"), space)
            if "check_" in source and "import" not in source:
                messages.append(repr(space[source.splitlines()[-1]]))
    plt.close("all")
    assert len(messages) == len(checks.EXERCISES[name]) == len(set(messages))
    for check, message in zip(checks.EXERCISES[name], messages):
        function = check.__name__.removeprefix("check_")
        assert message == f"Not yet: {checks.blank(function)}"


def test_notebooks_equal_their_source():
    done = subprocess.run(
        [sys.executable, "tools/workshop.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_form_of_the_notebooks(name):
    exercise, solution = (
        nbformat.read(WORKSHOP / path, 4) for path in (f"{name}.ipynb", f"solutions/{name}.ipynb")
    )
    first = exercise.cells[0].source
    assert first.startswith("# ") and re.search(r"^> \S", first, flags=re.M)
    for word in ("**Time:**", "**You write:**", "**You need:**"):
        assert word in first
    minutes = int(re.search(r"\*\*Time:\*\* (\d+) minutes", first).group(1))
    assert 15 <= minutes <= 20
    text = "\n".join(cell.source for cell in exercise.cells)
    assert 2 <= text.count("# your code: ") <= 4 and text.count("# your code: ") == len(
        checks.EXERCISES[name]
    )
    assert "<details>" in text and text.count("<details>") == text.count("</details>")
    assert "# BLANK" not in text and "# END" not in text
    assert not outputs(exercise) and outputs(solution)
    assert not any(
        out.output_type == "error" or out.get("name") == "stderr" for out in outputs(solution)
    )
    for out in outputs(solution):
        shown = out.get("text", "") + out.get("data", {}).get("text/plain", "")
        assert not tool("refresh").MACHINE_PATH.search(shown), shown
    assert not any(cell.get("execution_count") for cell in solution.cells)
    ids = [cell.id for cell in exercise.cells]
    assert len(ids) == len(set(ids))
    assert (WORKSHOP / f"{name}.ipynb").stat().st_size < 60_000
    assert (WORKSHOP / "solutions" / f"{name}.ipynb").stat().st_size < 600_000
    code = [
        line
        for cell in exercise.cells
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
    ]
    assert max(map(len, code)) <= 120 and max(map(len, text.splitlines())) <= 130


def tool(name: str) -> ModuleType:
    """A script of tools/ as a module."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def test_outputs_stay_down_to_the_first_change(tmp_path, monkeypatch):
    workshop = tool("workshop")
    monkeypatch.setattr(workshop, "ROOT", tmp_path)
    monkeypatch.setattr(workshop, "WORKSHOP", tmp_path)
    source, solution = tmp_path / "source" / "9_small.py", tmp_path / "solutions" / "9_small.ipynb"
    first = '# %% [markdown]\n"""# 9 Small"""\n# %%\nprint(1)\n# %%\nx = 2\n# %%\nprint(x)\n'

    def told(text: str, *options: str) -> tuple[int, list[str]]:
        source.write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["workshop.py", *options])
        code = workshop.main()
        return code, ["".join(out["text"]) for out in outputs(nbformat.read(solution, 4))]

    source.parent.mkdir()
    assert told(first) == (0, [])
    nb = nbformat.read(solution, 4)
    for cell, text in zip(
        [cell for cell in nb.cells if cell.cell_type == "code"], ("1\n", None, "2\n")
    ):
        cell.outputs = [nbformat.v4.new_output("stream", text=text)] if text else []
    nbformat.write(nb, solution)
    assert told(first, "--check") == (0, ["1\n", "2\n"])
    assert told(first) == (0, ["1\n", "2\n"])
    assert told(first.replace("Small", "Text may change")) == (0, ["1\n", "2\n"])
    changed = first.replace("x = 2", "x = 3")
    assert told(changed, "--check") == (1, ["1\n", "2\n"])
    assert told(changed) == (0, ["1\n"])  # the 2 below was computed from the old x
    solution.with_name("8_gone.ipynb").write_text(solution.read_text())
    assert told(changed, "--check")[0] == 1


def test_a_source_without_an_end_is_refused(tmp_path):
    workshop = tool("workshop")
    bad = tmp_path / "9_bad.py"
    bad.write_text("# %%\ndef f():\n    # BLANK: write\n    return 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="BLANK without END"):
        workshop.notebook(bad, solution=False)


# ---------------------------------------------------------------- the pages


def test_plan_adds_up_to_90_minutes():
    text = (WORKSHOP / "plan.md").read_text(encoding="utf-8")
    rows = [
        tuple(map(int, found))
        for found in re.findall(r"^\| (\d+)-(\d+) \| (\d+) \|", text, flags=re.M)
    ]
    assert rows[0][0] == 0 and rows[-1][1] == 90
    assert all(end - start == minutes for start, end, minutes in rows)
    assert all(one[1] == two[0] for one, two in zip(rows, rows[1:]))
    assert sum(minutes for *_, minutes in rows) == 90
    for name in NAMES:
        assert name in text
        minutes = re.search(r"\*\*Time:\*\* (\d+)", code_and_text(name)).group(1)
        assert re.search(rf"^\| \d+-\d+ \| {minutes} \| .*{name}", text, flags=re.M), name


def code_and_text(name: str) -> str:
    """The source of an exercise."""
    return (WORKSHOP / "source" / f"{name}.py").read_text(encoding="utf-8")


def test_quiz_has_ten_questions_with_folded_answers():
    text = (WORKSHOP / "quiz.md").read_text(encoding="utf-8")
    questions = re.split(r"^## \d+\. ", text, flags=re.M)[1:]
    assert len(questions) == 10
    for question in questions:
        assert (
            question.count("<details><summary>Answer</summary>")
            == 1
            == question.count("</details>")
        )


def test_links_of_the_pages_lead_somewhere():
    for page in (*WORKSHOP.glob("*.md"), *(WORKSHOP / "source").glob("*.py")):
        for target in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text(encoding="utf-8")):
            folder = WORKSHOP if page.suffix == ".py" else page.parent
            assert (folder / target).exists(), f"{page.name}: {target}"


def test_checks_say_what_they_check():
    for check in ALL_CHECKS:
        assert inspect.getdoc(check).startswith("Exercise ")
