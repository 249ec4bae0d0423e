"""The `zoo` command. What a command does not need is not imported for it."""

import argparse
import sys
from collections.abc import Sequence

from zoo.cli import data, listing, measuring, pictures, predicting, sharing, training
from zoo.cli.words import Parser
from zoo.version import __version__

GROUPS = (training, data, listing, pictures, predicting, measuring, sharing)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after `zoo`; by default those of the process.

    Returns:
        The exit code: 0, 1 for an error of the user's with a sentence on stderr, 2 for bad usage.
    """
    try:
        args = _parser().parse_args(arguments)
        args.run(args)
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


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="zoo",
        description="Latent-variable models, from PCA to diffusion: train, load, sample, measure.",
    )
    parser.add_argument("--version", action="version", version=f"zoo {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    for group in GROUPS:
        group.add(commands)
    return parser
