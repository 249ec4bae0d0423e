r"""What users do with codes: paths, traversals, directions of attributes, maps, and more.

All of it is built from verbs, for any model that has them. The direction of an attribute (Larsen et
al. 2016, https://arxiv.org/abs/1512.09300; White 2016, https://arxiv.org/abs/1609.04468) is

$$d = \bar z_{\text{with}} - \bar z_{\text{without}},$$

the mean code of data that have it less that of data that have not, and arithmetic on codes is
$z + t d$: t = 1 makes of the average datum without it the average one with it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from datamodules.base import DataModule
from zoo.base import Batch, LatentVariableModel
from zoo.checks import check_choice, check_images, check_shape
from zoo.errors import ZooError
from zoo.evaluation import on_device
from zoo.nn.noise import masked

# --- paths ---------------------------------------------------------------------------------------


def _slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation (Shoemake 1985) of direction and linear interpolation of length."""
    norm_a: Tensor = a.norm()
    norm_b: Tensor = b.norm()
    cosine = (a * b).sum() / (norm_a * norm_b).clamp(min=1e-12)
    angle: Tensor = torch.acos(cosine.clamp(-1, 1))
    if torch.sin(angle) < 1e-6:  # parallel or opposite: the sphere gives no path
        return torch.lerp(a, b, t)
    unit = torch.sin((1 - t) * angle) * (a / norm_a) + torch.sin(t * angle) * (b / norm_b)
    return unit / torch.sin(angle) * torch.lerp(norm_a, norm_b, t)


def check_real(model: LatentVariableModel, z: Tensor, what: str) -> None:
    """Raise ValueError unless codes are real numbers.

    Args:
        model: Whose they are.
        z: Codes.
        what: What takes real numbers, and why; the start of a sentence.
    """
    if not z.is_floating_point():
        raise ValueError(
            f"{what}, but a code of {type(model).__name__} is made of whole numbers, and there is "
            "nothing between them."
        )


