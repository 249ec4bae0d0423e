"""Commands that draw pictures."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli.data import add_data, chosen
from zoo.cli.words import Parser
from zoo.errors import ZooError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.base import LatentVariableModel
    from zoo.batches import Batch
    from zoo.datamodules.base import DataModule

Run = Callable[[argparse.Namespace], None]


def add(commands: Any) -> None:
    """Add `sample`, `reconstruct`, `interpolate`, `traverse`, `direction`, `denoise` and `map`."""
    moving = "; .gif and .apng move"

    command = _command(commands, "sample", _sample, "draw samples", n=64)
    command.add_argument("--mean", action="store_true", help="draw the means of p(x | z) instead")

    summary = "draw held-out images and their reconstructions"
    _command_on_images(commands, "reconstruct", _reconstruct, summary)

    summary = "draw paths between pairs of held-out images"
    command = _command_on_images(commands, "interpolate", _interpolate, summary, kinds=moving)
    command.add_argument("--steps", type=int, default=10, help="images of a path")
    paths = ["linear", "spherical"]
    command.add_argument("--path", type=str.lower, choices=paths, default="linear")

    summary = "vary one latent dimension a row"
    command = _command_on_images(commands, "traverse", _traverse, summary, n=1, kinds=moving)
    command.add_argument("--steps", type=int, default=9, help="values of each dimension")
    command.add_argument("--dims", type=int, nargs="+", help="latent dimensions; by default all")

    summary = "give held-out images more and less of an attribute"
    command = _command_on_images(commands, "direction", _direction, summary, kinds=moving)
    command.add_argument("--attribute", required=True, help="such as Smiling, or a label such as 3")
    command.add_argument(
        "--against", help="attribute to compare with; by default, all data without the first"
    )
    command.add_argument("--balance", nargs="+", default=[], help="attributes to keep as they are")
    command.add_argument("--span", type=float, default=2.0, help="strengths go from -SPAN to SPAN")
    command.add_argument("--steps", type=int, default=9, help="number of strengths")
    command.add_argument(
        "--limit", type=int, default=10_000, help="training images to find the direction with"
    )

    summary = "hide pixels of held-out images, and restore them"
    command = _command_on_images(commands, "denoise", _denoise, summary)
    command.add_argument("--noise", type=float, default=0.5, help="share of the pixels to hide")

    command = _command(commands, "map", _map, "draw a map of codes of held-out data", n=2000)
    methods = ["pca", "tsne", "umap"]
    command.add_argument("--method", type=str.lower, choices=methods, default="tsne")
    add_data(command)
    command.add_argument("--attribute", help="attribute to colour by; by default, the label")


def _command(
    commands: Any, name: str, run: Run, summary: str, n: int = 8, kinds: str = ""
) -> Parser:
    """A command that draws a picture of a model, with the flags that all of them have."""
    command: Parser = commands.add_parser(name, help=summary)
    command.set_defaults(run=run)
    command.add_argument("model", help="name or folder")
    command.add_argument("-n", type=int, default=n, help="how many")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(f"{name}.png"),
        help=f"PNG, JPEG or WebP file{kinds}",
    )
    command.add_argument("--seed", type=int, default=0, help="seed of all draws")
    command.add_argument("--given", metavar="LABEL", help="condition of a conditional model")
    return command


def _command_on_images(
    commands: Any, name: str, run: Run, summary: str, n: int = 8, kinds: str = ""
) -> Parser:
    """A command that draws what a model makes of images, with the flags that say which."""
    command = _command(commands, name, run, summary, n, kinds)
    add_data(command)
    return command


def _load(args: argparse.Namespace) -> "LatentVariableModel":
    import torch

    from zoo.plots.grids import ANIMATIONS, PICTURES, check_suffix
    from zoo.pretrained.loading import from_pretrained

    check_suffix(args.output, {**PICTURES, **ANIMATIONS})
    if getattr(args, "n", 1) < 1:
        raise ZooError(f"-n is {args.n}, but at least 1 is needed.")
    model = from_pretrained(args.model)
    if args.given is not None:
        model = model.given(args.given)
    torch.manual_seed(args.seed)
    return model


def _test_batch(model: "LatentVariableModel", args: argparse.Namespace, n: int) -> "Batch":
    """The first n images of the test set with their labels, or of the user's own folder."""
    if model.modality != "image":
        raise ZooError(
            f"{args.model} is a model of {model.modality}s, which cannot be drawn as pictures; "
            f"`zoo sample {args.model}` prints some, and zoo.from_pretrained has its verbs."
        )
    if args.images is not None:
        found: Batch = {"image": _own_images(model, args.images.expanduser(), n)}
    else:
        module = _data(model, args)
        module.batch_size = n
        module.prepare_data()
        module.setup("test")
        found = next(iter(module.test_dataloader()))
    if len(found["image"]) < n:
        raise ZooError(
            f"{n} images are needed, but there are only {len(found['image'])}; lower -n."
        )
    return found


