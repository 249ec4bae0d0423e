"""Do directions in a model's codes change one attribute of a face and leave the person alone?

    python benchmarks/celeba_directions.py vae-celeba

Directions are differences of mean codes of the training faces, plain and balanced by Male and Young
(see zoo.direction). Test faces that lack an attribute, by their label and by what the classifier
attributes-celeba says of their reconstruction, are moved along its direction and decoded: how many
does the classifier then say to have it, and of how many does it say of Male and Young what it said
before? The strength is the one of 0.5, 1, ..., 6 for which the smallest of these shares is largest,
on the first 1,000 validation faces. Standard errors are over test faces.
"""

import argparse

import torch

import zoo
from zoo.evaluation.data import data_module, held_out
from zoo.tasks.directions import encoded, mean_difference

CHANGED = ("Smiling", "Eyeglasses", "Blond_Hair", "Black_Hair", "Bangs")
KEPT = ("Male", "Young")
STRENGTHS = torch.arange(1, 13) / 2


def marks(batch):
    """Which attributes there are, and whether they are known at all: bool (B, 41)."""
    known = batch.get("labelled", torch.ones(len(batch["image"]), dtype=torch.bool))
    return torch.cat([batch["attributes"] > 0, known[:, None]], 1)


@torch.no_grad()
def answers(classifier, model, z):
    """What the classifier says of decoded codes (N, D): bool (N, 40)."""
    return torch.cat([classifier.classify(model.decode(part)) > 0.5 for part in z.split(250)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="vae-celeba", help="name or folder")
    model = zoo.from_pretrained(parser.parse_args().model)
    classifier = zoo.from_pretrained("attributes-celeba")
    data = data_module(model)
    z, has = encoded(model, held_out(data, split="train"), marks)
    z, has = z[has[:, -1]], has[has[:, -1]]
    column = data.attribute_names.index
    groups = sum(has[:, column(name)] * 2**i for i, name in enumerate(KEPT))
    asked = [classifier.labels.index(name) for name in KEPT]
    held = {}
    for split, n in (("val", 1000), ("test", None)):
        codes, marked = encoded(model, held_out(data, n, split=split), marks)
        held[split] = codes, marked, answers(classifier, model, codes)

    def moved(split, name, d, t):
        """Whether faces that lacked it have the attribute, and kept the others: float (N, 3)."""
        codes, marked, before = held[split]
        attribute = classifier.labels.index(name)
        lacks = ~marked[:, column(name)] & ~before[:, attribute]
        after = answers(classifier, model, codes[lacks] + t * d)
        kept = before[lacks][:, asked] == after[:, asked]
        return torch.cat([after[:, [attribute]], kept], 1).double()

    heads = "".join(f"{head:18}" for head in ("gets it", *(f"keeps {name}" for name in KEPT)))
    print(f"{'attribute':12} {'direction':10} strength  faces  {heads}", flush=True)
    for name in CHANGED:
        mine = has[:, column(name)]
        for kind, alike in (("plain", torch.zeros_like(groups)), ("balanced", groups)):
            d = mean_difference(z, mine, ~mine, alike)
            least = [moved("val", name, d, t).mean(0).min() for t in STRENGTHS]
            t = STRENGTHS[torch.stack(least).argmax()]
            right = moved("test", name, d, t)
            share, n = right.mean(0), len(right)
            error = (share * (1 - share) / n).sqrt()
            cells = "".join(f"{p:.3f} ± {e:.3f}     " for p, e in zip(share, error, strict=True))
            print(f"{name:12} {kind:10} {t:8.2f} {n:6}  {cells}", flush=True)


if __name__ == "__main__":
    main()
