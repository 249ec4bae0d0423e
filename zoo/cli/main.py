"""The `zoo` command. What a command does not need is not imported for it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from zoo.cli.listing import _info, _list, _recipes
from zoo.cli.measuring import (
    _compare,
    _device_argument,
    _evaluate,
    _reproduce,
    _suite_argument,
    _verify,
)
from zoo.cli.pictures import (
    _denoise,
    _direction,
    _input_arguments,
    _interpolate,
    _map,
    _picture_command,
    _reconstruct,
    _sample,
    _traverse,
)
from zoo.cli.sharing import _card, _export, _pull, _push
from zoo.cli.words import _Parser
from zoo.errors import ZooError
from zoo.version import __version__

_TRAINING = {
    "fit": "train a recipe, or fine-tune by one",
    "validate": "measure a recipe's model on its validation set",
    "test": "measure a recipe's model on its test set",
}


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
            from zoo.training.fit import run

            run(words[0], words[1], words[2:])
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


def _data(args: argparse.Namespace) -> None:
    from zoo.cli import data

    data.run(args.name, args.settings, args.preview, args.n)


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
