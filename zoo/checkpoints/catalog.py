"""Where a checkpoint's name leads, and what is known of it without loading it.

Nothing here imports torch: `zoo list` and `zoo info` answer at once.
"""

import json
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from zoo import hub
from zoo.checkpoints.config import Config, read_config
from zoo.checkpoints.files import CARD, CONFIG, FILES, METRICS, WEIGHTS, not_as_pinned, sha256
from zoo.checkpoints.metrics import Metric, read_metrics
from zoo.errors import ZooError, in_any_case, nearest

CARDS = (Path(__file__).parents[1] / "hub_cards").resolve()
"""The checkpoints that ship with the package, one folder each."""

PINS = CARDS / "sha256.json"
"""The sha256 of every file of every shipped checkpoint."""

PUBLISHED = CARDS / "published.json"
"""By checkpoint, what papers report of such models on the same data, for its card."""

ORGANISATION = "latent-zoo"
"""Whose repositories on the Hub the bare names stand for; `$ZOO_ORGANISATION` replaces it."""


@dataclass(frozen=True)
class Description:
    """What is known of a checkpoint.

    Args:
        name: Its name, or the folder it was read from.
        family: Name of the class.
        data: Name of the DataModule that it was trained on.
        latent_shape: Shape of one code.
        parameters: Number of trained numbers.
        bytes: Size of the weights.
        license: Licence of the weights.
        verbs: What the model can do.
        metrics: Every number of the card.
        base_model: What it was fine-tuned from.
    """

    name: str
    family: str
    data: str
    latent_shape: tuple[int, ...]
    parameters: int
    bytes: int
    license: str
    verbs: tuple[str, ...]
    metrics: tuple[Metric, ...]
    base_model: str | None


def list_models(pattern: str = "*", verb: str | None = None) -> list[str]:
    """Name the checkpoints that ship with the package.

    Args:
        pattern: Shell pattern such as `*-mnist`.
        verb: Only models that have this verb, such as `encode`.

    Raises:
        ZooError: if no model of the zoo knows the verb.
    """
    names = [path.parent.name for path in sorted(CARDS.glob(f"*/{CONFIG}"))]
    names = [n for n in names if fnmatchcase(n.casefold(), pattern.casefold())]
    if verb is None:
        return names
    verbs = {name: _verbs(CARDS / name) for name in names}
    known = {v for has in verbs.values() for v in has}
    verb = in_any_case(verb, known)
    if verb not in known:
        known |= {v for path in CARDS.glob(f"*/{CONFIG}") for v in _verbs(path.parent)}
        if verb not in known:
            raise ZooError(f"no model has the verb {verb!r}; {nearest(verb, known)}")
    return [name for name in names if verb in verbs[name]]


def _verbs(folder: Path) -> list[str]:
    """What a checkpoint can do; nothing, if it is damaged, which it says when it is loaded."""
    try:
        found: list[str] = read_config(folder).summary.get("verbs", [])
    except ZooError:
        return []
    return found


def shipped(name: str) -> Path:
    """The folder of a checkpoint that ships with the package; its files are not looked at.

    Raises:
        ZooError: if there is none of this name.
    """
    name = in_any_case(name, list_models())
    if name not in list_models():
        raise ZooError(
            f"no checkpoint is called {name!r}, neither a folder nor a shipped model; "
            f"{nearest(name, list_models())}"
        )
    return CARDS / name


def check_pins(folder: Path) -> int:
    """Hash every file of a shipped checkpoint; of other folders, none.

    Returns:
        How many there are.

    Raises:
        ZooError: if one differs from its pin.
    """
    pinned = pins(folder)
    for file, digest in pinned.items():
        if not (folder / file).is_file() or sha256(folder / file) != digest:
            raise ZooError(not_as_pinned(folder / file))
    return len(pinned)


