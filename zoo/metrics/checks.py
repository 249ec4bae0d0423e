"""Checks of the input of metrics: enough data, and finite numbers."""

from torch import Tensor


def check_rows(name: str, x: Tensor, least: int = 1) -> None:
    """Raise ValueError unless `x` is a matrix of finite floats with at least so many rows."""
    if x.ndim != 2:
        raise ValueError(f"{name} have shape {tuple(x.shape)}, but must be (N, D).")
    if len(x) < least:
        raise ValueError(
            f"{name} have {len(x)} rows, but at least {least} are needed; give more data."
        )
    check_numbers(name, x)


def check_numbers(name: str, x: Tensor) -> None:
    """Raise ValueError unless `x` has finite numbers."""
    if not x.isfinite().all():
        raise ValueError(f"{name} have NaN or infinite values; see what made them.")


def check_counted(name: str, counts: Tensor) -> None:
    """Raise ValueError unless something was counted."""
    if not counts.any():
        raise ValueError(f"no {name} was counted; update with some first.")


def check_places(name: str, index: Tensor, n: int) -> None:
    """Raise ValueError unless `index` has whole numbers from 0 to n - 1."""
    if index.is_floating_point():
        raise ValueError(f"a {name} has type {index.dtype}, but must be a whole number.")
    if index.numel() and (index.min() < 0 or index.max() >= n):
        raise ValueError(
            f"there is a {name} {int(index.min())} or {int(index.max())}, but they are 0 to "
            f"{n - 1}."
        )
