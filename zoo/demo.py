"""The main job in a few minutes: load, sample, reconstruct, interpolate, fine-tune, save, load.

Run it by `make demo`, or as `python -m zoo.demo [FOLDER]` with the package installed. It needs no
network: the model ships with the package, and the digits with scikit-learn.
"""

import sys
from pathlib import Path

import torch

from zoo.base import LatentVariableModel
from zoo.checkpoints.card import write_card
from zoo.checkpoints.metrics import write_metrics
from zoo.evaluation.data import data_module, held_out
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.suites import run
from zoo.plots.grids import save_grid
from zoo.pretrained.export import export
from zoo.pretrained.loading import from_pretrained
from zoo.tasks.paths import interpolate
from zoo.training import fit


def elbo(model: LatentVariableModel) -> float:
    """The ELBO on the test set of Digits, in nats per image."""
    metrics = run(model, ["likelihood"], Protocol(samples=1), "Digits")
    return next(m.value for m in metrics if m.name == "elbo")


def main(out: Path) -> None:
    """Run the demonstration and write its pictures and the fine-tuned checkpoint under `out`."""
    vae = from_pretrained("vae-mnist")
    torch.manual_seed(0)
    save_grid(vae.sample(64), out / "samples.png")
    save_grid(vae.decode(vae.prior().sample((64,))), out / "sample-means.png")

    x = next(iter(held_out(data_module(vae, "Digits"))))["image"]  # new to the model
    pairs = torch.cat([x[:10], vae.reconstruct(x[:10]).detach()])
    save_grid(pairs, out / "reconstructions.png", columns=10)
    paths = [interpolate(vae, x[i], x[i + 1], steps=10) for i in range(0, 12, 2)]
    save_grid(torch.cat(paths), out / "interpolation.png", columns=10)
    before = elbo(vae)

    print("Fine-tuning vae-mnist on scikit-learn's digits by the recipe finetune/vae-digits ...")
    trained = fit.run(
        "fit", "finetune/vae-digits", ["--trainer.logger.init_args.save_dir", str(out / "runs")]
    )
    folder = out / "vae-digits"
    best = trained.best_checkpoint()
    assert best is not None  # the recipe keeps one
    export(best, folder)

    tuned = from_pretrained(str(folder))
    write_metrics(folder, run(tuned, ["likelihood"], Protocol(samples=100)))
    write_card(folder)
    torch.manual_seed(0)
    save_grid(tuned.sample(64), out / "samples-after.png")

    print(f"Test ELBO on Digits before fine-tuning: {before:8.2f} nats/image")
    print(f"Test ELBO on Digits after fine-tuning:  {elbo(tuned):8.2f} nats/image")
    print(f"Pictures: {', '.join(sorted(str(p) for p in out.glob('*.png')))}")
    print(f'Your checkpoint: zoo.from_pretrained("{folder}")')


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out"))
