"""The `zoo` command. What a command does not need is not imported for it."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import recipes
from zoo import __version__, catalog, checkpoint
from zoo.errors import ZooError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.base import Batch, LatentVariableModel
    from zoo.verification import Check

_TRAINING = {
    "fit": "train a recipe, or fine-tune by one",
    "validate": "measure a recipe's model on its validation set",
    "test": "measure a recipe's model on its test set",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, with the nearest name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "allow_abbrev": False})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # The parser of the sub-command answers: only it knows which flags come near.
        found, extra = super().parse_known_args(args, namespace)
        if extra:
            flags = [option for action in self._actions for option in action.option_strings]
            what = "flag" if extra[0].startswith("-") else "argument"
            word = extra[0].partition("=")[0]
            hint = nearest(word, flags) if what == "flag" else f"see {self.prog} --help."
            self.error(f"unknown {what} {word}; {hint}")
        return found, extra

    def error(self, message: str) -> NoReturn:
        chosen = re.match(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if chosen:
            known = [word.strip(" '") for word in chosen[3].split(",")]
            message = f"there is no {chosen[1]} {chosen[2]!r}; {nearest(chosen[2], known)}"
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="zoo",
        description="Latent-variable models, from PCA to diffusion: train, load, sample, measure.",
    )
    parser.add_argument("--version", action="version", version=f"zoo {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    for name, summary in _TRAINING.items():
        flags = f"Every other flag overrides the recipe: `zoo {name} RECIPE --help` lists them."
        command = commands.add_parser(name, help=summary, epilog=flags)
        command.add_argument("recipe", help="name (see `zoo recipes`) or path of a YAML file")

    command = commands.add_parser("recipes", help="list the recipes, or copy one to edit")
    actions = command.add_subparsers(dest="action", parser_class=_Parser)
    copy = actions.add_parser("copy", help="write a recipe to a file of yours")
    copy.add_argument("recipe")
    copy.add_argument("file", type=Path)

    command = commands.add_parser("data", help="list the data sets, or describe and preview one")
    command.add_argument("name", nargs="?", help="such as MNIST; by default, all are listed")
    command.add_argument("--preview", type=Path, metavar="PNG", help="draw examples to this file")
    command.add_argument("-n", type=int, help="how many examples to draw; 24 by default")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="an argument of the data set, such as root=FOLDER; may be given again",
    )

    command = commands.add_parser("list", help="list the pretrained models")
    command.add_argument("pattern", nargs="?", default="*", help="such as '*-mnist'")
    command.add_argument("--verb", help="only models that can do this, such as encode")

    command = commands.add_parser("info", help="describe a pretrained model")
    command.add_argument("model", help="name or folder")

    command = _picture_command(commands, "sample", "draw samples", default_n=64)
    command.add_argument("--mean", action="store_true", help="show the mean of p(x | z), no draw")

    command = _picture_command(commands, "reconstruct", "held-out images and their reconstructions")
    _input_arguments(command)

    moving = "; .gif and .apng move"
    command = _picture_command(
        commands, "interpolate", "paths between pairs of held-out images", kinds=moving
    )
    _input_arguments(command)
    command.add_argument("--steps", type=int, default=10, help="images on a path")
    command.add_argument("--path", choices=["linear", "spherical"], default="linear")

    command = _picture_command(
        commands, "traverse", "vary one latent dimension a row", default_n=1, kinds=moving
    )
    _input_arguments(command)
    command.add_argument("--steps", type=int, default=9, help="values of each dimension")
    command.add_argument("--dims", type=int, nargs="+", help="latent dimensions; by default all")

    command = _picture_command(
        commands, "direction", "give held-out images more and less of an attribute", kinds=moving
    )
    _input_arguments(command)
    command.add_argument("--attribute", required=True, help="such as Smiling, or a label such as 3")
    command.add_argument("--against", help="another, instead of all data without the attribute")
    command.add_argument(
        "--balance", nargs="+", default=[], help="attributes that are not to change with it"
    )
    command.add_argument("--span", type=float, default=2.0, help="strengths go from minus to plus")
    command.add_argument("--steps", type=int, default=9, help="strengths")
    command.add_argument(
        "--limit", type=int, default=10_000, help="training images that show what the attribute is"
    )

    command = _picture_command(commands, "denoise", "hide pixels of held-out images, and restore")
    _input_arguments(command)
    command.add_argument("--noise", type=float, default=0.5, help="share of the pixels")

    command = _picture_command(commands, "map", "codes of held-out data in the plane", 2000)
    command.add_argument("--method", choices=["pca", "tsne", "umap"], default="tsne")
    command.add_argument("--data", help="name of a DataModule; by default the model's own")
    command.add_argument("--attribute", help="colour by this one; by default, by label")

    command = commands.add_parser("evaluate", help="measure a model on its test set")
    command.add_argument("model", help="name or folder")
    command.add_argument("--data", help="name of a DataModule; by default the model's own")
    _suite_argument(command, "card")
    command.add_argument("--samples", type=int, help="importance samples an image")
    command.add_argument("--limit", type=int, help="only so many images")
    command.add_argument("--seed", type=int)
    command.add_argument("--write", action="store_true", help="write metrics.json and the card")
    _device_argument(command)

    command = commands.add_parser("compare", help="put models side by side: a table and pictures")
    command.add_argument("models", nargs="+", help="names, folders, or patterns such as '*-mnist'")
    command.add_argument("--on", help="name of a DataModule; by default each model's own")
    _suite_argument(command, "quick")
    command.add_argument(
        "-o", "--output", type=Path, help="folder for comparison.csv, comparison.html, pictures.png"
    )
    _device_argument(command)

    command = commands.add_parser("verify", help="check a model's files and measure its numbers")
    command.add_argument("model", help="name, folder, or organisation/name on the Hub")
    command.add_argument("--revision", help="branch, tag or commit on the Hub")
    command.add_argument("--quick", action="store_true", help="1,000 images; takes seconds")
    command.add_argument("--json", action="store_true", help="print the checks as JSON")
    _device_argument(command)

    command = commands.add_parser("reproduce", help="train a model's recipe again, and compare")
    command.add_argument("model", help="name of a shipped model")
    command.add_argument("--seed", type=int, help="of the training; by default the recipe's")
    command.add_argument("--budget", type=float, default=1.0, help="share of the recipe's epochs")
    command.add_argument("--full", action="store_true", help="measure by the card's own protocol")
    command.add_argument("--record", action="store_true", help="add the result to the card's band")
    command.add_argument("--json", action="store_true", help="print the checks as JSON")
    _device_argument(command)

    command = commands.add_parser("export", help="turn a training checkpoint into a model folder")
    command.add_argument("ckpt", type=Path)
    command.add_argument("folder", type=Path)
    command.add_argument("--half", action="store_true", help="store the weights in 16 bits each")

    command = commands.add_parser("pull", help="download a model from the Hugging Face Hub")
    command.add_argument("model", nargs="?", help="organisation/name, or a model of the zoo")
    command.add_argument("folder", type=Path, nargs="?", help="copy it here; by default, the cache")
    command.add_argument("--revision", help="branch, tag or commit")
    command.add_argument("--all", action="store_true", help="all models of the zoo, into the cache")

    command = commands.add_parser("push", help="upload a model folder to the Hugging Face Hub")
    command.add_argument("folder", type=Path, nargs="?")
    command.add_argument("repository", nargs="?", help="organisation/name")
    command.add_argument("--all", action="store_true", help="all models that ship with the package")
    command.add_argument("--organisation", help="whose repositories --all writes to")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--revision", help="branch")
    command.add_argument("--message", help="title of the commit")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    command.add_argument("--replace-card", action="store_true", help="overwrite the Hub's README")

    command = commands.add_parser("card", help="write a model folder's card from its files")
    command.add_argument("folder", type=Path)
    command.add_argument("--draw", action="store_true", help="draw its pictures first: needs data")
    command.add_argument("--data", help="name of a DataModule; by default the model's own")
    return parser


def _picture_command(
    commands: Any, name: str, summary: str, default_n: int = 8, kinds: str = ""
) -> _Parser:
    command: _Parser = commands.add_parser(name, help=summary)
    command.add_argument("model", help="name or folder")
    command.add_argument("-n", type=int, default=default_n, help="how many")
    command.add_argument(
        "-o", "--output", type=Path, default=Path(f"{name}.png"), help=f"PNG file{kinds}"
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--given", metavar="LABEL", help="which condition a conditional model is given"
    )
    return command


def _suite_argument(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--suite",
        choices=["quick", "card", "full"],
        default=default,
        help="likelihood, probes of codes and distances of samples, on 1,000 images (quick) or all "
        "(card), and what the ELBO's gap is made of (full); flags change it; %(default)s if left "
        "out",
    )


def _device_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", help="such as cpu or cuda; by default the fastest there is")


def _input_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", help="name of a DataModule; by default the model's own")
    command.add_argument("--images", type=Path, help="a folder of your own pictures instead")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after `zoo`; by default those of the process.

    Returns:
        The exit code: 0, 1 for an error of the user's with a sentence on stderr, 2 for bad usage.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # argparse would take a recipe's flags for its own.
        if len(words) > 1 and words[0] in _TRAINING and words[1] not in ("-h", "--help"):
            if words[1].startswith("-"):
                raise ZooError(
                    f"zoo {words[0]} needs a recipe before {words[1]}; `zoo recipes` lists them."
                )
            from zoo import fit

            fit.run(words[0], words[1], words[2:])
            return 0
        args = _parser().parse_args(words)
        _COMMANDS[args.command](args)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    except KeyboardInterrupt:
        print("zoo: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except (ValueError, NotImplementedError, OSError) as error:
        print(f"zoo: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def _train(args: argparse.Namespace) -> None:
    raise ZooError(f"zoo {args.command} needs a recipe; `zoo recipes` lists them.")


def _recipes(args: argparse.Namespace) -> None:
    if args.action is None:
        width = max(map(len, recipes.names()))
        for name in recipes.names():
            print(f"{name:{width}}  {recipes.summary(name)}")
        return
    if args.recipe not in recipes.names():
        raise ZooError(
            f"there is no recipe {args.recipe!r}; {nearest(args.recipe, recipes.names())}"
        )
    if args.file.exists():
        raise ZooError(f"{args.file} exists already; give a new file name.")
    checkpoint.write_text(args.file, recipes.path(args.recipe).read_text(encoding="utf-8"))
    print(f"Edit {args.file}, then: zoo fit {args.file}")


def _data(args: argparse.Namespace) -> None:
    from zoo import data

    data.run(args.name, args.settings, args.preview, args.n)


def _list(args: argparse.Namespace) -> None:
    names = catalog.list_models(args.pattern, args.verb)
    if not names:
        raise ZooError(
            f"no model matches {args.pattern!r}; {nearest(args.pattern, catalog.list_models())}"
        )
    rows = [("name", "family", "data", "latent", "parameters", "verbs")]
    for name in names:
        d = catalog.describe(name)
        latent = "x".join(map(str, d.latent_shape)) or "1"
        rows.append((name, d.family, d.data, latent, f"{d.parameters:,}", " ".join(d.verbs)))
    _print_table(rows)


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())


def _info(args: argparse.Namespace) -> None:
    d = catalog.describe(args.model)
    print(f"{d.name}: {d.family} trained on {d.data}")
    print(f"  latent shape  {' x '.join(map(str, d.latent_shape)) or 1}")
    print(f"  parameters    {d.parameters:,} ({d.bytes / 1e6:.1f} MB)")
    print(f"  licence       {d.license}")
    print(f"  verbs         {', '.join(d.verbs)}")
    if d.base_model:
        print(f"  base model    {d.base_model}")
    _print_metrics(d.metrics, "  ")


def _print_metrics(metrics: Sequence[dict[str, Any]], indent: str = "") -> None:
    width = max((len(metric["name"]) for metric in metrics), default=0)
    for m in metrics:
        error = f" ± {m['standard_error']}" if m["standard_error"] else ""
        print(f"{indent}{m['name']:<{width}} {m['value']}{error} {m['unit']}, {m['kind']}")


def _load(args: argparse.Namespace) -> "LatentVariableModel":
    import torch

    from zoo.pretrained import from_pretrained

    if getattr(args, "n", 1) < 1:
        raise ZooError(f"-n is {args.n}, but at least 1 is needed.")
    model = from_pretrained(args.model)
    if args.given is not None:
        model = model.given(args.given)
    torch.manual_seed(args.seed)
    return model


def _test_batch(model: "LatentVariableModel", args: argparse.Namespace, n: int) -> "Batch":
    """The first n images of the test set with their labels, or of the user's own folder."""
    from zoo.protocol import data_module

    if model.datum != "image":
        raise ZooError(
            f"{args.model} is a model of {model.datum}s, which cannot be drawn as pictures; "
            f"`zoo sample {args.model}` prints some, and zoo.from_pretrained has its verbs."
        )
    if args.images is not None:
        found: Batch = {"image": _own_images(model, args.images.expanduser(), n)}
    else:
        module = data_module(model, args.data)
        module.batch_size = n
        module.prepare_data()
        module.setup("test")
        found = next(iter(module.test_dataloader()))
    if len(found["image"]) < n:
        raise ZooError(
            f"{n} images are needed, but there are only {len(found['image'])}; lower -n."
        )
    return found


