# ruff: noqa
# %% [markdown]
r"""
# 1 · The domain gradient, by hand

> Afterwards you can say how each domain wants to change a synthetic image, and compute it.

**Time:** 17 minutes. **You write:** four short functions: the DM loss (3), its gradient in image space, one gradient
per domain (6), and their mean. **You need:** `torch.autograd.grad`. Nothing is downloaded.

The setting: real images of a digit come from three **domains** (scan, photo, print). A few **synthetic** images shall
stand for all of them. An encoder $\phi$ turns images into features, and distribution matching (DM) compares their means:

$$\mathcal L = \Big\lVert \tfrac1n\sum_i \phi(x_i) - \tfrac1m\sum_j \phi(s_j) \Big\rVert^2 \tag{3}$$

Run the cells from the top. Where a cell says `# your code`, replace the `...`; the cell below checks your answer and
says in one sentence what is wrong.
"""

# %%
import torch
from checks import check_dm_loss, check_domain_gradient, check_image_gradient, check_mean_gradient

from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import ConvNet
from dgdd_nb.plots import gradient_panels, image_rows, use_style

use_style()

# %% [markdown]
r"""
## What is given

Real images of the digit 3, 32 from each domain, and six synthetic images that start as real ones. All are normalised
float tensors of shape `(n, 3, 16, 16)`. The encoder has random weights: DM takes a new one in every step.
"""

# %%
source, target = mini_digits(size=16, train=400, test=10).leave_out("street")
normalise = source.normalisation()
encoder = ConvNet(classes=10, size=16, width=32, seed=0)


def digit(k, first, last):
    "Images of the digit 3 from domain k, normalised."
    return normalise(source.images[(source.labels == 3) & (source.domains == k)][first:last])


images = torch.cat([digit(k, 0, 2) for k in range(3)])  # synthetic, (6, 3, 16, 16)
real_by_domain = [digit(k, 2, 34) for k in range(3)]  # a list of K = 3 tensors (32, 3, 16, 16)
features = encoder.embed(images)
print("images", tuple(images.shape), " features", tuple(features.shape))
image_rows(
    {name: normalise.inverse(real[:8]) for name, real in zip(source.domain_names, real_by_domain)}
)
# %% [markdown]
r"""
## Blank 1: the loss

Both arguments are features, shapes `(n, D)` and `(m, D)`; there may be more real images than synthetic ones. The
result is one number, and torch must be able to trace it back to the synthetic features.

<details><summary>Hint</summary>

Two steps: one mean vector for each side, then the square in (3). Which axis counts the images?

</details>

<details><summary>More</summary>

`.mean(0)` averages over the images. $\lVert v \rVert^2$ is the sum of the squares of all entries of $v$: a sum, not a
mean, and no root.

</details>
"""


# %%
def dm_loss(real, synthetic):
    "The DM loss (3) of real features (n, D) and synthetic features (m, D): one number."
    # BLANK: the squared distance of the two mean features
    difference = real.mean(0) - synthetic.mean(0)
    return difference.square().sum()  # (3)
    # END


# %%
loss_right = check_dm_loss(dm_loss)
loss_right

# %% [markdown]
r"""
## Blank 2: the gradient in image space

The loss is made of features, but DM changes *pixels*: there is one number per pixel that says how the loss changes with
it. Torch finds them all at once. Give back a tensor of the shape of `images`. Leave `images` itself as it is.

<details><summary>Hint</summary>

What does the loss have to be made of, so that torch can follow it back to the *pixels*? And how does one leave `images`
itself alone?

</details>

<details><summary>More</summary>

Make a copy that torch follows (`.detach().clone().requires_grad_()`), embed the copy, and ask `torch.autograd.grad` for
the gradient by it: the answer is a tuple with one entry.

</details>
"""


# %%
def image_gradient(encoder, real, images):
    "Gradient of the DM loss with respect to the images, shape (N, 3, H, W)."
    # BLANK: embed both, take the loss, differentiate it by a copy of the images
    copy = images.detach().clone().requires_grad_()
    loss = dm_loss(encoder.embed(real), encoder.embed(copy))
    return torch.autograd.grad(loss, copy)[0]
    # END


# %%
gradient_right = check_image_gradient(image_gradient)
gradient_right

# %% [markdown]
r"""
## Blank 3: one gradient per domain

Now the step that is new compared with DM: ask each domain alone. $\mathcal L_k$ is the same loss with the real images
of domain $k$ only, and

$$g_k = \nabla_{s}\, \mathcal L_k, \qquad k = 0, \dots, K-1. \tag{6}$$

`real_by_domain` is a list of $K$ tensors. Give back one tensor of shape `(K, N, 3, H, W)`: domains first.

<details><summary>Hint</summary>

Nothing new is needed but a loop: you have a function for one domain.

</details>

<details><summary>More</summary>

Call `image_gradient` once for each entry of the list, and join the results with `torch.stack`, which makes a new first
axis.

</details>
"""


# %%
def domain_gradient(encoder, real_by_domain, images):
    "One gradient per domain (6), shape (K, N, 3, H, W)."
    # BLANK: image_gradient for the real images of each domain, stacked
    return torch.stack([image_gradient(encoder, real, images) for real in real_by_domain])  # (6)
    # END


# %%
domains_right = check_domain_gradient(domain_gradient)
domains_right

# %% [markdown]
r"""
## Blank 4: back to DM

With equally many real images per domain, the gradient of DM is the mean of the $g_k$: the loss sees the real images only
through their mean.

<details><summary>Hint</summary>

Which axis of `(K, N, 3, H, W)` counts the domains, and why a mean and not a sum?

</details>

<details><summary>More</summary>

The domains stand first, so it is the mean over axis 0: a sum would be K times too long.

</details>
"""


# %%
def mean_gradient(g_domain):
    "The DM gradient of g_domain (K, N, 3, H, W), shape (N, 3, H, W)."
    # BLANK: the mean over the domains
    return g_domain.mean(0)
    # END


# %%
mean_right = check_mean_gradient(mean_gradient)
mean_right

# %% [markdown]
r"""
## What you have built

The picture appears when all four checks are right. Red and blue are signs; the colour scale is common.
"""

# %%
if loss_right and gradient_right and domains_right and mean_right:
    g_domain = domain_gradient(encoder, real_by_domain, images)
    whole = image_gradient(encoder, torch.cat(real_by_domain), images)
    error = (whole - mean_gradient(g_domain)).abs().max() / whole.abs().max()
    print(f"DM on all real images against the mean of the domains: largest difference {error:.0e}")
    names = dict(zip(source.domain_names, g_domain[:, 0]))
    gradient_panels(names | {"g_dm": mean_gradient(g_domain)[0]})

# %% [markdown]
r"""
**Look and say:** Where do the domains want the same change of the first image, where opposite ones? What becomes of
opposite wishes in the mean?

<details><summary>One answer</summary>

Where two domains pull in opposite directions, the mean is small although both gradients are large: DM follows neither.
Where they agree, the mean is as large as they are. The mean alone does not tell which of the two happened where it
is small. Exercise 2 measures it.

</details>

**If you have time:** `domain_gradient` sends the same synthetic images through the encoder $K$ times. Write a version with one
forward pass and $K$ backward passes (`retain_graph=True`), and compare.
([11_domain_gradients](../nbs/11_domain_gradients.ipynb).)
"""
