"""Checkpoints to and from the Hugging Face Hub: folder in, folder out.

Requests are huggingface_hub's; that what has arrived is what the commit states is checked here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.hub.download import pull
    from zoo.hub.errors import HubError
    from zoo.hub.upload import PushResult, push

__all__ = ["HubError", "PushResult", "pull", "push"]

_HOME = {"HubError": "errors", "PushResult": "upload", "pull": "download", "push": "upload"}


def __getattr__(name: str) -> Any:
    """Import the Hub's client, which takes half a second, when it is needed."""
    if name not in _HOME:
        raise AttributeError(f"module 'zoo.hub' has no attribute {name!r}.")
    globals()[name] = value = getattr(import_module(f"zoo.hub.{_HOME[name]}"), name)
    return value
