"""Pictures per second of prepared CelebA at 64 x 64 against JPEG files and against a plain copy.

- CelebA: one epoch of `CelebA.train_dataloader()`, shuffled, in batches of 128 on the CPU, all that
  its batches hold included. The pictures have been prepared before the clock starts.
- torchvision: the same pictures from their JPEG files, as `ImageFolder` reads them (its
  `default_loader`), with `CenterCrop(148)`, `Resize(64)` and `ToTensor()`, through a shuffling
  `DataLoader` with 0 or 2 workers; images alone, no attributes.
- plain copy: as many pictures of 64 x 64 in an array in memory, `array[index]` with numpy for each
  batch of a random order, then float32 and division by 255 as the loader does it.

The first two are compared on the training pictures of the official folder, the last with CelebA on
the largest form that is there (npz shards with those without attributes, if `celeba64` is). Without
the official folder, drawn faces are written as one. A repetition is an epoch, or ten where CelebA
reads the official folder's pictures; all take turns after one round that warms caches up, and each
row is a median.

A last row reads the larger form with the limit for mapping it lowered to half of it, as is done
with a set of twice the limit, and says how much of the file counted as the process's memory then,
sampled after each batch (Linux).

Targets: at least 20 times torchvision with either number of workers, at least 0.8 of the copy.

    python benchmarks/celeba_read.py --repetitions 7
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from zoo.datamodules import CelebA, FakeFaces
from zoo.datamodules.faces.source import ATTRIBUTES
from zoo.datamodules.files import prepared
from zoo.datamodules.files.places import data_dir

TIMES, SHARE = 20, 0.8
BATCH = 128


class JPEGFiles(Dataset):
    """Pictures by their paths, as torchvision's ImageFolder holds them."""

    def __init__(self, paths: list[Path]):
        self.paths = paths
        self.transform = transforms.Compose(
            [transforms.CenterCrop(148), transforms.Resize(64), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(default_loader(str(self.paths[index])))


def write_folder(root: Path, n: int = 1000) -> None:
    """Write drawn faces in CelebA's official layout."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    module = FakeFaces(size=218, n=n)
    module.setup()
    names = [f"{number:06}.jpg" for number in range(1, n + 1)]
    for name, image in zip(names, module.splits["train"]["image"], strict=True):
        pixels = image[:, :, 20:198].permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name, quality=90)
    rows = "".join(f"{name}{' -1' * 40}\n" for name in names)
    (folder / "list_attr_celeba.txt").write_text(f"{n}\n{' '.join(ATTRIBUTES)}\n{rows}")
    parts = [0 if i < 0.8 * n else 1 + i % 2 for i in range(n)]
    pairs = list(zip(names, parts, strict=True))
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in pairs))
    (folder / "identity_CelebA.txt").write_text("".join(f"{n} 1\n" for n, _ in pairs))


def ready(**arguments) -> CelebA:
    module = CelebA(batch_size=BATCH, **arguments)
    module.prepare_data()
    module.setup()
    return module


def copied(images: np.ndarray) -> Iterator[Tensor]:
    """Batches of a random order, by numpy's indexing."""
    for index in torch.randperm(len(images)).split(BATCH):
        yield torch.from_numpy(images[index.numpy()]).float().div_(255)


def speed(batches: Iterator[Tensor | dict[str, Tensor]]) -> float:
    """Run through all batches; return pictures per second."""
    seen = 0
    start = time.perf_counter()
    for batch in batches:
        seen += len(batch["image"] if isinstance(batch, dict) else batch)
    return seen / (time.perf_counter() - start)


def file_pages() -> int:
    """Bytes of mapped files that count as this process's memory."""
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith("RssFile")]
    return int(line.split()[1]) * 1024


def epochs(module: CelebA, n: int) -> Iterator[dict[str, Tensor]]:
    """The training batches of n epochs."""
    return chain.from_iterable(module.train_dataloader() for _ in range(n))


def by_the_batch(module: CelebA) -> Iterator[dict[str, Tensor]]:
    """The training batches of a module that may map half of the file, and so reads it all."""
    whole = prepared.MAPPED
    prepared.MAPPED = module.splits["train"]["image"].nbytes // 2
    yield from module.train_dataloader()
    prepared.MAPPED = whole


def most_in_memory(module: CelebA) -> int:
    """The most that reading so adds to the pages of files, sampled after each batch."""
    before = file_pages()
    return max(file_pages() - before for _ in by_the_batch(module))


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of reading prepared CelebA.")
    parser.add_argument("--repetitions", type=int, default=7, help="epochs of each contestant")
    parser.add_argument("--threads", type=int, help="threads of torch; by default as torch chooses")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    with tempfile.TemporaryDirectory() as made:
        if CelebA.inventory().missing:
            print("CelebA is not there, so drawn faces are taken.")
            write_folder(Path(made))
            os.environ["ZOO_DATA"] = made
        run(args.repetitions)


def run(repetitions: int) -> None:
    shards = any((data_dir() / "celeba64").glob("*.npz"))
    larger = {"source": "shards", "unlabelled": True} if shards else {"source": "folder"}
    module, large = ready(source="folder"), ready(**larger)
    folder = data_dir() / "celeba" / "img_align_celeba"
    files = JPEGFiles([folder / f"{i:06}.jpg" for i in module.splits["train"]["image_id"].tolist()])
    images = large.splits["train"]["image"].clone().numpy()

    def jpeg_loader(workers: int) -> DataLoader:
        return DataLoader(files, BATCH, shuffle=True, num_workers=workers)

    contestants: dict[str, Callable[[], float]] = {
        "torchvision, 0 workers": lambda: speed(jpeg_loader(0)),
        "torchvision, 2 workers": lambda: speed(jpeg_loader(2)),
        "CelebA, the same pictures": lambda: speed(epochs(module, 10)),
        "plain copy": lambda: speed(copied(images)),
        "CelebA, as many as copied": lambda: speed(large.train_dataloader()),
        "the same, not mapped": lambda: speed(by_the_batch(large)),
    }
    for contest in contestants.values():
        contest()
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, contest in contestants.items():
            speeds[name].append(contest())

    print(
        f"{len(files):,} JPEG files, {len(images):,} pictures to copy, "
        f"{torch.get_num_threads()} threads, {repetitions} repetitions"
    )
    print(f"{'':28}{'pictures/s':>12}{'lowest':>10}{'highest':>10}")
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"{name:28}{medians[name]:12,.0f}{min(values):10,.0f}{max(values):10,.0f}")
    for workers in (0, 2):
        ratio = medians["CelebA, the same pictures"] / medians[f"torchvision, {workers} workers"]
        met = "met" if ratio >= TIMES else "not met"
        print(f"CelebA / torchvision, {workers} workers: {ratio:.1f} (target {TIMES}: {met})")
    ratio = medians["CelebA, as many as copied"] / medians["plain copy"]
    print(f"CelebA / copy: {ratio:.3f} (target {SHARE}: {'met' if ratio >= SHARE else 'not met'})")
    if Path("/proc/self/status").exists():
        most, whole = most_in_memory(ready(**larger)) / 2**20, images.nbytes / 2**20
        print(f"of it in memory at once: at most {most:.0f} of {whole:.0f} MiB")


if __name__ == "__main__":
    main()
