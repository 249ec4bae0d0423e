"""Class paths of the zoo in recipes, which outlive the places of classes."""

import re

from zoo import datamodules

_PATH = re.compile(
    r"""((?:^|=|\b(?:class_path|model|data)["']?\s*:\s*)["']?)"""  # where a class may be named
    r"(zoo|datamodules)(?:\.\w+)*\.(\w+)(?![\w./])"
)


def short_names(text: str) -> str:
    """A recipe or a flag, with the zoo's classes by their short names.

    Resolved recipes name classes by the modules that held them when they were written, such as
    `datamodules.mnist.MNIST` and `zoo.models.vae.VAE`; the names `MNIST` and `VAE` stay.
    """
    return _PATH.sub(_short, text)


def _short(found: re.Match[str]) -> str:
    before, package, name = found.groups()
    if name == "from_pretrained":
        return f"{before}zoo.from_pretrained"
    # `datamodules` may also be a package of the user's.
    ours = name in datamodules.__all__ if package == "datamodules" else name[0].isupper()
    return before + name if ours else found[0]
