# ruff: noqa
# %% [markdown]
r"""
# 3 · The update rule

> Afterwards you can split domain gradients into an agreed part and a rest, and take one step of spectral gradient surgery.

**Time:** 16 minutes. **You write:** four short functions: the class part and the domain part (10), the choice of each
image's own domain, and the update (11). **You need:** `torch.fft.irfft2` and indexing. Nothing from the exercises
before.

Spectral gradient surgery (SGS) weighs the mean spectrum $\bar G$ with the agreement $R$ of the domains, frequency by
frequency, and calls the result the class part. What a domain wants beyond it is called its domain part:

$$g_\text{cls} = \mathcal F^{-1}\big[R\,\bar G\big], \qquad g_{\text{dom},k} = \mathcal F^{-1}\big[G_k - R\,\bar G\big] \tag{10}$$

Both are added to the DM gradient with weights $\alpha$ and $\beta$. The image $s_i$ belongs to one domain, $k(i)$:

$$s_i \leftarrow s_i - \eta\,\big(g_\text{DM} + \alpha\, g_\text{cls} + \beta\, g_{\text{dom},k(i)}\big) \tag{11}$$

The second half of (10) is an interpretation: the text of the paper that we worked from lacks the formula, and "deviation
from the consensus" could also mean $G_k - \bar G$, *reading (b)*. Here we write *reading (a)*, as above.
"""

# %%
import torch
from checks import check_class_part, check_domain_part, check_own_part, check_update

from dgdd_nb.data import Batch
from dgdd_nb.domain_gradients import domain_gradients
from dgdd_nb.fourier import spectrum
from dgdd_nb.matching import DM
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import ConvNet
from dgdd_nb.plots import gradient_panels, image_rows, use_style
from dgdd_nb.resultant import resultant_length
from dgdd_nb.surgery import SGS

use_style()

# %% [markdown]
r"""
## What is given

For six synthetic images of the digit 3: the gradients `g_domain` `(K, N, 3, H, W)`, the DM gradient `g_dm`
`(N, 3, H, W)`, the half spectra `G` `(K, N, 3, H, W//2+1)`, the agreement `R` `(N, 3, H, W//2+1)`, and `domain` `(N,)`,
the number of the domain that each image belongs to.
"""

# %%
source, target = mini_digits(size=16, train=400, test=10).leave_out("street")
normalise = source.normalisation()
encoder = ConvNet(classes=10, size=16, width=32, seed=0)


def digit(k, first, last):
    "Images of the digit 3 from domain k, normalised."
    return normalise(source.images[(source.labels == 3) & (source.domains == k)][first:last])


images = torch.cat([digit(k, 0, 2) for k in range(3)])
real = torch.cat([digit(k, 2, 34) for k in range(3)])
zeros = torch.zeros(len(real), dtype=torch.long)  # one class
batch = Batch(real, zeros, torch.arange(3).repeat_interleave(32), K=3, C=1)
found = domain_gradients(encoder, DM(), batch, Batch(images, zeros[:6], zeros[:6], K=3, C=1))
g_domain, g_dm, size = found.g_domain, found.g_dm, (16, 16)
domain = torch.tensor([0, 0, 1, 1, 2, 2])
G = spectrum(g_domain)  # (7)
R = resultant_length(G)  # (9)
print("G", tuple(G.shape), " R", tuple(R.shape), f" R from {R.min():.2f} to {R.max():.2f}")

# %% [markdown]
r"""
## Blank 1: the class part

<details><summary>Hint</summary>

The spectrum that is wanted is a weight times the mean (8). Then back to pixels, and the inverse must know how wide the
image was.

</details>

<details><summary>More</summary>

`R * G.mean(0)`, then `torch.fft.irfft2(..., s=size)`: a half spectrum of 7 columns may belong to an image 12 or 13
pixels wide.

</details>
"""


# %%
def class_part(G, R, size):
    "What the domains agree on, first half of (10): shape (N, 3, H, W)."
    # BLANK: weigh the mean spectrum with R and go back to pixels
    return torch.fft.irfft2(R * G.mean(0), s=size)  # (10)
    # END


# %%
class_right = check_class_part(class_part)
class_right

