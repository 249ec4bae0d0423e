"""Model cards: README.md of a checkpoint folder, written from its other files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from zoo.checkpoints import catalog
from zoo.checkpoints.config import Config, read_config
from zoo.checkpoints.files import CARD, CONFIG, RECIPE, write_text
from zoo.checkpoints.markdown import markdown_row, markdown_table
from zoo.checkpoints.metrics import HEAD, Metric, read_metrics
from zoo.errors import ZooError, brief, shown

if TYPE_CHECKING:
    from zoo.datamodules.base import DataModule

_SHOWN = {  # by file: title and caption; see `_captions` for those of families and data sets
    "samples.png": ("Samples", "Uncurated draws from p(x), seed 0."),
    "means.png": ("Samples", "The means of p(x | z) for the same codes: `zoo sample --mean`."),
    "samples.txt": ("Samples", "Uncurated, seed 0."),
    "reconstructions.png": (
        "Reconstructions",
        "The first images of the test set, and below each what `reconstruct` makes of it.",
    ),
    "interpolations.png": (
        "Interpolations",
        "Between the codes of the first images of the test set: `zoo.interpolate`.",
    ),
    "traversals.png": (
        "Traversals",
        "One latent dimension a row, from -3 to 3, of the code of the first test image: the "
        "dimensions whose codes vary most.",
    ),
    "directions.png": ("Directions", ""),
    "map.png": (
        "Map of codes",
        "t-SNE of the codes of the first test images, at the most 2,000, by label. It shows who is "
        "near whom; sizes of clusters and distances between them mean nothing.",
    ),
    "parameters.png": ("Parameters", ""),
    "parameters.txt": ("Parameters", ""),
    "examples.png": ("Examples", ""),
    "examples.txt": ("Examples", ""),
}

TASK = "unconditional-image-generation"  # of checkpoints that do not say


def write_card(folder: Path, handle: str | None = None) -> None:
    """Write `folder/README.md` from config.json, metrics.json and the pictures beside them.

    Args:
        folder: A checkpoint folder.
        handle: The name that users will load it by; by default its name, or path, on this machine.

    Raises:
        ZooError: if the folder is no checkpoint or cannot be written to.
    """
    write_text(folder / CARD, card(folder, handle))


def refresh(folder: Path) -> None:
    """Write the card; of a shipped checkpoint, the pinned hashes and README's table too."""
    write_card(folder)
    if folder.resolve().parent == catalog.CARDS:
        catalog.write_pins()
        readme = catalog.CARDS.parent / "README.md"
        if readme.is_file():
            head, _, rest = readme.read_text(encoding="utf-8").partition("<!-- models -->")
            _, _, tail = rest.partition("<!-- /models -->")
            table = f"<!-- models -->\n{models_table()}\n<!-- /models -->"
            write_text(readme, head + table + tail)


def card(folder: Path, handle: str | None = None) -> str:
    """The card of a checkpoint folder: front matter, then prose."""
    config = read_config(folder)
    metrics = read_metrics(folder)
    if not config.summary.keys() >= {"latent_shape", "parameters"}:
        raise ZooError(f"{folder / CONFIG} has no whole 'summary'; export it again.")
    name = folder.resolve().name
    return (
        f"---\n{_front_matter(name, config, metrics)}\n---\n\n"
        + "\n\n".join(part for part in _prose(name, folder, config, metrics, handle) if part)
        + "\n"
    )


def _front_matter(name: str, config: Config, metrics: list[Metric]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    hub_dataset, task = _data_set(config).hub_id, config.summary.get("task", TASK)
    data = ModelCardData(
        license=config.license,
        library_name="latent-zoo",
        tags=["pytorch", "lightning", *config.summary.get("tags", ())],
        datasets=[hub_dataset] if hub_dataset else None,
        base_model=_base_model_on_the_hub(config.base_model),
        pipeline_tag=task,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=task,
                dataset_type=hub_dataset or metric.dataset.lower(),
                dataset_name=metric.dataset,
                dataset_split=metric.split,
                metric_type=metric.name,
                metric_name=f"{metric.name} ({metric.unit})",
                metric_value=metric.value,
            )
            for metric in metrics
        ]
        or None,
    )
    text: str = data.to_yaml()
    return text.strip()


def _base_model_on_the_hub(base_model: str | None) -> str | None:
    """What the Hub's front matter may name: a repository, and no folder of somebody's."""
    if base_model in catalog.list_models():
        return f"{catalog.ORGANISATION}/{base_model}"
    return base_model if base_model and base_model.count("/") == 1 else None