def _own_images(model: "LatentVariableModel", folder: Path, n: int) -> "Tensor":
    """The first n readable pictures of a folder, as the model takes them: (at most n, C, H, W)."""
    import numpy as np
    import torch

    from datamodules.folder import picture_files, read_pictures, warn_of

    channels, height, width = model.x_shape
    if channels not in (1, 3) or height != width:
        raise ZooError(
            f"the model takes images of {channels}x{height}x{width}, and pictures are "
            "read as grey or colour squares; use --data instead of --images."
        )
    files = picture_files(folder)
    pixels: list[Any] = []
    bad: dict[Path, str] = {}
    while files and len(pixels) < n:
        some, files = files[: n - len(pixels)], files[n - len(pixels) :]
        pictures, unread = read_pictures(folder, some, width, channels)
        pixels += [picture for picture in pictures if picture is not None]
        bad |= unread
    if bad:
        warn_of(bad, len(pixels) + len(bad), folder)
    if not pixels:
        raise ZooError(f"{folder} holds no picture that can be read; put others there.")
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def _save(images: "Tensor", columns: int | None, args: argparse.Namespace) -> None:
    from zoo.plots import ANIMATIONS, save_grid

    if args.output.suffix.lower() in ANIMATIONS:
        raise ZooError(f"zoo {args.command} draws one picture; let {args.output} end in .png.")
    save_grid(images, args.output, columns)
    print(args.output)


