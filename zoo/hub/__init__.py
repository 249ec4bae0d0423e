"""Checkpoints to and from the Hub: requests are huggingface_hub's, what arrives is hashed here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.hub.client import HubError
    from zoo.hub.folders import PushResult, pull, push

__all__ = ["HubError", "PushResult", "pull", "push"]


def __getattr__(name: str) -> Any:
    """Import the client, which takes half a second, when it is needed."""
    if name not in __all__:
        raise AttributeError(f"module 'zoo.hub' has no attribute {name!r}.")
    return getattr(import_module("zoo.hub.folders"), name)
