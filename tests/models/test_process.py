"""Loading a model leaves the process as it was."""

import subprocess
import sys

SETTINGS = """
import random, sys, warnings
import numpy, torch, lightning
from torch.distributions import Distribution, Normal

def settings():
    return {
        "validation": Distribution._validate_args,
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "random": random.getstate(),
        "numpy": numpy.random.get_state()[1].tobytes(),
        "numpy_errors": numpy.geterr(),
        "recursion": sys.getrecursionlimit(),
        "excepthook": sys.excepthook,
        "warnings": len(warnings.filters),
    }

Distribution.set_default_validate_args(VALIDATES)
before = settings()
import zoo
zoo.from_pretrained("ppca-mnist").sample(1)
zoo.from_pretrained("flowvae-mnist").sample(1)
after = settings()
assert before == after, {k: (before[k], after[k]) for k in before if before[k] != after[k]}
try:
    Normal(0.0, -1.0)
    print("taken")
except ValueError:
    print("refused")
"""


def test_loading_changes_no_setting_of_the_process():
    for validates, says in ((True, "refused"), (False, "taken")):
        script = SETTINGS.replace("VALIDATES", str(validates))
        out = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        assert out.returncode == 0, out.stderr[-600:]
        assert out.stdout.split() == [says]