def _save_paths(paths: "Tensor", args: argparse.Namespace) -> None:
    """Write paths of images, (N, T, C, H, W): a row each, or all of them in motion."""
    from zoo.plots import ANIMATIONS, save_animation

    if args.output.suffix.lower() not in ANIMATIONS:
        _save(paths.flatten(0, 1), paths.shape[1], args)
        return
    save_animation(paths, args.output)
    print(args.output)


def _sample(args: argparse.Namespace) -> None:
    from zoo.gallery import in_rows

    model = _load(args)
    if model.datum != "image":
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

    from zoo.latent import interpolate

    model = _load(args)
    x = _test_batch(model, args, 2 * args.n)["image"]
    paths = [
        interpolate(model, a, b, args.steps, args.path)
        for a, b in zip(x[: args.n], x[args.n :], strict=True)
    ]
    _save_paths(torch.stack(paths), args)


def _traverse(args: argparse.Namespace) -> None:
    import torch

    from zoo.evaluation import part
    from zoo.latent import traverse

    model = _load(args)
    batch = _test_batch(model, args, args.n)
    rows = [
        traverse(model.conditioned(part(batch, i, i + 1)), x, args.dims, steps=args.steps)
        for i, x in enumerate(batch["image"])
    ]
    _save_paths(torch.cat(rows), args)