@torch.no_grad()
def interpolate(
    model: LatentVariableModel,
    x0: Tensor,
    x1: Tensor,
    steps: int = 8,
    path: Literal["linear", "spherical"] = "linear",
) -> Tensor:
    """Decode the codes on a path from x0's code to x1's.

    Args:
        model: A model with `encode` and `decode`.
        x0: One datum, shape `x_shape`, the start.
        x1: One datum, shape `x_shape`, the end.
        steps: Number of codes on the path, both ends included; at least 2.
        path: `linear`, or `spherical`: directions turn evenly, as suits a Gaussian prior in many
            dimensions (White 2016).

    Returns:
        Data of shape (steps, *x_shape).
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}, but a path has at least its 2 ends.")
    if path not in ("linear", "spherical"):
        raise ValueError(f"path is {path!r}; choose linear or spherical.")
    check_shape("x0", x0[None], model.x_shape)
    check_shape("x1", x1[None], model.x_shape)
    z0, z1 = model.encode(torch.stack([x0, x1]))
    check_real(model, z0, "interpolate goes from code to code in steps")
    t = torch.linspace(0, 1, steps, device=z0.device, dtype=z0.dtype)
    t = t.reshape(-1, *[1] * z0.ndim)  # (steps, 1, ...)
    z = torch.lerp(z0, z1, t) if path == "linear" else _slerp(z0, z1, t)
    return model.decode(z)


@torch.no_grad()
def traverse(
    model: LatentVariableModel,
    x: Tensor,
    dims: Sequence[int] | None = None,
    span: float = 3.0,
    steps: int = 9,
) -> Tensor:
    """Vary one latent dimension at a time around the code of x.

    Args:
        model: A model with `encode` and `decode` whose codes are vectors.
        x: One datum, shape `x_shape`.
        dims: Which latent dimensions; by default all.
        span: Values run from -span to span, in standard deviations of an N(0, I) prior.
        steps: Values per dimension.

    Returns:
        Data of shape (len(dims), steps, *x_shape).

    Raises:
        ValueError: if the codes are no vectors or a dimension does not exist.
    """
    if len(model.latent_shape) != 1:
        raise ValueError(
            f"traverse varies the entries of a vector, but a code of {type(model).__name__} "
            f"has shape {model.latent_shape}."
        )
    if steps < 1:
        raise ValueError(f"steps is {steps}, but at least 1 value a dimension is needed.")
    size = model.latent_shape[0]
    dims = range(size) if dims is None else dims
    for d in dims:
        if not 0 <= d < size:
            raise ValueError(f"there is no latent dimension {d}; they are 0 to {size - 1}.")
    check_shape("x", x[None], model.x_shape)
    code = model.encode(x[None])  # (1, D)
    z = code.repeat(len(dims), steps, 1)  # (len(dims), steps, D)
    values = torch.linspace(-span, span, steps, device=z.device, dtype=z.dtype)
    for row, d in enumerate(dims):
        z[row, :, d] = values
    rows = model.decode(z.flatten(0, 1))
    return rows.reshape(len(dims), steps, *model.x_shape)


# --- directions of attributes --------------------------------------------------------------------


@torch.no_grad()
def direction(
    model: LatentVariableModel,
    data: DataModule,
    attribute: str,
    against: str | None = None,
    balance: Sequence[str] = (),
    limit: int | None = None,
) -> Tensor:
    """Find the direction in which codes of training data differ by an attribute.

    Attributes go together in data: who wears glasses is more often a man, and the difference of the
    means shows that, too. With `balance` the difference is taken among data that are alike in other
    attributes, as White (2016) balances them: see `mean_difference`.

    Args:
        model: A model with `encode` whose codes are real numbers.
        data: Where the training data come from; it is set up.
        attribute: Name of an attribute, such as `Smiling`, or of a label, such as `3`.
        against: Name of another that counts as being without: `3` against `8`, say, where data of
            both or of neither are left out. By default, all data without the attribute count.
        balance: Names of attributes that are not to change with it.
        limit: Only the first so many training data.

    Returns:
        The direction, shape `latent_shape`.

    Raises:
        ValueError: if a name is unknown, or there are no data to compare.
    """
    data.prepare_data()
    data.setup("fit")
    names = [attribute, *([] if against is None else [against]), *balance]

    def marks(batch: Batch) -> Tensor:
        known = batch.get("labelled", torch.ones(len(batch["index"]), dtype=torch.bool))
        return torch.stack([known, *(data.attribute(batch, name) > 0 for name in names)], 1)

    batches = data.loader("train", shuffle=False, rank=0, world_size=1)
    z, marked = encoded(model, batches, marks, limit)
    check_real(model, z, "a direction leads from code to code")
    known, has, others = marked[:, 0], marked[:, 1], marked[:, len(names) + 1 - len(balance) :]
    lacks = ~has if against is None else marked[:, 2]
    groups = (others * 2 ** torch.arange(len(balance))).sum(1)
    try:
        found = mean_difference(z, known & has & ~lacks, known & lacks & ~has, groups)
    except ValueError:
        other = f"one without {attribute}" if against is None else f"one with {against}"
        alike = f" and like {', '.join(balance)}" if balance else ""
        raise ValueError(
            f"of {len(z):,} training data none with {attribute} can be compared with {other}"
            f"{alike}; use more data or other names."
        ) from None
    return found.to(model.device)


@torch.no_grad()
def encoded(
    model: LatentVariableModel,
    batches: Iterable[Batch],
    mark: Callable[[Batch], Tensor],
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Encode data and note what they are, both on the CPU.

    Args:
        model: A model with `encode`.
        batches: Batches of data.
        mark: What to note of a batch, (B, ...).
        limit: Only the first so many data.

    Returns:
        Codes (N, *latent_shape), and what was noted, (N, ...).
    """
    codes, marks, n = [], [], 0
    for batch in batches:
        marks.append(mark(batch).cpu())
        here = on_device(batch, model.device)
        codes.append(model.conditioned(here).encode(model.inputs(here)).cpu())
        n += len(codes[-1])
        if limit is not None and n >= limit:
            break
    return torch.cat(codes)[:limit], torch.cat(marks)[:limit]


def mean_difference(z: Tensor, first: Tensor, second: Tensor, groups: Tensor) -> Tensor:
    r"""How codes of two kinds of data differ on average, within groups: shape of a code.

    Of a group g with $n_g$ data of the first kind and $m_g$ of the second it is the difference of
    their means, and of all the mean of these with weights $n_g m_g / (n_g + m_g)$, the inverse of
    their variances. That is the coefficient of the kind in a least-squares fit of the codes to the
    kind and the groups.

    Args:
        z: Codes, (N, *latent_shape).
        first: Which data are of the first kind, (N,) bool.
        second: Which are of the second, (N,) bool.
        groups: Numbers of the groups, (N,); data of different groups are not compared.

    Raises:
        ValueError: if no group has both kinds.
    """
    total, weight = torch.zeros(z.shape[1:], dtype=torch.float64, device=z.device), 0.0
    for g in torch.unique(groups):
        a, b = (z[kind & (groups == g)].double() for kind in (first, second))
        if len(a) and len(b):
            w = len(a) * len(b) / (len(a) + len(b))
            total += w * (a.mean(0) - b.mean(0))
            weight += w
    if not weight:
        raise ValueError("no group has data of both kinds; give more data, or larger groups.")
    return (total / weight).to(z.dtype)


