"""Every test starts from the same seed, on one thread, in an empty folder."""

import os

# Read at import, so set before wandb is imported.
os.environ.setdefault("WANDB_MODE", "disabled")

import pytest
import torch


@pytest.fixture(autouse=True)
def _alike(monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    torch.set_num_threads(1)  # also lets a test fork after a multi-threaded one
    torch.manual_seed(0)