def _direction(args: argparse.Namespace) -> None:
    import torch

    from zoo.latent import direction, move
    from zoo.protocol import data_module

    model = _load(args)
    for flag, least in (("steps", 1), ("limit", 2)):
        if getattr(args, flag) < least:
            raise ZooError(f"{flag} is {getattr(args, flag)}, but must be at least {least}.")
    x = _test_batch(model, args, args.n)["image"]
    data = data_module(model, args.data)
    found = direction(model, data, args.attribute, args.against, args.balance, args.limit)
    strengths = torch.linspace(-args.span, args.span, args.steps).tolist()
    _save_paths(torch.stack([move(model, one, found, strengths) for one in x]), args)


def _denoise(args: argparse.Namespace) -> None:
    import torch

    from zoo.latent import denoise

    model = _load(args)
    batch = _test_batch(model, args, args.n)
    x = batch["image"]
    noisy, restored, before, after = denoise(model.conditioned(batch), x, args.noise)
    print(f"mean squared error a pixel: {before.mean():.5f} before, {after.mean():.5f} after")
    _save(torch.cat([noisy, restored, x]), args.n, args)


def _map(args: argparse.Namespace) -> None:
    import torch

    from zoo.gallery import draw_map
    from zoo.latent import encoded
    from zoo.protocol import data_module, held_out

    model = _load(args)
    if len(model.latent_shape) != 1:
        raise ZooError(f"a map is of codes that are vectors, and those of {args.model} are not.")
    data = data_module(model, args.data)
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


