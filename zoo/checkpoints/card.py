"""Model cards: README.md of a checkpoint folder, written from its other files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from zoo.checkpoints import catalog
from zoo.checkpoints.config import Config, read_config
from zoo.checkpoints.files import CARD, CONFIG, RECIPE, write_text
from zoo.checkpoints.metrics import read_metrics
from zoo.errors import ZooError, brief, shown


class _DataSet(NamedTuple):
    """What a card says of the training data.

    Args:
        source: What it is, whose, under which licence; sentences.
        hub: Its name on the Hub, if it is there.
        knows: What a model of it knows; the rest of "It knows ...".
    """

    source: str
    hub: str | None = None
    knows: str = "what it was trained on and nothing else"


_DATA = {
    "MNIST": _DataSet(
        "MNIST (LeCun, Cortes & Burges), 55,000 of the 60,000 training images; the other 5,000 "
        "chose the best epoch. Usually cited as CC BY-SA 3.0.",
        "ylecun/mnist",
        "centred grey digits of American writers, and was not made to read handwriting",
    ),
    "FashionMNIST": _DataSet(
        "Fashion-MNIST (Xiao et al. 2017), 55,000 of the 60,000 training images; the other 5,000 "
        "chose the best epoch. MIT licence.",
        "zalando-datasets/fashion_mnist",
        "small grey pictures of one shop's clothes",
    ),
    "Digits": _DataSet(
        "The 1,797 handwritten digits that ship with scikit-learn (Alpaydin & Kaynak 1998), "
        "enlarged. CC BY 4.0.",
        None,
        "digits of eight by eight pixels, and was not made to read handwriting",
    ),
    "ImageFolder": _DataSet("A folder of the author's own pictures."),
    "TaggedText": _DataSet(
        "Universal Dependencies English EWT (Silveira et al. 2014): web text with universal "
        "part-of-speech tags, 12,544 training sentences. CC BY-SA 4.0.",
        None,
        "English of blogs, mails, reviews and forums before 2013",
    ),
    "BagOfWords": _DataSet(
        "Words counted in 2,246 articles of the Associated Press (Harman 1992), the example of "
        "the lda-c program (Blei); no licence of the data is stated.",
        None,
        "news of 1988 to 1990 by the words in it",
    ),
    "IceCream": _DataSet(
        "How many ice creams somebody ate on each of 33 days (Eisner 2002).", None, "one diary"
    ),
    "CelebA": _DataSet(
        "CelebA (Liu et al. 2015), aligned and cropped faces of celebrities with 40 attributes; "
        "for non-commercial research alone.",
        None,
        "faces of celebrities before 2015, which are no sample of people, and labels that "
        "annotators gave by impression",
    ),
    "Sprites": _DataSet(
        "Sprites: one shape on black, drawn by the program from the factors of dSprites (Matthey "
        "et al. 2017): 3 shapes, 6 scales, 40 orientations, 32 x 32 places. Unless `recipe.yaml` "
        "has a `train_size`, training is on all 737,280; validation and test are parts of them.",
        None,
        "single white squares, ellipses and hearts",
    ),
    "FakeImages": _DataSet("Drawn shapes, made by the program.", None, "drawn stars, for tests"),
}

DIRECTIONS = {"CelebA": ("Smiling", "Eyeglasses", "Black_Hair")}
"""By data set, attributes along whose directions a card moves test data."""

_SHOWN = {  # by file: title and caption; the captions of the others are the family's
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
    "directions.png": (
        "Directions",
        "The first images of the test set, moved against and along the direction of "
        f"{', then of '.join(DIRECTIONS['CelebA'])}: `zoo.direction`, with as many of each sex and "
        "age on both sides. In the middle, the reconstruction.",
    ),
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


def _front_matter(name: str, config: Config, metrics: list[dict[str, Any]]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    hub_dataset, task = _data_set(config).hub, config.summary.get("task", TASK)
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
                dataset_type=hub_dataset or metric["dataset"].lower(),
                dataset_name=metric["dataset"],
                dataset_split=metric["split"],
                metric_type=metric["name"],
                metric_name=f"{metric['name']} ({metric['unit']})",
                metric_value=metric["value"],
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


def _data_set(config: Config) -> _DataSet:
    name = (config.data or {}).get("class_path", "unknown data")
    return _DATA.get(name, _DataSet(f"{name}."))


def _prose(
    name: str, folder: Path, config: Config, metrics: list[dict[str, Any]], handle: str | None
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
        data.source + (_inputs(config) if datum == "image" else ""),
        "## Training",
        f"By the recipe `{name}`: `zoo fit {name}`. The resolved recipe is `recipe.yaml` here."
        if shipped and recipe
        else ("The resolved recipe is `recipe.yaml` here." if recipe else ""),
        "## Metrics",
        _table(metrics) if metrics else "None measured yet: `zoo evaluate` measures them.",
        "The standard error is that of the mean over test examples. "
        f"`zoo verify {handle}` checks every file and measures every number again."
        if metrics
        else "",
        _published(name) if shipped else "",
        _band(name, metrics) if shipped else "",
        *_gallery(folder, _captions(facts)),
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


def _captions(facts: Mapping[str, Any]) -> dict[str, str]:
    """Captions that are the family's own."""
    captions = dict(facts.get("exhibits", {}))
    if conditions := facts.get("conditions"):
        names = ", ".join(conditions)
        captions["samples.png"] = (
            f"Uncurated draws from p(x | y), seed 0; a row for each y of {names}."
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
    rows = [f"| {entry['of']} | {entry['metric']} | {entry['value']} |" for entry in found]
    head = "Published, for comparison:\n\n| model | metric | value |\n|---|---|---|"
    return "\n".join([head, *rows]) if rows else ""


def _band(name: str, metrics: list[dict[str, Any]]) -> str:
    """What trainings with several seeds gave, by the quick protocol."""
    quick = {m["name"]: m["quick"] for m in metrics if (m.get("quick") or {}).get("seeds")}
    if not quick:
        return ""
    count = max(entry["count"] for entry in quick.values())
    samples = max(entry.get("importance_samples", 1) for entry in quick.values())
    rows = [
        f"- {metric}: " + ", ".join(f"{v} (seed {s})" for s, v in sorted(entry["seeds"].items()))
        for metric, entry in quick.items()
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


def contradiction(text: str, folder: Path) -> str | None:
    """What a card says of a metric and metrics.json does not, if anything; in a phrase.

    A card that somebody wrote by hand need not name any metric.
    """
    from huggingface_hub import ModelCard

    metrics = read_metrics(folder)
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
    values = {(m["name"], m["dataset"], m["split"]): m["value"] for m in metrics}
    for result in results:
        key = (result.metric_type, result.dataset_name, result.dataset_split)
        if values.get(key) != result.metric_value:
            stated = brief(f"{result.metric_type} {result.metric_value}")
            return f"README.md's model index states {stated}"
    rows = {_row(m) for m in metrics}
    for line in text.splitlines():
        if line.startswith(tuple(f"| {m['name']} |" for m in metrics)) and line not in rows:
            return f"README.md's table states {brief(line.strip('| ')[:60])}"
    return None


def _table(metrics: list[dict[str, Any]]) -> str:
    head = "| metric | value | standard error | unit | what | data |\n|---|---|---|---|---|---|"
    return "\n".join([head, *map(_row, metrics)])


def _row(m: dict[str, Any]) -> str:
    data = f"{m['dataset']} {m['split']}, {m['count']:,} examples, seed {m['seed']}"
    error = "" if m["standard_error"] is None else m["standard_error"]
    cells = (m["name"], m["value"], error, m["unit"], _cell(m["kind"]), data)
    return f"| {' | '.join(map(str, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")  # a bar would end the cell


def models_table() -> str:
    """README's table of models, from the cards of the shipped checkpoints."""
    rows = ["| name | family | data | latent | parameters | NLL (nats) | of one | ELBO | Fréchet |"]
    rows += ["|---|---|---|---|---|---|---|---|---|"]
    for name in catalog.list_models():
        d = catalog.describe(name)
        values = {m["name"]: m["value"] for m in d.metrics}
        units = {m["name"]: m["unit"].partition("/")[2] for m in d.metrics}
        rows.append(
            f"| [`{name}`](hub_cards/{name}/README.md) | {d.family} | {d.data} | "
            f"{' x '.join(map(str, d.latent_shape)) or 1} | {d.parameters:,} | "
            f"{values.get('nll', '')} | {units.get('nll', '')} | {values.get('elbo', '')} | "
            f"{values.get('frechet_distance', '')} |"
        )
    return "\n".join(rows)