def _data_set(config: Config) -> "type[DataModule]":
    """The class of the training data, or the abstract one, which says nothing of them."""
    from zoo import datamodules
    from zoo.datamodules.base import DataModule

    name = _data_name(config)
    found: type[DataModule] = (
        getattr(datamodules, name) if name in datamodules.__all__ else DataModule
    )
    return found


def _data_name(config: Config) -> str:
    name: str = (config.data or {}).get("class_path", "unknown data")
    return name


def _prose(
    name: str, folder: Path, config: Config, metrics: list[Metric], handle: str | None
) -> list[str]:
    data, facts = _data_set(config), config.summary
    latent = " x ".join(map(str, facts.get("latent_shape", ()))) or "1"
    x_shape = config.init_args.get("x_shape")
    shape = " x ".join(map(shown, x_shape)) if isinstance(x_shape, list) else shown(x_shape)
    datum = facts.get("datum", "image")
    coded = {"image": f"an image of {shape}", "datum": f"a vector of {shape} numbers"}.get(datum)
    shipped = (catalog.CARDS / name) == folder.resolve()
    handle = handle or (name if shipped else f"path/to/{name}")
    recipe = (folder / RECIPE).is_file()
    return [
        f"# {name}",
        f"{facts.get('about', 'A ' + config.family)}: {facts.get('parameters', 0):,} parameters"
        + (f", a code of {latent} numbers for {coded}." if coded else ".")
        + (f" Fine-tuned from `{config.base_model}`." if config.base_model else ""),
        "## Use",
        f'```python\nimport zoo\n\nmodel = zoo.from_pretrained("{handle}")\n{_usage(facts)}```',
        "## Training data",
        (data.about or f"{_data_name(config)}.") + (_inputs(config) if datum == "image" else ""),
        "## Training",
        f"By the recipe `{name}`: `zoo fit {name}`. The resolved recipe is `recipe.yaml` here."
        if shipped and recipe
        else ("The resolved recipe is `recipe.yaml` here." if recipe else ""),
        "## Metrics",
        markdown_table(HEAD, (m.row for m in metrics))
        if metrics
        else "None measured yet: `zoo evaluate` measures them.",
        "The standard error is that of the mean over test examples. "
        f"`zoo verify {handle}` checks every file and measures every number again."
        if metrics
        else "",
        _published(name) if shipped else "",
        _band(name, metrics) if shipped else "",
        *_gallery(folder, _captions(facts, data)),
        "## Limits",
        f"The model knows {data.knows}: other data get a low likelihood or a wrong reconstruction. "
        f"{facts.get('limits', '')} It is meant for study and as a baseline.".replace("  ", " "),
        "## Licence",
        f"Weights: {config.license}. The training data has its own licence, named above.",
    ]


def _gallery(folder: Path, captions: Mapping[str, str]) -> list[str]:
    """A section of what there is to see under each title."""
    sections: dict[str, list[str]] = {}
    for name, (title, caption) in _SHOWN.items():
        if (folder / name).is_file():
            content = (
                f"```text\n{(folder / name).read_text(encoding='utf-8')}```"
                if name.endswith(".txt")
                else f"![{title}]({name})"
            )
            section = sections.setdefault(title, [f"## {title}"])
            section += [captions.get(name, caption), content]
    return ["\n\n".join(section) for section in sections.values()]


def _captions(facts: Mapping[str, Any], data: "type[DataModule]") -> dict[str, str]:
    """Captions that are the family's own, or the data set's."""
    captions = dict(facts.get("exhibits", {}))
    if conditions := facts.get("conditions"):
        names = ", ".join(conditions)
        captions["samples.png"] = (
            f"Uncurated draws from p(x | y), seed 0; a row for each y of {names}."
        )
    if data.directions:
        alike = " and ".join(data.balanced.values())
        captions["directions.png"] = (
            "The first images of the test set, moved against and along the direction of "
            f"{', then of '.join(data.directions)}: `zoo.direction`"
            + (f", with as many of each {alike} on both sides" if alike else "")
            + ". In the middle, the reconstruction."
        )
    return captions


