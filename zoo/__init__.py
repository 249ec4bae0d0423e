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
    from zoo.evaluation import interpolate as interpolate
    from zoo.evaluation import log_likelihood as log_likelihood
    from zoo.evaluation import traverse as traverse
    from zoo.pretrained import from_pretrained as from_pretrained
    from zoo.reproduction import reproduce as reproduce
    from zoo.verification import verify as verify

__version__ = "0.1.0"

_HOME = {
    "LatentVariableModel": "zoo.base",
    "ZooError": "zoo.errors",
    "compare": "zoo.comparison",
    "anomaly_scores": "zoo.anomaly",
    "anomaly_threshold": "zoo.anomaly",
    "describe": "zoo.catalog",
    "evaluate": "zoo.evaluation",
    "from_pretrained": "zoo.pretrained",
    "interpolate": "zoo.evaluation",
    "list_models": "zoo.catalog",
    "log_likelihood": "zoo.evaluation",
    "reproduce": "zoo.reproduction",
    "traverse": "zoo.evaluation",
    "verify": "zoo.verification",
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
