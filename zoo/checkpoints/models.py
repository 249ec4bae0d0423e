"""A model from its checkpoint folder, and back, and to the Hub."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from zoo import hub
from zoo.checkpoints.arguments import checked_arguments
from zoo.checkpoints.card import contradiction, write_card
from zoo.checkpoints.config import Config, read_config, write_config
from zoo.checkpoints.files import (
    ASSETS,
    CARD,
    CONFIG,
    FILES,
    GALLERY,
    GOLDEN,
    METRICS,
    RECIPE,
    WEIGHTS,
    sha256,
    write_text,
)
from zoo.checkpoints.metrics import read_metrics, stated_metrics, weights_sha256
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
        folder: Where to; made if it is not there. Files of another checkpoint in it are removed:
            what was measured or drawn of other weights, its recipe, and a card that states such
            numbers.
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
    before = sha256(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None
    write_weights(stored, folder / WEIGHTS, half)
    write_tensors(golden(stored), folder / GOLDEN)
    for name, text in assets.items():
        write_text(folder / name, text)
    hashes = {name: sha256(folder / name) for name in (WEIGHTS, GOLDEN, *assets)}
    write_config(folder, replace(config, sha256=hashes))
    _remove_others(folder, before, hashes)


def _remove_others(folder: Path, before: str | None, hashes: Mapping[str, str]) -> None:
    """Remove what is left in a folder of the checkpoint that was there.

    Args:
        folder: The folder, which holds the new checkpoint.
        before: Hash of the weights that were there; None if none were.
        hashes: Those of the new files.
    """
    if before not in (None, hashes[WEIGHTS]):
        for name in ({RECIPE, *GALLERY, *ASSETS}) - hashes.keys():
            (folder / name).unlink(missing_ok=True)
    try:
        stale = stated_metrics(folder).weights != hashes[WEIGHTS]
    except ZooError:  # damaged, so nothing of these weights
        stale = True
    if stale:
        (folder / METRICS).unlink(missing_ok=True)
    if _contradiction(folder):
        (folder / CARD).unlink()


def _contradiction(folder: Path, card: Path | None = None) -> str | None:
    """What a card states and the metrics of a folder's weights do not; by default its own card."""
    card = card or folder / CARD
    if not card.is_file():
        return None
    return contradiction(card.read_text("utf-8", errors="replace"), read_metrics(folder))


def check_measured(folder: Path) -> None:
    """Refuse a folder whose numbers are not those of its weights.

    Raises:
        ZooError: if metrics.json was measured on other weights, or the card states other numbers.
    """
    weights, metrics = stated_metrics(folder)
    if metrics and weights != weights_sha256(folder):
        raise ZooError(
            f"{folder / METRICS} was measured on other weights; `zoo evaluate {folder} --write` "
            "measures these, or delete it."
        )
    if problem := _contradiction(folder):
        raise ZooError(
            f"{folder}: {problem}, which metrics.json does not; `zoo card {folder}` writes the "
            "card anew."
        )


def upload(
    folder: Path, repo_id: str, *, replace_card: bool = False, **options: Any
) -> "hub.PushResult":
    """Upload a checkpoint folder to the Hub in one commit.

    A card that the repository has stays, as its owner may have written it, unless it is that of
    another model or states numbers that were not measured on these weights.

    Args:
        folder: The checkpoint.
        repo_id: `organisation/name`.
        replace_card: Replace the repository's card whatever it says.
        options: As `zoo.hub.push` takes them, but for `files` and `keep_readme`.

    Raises:
        ZooError: if the folder states numbers that are not those of its weights.
        HubError: if the Hub does not take it.
    """
    check_measured(folder)
    where = {name: options.get(name) for name in ("revision", "token")}
    keep = not replace_card and _keeps_card(folder, repo_id, where)
    return hub.push(folder, repo_id, files=FILES, keep_readme=keep, **options)


def _keeps_card(folder: Path, repo_id: str, where: Mapping[str, Any]) -> bool:
    """Whether the card of a repository goes with the checkpoint that is to be pushed there."""
    with TemporaryDirectory() as cache:
        try:
            there = hub.pull(repo_id, files=(CONFIG, CARD), cache_dir=cache, **where)
        except hub.HubError:  # no repository yet, or what the push itself will say
            return True
        try:
            same = _described(there) == _described(folder)
        except ZooError:  # there is no checkpoint yet, and the card is its owner's
            same = True
        return same and _contradiction(folder, there / CARD) is None


def _described(folder: Path) -> tuple[object, ...]:
    """What a card says of a checkpoint beside its numbers."""
    config = read_config(folder)
    facts = (config.summary.get(name) for name in ("latent_shape", "parameters"))
    return config.family, (config.data or {}).get("class_path"), *facts


def push(save: Callable[[Path], object], repo_id: str, **options: Any) -> str:
    """Upload a checkpoint to the Hub in one commit, with a card unless the repository has its own.

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
        return upload(folder, repo_id, **options).url
