"""How well each attribute of CelebA is recognised, and how much of that is doing nothing.

    python benchmarks/celeba_attributes.py runs/attributes-celeba/version_0/checkpoints/best.ckpt

Prints for each attribute of the test set: how many have it, the accuracy, that of always giving the
training set's more frequent answer, recall, specificity, their mean (balanced accuracy), and the
area under the ROC curve; last, the means over attributes.
"""

import argparse
from pathlib import Path

import torch
from torchmetrics.classification import MultilabelAUROC

from zoo.evaluation.data import data_module
from zoo.pretrained.runs import load_training_checkpoint


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    model = load_training_checkpoint(parser.parse_args().checkpoint)
    data = data_module(model)
    data.prepare_data()
    data.setup("test")
    with torch.no_grad():
        batches = [(model.classify(b["image"]), b["attributes"]) for b in data.test_dataloader()]
    p, y = (torch.cat(column) for column in zip(*batches, strict=True))
    right = ((p > 0.5) == (y > 0)).double()
    usual = (data.splits["train"]["attributes"].double().mean(0) > 0.5).long()
    there = (y > 0).double()
    recall, specificity = ((right * of).sum(0) / of.sum(0) for of in (there, 1 - there))
    areas = MultilabelAUROC(y.shape[1], average="none")(p, y).double()
    columns = torch.stack(
        [
            right.mean(0),
            (y == usual).double().mean(0),
            recall,
            specificity,
            (recall + specificity) / 2,
            areas,
        ],
        1,
    )
    names = ("accuracy", "usual", "recall", "specific.", "balanced", "AUROC")
    print(f"{'attribute':20} {'have it':>8} " + " ".join(f"{name:>9}" for name in names))
    rows = [*zip(model.labels, y.sum(0).tolist(), columns.tolist(), strict=True)]
    for label, count, values in [*rows, ("mean", "", columns.mean(0).tolist())]:
        print(f"{label:20} {count:>8} " + " ".join(f"{value:9.3f}" for value in values))


if __name__ == "__main__":
    main()
