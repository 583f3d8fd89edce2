# ruff: noqa
# %% [markdown]
r"""
# 2 · Frequencies, and whether the domains agree

> Afterwards you can turn gradients into spatial frequencies and measure, for each one, how far the domains agree.

**Time:** 18 minutes. **You write:** four short functions: the spectrum (7), the consensus (8), the resultant length (9),
and what (9) reads for pure noise. **You need:** `torch.fft`. This notebook does not need exercise 1.

Each domain $k$ has a gradient $g_k$ for each synthetic image: a signed image that says what the domain wants to change.
The Fourier transform writes it as a sum of waves. The wave at frequency $w$ is one complex number $G_k(w)$: its length is
the strength of the wave, its direction (phase) says where the crests lie. Draw the $K$ numbers as arrows: domains that
want the same change have arrows in the same direction.
"""

# %%
import torch
from checks import check_consensus, check_noise_level, check_resultant_length, check_spectrum

from dgdd_nb.data import Batch
from dgdd_nb.domain_gradients import domain_gradients
from dgdd_nb.matching import DM
from dgdd_nb.mini_digits import mini_digits
from dgdd_nb.networks import ConvNet
from dgdd_nb.plots import panels, phase_arrows, show_spectrum, use_style

use_style()

# %% [markdown]
r"""
## What is given

The gradients of three domains for six synthetic images of the digit 3, from the package: `g_domain`, shape
`(K, N, 3, H, W)`, domains first.
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
g_domain = found.g_domain
print("g_domain", tuple(g_domain.shape))

# %% [markdown]
r"""
## Blank 1: the spectrum

$$G_k = \mathcal F[g_k] \tag{7}$$

$\mathcal F$ is the two-dimensional discrete Fourier transform of each channel of each image, unnormalised. For real
images half of the frequencies repeat the other half, so the *half spectrum* with `W // 2 + 1` columns is enough.

<details><summary>Hint</summary>

Which axes make up one picture? The others are only passed through.

</details>

<details><summary>More</summary>

`torch.fft.rfft2` transforms the last two axes, whatever stands before them, and gives the half spectrum. Its default is
unnormalised.

</details>
"""


# %%
def spectrum(g):
    "The half spectrum (7) of real images g, shape (..., H, W) -> complex (..., H, W//2+1)."
    # BLANK: the Fourier transform of the last two axes
    return torch.fft.rfft2(g)  # (7)
    # END


# %%
spectrum_right = check_spectrum(spectrum)
spectrum_right

# %% [markdown]
r"""
## Blank 2: the consensus

$$\bar G = \tfrac1K \sum_k G_k \tag{8}$$

One complex number per frequency: the mean arrow.

<details><summary>Hint</summary>

Arrows are complex numbers, and complex numbers average like real ones.

</details>

<details><summary>More</summary>

The domains are axis 0: `.mean(0)`, without taking any length.

</details>
"""


# %%
def consensus(G):
    "The mean over domains (8), shape (K, ...) -> (...)."
    # BLANK: the mean arrow
    return G.mean(0)  # (8)
    # END


# %%
consensus_right = check_consensus(consensus)
consensus_right

# %% [markdown]
r"""
## Blank 3: the resultant length

Put the $K$ arrows of one frequency head to tail. If all point the same way, the way from start to end is as long as the
arrows together; if they cancel, you are back where you started.

$$R = \frac{\big|\sum_k G_k\big|}{\sum_k |G_k| + \varepsilon} \tag{9}$$

$R$ lies between 0 and 1. $\varepsilon$ decides what happens where all arrows are (almost) zero.

<details><summary>Hint</summary>

Above the line first add, then measure; below first measure, then add.

</details>

<details><summary>More</summary>

Above: `.sum(0)`, then `.abs()`. Below: `.abs()`, then `.sum(0)`, and `eps` once, added to that sum.

</details>
"""


# %%
def resultant_length(G, eps):
    "The resultant length (9) of complex G (K, ...): real, shape (...), between 0 and 1."
    # BLANK: the length of the sum over the sum of the lengths
    return G.sum(0).abs() / (G.abs().sum(0) + eps)  # (9)
    # END


# %%
R_right = check_resultant_length(resultant_length)
R_right

# %%
if spectrum_right and R_right:
    G = spectrum(g_domain)
    R = resultant_length(G, 1e-8)
    print(
        f"R of six images: from {R.min():.2f} to {R.max():.2f}, mean over the half spectrum {R.mean():.2f}"
    )
    show_spectrum(R[0, 0], vmin=0, vmax=1, title="R of image 0, red channel")
    arrows = G[:, 0, 0, :, 1:-1].flatten(
        1
    )  # without the first and last column, where arrows can be real numbers
    order = R[0, 0, :, 1:-1].flatten().argsort()
    for ax, i in zip(panels(3, height=2.4), order[[-1, len(order) // 2, 0]]):
        phase_arrows(arrows[:, i], ax, source.domain_names, legend=False)

# %% [markdown]
r"""
Above: $R$ over the frequencies, zero frequency in the middle. Below: the arrows of the three domains at the frequencies
where they agree most, in between, and least. The thick line runs to where the arrows lead, head to tail; its length is $R$.

## Blank 4: what does pure noise read?

Is $R = 0.6$ much? Take $K$ arrows that have *nothing* in common and look. Draw arrows whose real and imaginary parts are
independent normal numbers, `samples` times, and return the mean of $R$. Draw from the `generator` that is passed in:
whoever uses or sets the global random numbers changes everybody else's results.

<details><summary>Hint</summary>

Two steps: draw the arrows, then use the function that you have just written.

</details>

<details><summary>More</summary>

`torch.randn(K, samples, dtype=torch.complex64, generator=generator)` draws them all; the mean of their
`resultant_length(arrows, 1e-8)` is one number.

</details>
"""


# %%
def noise_level(K, samples, generator):
    "Mean of R over many draws of K independent random arrows: one number."
    # BLANK: draw complex normal arrows of shape (K, samples), and average their R
    arrows = torch.randn(K, samples, dtype=torch.complex64, generator=generator)
    return resultant_length(arrows, 1e-8).mean()
    # END


# %%
noise_right = check_noise_level(noise_level)
noise_right

# %%
if R_right and noise_right:
    for K in (2, 3, 4, 8, 32):
        level = noise_level(K, 20_000, torch.Generator().manual_seed(0))
        print(f"{K:2d} domains with nothing in common: mean R {level:.2f}")

# %% [markdown]
r"""
**Look and say:** You have three domains and read a mean $R$ a little above the level for $K = 3$. Somebody else has
eight domains and reads less than you. Whose domains agree more?

<details><summary>One answer</summary>

The two numbers cannot be compared directly: the level of pure noise falls as $K$ grows (about like $1/\sqrt K$). Compare
each with its own noise level. An $R$ near that level is what unrelated domains show as well.

</details>

**If you have time:** The mean over the half spectrum is not the mean over all frequencies. Which columns stand for two of
the full spectrum, and which for one? Does it matter whether the width is even?
([12_fourier](../nbs/12_fourier.ipynb), `column_weight`.)
"""