@torch.no_grad()
def move(
    model: LatentVariableModel, x: Tensor, direction: Tensor, strengths: Sequence[float]
) -> Tensor:
    """Decode the code of x, moved along a direction: z + t d for each strength t.

    Args:
        model: A model with `encode` and `decode` whose codes are real numbers.
        x: One datum, shape `x_shape`.
        direction: d, shape `latent_shape`, as `direction` finds it.
        strengths: How far, t; 0 gives the reconstruction of x.

    Returns:
        Data of shape (len(strengths), *x_shape).
    """
    check_shape("x", x[None], model.x_shape)
    check_shape("direction", direction[None], model.latent_shape)
    z = model.encode(x[None])  # (1, *latent_shape)
    check_real(model, z, "move goes along a direction in steps")
    t = torch.tensor(strengths, device=z.device, dtype=z.dtype)
    return model.decode(z + t.reshape(-1, *[1] * direction.ndim) * direction)


# --- maps ----------------------------------------------------------------------------------------

Method = Literal["pca", "tsne", "umap"]


def latent_map(z: Tensor, method: Method = "tsne") -> Tensor:
    """Lay codes out in the plane.

    Args:
        z: Codes, floats (N, ...), at least 4.
        method: `pca`, the first two principal components, for which distances are true to scale;
            `tsne` (van der Maaten & Hinton 2008), which shows who is near whom and nothing else; or
            `umap` (McInnes et al. 2018), the same, where umap-learn is installed.

    Returns:
        Places, float32 (N, 2).

    Raises:
        ZooError: if umap-learn is needed and not there.
        ValueError: if there are fewer than 4 codes, or they have fewer than 2 numbers.
    """
    check_choice(Method, method=method)
    codes = z.detach().flatten(1).double().cpu().numpy()
    n, size = codes.shape
    if n < 4 or size < 2:
        raise ValueError(f"a map is of 4 codes of 2 numbers at least, but there are {n} of {size}.")
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


# --- what a code is worth ------------------------------------------------------------------------


class Denoised(NamedTuple):
    """Noisy data, what a model makes of them, and how far both are off.

    Args:
        noisy: Data with noise, (B, *x_shape).
        restored: Their reconstructions, (B, *x_shape).
        before: Mean squared error a number of the noisy data, (B,).
        after: The same of the reconstructions.
    """

    noisy: Tensor
    restored: Tensor
    before: Tensor
    after: Tensor


@torch.no_grad()
def denoise(model: LatentVariableModel, x: Tensor, noise: float = 0.5) -> Denoised:
    """Set a share of the pixels to zero, as a denoising autoencoder is trained, and reconstruct.

    Args:
        model: A model of images with `encode` and `decode`.
        x: Images (B, C, H, W) in [0, 1].
        noise: The share, from 0 to 1; `torch.manual_seed` governs which.
    """
    if not 0 <= noise <= 1:
        raise ValueError(f"noise is {noise}, but must be a share of pixels from 0 to 1.")
    check_images(x, model.x_shape)
    noisy = masked(x, noise)
    restored = model.reconstruct(noisy)
    before, after = ((y - x).square().flatten(1).mean(1) for y in (noisy, restored))
    return Denoised(noisy, restored, before, after)


class CodeLength(NamedTuple):
    """Bits of a discrete code for each number of a datum.

    Args:
        learned: With the model's prior of codes, (B,).
        uniform: If all codes were equally probable.
    """

    learned: Tensor
    uniform: float


@torch.no_grad()
def code_length(model: LatentVariableModel, x: Tensor) -> CodeLength:
    r"""How long the code of a datum is, in bits a number of the datum (bits per dimension).

    An ideal coder takes $-\log_2 p(s)$ bits for a code s, and $T \log_2 K$ for T indices into K
    codes where it knows nothing of them. What the code leaves out is not counted: it is lossy.

    Args:
        model: A model with `encode` and `prior` whose code is made of indices, such as a VQVAE.
        x: What the model's verbs take.

    Raises:
        ValueError: if the code is made of something else.
    """
    if model.code_symbols is None:
        raise ValueError(
            f"code_length is of codes that are made of indices, but {type(model).__name__} has "
            "others; its rate is KL(q(z|x) || p(z))."
        )
    s = model.encode(x)
    bits = math.log(2) * math.prod(model.x_shape)
    uniform = math.prod(model.latent_shape) * math.log(model.code_symbols) / bits
    return CodeLength(-model.prior().log_prob(s) / bits, uniform)
