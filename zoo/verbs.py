"""What the verbs of every family take, and when what they give has gradients.

A verb takes tensors, arrays and lists of numbers: whole numbers of any type, floats of any type,
arrays of any memory layout. Gradients are for those who train: a model in training mode, `loss` in
any mode, and inputs that require them. Else a verb gives tensors without, as `.numpy()` needs them.
"""

import operator
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

VERBS = (
    "sample",
    "prior",
    "posterior",
    "likelihood",
    "encode",
    "decode",
    "log_prob",
    "classify",
    "given",
)
_FIRST = {  # what a verb's first argument is called
    "sample": "n",
    "prior": "",
    "posterior": "x",
    "likelihood": "z",
    "encode": "x",
    "decode": "z",
    "log_prob": "x",
    "classify": "x",
    "predict": "x",
    "given": "y",
}


def prepare_verbs(family: type) -> None:
    """Let the verbs that a class defines prepare their first argument, and mind gradients."""
    for name, method in [*vars(family).items()]:
        if any(method is vars(base).get(name) for base in family.__mro__[1:]):
            continue  # prepared already, or without a body
        if name in _FIRST:
            setattr(family, name, _prepared(method, _FIRST[name]))
        elif name == "loss":
            setattr(family, name, _with_gradients(method))


def _prepared(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    prepare = {"x": _input, "z": _code, "y": _condition, "n": _count}.get(name)

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        first = None
        if prepare and args:
            first = prepare(self, args[0])
            args = (first, *args[1:])
        elif prepare and name in kwargs:
            first = kwargs[name] = prepare(self, kwargs[name])
        if self.training or self.in_loss or not torch.is_grad_enabled() or _has_gradient(first):
            return method(self, *args, **kwargs)
        with torch.no_grad():
            return method(self, *args, **kwargs)

    return call


def _with_gradients(loss: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(loss)
    def call(self: Any, batch: Any) -> Any:
        before, self.in_loss = self.in_loss, True
        try:
            return loss(self, batch)
        finally:
            self.in_loss = before

    return call


def _has_gradient(x: Any) -> bool:
    if isinstance(x, Mapping):
        return any(map(_has_gradient, x.values()))
    return isinstance(x, Tensor) and x.requires_grad


def _input(model: Any, x: Any) -> Any:
    return model.as_input(x)


def _code(model: Any, z: Any) -> Tensor:
    """Floats of the model's type; whole numbers where codes are."""
    if model.discrete:
        return whole("z", z, model.device)
    return floats("z", z, float_type(model), model.device)


def _condition(model: Any, y: Any) -> Any:
    """A name, a whole number, or several."""
    if isinstance(y, str | int):
        return y
    positions = whole("y", y, model.device)
    return positions if positions.ndim else positions[None]


def _count(model: Any, n: Any) -> int:
    """A whole number, at least 1."""
    try:
        n = operator.index(n)
    except TypeError:
        raise ValueError(f"n is {n!r}, but must be a whole number.") from None
    if n < 1:
        raise ValueError(f"n is {n}, but must be at least 1.")
    return int(n)


def float_type(model: Any) -> torch.dtype | None:
    """The type that a model takes floats in, that of its parameters; None of any."""
    if model.keeps_floats:
        return None
    return next((p.dtype for p in model.parameters()), torch.get_default_dtype())


def tensor(name: str, data: Any, device: torch.device | None = None) -> Tensor:
    """Numbers as a tensor of their own type; an array or a list goes to the device.

    Args:
        name: What they are called.
        data: A tensor, or what NumPy makes an array of, such as lists or a table of pandas.
        device: By default the CPU.

    Raises:
        ValueError: if they are no real numbers, or there are none.
    """
    x = from_array(name, data)
    if not isinstance(data, Tensor):
        x = x.to(device)
    if x.ndim and x.shape[0] == 0:  # len would make a constant of it where a model is exported
        raise ValueError(f"{name} has no rows; give at least one datum.")
    return x


def floats(
    name: str, data: Any, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Tensor:
    """Numbers as floats, as `tensor` takes them.

    Args:
        name: What they are called.
        data: The numbers.
        dtype: Their type; by default their own, and float64 of whole numbers.
        device: Where an array or a list goes.
    """
    return _floats(tensor(name, data, device), dtype)


def _floats(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    if x.is_floating_point() and dtype in (None, x.dtype):
        return x
    return x.to(dtype or torch.float64)


def images(
    name: str, data: Any, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Tensor:
    """Images as floats, as `floats` takes them.

    Raises:
        ValueError: if they are whole numbers, such as bytes, which no one can tell from [0, 1].
    """
    x = tensor(name, data, device)
    if not x.is_floating_point() and x.dtype != torch.bool:
        raise ValueError(f"{name} has dtype {x.dtype}; divide by 255 to get floats in [0, 1].")
    return _floats(x, dtype)


def whole(name: str, data: Any, device: torch.device | None = None) -> Tensor:
    """Whole numbers as int64, as `tensor` takes them; floats and truth values stay what they are.

    Args:
        name: What they are called.
        data: The numbers.
        device: Where an array or a list goes.
    """
    x = tensor(name, data, device)
    return x if x.is_floating_point() or x.dtype == torch.bool else x.long()


def from_array(name: str, data: Any) -> Tensor:
    """Numbers as `tensor` takes them, or none; a tensor that shares their memory where it can."""
    x = data if isinstance(data, Tensor) else _from_array(name, data)
    if x.is_complex():
        raise ValueError(f"{name} has complex numbers, but must have real ones.")
    # of which torch knows little more than that they are there
    return x.long() if x.dtype in (torch.uint16, torch.uint32, torch.uint64) else x


def _from_array(name: str, data: Any) -> Tensor:
    if isinstance(data, list | tuple) and any(isinstance(x, Tensor) for x in data):
        shapes = {tuple(torch.as_tensor(x).shape) for x in data}
        if len(shapes) > 1:
            raise ValueError(f"{name} has tensors of different shapes; give one shape to all.")
        return torch.stack([torch.as_tensor(x) for x in data])
    try:
        array = np.asarray(data)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} is a {type(data).__name__} whose rows differ in length or are no numbers; "
            "give numbers, as many in each row."
        ) from None
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} is a {type(data).__name__} of type {array.dtype}, but must be numbers: a "
            "tensor, an array or a list."
        )
    # torch knows no other order of bytes, no float above 64 bits, and no negative strides
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    dtype = np.dtype(np.float64) if wide else array.dtype.newbyteorder("=")
    with warnings.catch_warnings():  # of an array that cannot be written to; nobody does
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array.astype(dtype, order="C", copy=False))
