"""Metrics computed by two processes that each see half of the batches."""

import pytest
import torch
from torch import distributed, multiprocessing


def _half(rank, folder, metric, updates):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    for arguments in updates[rank::2]:
        metric.update(*arguments)
    result = metric.compute()
    torch.save(result, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture
def by_two(tmp_path_factory):
    """What each of two processes gets when they share the updates of a metric."""

    def compute(metric, updates):
        folder = tmp_path_factory.mktemp("two")
        multiprocessing.start_processes(
            _half, (folder, metric, updates), nprocs=2, start_method="fork"
        )
        return [torch.load(folder / f"{rank}.pt") for rank in range(2)]

    return compute


@pytest.fixture
def by_one():
    """What one process gets from all updates of a metric."""

    def compute(metric, updates):
        for arguments in updates:
            metric.update(*arguments)
        return metric.compute()

    return compute