def _data(model: "LatentVariableModel", args: argparse.Namespace) -> "DataModule":
    """The data that the flags say."""
    from zoo.evaluation.data import data_module

    return data_module(model, *chosen(args, lambda: model.data))


def _own_images(model: "LatentVariableModel", folder: Path, n: int) -> "Tensor":
    """The first n readable pictures of a folder, as the model takes them: (at most n, C, H, W)."""
    from zoo.datamodules.images.folder import first_pictures

    channels, height, width = model.x_shape
    if channels not in (1, 3) or height != width:
        raise ZooError(
            f"the model takes images of {channels}x{height}x{width}, and pictures are "
            "read as grey or colour squares; use --data instead of --images."
        )
    return first_pictures(folder, n, width, channels)


def _save(images: "Tensor", columns: int | None, args: argparse.Namespace) -> None:
    from zoo.plots.grids import ANIMATIONS, save_grid

    if args.output.suffix.lower() in ANIMATIONS:
        raise ZooError(f"zoo {args.command} draws one picture; let {args.output} end in .png.")
    save_grid(images, args.output, columns)
    print(args.output)


def _save_paths(paths: "Tensor", args: argparse.Namespace) -> None:
    """Write paths of images, (N, T, C, H, W): a row each, or all of them in motion."""
    from zoo.plots.grids import ANIMATIONS, save_animation

    if args.output.suffix.lower() not in ANIMATIONS:
        _save(paths.flatten(0, 1), paths.shape[1], args)
        return
    save_animation(paths, args.output)
    print(args.output)


def _sample(args: argparse.Namespace) -> None:
    from zoo.pretrained.gallery import in_rows

    model = _load(args)
    if model.modality != "image":
        print("\n".join(model.texts(args.n)))
        return
    model, n, columns = in_rows(model, args.n)
    draws = model.decode(model.prior().sample((n,))) if args.mean else model.sample(n)
    _save(draws, columns, args)


def _reconstruct(args: argparse.Namespace) -> None:
    import torch

    model = _load(args)
    batch = _test_batch(model, args, args.n)
    x = batch["image"]
    _save(torch.cat([x, model.conditioned(batch).reconstruct(x)]), args.n, args)


def _interpolate(args: argparse.Namespace) -> None:
    import torch

    from zoo.tasks.paths import interpolate

    model = _load(args)
    x = _test_batch(model, args, 2 * args.n)["image"]
    paths = [
        interpolate(model, a, b, args.steps, args.path)
        for a, b in zip(x[: args.n], x[args.n :], strict=True)
    ]
    _save_paths(torch.stack(paths), args)


def _traverse(args: argparse.Namespace) -> None:
    import torch

    from zoo.batches import part
    from zoo.tasks.paths import traverse

    model = _load(args)
    batch = _test_batch(model, args, args.n)
    rows = [
        traverse(model.conditioned(part(batch, i, i + 1)), x, args.dims, steps=args.steps)
        for i, x in enumerate(batch["image"])
    ]
    _save_paths(torch.cat(rows), args)


def _direction(args: argparse.Namespace) -> None:
    import torch

    from zoo.tasks.directions import direction, move

    model = _load(args)
    for flag, least in (("steps", 1), ("limit", 2)):
        if getattr(args, flag) < least:
            raise ZooError(f"{flag} is {getattr(args, flag)}, but must be at least {least}.")
    x = _test_batch(model, args, args.n)["image"]
    data = _data(model, args)
    found = direction(model, data, args.attribute, args.against, args.balance, args.limit)
    strengths = torch.linspace(-args.span, args.span, args.steps).tolist()
    _save_paths(torch.stack([move(model, one, found, strengths) for one in x]), args)


def _denoise(args: argparse.Namespace) -> None:
    import torch

    from zoo.tasks.denoising import denoise

    model = _load(args)
    batch = _test_batch(model, args, args.n)
    x = batch["image"]
    noisy, restored, before, after = denoise(model.conditioned(batch), x, args.noise)
    print(f"mean squared error a pixel: {before.mean():.5f} before, {after.mean():.5f} after")
    _save(torch.cat([noisy, restored, x]), args.n, args)


def _map(args: argparse.Namespace) -> None:
    import torch

    from zoo.evaluation.data import held_out
    from zoo.pretrained.gallery import draw_map
    from zoo.tasks.directions import encoded

    model = _load(args)
    if len(model.latent_shape) != 1:
        raise ZooError(f"a map is of codes that are vectors, and those of {args.model} are not.")
    data = _data(model, args)
    data.prepare_data()
    data.setup("test")
    names = data.label_names
    if args.attribute is not None:
        names = (f"without {args.attribute}", f"with {args.attribute}")
    if not names:
        raise ZooError(f"{type(data).__name__} has no labels; colour by --attribute NAME.")

    def kind(batch: Any) -> torch.Tensor:
        named = args.attribute is not None
        return data.attribute(batch, args.attribute) if named else torch.as_tensor(batch["label"])

    codes, kinds = encoded(model, held_out(data, args.n), kind)
    draw_map(codes, kinds, names, args.method, args.output)
    print(args.output)
