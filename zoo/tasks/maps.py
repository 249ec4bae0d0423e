"""Maps of codes in the plane."""

from typing import Literal

import torch
from torch import Tensor

from zoo.checks import check_choice
from zoo.errors import ZooError

Method = Literal["pca", "tsne", "umap"]


def latent_map(z: Tensor, method: Method = "tsne") -> Tensor:
    """Map codes to the plane.

    Args:
        z: Codes, floats (N, ...), at least 4.
        method: `pca`, the first two principal components, whose distances are to scale; `tsne`
            (van der Maaten & Hinton 2008), which shows neighbours only; or `umap` (McInnes et al.
            2018), likewise, which needs umap-learn.

    Returns:
        Places, float32 (N, 2).

    Raises:
        ZooError: if umap-learn is needed and not installed.
        ValueError: if there are fewer than 4 codes, or they have fewer than 2 numbers.
    """
    check_choice(Method, method=method)
    codes = z.detach().flatten(1).double().cpu().numpy()
    n, size = codes.shape
    if n < 4 or size < 2:
        raise ValueError(f"a map needs 4 codes of 2 numbers at least, but there are {n} of {size}.")
    if method == "pca":
        from sklearn.decomposition import PCA

        mapping = PCA(2, svd_solver="full")
    elif method == "tsne":
        from sklearn.manifold import TSNE

        mapping = TSNE(perplexity=min(30.0, (n - 1) / 3), random_state=0)
    else:
        try:
            from umap import UMAP
        except ImportError:
            raise ZooError(
                "method='umap' needs umap-learn; install it with: pip install 'latent-zoo[umap]'"
            ) from None
        mapping = UMAP(n_neighbors=min(15, n - 1), random_state=0, n_jobs=1)
    return torch.from_numpy(mapping.fit_transform(codes)).float()
