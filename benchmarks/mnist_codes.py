"""What 32 principal components of MNIST know: probes, and anomalies by reconstruction.

    python benchmarks/mnist_codes.py

All 32 components are fitted on training images. Prints the test accuracy of a linear probe and of 5
neighbours on codes of all 60,000, and the mean over digits of the AUROC with which the
reconstruction error of components fitted to one digit tells the others from it.
"""

import time

import torch
from torchmetrics.classification import BinaryAUROC

from zoo.datamodules import MNIST
from zoo.metrics import KNNProbe, LinearProbe


def principal(x, k):
    """Mean, (P,), and the k leading principal directions, (P, k), of x, (N, P)."""
    mean = x.mean(0)
    centred = (x - mean).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    return mean, vectors[:, -k:].float()


def main():
    data = MNIST(binarization="none")
    data.prepare_data()
    data.setup()
    parts = [data.splits[s] for s in ("train", "val")]
    x = torch.cat([p["image"] for p in parts]).flatten(1).float() / 255
    y = torch.cat([p["label"] for p in parts])
    test = data.splits["test"]
    test_x, test_y = test["image"].flatten(1).float() / 255, test["label"]

    mean, directions = principal(x, 32)
    for name, probe in (("linear probe", LinearProbe()), ("5 neighbours", KNNProbe(5))):
        start = time.perf_counter()
        probe.update((x - mean) @ directions, y, test=False)
        probe.update((test_x - mean) @ directions, test_y, test=True)
        print(f"{name:14} {probe.compute():.4f}  {time.perf_counter() - start:.1f} s")

    areas = []
    for digit in range(10):
        mean, directions = principal(x[y == digit], 32)
        rest = test_x - mean
        error = (rest - rest @ directions @ directions.T).square().sum(1)
        auroc = BinaryAUROC()
        areas.append(auroc((error - error.min()) / (error.max() - error.min()), test_y != digit))
    print(f"AUROC          {torch.stack(areas).mean():.4f}, mean over digits")


if __name__ == "__main__":
    main()
