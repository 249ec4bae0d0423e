"""`model.safetensors`: weights written, read strictly, and never larger than the file says."""

import math
import re
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import reduce
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.checkpoints.files import WEIGHTS, sha256, write_atomically
from zoo.errors import ZooError, brief

if TYPE_CHECKING:
    from torch import Tensor, nn


M = TypeVar("M", bound="nn.Module")

HEADER_LIMIT = 2**22


def as_built(model: M, make: Callable[[], M]) -> M:
    """A module as its constructor makes it, with the weights that `model` computes with.

    So parts that were compiled or parametrised are stored as they will be loaded, and those in half
    precision as float32, which has the same numbers. A module to which none of that was done is
    given back as it is.

    Args:
        model: The module.
        make: Calls the constructor.

    Raises:
        ZooError: if it has other parts than the constructor makes.
    """
    import torch

    half = (torch.float16, torch.bfloat16)
    with torch.random.fork_rng(devices=[]):
        fresh = make()
    shapes = {name: tensor.shape for name, tensor in fresh.state_dict().items()}
    held, weights = model.state_dict(), {}
    try:
        same = shapes == {name: tensor.shape for name, tensor in held.items()}
        if same and not any(tensor.dtype in half for tensor in held.values()):
            return model
        for name in shapes.keys() | {name for name in held if not _undone(name, shapes)}:
            tensor: Any = reduce(getattr, name.split("."), model)
            weights[name] = (tensor.float() if tensor.dtype in half else tensor).detach()
        fresh.load_state_dict(weights, assign=True)
    except (AttributeError, RuntimeError) as error:
        detail = brief(error).rstrip(".")
        raise ZooError(
            f"the model has other parts than {type(model).__name__} with its arguments ({detail}); "
            "undo what was done to them, such as by remove_weight_norm, before saving."
        ) from None
    return fresh


def _undone(name: str, known: Container[str]) -> bool:
    """Whether a tensor is a known one by another name: of a compiled part, or parametrised."""
    plain = re.sub(r"\bparametrizations\.(\w+)\..+", r"\1", name.replace("_orig_mod.", ""))
    return name not in known and plain in known


def rounded(model: M) -> M:
    """Copy a module, each float32 number rounded to the nearest that float16 has.

    Raises:
        ZooError: if some are beyond what float16 can hold, 65,504.
    """
    copied = _cast(_cast(model, "float32", "float16"), "float16", "float32")
    whole = model.state_dict()
    for name, tensor in copied.state_dict().items():
        if (tensor.isinf() & whole[name].isfinite()).any():
            raise ZooError(f"{name} has numbers beyond 65,504; store the model in full precision.")
    return copied


def _cast(model: M, old: str, new: str) -> M:
    """Copy a module, its numbers of one type as another."""
    import torch

    copied = deepcopy(model)
    for tensor in (*copied.parameters(), *copied.buffers()):
        if tensor.dtype == getattr(torch, old):
            tensor.data = tensor.data.to(getattr(torch, new))
    return copied


def write_weights(model: "nn.Module", path: Path, half: bool = False) -> None:
    """Write a module's weights as safetensors; tied weights are stored once.

    Args:
        model: The module.
        path: The weights file.
        half: Store float32 numbers as float16, which takes half the space.

    Raises:
        ZooError: if some are not finite, or the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    _check_finite(model, "the model has")
    if half:
        model = _cast(model, "float32", "float16")

    def write(part: Path) -> None:
        try:
            save_model(model, str(part), metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, or no right to write
            raise OSError(str(error)) from None

    write_atomically(path, write)


def read_header(path: Path, expected_sha256: str | None = None) -> dict[str, tuple[str, int]]:
    """Read what a weights file says it holds: type and count of the numbers of each tensor.

    Raises:
        ZooError: if the file is missing, damaged, or not the expected one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not path.exists():
            raise ZooError(f"{path.parent} has no {path.name}; download or export it again.")
        if not path.is_file():
            raise OSError("it is no plain file")
        if expected_sha256 is not None and sha256(path) != expected_sha256:
            raise ZooError(
                f"{path} is damaged or was changed (its sha256 is not the recorded one); "
                "download or export it again."
            )
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > HEADER_LIMIT:
                raise OSError(f"its header has more than {HEADER_LIMIT:,} bytes")
        with safe_open(str(path), framework="pt") as tensors:
            parts = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
            return {n: (part.get_dtype(), math.prod(part.get_shape())) for n, part in parts.items()}
    except (SafetensorError, OSError) as error:
        raise ZooError(
            f"{path} is truncated or no safetensors file ({brief(error)}); "
            "download or export it again."
        ) from None


