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

if TYPE_CHECKING:
    from zoo.anomaly import anomaly_scores as anomaly_scores
    from zoo.anomaly import anomaly_threshold as anomaly_threshold
    from zoo.base import LatentVariableModel as LatentVariableModel
    from zoo.catalog import describe as describe
    from zoo.catalog import list_models as list_models
    from zoo.comparison import compare as compare
    from zoo.errors import ZooError as ZooError
    from zoo.evaluation import evaluate as evaluate
    from zoo.evaluation import log_likelihood as log_likelihood
    from zoo.latent import code_length as code_length
    from zoo.latent import denoise as denoise
    from zoo.latent import direction as direction
    from zoo.latent import interpolate as interpolate
    from zoo.latent import latent_map as latent_map
    from zoo.latent import move as move
    from zoo.latent import traverse as traverse
    from zoo.pretrained import from_pretrained as from_pretrained
    from zoo.reproduction import reproduce as reproduce
    from zoo.verification import verify as verify

__version__ = "0.1.0"

_HOME = {
    "anomaly_scores": "zoo.anomaly",
    "anomaly_threshold": "zoo.anomaly",
    "code_length": "zoo.latent",
    "compare": "zoo.comparison",
    "denoise": "zoo.latent",
    "describe": "zoo.catalog",
    "direction": "zoo.latent",
    "evaluate": "zoo.evaluation",
    "from_pretrained": "zoo.pretrained",
    "interpolate": "zoo.latent",
    "latent_map": "zoo.latent",
    "LatentVariableModel": "zoo.base",
    "list_models": "zoo.catalog",
    "log_likelihood": "zoo.evaluation",
    "move": "zoo.latent",
    "reproduce": "zoo.reproduction",
    "traverse": "zoo.latent",
    "verify": "zoo.verification",
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
