# ruff: noqa
# %% [markdown]
r"""
# 4 · Distil, and judge fairly

> Afterwards you can compare two ways of distilling on an unseen domain, and say what the numbers allow you to claim.

**Time:** 20 minutes. **You write:** four short functions: a fair pair of distilled sets, the accuracies of several
networks, a paired interval, and the claim. **You need:** `distill` and `evaluate` of the package. Nothing from the
exercises before.

Two methods, DM and DM + SGS. Each turns the source domains (scan, photo, print) into a few images per class; networks
trained on those images are scored on the domain that nobody has seen, `street`. Three digits and five images of each keep
it short. Three things move the score without being the method:

- the **distillation seed**: start images, encoders, real batches, augmentation;
- the **network seed**: initial weights and order of training;
- everything that one forgot to keep equal.

The runs here are far too short and too few to find out which method is better. They are long enough to do every step of
a fair comparison once. At the end you look at a study that has enough runs.
"""

# %%
import numpy as np
import torch
from checks import (
    check_accuracies,
    check_claim,
    check_make_pair,
    check_paired_interval,
    stored_study,
)

from dgdd_nb.coresets import random as random_images
from dgdd_nb.data import MultiDomain
from dgdd_nb.distill import distill
from dgdd_nb.evaluate import evaluate, paired_difference, student_interval
from dgdd_nb.matching import DM
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.plots import image_rows, score_plot, use_style
from dgdd_nb.surgery import SGS
from dgdd_nb.train import get_recipe

use_style()


# %%
def three_digits(data):
    "The images of 0, 1 and 7 alone: a small task for a small laptop."
    data = data.select(torch.isin(data.labels, torch.tensor([0, 1, 7])))
    names = [data.classes[c] for c in data.labels.tolist()]
    splits = {"splits": data.splits, "split_names": data.split_names}
    return MultiDomain.from_arrays(
        data.images, names, data.domains, domain_names=data.domain_names, **splits
    )


source, target = three_digits(mini_digits(size=16, train=300)).leave_out("street")
IPC, STEPS = 5, 20  # images per class; steps of distillation
SEEDS, NETWORKS = 3, 3  # distillation seeds; networks trained on each set
short = get_recipe("quick", name="short", epochs=40)  # the quick recipe, cut once more
print(source)
print(target)

# %% [markdown]
r"""
## Blank 1: a fair pair

Distil twice: once with plain DM, once with DM and `surgery=SGS()`. Nothing else may differ.

<details><summary>Hint</summary>

Write the first call, copy it, and change one thing.

</details>

<details><summary>More</summary>

`distill(source, DM(), ipc=..., steps=..., seed=...)` returns a distilled set; `surgery=SGS()` is one more argument.
Both calls get the same seed: the pair then shares its start images and encoders.

</details>
"""


# %%
def make_pair(source, ipc, steps, seed):
    "Two sets that differ in the surgery alone: plain DM first, DM + SGS second."
    # BLANK: two calls of distill; return plain, ours
    plain = distill(source, DM(), ipc=ipc, steps=steps, seed=seed)
    ours = distill(source, DM(), surgery=SGS(), ipc=ipc, steps=steps, seed=seed)
    return plain, ours
    # END


# %%
pair_right = check_make_pair(make_pair)
pair_right

# %% [markdown]
r"""
## Blank 2: several networks

One network is one draw from a lottery. Train `networks` of them on a distilled set, score each on the target, and return
all accuracies. Not the best one: choosing by the target score would be peeking.

<details><summary>Hint</summary>

Look up what `evaluate` returns: you want all the numbers, not their mean.

</details>

<details><summary>More</summary>

`evaluate(training set, target, seeds=number of networks, recipe=recipe)` does it; `.values` of the result is an array
with one accuracy per network, in per cent.

</details>
"""


# %%
def accuracies(distilled, target, networks, recipe):
    "Accuracy on the target, in per cent, of each of several networks trained on the distilled set."
    # BLANK: evaluate, and return one accuracy per network
    return evaluate(distilled, target, seeds=networks, recipe=recipe).values
    # END


# %%
accuracies_right = check_accuracies(accuracies)
accuracies_right

# %% [markdown]
r"""
The next cell runs the comparison, half a minute to a minute on a laptop. `random` is as many real images as there
are synthetic ones, drawn by chance: what distillation has to beat before it is worth anything.
"""

# %%
if pair_right and accuracies_right:
    scores = {"random": [], "DM": [], "DM + SGS": []}
    for seed in range(SEEDS):
        plain, ours = make_pair(source, IPC, STEPS, seed)
        sets = {"random": random_images(source, IPC, seed=seed), "DM": plain, "DM + SGS": ours}
        for name, distilled in sets.items():
            scores[name].append(accuracies(distilled, target, NETWORKS, short))
    scores = {name: np.array(values) for name, values in scores.items()}
    for name, values in scores.items():
        print(
            f"{name:9s} mean over networks, one number per distillation seed: {values.mean(1).round(1)}"
        )
    image_rows({name: s.pictures() for name, s in sets.items()})
    score_plot(scores, chance=100 / 3)

