"""What debiasing does: precision, recall, and recall by group, of several DB-VAEs side by side.

    python benchmarks/debiasing.py biased/best.ckpt debiased/best.ckpt [--split val]

Prints a row a score and a column a checkpoint, how many images have the score and, last, the
variance of the recall over groups, from which that expected of the number of images alone is not
subtracted.
"""

import argparse
from pathlib import Path

import torch

from zoo.batches import on_device
from zoo.evaluation.data import data_module, held_out
from zoo.pretrained.runs import load_training_checkpoint


@torch.no_grad()
def shares(checkpoint: Path, split: str) -> dict[str, tuple[float, int]]:
    """By name, the share of images that are right, and of how many."""
    model = load_training_checkpoint(checkpoint)
    counts: dict[str, list[int]] = {}
    for batch in held_out(data_module(model), split=split):
        for name, (right, of) in model.scores(on_device(batch, model.device)).items():
            total = counts.setdefault(name, [0, 0])
            total[0] += int(right.sum())
            total[1] += int(of.sum())
    return {name: (right / of, of) for name, (right, of) in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--split", choices=["val", "test"], default="test")
    args = parser.parse_args()
    columns = [shares(path, args.split) for path in args.checkpoints]
    for name, (_, of) in columns[0].items():
        print(f"{name:28} {of:>6} " + " ".join(f"{column[name][0]:9.4f}" for column in columns))
    spread = [
        torch.tensor([v for name, (v, _) in c.items() if name.startswith("recall_")])
        for c in columns
    ]
    variances = " ".join(f"{values.var(correction=0):9.6f}" for values in spread)
    print(f"{'variance over groups':28} {'':>6} {variances}")


if __name__ == "__main__":
    main()
