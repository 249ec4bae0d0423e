"""Checkpoints to and from the Hub: requests are huggingface_hub's, what arrives is hashed here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.hub.download import pull as pull
    from zoo.hub.errors import HubError as HubError
    from zoo.hub.upload import PushResult as PushResult
    from zoo.hub.upload import push as push

_HOME = {"HubError": "errors", "PushResult": "upload", "pull": "download", "push": "upload"}


def __getattr__(name: str) -> Any:
    """Import the client, which takes half a second, when it is needed."""
    if name not in _HOME:
        raise AttributeError(f"module 'zoo.hub' has no attribute {name!r}.")
    return getattr(import_module(f"zoo.hub.{_HOME[name]}"), name)
