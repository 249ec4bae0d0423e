r"""Sampling weights of training data by the rarity of their codes (Amini et al. 2019).

With $\hat Q_i$ a histogram of the i-th latent variable over the data, an example with the code z is
drawn with a probability in proportion to (https://doi.org/10.1145/3306618.3314243)

$$W(z) = \prod_i \frac 1 {\hat Q_i(z_i) + \alpha}.$$

With a smaller alpha, draws are closer to uniform over the latent space; with a larger alpha, closer
to uniform over the data.
"""

import torch
from torch import Tensor

REACH = 4.0  # histograms cover -4 to 4, which holds nearly all of an N(0, I) prior


def histogram_shares(codes: Tensor, bins: int) -> Tensor:
    """Q_i(z_i): the share of the data in the bin of each number of a code, (N, D) float64.

    All histograms cover the prior's range, and their outer bins count values beyond it. So all data
    are in the middle bin of a latent variable without information, which weights them equally.

    Args:
        codes: (N, D).
        bins: Bins of equal width, an odd number for a middle.
    """
    scaled = (codes.double() + REACH) * (bins / (2 * REACH))
    place = scaled.long().clamp(0, bins - 1)  # (N, D)
    counts = torch.zeros(bins, codes.shape[1], dtype=torch.float64, device=codes.device)
    counts.scatter_add_(0, place, torch.ones_like(scaled))
    return counts.gather(0, place) / len(codes)


def resampling_weights(codes: Tensor, alpha: float, bins: int) -> Tensor:
    """W(z) of each datum, (N,) float64, with a mean of 1.

    Args:
        codes: (N, D), finite.
        alpha: Smoothing of the histograms, above 0.
        bins: Bins of each histogram, an odd number.
    """
    log_w = -(histogram_shares(codes, bins) + alpha).log().sum(1)
    return log_w.softmax(0) * len(codes)