def _usage(facts: Mapping[str, Any]) -> str:
    """Lines of code that use the verbs that the family has."""
    verbs, image = facts.get("verbs", ()), facts.get("datum", "image") == "image"
    lines = []
    if conditions := facts.get("conditions"):
        lines = [f"model = model.given({json.dumps(conditions[0])})  # of {', '.join(conditions)}"]
    if "sample" in verbs:
        lines += ["x = model.sample(16)" + "  # images in [0, 1]" * image]
    else:
        lines += ["import torch\n", "x = torch.rand(16, *model.x_shape)  # images in [0, 1]"]
    if "encode" in verbs:
        lines.append("z = model.encode(x)")
    if "log_prob" in verbs:
        lines.append("log_p = model.log_prob(x)  # nats, exactly")
    elif {"prior", "posterior", "likelihood"} <= {*verbs}:
        lines.append("log_p = zoo.log_likelihood(model, x, samples=10)  # nats, a lower bound")
    if "classify" in verbs:
        lines.append("p = model.classify(x)  # of each of model.labels")
    return "".join(line + "\n" for line in lines)


def _published(name: str) -> str:
    """What papers report of such models on the same data."""
    found = json.loads(catalog.PUBLISHED.read_text(encoding="utf-8")).get(name, [])
    rows = [(entry["of"], entry["metric"], entry["value"]) for entry in found]
    table = markdown_table(("model", "metric", "value"), rows)
    return f"Published, for comparison:\n\n{table}" if rows else ""


def _band(name: str, metrics: list[Metric]) -> str:
    """What trainings with several seeds gave, by the quick protocol."""
    quick = {m.name: m.quick for m in metrics if m.quick and m.quick.seeds}
    if not quick:
        return ""
    count = max(q.count for q in quick.values())
    samples = max(q.importance_samples or 1 for q in quick.values())
    rows = [
        f"- {name}: " + ", ".join(f"{v} (seed {s})" for s, v in sorted((q.seeds or {}).items()))
        for name, q in quick.items()
    ]
    return (
        f"Trained with several seeds, measured on the first {count:,} of the test set with k = "
        f"{samples}; `zoo reproduce {name}` trains again and compares:\n\n" + "\n".join(rows)
    )


def _inputs(config: Config) -> str:
    binarization = ((config.data or {}).get("init_args") or {}).get("binarization")
    return {
        "dynamic": " Pixels are drawn as 0 or 1 with their grey value as the probability, anew in "
        "each epoch; test pixels once.",
        "static": " Pixels are drawn as 0 or 1 with their grey value as the probability, once.",
    }.get(str(binarization), " Pixels are grey or colour values in [0, 1].")


def contradiction(text: str, metrics: Sequence[Metric]) -> str | None:
    """What a card says of a metric and metrics.json does not, if anything; in a phrase.

    A card that somebody wrote by hand need not name any metric.

    Args:
        text: The card.
        metrics: What metrics.json says.
    """
    from huggingface_hub import ModelCard

    try:
        results = getattr(ModelCard(text).data, "eval_results", None) or []
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        RecursionError,
    ) as error:
        return f"README.md has no front matter that can be read ({brief(error)})"
    values = {(m.name, m.dataset, m.split): m.value for m in metrics}
    for result in results:
        key = (result.metric_type, result.dataset_name, result.dataset_split)
        if values.get(key) != result.metric_value:
            stated = brief(f"{result.metric_type} {result.metric_value}")
            return f"README.md's model index states {stated}"
    rows = {markdown_row(m.row) for m in metrics}
    starts = tuple(markdown_row([m.name]) for m in metrics)
    head, rule = markdown_table(HEAD, ()).splitlines()
    in_table = False
    for line in text.splitlines():
        in_table = line == head or (in_table and line.startswith("|"))
        states = line.startswith(starts) or (in_table and line not in (head, rule))
        if states and line not in rows:
            return f"README.md's table states {brief(line.strip('| ')[:60])}"
    return None


def models_table() -> str:
    """README's table of models, from the cards of the shipped checkpoints."""
    head = ["name", "family", "data", "latent", "parameters"]
    head += ["NLL (nats)", "of one", "ELBO", "Fréchet"]
    rows: list[list[object]] = []
    for name in catalog.list_models():
        d = catalog.describe(name)
        values = {m.name: m.value for m in d.metrics}
        units = {m.name: m.unit.partition("/")[2] for m in d.metrics}
        link = f"[`{name}`](hub_cards/{name}/README.md)"
        latent = " x ".join(map(str, d.latent_shape)) or 1
        nll, elbo, distance = (values.get(n, "") for n in ("nll", "elbo", "frechet_distance"))
        row = [link, d.family, d.data, latent, f"{d.parameters:,}"]
        rows.append([*row, nll, units.get("nll", ""), elbo, distance])
    return markdown_table(head, rows)