def pins(folder: Path) -> dict[str, str]:
    """The sha256 of each file of a shipped checkpoint, as this release was made with it.

    Of a folder that somebody names by its path nothing is pinned: its author may work on it.
    """
    if folder.parent != CARDS:
        return {}
    pinned: dict[str, str] = json.loads(PINS.read_text(encoding="utf-8")).get(folder.name, {})
    return pinned


def config_of(folder: Path) -> Config:
    """Read config.json, which of a shipped checkpoint must be the pinned one.

    It has the hashes of the files that a load reads, so that nothing else is hashed for it.

    Raises:
        ZooError: if it is missing, damaged or changed.
    """
    return read_config(folder, pins(folder).get(CONFIG))


def organisation() -> str:
    """Whose repositories on the Hub the bare names stand for."""
    return os.environ.get("ZOO_ORGANISATION") or ORGANISATION


def locate(
    name: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """Find the folder of a checkpoint: an existing folder, a shipped one, or one from the Hub.

    Args:
        name: A folder, the bare name of a checkpoint that ships with the package, or
            `organisation/name` on the Hub.
        revision: Branch, tag or commit; it always means the Hub, where a bare name is one of the
            zoo's own repositories.
        token: Token of the Hub; by default the one that is logged in.
        cache_dir: Where downloads are kept; by default the Hub client's cache.
        local_files_only: Take what an earlier download left and make no request.

    Raises:
        ZooError: if it is neither a folder nor shipped nor the name of a repository.
        HubError: if the Hub does not give it.
    """
    folder = Path(name).expanduser()
    if revision is None and folder.is_dir():
        return folder
    if revision is None and (name.count("/") != 1 or not all(name.split("/"))):
        return shipped(name)
    return pull(name, revision, token, cache_dir, local_files_only)


def pull(
    name: str,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """Get a checkpoint from the Hub: see `locate`.

    At its default revision, a repository of the zoo's own that ships as well must hold the very
    files that this release was made with. (Its card may have been edited since.)
    """
    repository = repository_of(name)
    owner, _, bare = repository.partition("/")
    registered = pins(CARDS / bare) if revision is None and owner == organisation() else {}
    return hub.pull(
        repository,
        files=FILES,
        required=(CONFIG, WEIGHTS),
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        pinned={file: digest for file, digest in registered.items() if file != CARD},
    )


def repository_of(name: str) -> str:
    """The Hub's name for a bare name of the zoo; `organisation/name` stays as it is.

    Raises:
        ZooError: if it is neither.
    """
    if name.count("/") == 1 and all(name.split("/")):
        return name
    name = in_any_case(name, list_models())
    if name not in list_models():
        raise ZooError(
            f"{name!r} is no repository of the Hub; give organisation/name, or the name of a "
            f"shipped model: {nearest(name, list_models())}"
        )
    return f"{organisation()}/{name}"


def describe(name: str) -> Description:
    """Describe a checkpoint by name or folder without loading it.

    Raises:
        ZooError: if there is none of this name.
    """
    folder = locate(name)
    pinned = pins(folder)
    config = read_config(folder, pinned.get(CONFIG))
    return Description(
        name=folder.name if pinned else name,
        family=config.family,
        data=(config.data or {}).get("class_path", "unknown"),
        latent_shape=tuple(config.summary.get("latent_shape", ())),
        parameters=config.summary.get("parameters", 0),
        bytes=sum(f.stat().st_size for f in folder.glob("model*.safetensors") if f.is_file()),
        license=config.license,
        verbs=tuple(config.summary.get("verbs", ())),
        metrics=tuple(read_metrics(folder, pinned.get(METRICS))),
        base_model=config.base_model,
    )


def write_pins() -> None:
    """Record the sha256 of every file of every shipped checkpoint."""
    from zoo.checkpoints.files import write_json

    write_json(
        PINS,
        {
            name: {f.name: sha256(f) for f in sorted((CARDS / name).iterdir()) if f.is_file()}
            for name in list_models()
        },
    )
