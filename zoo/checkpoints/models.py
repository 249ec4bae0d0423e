"""A model from its checkpoint folder, and back, and to the Hub."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from zoo import hub
from zoo.checkpoints.arguments import checked_arguments
from zoo.checkpoints.card import write_card
from zoo.checkpoints.config import Config, write_config
from zoo.checkpoints.files import CONFIG, FILES, GOLDEN, WEIGHTS, sha256, write_text
from zoo.checkpoints.weights import (
    M,
    as_built,
    build,
    load_weights,
    read_header,
    rounded,
    write_tensors,
    write_weights,
)
from zoo.errors import ZooError, brief

if TYPE_CHECKING:
    from torch import Tensor


def load(cls: type[M], folder: Path, config: Config, overrides: Mapping[str, Any]) -> M:
    """Build the model that a configuration describes, and load its weights strictly.

    Args:
        cls: The family.
        folder: The checkpoint.
        config: What its config.json says.
        overrides: Constructor arguments that replace the stored ones.

    Raises:
        ZooError: if it is damaged, or an argument does not fit.
    """
    place, weights = str(folder / CONFIG), folder / WEIGHTS
    init_args = checked_arguments(cls, place, config.init_args, overrides)
    header = read_header(weights, config.sha256.get(WEIGHTS))
    try:
        model = build(lambda: cls(**init_args), header)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        detail = str(error).partition("\n")[0]  # torch's own errors go on at length
        raise ZooError(f"{place}: {brief(detail)}") from None
    load_weights(model, weights, header)
    return model


def save(
    model: M,
    folder: Path,
    config: Config,
    golden: "Callable[[M], Mapping[str, Tensor]]",
    assets: Mapping[str, str],
    half: bool,
) -> None:
    """Write a checkpoint folder: weights, golden outputs, assets, and last its configuration.

    Args:
        model: The model.
        folder: Where to; made if it is not there. Other files in it stay as they are.
        config: What config.json is to say; the hashes are filled in.
        golden: Gives the golden outputs of the model as it is stored.
        assets: Text files by name.
        half: Round float32 weights to float16.

    Raises:
        ZooError: if the folder cannot be written to, a weight is too large for float16, or the
            model has other parts than its arguments build.
    """
    stored = as_built(model, lambda: type(model)(**config.init_args))
    stored = rounded(stored) if half else stored
    write_weights(stored, folder / WEIGHTS, half)
    write_tensors(golden(stored), folder / GOLDEN)
    for name, text in assets.items():
        write_text(folder / name, text)
    hashes = {name: sha256(folder / name) for name in (WEIGHTS, GOLDEN, *assets)}
    write_config(folder, replace(config, sha256=hashes))


def push(save: Callable[[Path], object], repo_id: str, **options: Any) -> str:
    """Upload a checkpoint to the Hub in one commit, with a card unless the repository has one.

    Args:
        save: Writes the checkpoint into a folder.
        repo_id: `organisation/name`.
        options: As `zoo.hub.push` takes them.

    Returns:
        The address of the commit.
    """
    with TemporaryDirectory() as parent:
        folder = Path(parent, repo_id.rpartition("/")[2])
        save(folder)
        write_card(folder, handle=repo_id)
        return hub.push(folder, repo_id, files=FILES, **options).url