def _device(args: argparse.Namespace) -> str:
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    name = args.device or str(found or "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):  # torch's own texts are pages long
        raise ZooError(f"there is no device {name!r} here; try --device cpu.") from None
    return name


def _evaluate(args: argparse.Namespace) -> None:
    from zoo.cards import refresh, write_metrics
    from zoo.pretrained import from_pretrained
    from zoo.protocol import quick_of, with_quick_values
    from zoo.suites import SUITES, forget, run, work_folder

    folder, device = catalog.locate(args.model), _device(args)
    model = from_pretrained(args.model).to(device)
    suite = SUITES[args.suite]
    flags = {"samples": args.samples, "limit": args.limit, "seed": args.seed}
    protocol = suite.protocol._replace(**{k: v for k, v in flags.items() if v is not None})
    work = work_folder(folder, protocol, args.data, device)
    metrics = run(model, suite.jobs, protocol, args.data, work)
    if not metrics:
        raise ZooError(f"nothing of {args.model} can be measured on these data; see --data.")
    _print_metrics(metrics)
    if args.write:
        short = quick_of(protocol.samples)
        rough = work_folder(folder, short, args.data, device)
        quick = run(model, SUITES["quick"].jobs, short, args.data, rough)
        write_metrics(folder, with_quick_values(metrics, quick))
        refresh(folder)
        forget(rough)
    forget(work)


def _compare(args: argparse.Namespace) -> None:
    from zoo.comparison import compare, markdown, table, write

    device = _device(args)
    rows = compare(args.models, args.on, args.suite, device)
    print(markdown(table(rows)))
    if args.output is not None:
        about = f"zoo compare, version {__version__}, {args.suite} suite, on {device}."
        for path in write(rows, args.output.expanduser(), about):
            print(path)


def _verify(args: argparse.Namespace) -> None:
    from zoo.verification import verify

    checks = verify(args.model, revision=args.revision, quick=args.quick, device=_device(args))
    _report(args, checks, {"model": args.model, "quick": args.quick})


def _reproduce(args: argparse.Namespace) -> None:
    from zoo.reproduction import reproduce

    result = reproduce(
        args.model,
        seed=args.seed,
        budget=args.budget,
        full=args.full,
        record=args.record,
        device=_device(args),
    )
    facts = {"model": args.model, "checkpoint": str(result.checkpoint), "note": result.note}
    _report(args, result.checks, facts)


def _report(args: argparse.Namespace, checks: "list[Check]", facts: dict[str, Any]) -> None:
    """Print what was checked, as a table or as JSON.

    Raises:
        ZooError: if a check failed.
    """
    failed = [check.what for check in checks if not check.passed]
    if args.json:
        found = {**facts, "passed": not failed, "checks": [asdict(check) for check in checks]}
        print(json.dumps(found, indent=2))
    else:
        rows: list[tuple[str, ...]] = [("check", "", "stated", "measured", "tolerance", "")]
        for c in checks:
            numbers = (c.stated, c.measured, c.tolerance)
            cells = ("" if number is None else f"{number:g}" for number in numbers)
            rows.append((c.what, "ok" if c.passed else "FAILED", *cells, c.note))
        _print_table(rows)
        if facts.get("note"):
            print(facts["note"])
    if failed:
        raise ZooError(
            f"{args.model} failed {len(failed)} of {len(checks)} checks: {', '.join(failed)}."
        )


def _export(args: argparse.Namespace) -> None:
    from zoo.cards import refresh
    from zoo.pretrained import export

    export(args.ckpt, args.folder, half=args.half)
    refresh(args.folder)
    print(f'{args.folder}: load it with zoo.from_pretrained("{args.folder}")')


def _pull(args: argparse.Namespace) -> None:
    if args.all:
        if args.model is not None:
            raise ZooError(f"--all fetches every model into the cache; leave out {args.model}.")
        _for_all(lambda name: str(catalog.pull(name, args.revision)))
        return
    if args.model is None:
        raise ZooError("zoo pull needs organisation/name, the name of a model, or --all.")
    folder = catalog.pull(args.model, args.revision)
    if args.folder is not None:
        checkpoint.copy(folder, args.folder)
        folder = args.folder
    print(folder)


def _push(args: argparse.Namespace) -> None:
    if args.all:
        if args.folder is not None or args.organisation is None:
            raise ZooError("to push all, write: zoo push --all --organisation ORGANISATION.")
        owner = args.organisation
        _for_all(lambda name: _push_one(args, catalog.shipped(name), f"{owner}/{name}"))
        return
    if args.repository is None:
        raise ZooError("zoo push needs a folder and organisation/name, or --all.")
    print(_push_one(args, args.folder, args.repository))


def _push_one(args: argparse.Namespace, folder: Path, repository: str) -> str:
    from zoo import hub
    from zoo.pretrained import check_golden, from_pretrained

    check_golden(from_pretrained(str(folder)), folder)
    result = hub.push(
        folder,
        repository,
        files=checkpoint.FILES,
        private=args.private or None,
        revision=args.revision,
        commit_message=args.message,
        create_pr=args.create_pr,
        keep_readme=not args.replace_card,
    )
    return result.url if result.changed else f"{result.url} holds the same files already"


def _for_all(act: Callable[[str], str]) -> None:
    """Act on every shipped model and print what came of it; one that fails stops no other.

    Raises:
        ZooError: at the end, if any failed.
    """
    names = catalog.list_models()
    failed = []
    for name in names:
        try:
            print(f"{name}: {act(name)}")
        except (ValueError, OSError) as error:
            failed.append(name)
            print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
    if failed:
        raise ZooError(f"{len(failed)} of {len(names)} models failed: {', '.join(failed)}.")


def _card(args: argparse.Namespace) -> None:
    from zoo.cards import refresh

    if args.draw:
        from zoo.gallery import draw, draw_directions, has_directions
        from zoo.pretrained import from_pretrained
        from zoo.protocol import data_module, held_out

        model = from_pretrained(str(args.folder))
        data = data_module(model, args.data)
        data.prepare_data()
        data.setup("test")
        draw(model, args.folder, held_out(data), data.label_names)
        if has_directions(model, data):
            x = next(iter(held_out(data, 4)))["image"]
            draw_directions(model, data, x, args.folder / "directions.png")
    refresh(args.folder)


_COMMANDS = {
    **dict.fromkeys(_TRAINING, _train),
    "recipes": _recipes,
    "data": _data,
    "list": _list,
    "info": _info,
    "sample": _sample,
    "reconstruct": _reconstruct,
    "interpolate": _interpolate,
    "traverse": _traverse,
    "direction": _direction,
    "denoise": _denoise,
    "map": _map,
    "evaluate": _evaluate,
    "compare": _compare,
    "verify": _verify,
    "reproduce": _reproduce,
    "export": _export,
    "pull": _pull,
    "push": _push,
    "card": _card,
}


if __name__ == "__main__":
    sys.exit(main())