# %% [markdown]
r"""
Every dot is a network, every bar a distillation seed. Compare the spread within a method with the distance between DM and
DM + SGS. With runs as short as these, random real images may well come out ahead of both.

## Blank 3: a paired interval

`ours` and `plain` have one row per distillation seed and one column per network. Return the mean of ours minus plain, and
the ends of its 95 % interval.

- Networks trained on the same set share its luck: average over them first. What is left is one number per distillation
  seed, and those are independent.
- The two methods share a seed: subtract seed by seed, *then* look at the spread.

<details><summary>Hint</summary>

Average first over the axis that is not independent, subtract, and only then ask for an interval.

</details>

<details><summary>More</summary>

One difference per seed: the means over axis 1 of both, subtracted. `student_interval(differences)` returns the two
ends, with Student's t for few values.

</details>
"""


# %%
def paired_interval(ours, plain):
    "Mean, lower and upper end of the 95 % interval of ours - plain; both have shape (S, n)."
    # BLANK: one difference per distillation seed; return mean, low, high
    differences = ours.mean(1) - plain.mean(1)
    low, high = student_interval(differences)
    return differences.mean(), low, high
    # END


# %%
interval_right = check_paired_interval(paired_interval)
interval_right

# %% [markdown]
r"""
## Blank 4: what may one claim?

Four sentences are allowed. The rule of this project, fixed before looking at any number:

- fewer than 5 distillation seeds, or fewer than 10 networks per set: `"not enough seeds to claim a difference"`,
  whatever the interval says;
- else, zero inside the interval: `"no difference shown"`. (This is not "they are equal".)
- else `"SGS is better"` or `"SGS is worse"`.

<details><summary>Hint</summary>

In which order do the rules hold? The first one wins over whatever the interval says.

</details>

<details><summary>More</summary>

Three questions one after the other: too few seeds *or* networks? Does `low <= 0 <= high`? And else: is `low` above
zero?

</details>
"""


# %%
def claim(low, high, seeds, networks):
    "The sentence that an interval of SGS minus DM allows, given the number of runs."
    # BLANK: return one of the four sentences
    if seeds < 5 or networks < 10:
        return "not enough seeds to claim a difference"
    if low <= 0 <= high:
        return "no difference shown"
    return "SGS is better" if low > 0 else "SGS is worse"
    # END


# %%
claim_right = check_claim(claim)
claim_right

# %%
if pair_right and accuracies_right and interval_right and claim_right:
    mean, low, high = paired_interval(scores["DM + SGS"], scores["DM"])
    print(
        f"your runs: DM + SGS minus DM {mean:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
    )
    print(f"{SEEDS} seeds x {NETWORKS} networks: {claim(low, high, SEEDS, NETWORKS)}")

# %% [markdown]
r"""
## A study with enough runs

The repository keeps a study of the same task with all ten digits: ten images per class, 300 steps, 5 distillation seeds
x 10 networks. Put its numbers through *your* functions.
"""

# %%
study = stored_study()
if study is None:
    print("The study is in the repository, benchmarks/results/main_mini.jsonl.")
elif interval_right and claim_right:
    ordered = study.sort_values(["distillation_seed", "network_seed"]).groupby("method")["accuracy"]
    names = ("random", "DM", "DM + SGS")
    table = {name: ordered.get_group(name).to_numpy().reshape(5, 10) for name in names}
    for name, values in table.items():
        print(
            f"{name:9s} {values.mean():.1f} %, of {values.shape[0]} seeds x {values.shape[1]} networks"
        )
    for a, b in (("DM + SGS", "DM"), ("DM", "random")):
        mean, low, high = paired_interval(table[a], table[b])
        print(f"{a} minus {b}: {mean:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}")
        print("    the package:", paired_difference(study, a, b).verdict)
    print(
        "SGS beside DM, your claim:",
        claim(*paired_interval(table["DM + SGS"], table["DM"])[1:], 5, 10),
    )

# %% [markdown]
r"""
**Look and say:** Which of these sentences does the study support?

1. "DM beats random real images on `street` at this budget."
2. "SGS does not work."
3. "SGS and DM are equally good."
4. "At this budget, no difference between DM and DM + SGS was shown on `street`."
5. "SGS is ahead with some of the distillation seeds, so it works with those."

<details><summary>Answers</summary>

1 and 4. Sentence 2 speaks about all data and budgets; this is one target of a small data set. Sentence 3 takes "not shown" for
"shown to be zero": the interval leaves room for a difference of either sign, and its ends say how large. Sentence 5
chooses seeds after looking. Had SGS come out ahead, one more control would be due before crediting the frequencies: DM
with a step as long as that of SGS along its gradient.

</details>

**If you have time:** Swap the pairing: shuffle the rows of `scores["DM"]` and compute the interval again. When does
pairing help, and can it hurt? ([21_evaluate](../nbs/21_evaluate.ipynb).)
"""
