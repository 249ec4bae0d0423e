"""Latent-variable models in PyTorch Lightning, from PCA to diffusion, under one set of verbs.

```python
import zoo

vae = zoo.from_pretrained("vae-mnist")
x = vae.sample(64)  # (64, 1, 28, 28) in [0, 1]
```

Names are imported when they are first used, so `import zoo` itself is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.version import __version__ as __version__

if TYPE_CHECKING:
    from zoo.base import LatentVariableModel as LatentVariableModel
    from zoo.checkpoints.catalog import describe as describe
    from zoo.checkpoints.catalog import list_models as list_models
    from zoo.errors import ZooError as ZooError
    from zoo.evaluation.comparison import compare as compare
    from zoo.evaluation.likelihood import evaluate as evaluate
    from zoo.pretrained.loading import from_pretrained as from_pretrained
    from zoo.tasks.anomaly import anomaly_scores as anomaly_scores
    from zoo.tasks.anomaly import anomaly_threshold as anomaly_threshold
    from zoo.tasks.code_length import code_length as code_length
    from zoo.tasks.denoising import denoise as denoise
    from zoo.tasks.directions import direction as direction
    from zoo.tasks.directions import move as move
    from zoo.tasks.likelihood import log_likelihood as log_likelihood
    from zoo.tasks.maps import latent_map as latent_map
    from zoo.tasks.paths import interpolate as interpolate
    from zoo.tasks.paths import traverse as traverse
    from zoo.tasks.tagging import tag as tag
    from zoo.verification.reproduce import reproduce as reproduce
    from zoo.verification.verify import verify as verify

_HOME = {
    "anomaly_scores": "zoo.tasks.anomaly",
    "anomaly_threshold": "zoo.tasks.anomaly",
    "code_length": "zoo.tasks.code_length",
    "compare": "zoo.evaluation.comparison",
    "denoise": "zoo.tasks.denoising",
    "describe": "zoo.checkpoints.catalog",
    "direction": "zoo.tasks.directions",
    "evaluate": "zoo.evaluation.likelihood",
    "from_pretrained": "zoo.pretrained.loading",
    "interpolate": "zoo.tasks.paths",
    "latent_map": "zoo.tasks.maps",
    "LatentVariableModel": "zoo.base",
    "list_models": "zoo.checkpoints.catalog",
    "log_likelihood": "zoo.tasks.likelihood",
    "move": "zoo.tasks.directions",
    "reproduce": "zoo.verification.reproduce",
    "tag": "zoo.tasks.tagging",
    "traverse": "zoo.tasks.paths",
    "verify": "zoo.verification.verify",
    "ZooError": "zoo.errors",
}

__all__ = [*sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}.")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