# %% [markdown]
r"""
## Blank 2: the domain part, reading (a)

One part per domain: what $G_k$ has beyond the agreed part $R\,\bar G$.

<details><summary>Hint</summary>

It is a difference of two spectra. One of them is the same for all domains.

</details>

<details><summary>More</summary>

`G` has one axis more than `R * G.mean(0)`, in front; torch subtracts the same thing from every `G[k]` without a loop.
Then back to pixels as before.

</details>
"""


# %%
def domain_part(G, R, size):
    "What each domain wants beyond the agreed part, second half of (10): shape (K, N, 3, H, W)."
    # BLANK: subtract the agreed part from every domain's spectrum and go back to pixels
    return torch.fft.irfft2(G - R * G.mean(0), s=size)  # (10), reading (a)
    # END


# %%
domain_right = check_domain_part(domain_part)
domain_right

# %% [markdown]
r"""
## Blank 3: each image's own domain

Image $i$ gets the part of domain `domain[i]` alone.

<details><summary>Hint</summary>

For each image one row of a table: the row is its domain, the column is its number.

</details>

<details><summary>More</summary>

Two lists of numbers index two axes in pairs: `x[[2, 0], [0, 1]]` is `x[2, 0]` and `x[0, 1]`. The second list is
`torch.arange(len(domain))`.

</details>
"""


# %%
def own_part(g_dom, domain):
    "For each image the part of its own domain: (K, N, 3, H, W) -> (N, 3, H, W)."
    # BLANK: for image i, g_dom[domain[i], i]
    return g_dom[domain, torch.arange(len(domain))]
    # END


# %%
own_right = check_own_part(own_part)
own_right

# %% [markdown]
r"""
## Blank 4: the update

(11) with all parts given. Return new images; leave the old ones as they are.

<details><summary>Hint</summary>

A gradient points uphill. Which sign goes down, and what does `lr` multiply?

</details>

<details><summary>More</summary>

New images are the old ones minus `lr` times the *whole* sum of (11); put it in brackets, and do not write `-=`.

</details>
"""


# %%
def update(images, g_dm, g_cls, g_own, alpha, beta, lr):
    "One step of (11): the images after it, shape (N, 3, H, W)."
    # BLANK: one step against the direction, lr long
    return images - lr * (g_dm + alpha * g_cls + beta * g_own)  # (11)
    # END


# %%
update_right = check_update(update)
update_right

# %% [markdown]
r"""
## Your step beside the package's

The learning rate is chosen so that a single step is visible, and both weights are larger than the package's defaults,
so that their effect is visible as well.
"""

# %%
if class_right and domain_right and own_right and update_right:
    g_cls, g_own = class_part(G, R, size), own_part(domain_part(G, R, size), domain)
    alpha, beta = 1.0, 0.5
    print(f"here alpha = {alpha} and beta = {beta}, by default {SGS().alpha} and {SGS().beta}")
    lr = 1 / g_dm.abs().max()
    mine = update(images, g_dm, g_cls, g_own, alpha, beta, lr)
    direction = SGS(alpha=alpha, beta=beta)(found, zeros[:6], domain)
    package = images - lr * direction
    print(
        f"largest difference between your images and the package's: {(mine - package).abs().max():.0e}"
    )
    gradient_panels({"g_dm": g_dm[0], "g_cls": g_cls[0], "g_dom, own": g_own[0]})
    plain = update(images, g_dm, g_cls, g_own, 0.0, 0.0, lr)
    rows = {"before": images, "after DM": plain, "after SGS": mine}
    image_rows({name: normalise.inverse(x) for name, x in rows.items()})

# %% [markdown]
r"""
**Look and say:** With $\beta = 0$, what does $\alpha$ do at a frequency where $R = 1$? Where $R = 0$? Suppose $R$ were the
same number at all frequencies: which other change of the recipe would have the same effect?

<details><summary>One answer</summary>

For DM with equal domain batches $g_\text{DM}$ *is* the mean gradient. At each frequency the direction is then
$(1 + \alpha R)\,\bar G$: $\alpha$ enlarges the step by the factor $1 + \alpha$ where $R = 1$ and not at all where $R = 0$.
If $R$ were constant, that would be nothing but a larger learning rate. This is why a fair comparison has a third run
beside DM and SGS: DM with a step as long as that of SGS along its gradient.

</details>

**If you have time:** Write reading (b) and show that its domain parts add up to zero over the domains. Do those of
reading (a)? ([14_surgery](../nbs/14_surgery.ipynb).)
"""
