"""Every test starts from the same seed, on one thread, in an empty folder."""

import os

# Read at import by their packages, so set before any of them is imported.
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch


@pytest.fixture(autouse=True)
def _alike(monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    torch.set_num_threads(1)  # also lets a test fork after a multi-threaded one
    torch.manual_seed(0)