def build(make: Callable[[], M], header: Mapping[str, tuple[str, int]]) -> M:
    """Build a model, and stop where it outgrows what a weights file holds.

    The arguments in config.json may ask for any size; the weights are there or they are not. The
    constructor is rehearsed on torch's meta device, where nothing takes memory. One that asks for
    the values of tensors comes to no end there, and is stopped when it registers what is too large.

    Args:
        make: Calls the constructor.
        header: What the file holds, as `read_header` says.

    Raises:
        ZooError: if the model has far more numbers than the file.
    """
    import torch

    with _bounded(header), torch.device("meta"):
        try:
            make()
        except ZooError:
            raise
        except Exception:  # that is the constructor's own to say, if it comes again
            pass
    with _bounded(header):
        return make()


@contextmanager
def _bounded(header: Mapping[str, tuple[str, int]]) -> Iterator[None]:
    """Refuse, while a model is built in this thread, more numbers than a file can be meant for."""
    from torch.nn.modules import module as hooks

    held, thread = sum(count for _, count in header.values()), get_ident()

    def at_most(room: int) -> "Callable[[nn.Module, str, Tensor | None], None]":
        seen = set()

        def count(module: "nn.Module", name: str, tensor: "Tensor | None") -> None:
            nonlocal room
            if tensor is None or tensor in seen or get_ident() != thread:
                return
            seen.add(tensor)  # weights that are tied count once
            room -= max(1, tensor.numel())
            if room < 0:
                raise ZooError(
                    f"it asks for a larger model than the one whose weights {WEIGHTS} holds; "
                    "download or export it again."
                )

        return count

    with ExitStack() as stack:
        # Some of the weights may be replaced in the constructor, and some buffers are not stored.
        for register, room in (
            (hooks.register_module_parameter_registration_hook, 2 * held),
            (hooks.register_module_buffer_registration_hook, 2 * held + 2**24),
        ):
            stack.callback(register(at_most(room)).remove)
        yield


def load_weights(model: "nn.Module", path: Path, header: Mapping[str, tuple[str, int]]) -> None:
    """Load weights strictly: every tensor present, none left over, every shape equal, all finite.

    Args:
        model: The module to fill.
        path: The weights file.
        header: What it holds, as `read_header` says.

    Raises:
        ZooError: if the file does not belong to this model, or holds what is no number.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    if {dtype for dtype, _ in header.values() if dtype.startswith(("F", "BF"))} == {"F64"}:
        model.double()  # float16 is but how a file is stored
    for name, tensor in model.state_dict().items():
        dtype, _ = header.get(name, ("", 0))
        if dtype and dtype.startswith(("F", "BF")) != tensor.is_floating_point():
            raise ZooError(
                f"{path} holds {name} as {dtype}, and the model that config.json builds as "
                f"{tensor.dtype}; download or export it again."
            )
    try:
        load_model(model, str(path), strict=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ZooError(
            f"{path} does not fit the model that config.json builds ({brief(error)}); "
            "download or export it again."
        ) from None
    _check_finite(model, f"{path} holds")


def _check_finite(model: "nn.Module", holder: str) -> None:
    """Refuse NaN and infinity; -inf is the logarithm of 0 in what a module calls such a table."""
    tables = {
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        for name in getattr(module, "log_probabilities", ())
    }
    for name, tensor in model.state_dict().items():
        # of a table the rows' sums: none may be all zeros
        if not (tensor.logsumexp(-1) if name in tables else tensor).isfinite().all():
            raise ZooError(
                f"{holder} numbers in {name} that are not finite, as training leaves them that "
                "diverged; take an earlier checkpoint."
            )


def write_tensors(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    """Write named tensors as safetensors."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda part: part.write_bytes(save(plain)))


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Read named tensors.

    Raises:
        ZooError: if the file is missing or damaged.
    """
    from safetensors.torch import load_file

    read_header(path)
    tensors: dict[str, Tensor] = load_file(str(path))
    return tensors
