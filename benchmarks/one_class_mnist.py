"""One-class MNIST: a model of each digit, asked which of all 10,000 test images are of others.

    python benchmarks/one_class_mnist.py [recipe] [flags of zoo fit]

Fits the recipe, by default `vae-mnist-one-class`, ten times, each to the training images of one
digit; runs/ gets what `zoo fit` writes. Prints the area under the ROC curve of every anomaly score
that the model has, by digit and as their mean. Each area's standard error is DeLong's; that of the
mean is over test images, all ten models seeing the same ones. The scores are of the weights that
training ends with.
"""

import sys
import time

import torch

import zoo
from zoo.metrics.auroc import placements
from zoo.tasks.anomaly import scores_of
from zoo.training.fit import run

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


def influence(placed, anomaly):
    """What each test image moves the area by, (N,): its variance is the sum of their squares."""
    area = placed[anomaly].mean()
    counts = torch.where(anomaly, anomaly.sum(), (~anomaly).sum())
    return area, (placed - area) / counts


def main():
    recipe, *flags = sys.argv[1:] or ["vae-mnist-one-class"]
    areas, moves, seconds, nll = {}, {}, [], []
    for digit in range(10):
        start = time.perf_counter()
        trained = run("fit", recipe, [f"--data.init_args.digits=[{digit}]", *QUIET, *flags])
        seconds.append(time.perf_counter() - start)
        model, data = trained.model.eval(), trained.datamodule
        torch.manual_seed(0)
        nll += [torch.cat([zoo.anomaly_scores(model, b["image"]) for b in data.val_dataloader()])]
        batches = list(data.test_dataloader())
        anomaly = torch.cat([b["anomaly"] for b in batches])
        for by in scores_of(model):
            scores = torch.cat([zoo.anomaly_scores(model, b["image"], by) for b in batches])
            area, moved = influence(placements(scores, anomaly), anomaly)
            areas.setdefault(by, []).append(area)
            moves.setdefault(by, []).append(moved)
        row = "  ".join(
            f"{by} {a[-1]:.4f} ± {moves[by][-1].square().sum().sqrt():.4f}"
            for by, a in areas.items()
        )
        print(f"{digit}  {row}  val NLL {nll[-1].mean():.1f}  {seconds[-1]:.0f} s", flush=True)
    for by, found in areas.items():
        error = torch.stack(moves[by]).mean(0).square().sum().sqrt()
        print(f"mean by {by:11} {torch.stack(found).mean():.4f} ± {error:.4f}")
    print(f"{sum(seconds):.0f} s; val NLL {torch.stack([v.mean() for v in nll]).mean():.2f}")


if __name__ == "__main__":
    main()
