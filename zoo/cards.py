"""Model cards: README.md of a checkpoint folder, written from its other files."""

from pathlib import Path
from typing import Any

from zoo import catalog, checkpoint
from zoo.checkpoint import Config
from zoo.errors import ZooError, nearest, shown

_FAMILIES = {
    "VAE": (
        "A variational autoencoder (Kingma & Welling 2014, https://arxiv.org/abs/1312.6114)",
        ["variational-autoencoder", "latent-variable-model", "generative-model"],
    ),
}

_DATA = {
    "MNIST": (
        "MNIST (LeCun, Cortes & Burges), 55,000 of the 60,000 training images; the other 5,000 "
        "chose the best epoch. Usually cited as CC BY-SA 3.0.",
        "ylecun/mnist",
    ),
    "FashionMNIST": (
        "Fashion-MNIST (Xiao et al. 2017), 55,000 of the 60,000 training images; the other 5,000 "
        "chose the best epoch. MIT licence.",
        "zalando-datasets/fashion_mnist",
    ),
    "Digits": (
        "The 1,797 handwritten digits that ship with scikit-learn (Alpaydin & Kaynak 1998), "
        "enlarged. CC BY 4.0.",
        None,
    ),
    "ImageFolder": ("A folder of the author's own pictures.", None),
    "FakeImages": ("Drawn shapes, made by the program.", None),
}


def write_metrics(folder: Path, metrics: list[dict[str, Any]]) -> None:
    """Write `folder/metrics.json`."""
    content = {"format": checkpoint.METRICS_FORMAT, "metrics": metrics}
    checkpoint.write_json(folder / checkpoint.METRICS, content)


def write_card(folder: Path, handle: str | None = None) -> None:
    """Write `folder/README.md` from config.json, metrics.json and the pictures beside them.

    Args:
        folder: A checkpoint folder.
        handle: The name that users will load it by; by default its name, or path, on this machine.

    Raises:
        ZooError: if the folder is no checkpoint or cannot be written to.
    """
    checkpoint.write_text(folder / checkpoint.CARD, card(folder, handle))


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
            checkpoint.write_text(readme, head + table + tail)


def card(folder: Path, handle: str | None = None) -> str:
    """The card of a checkpoint folder: front matter, then prose."""
    config = checkpoint.read_config(folder)
    metrics = checkpoint.read_metrics(folder)
    if config.family not in _FAMILIES:
        raise ZooError(
            f"{folder} is of a family without a card; {nearest(config.family, _FAMILIES)}"
        )
    if not config.summary.keys() >= {"latent_shape", "parameters"}:
        raise ZooError(f"{folder / checkpoint.CONFIG} has no whole 'summary'; export it again.")
    name = folder.resolve().name
    return (
        f"---\n{_front_matter(name, config, metrics)}\n---\n\n"
        + "\n\n".join(part for part in _prose(name, folder, config, metrics, handle) if part)
        + "\n"
    )


def _front_matter(name: str, config: Config, metrics: list[dict[str, Any]]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    dataset = (config.data or {}).get("class_path", "")
    _, hub_dataset = _DATA.get(dataset, ("", None))
    data = ModelCardData(
        license=config.license,
        library_name="latent-zoo",
        tags=["pytorch", "lightning", *_FAMILIES[config.family][1]],
        datasets=[hub_dataset] if hub_dataset else None,
        base_model=config.base_model,
        pipeline_tag="unconditional-image-generation",
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="unconditional-image-generation",
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


def _prose(
    name: str, folder: Path, config: Config, metrics: list[dict[str, Any]], handle: str | None
) -> list[str]:
    dataset = (config.data or {}).get("class_path", "unknown data")
    sentence, _ = _DATA.get(dataset, (f"{dataset}.", None))
    latent = " x ".join(map(str, config.summary["latent_shape"]))
    x_shape = config.init_args.get("x_shape")
    shape = " x ".join(map(shown, x_shape)) if isinstance(x_shape, list) else shown(x_shape)
    shipped = (catalog.CARDS / name) == folder.resolve()
    handle = handle or (name if shipped else f"path/to/{name}")
    recipe = folder / checkpoint.RECIPE
    return [
        f"# {name}",
        f"{_FAMILIES[config.family][0]}: {config.summary['parameters']:,} parameters, a code of "
        f"{latent} numbers for an image of {shape}."
        + (f" Fine-tuned from `{config.base_model}`." if config.base_model else ""),
        "## Use",
        f'```python\nimport zoo\n\nmodel = zoo.from_pretrained("{handle}")\n'
        "x = model.sample(16)  # images in [0, 1]\n"
        "z = model.encode(x)\nlog_p = zoo.log_likelihood(model, x, samples=10)\n```",
        "## Training data",
        sentence + _inputs(config),
        "## Training",
        f"By the recipe `{name}`: `zoo fit {name}`. The resolved recipe is `recipe.yaml` here."
        if shipped and recipe.is_file()
        else ("The resolved recipe is `recipe.yaml` here." if recipe.is_file() else ""),
        "## Metrics",
        _table(metrics) if metrics else "None measured yet: `zoo evaluate` measures them.",
        "The standard error is that of the mean over test images."
        + (f" Measured by `zoo evaluate {name}`." if shipped else "")
        if metrics
        else "",
        "## Samples\n\n![Uncurated samples, seed 0](samples.png)\n\n64 uncurated draws from p(x), "
        "seed 0."
        if (folder / checkpoint.SAMPLES).is_file()
        else "",
        "## Limits",
        f"The model knows {dataset} and nothing else: images of another kind get a low likelihood "
        "or a wrong reconstruction. Samples are drawn pixel by pixel given the code, so edges are "
        "rough. It is meant for study and as a baseline, not to read handwriting.",
        "## Licence",
        f"Weights: {config.license}. The training data has its own licence, named above.",
    ]


def _inputs(config: Config) -> str:
    binarization = ((config.data or {}).get("init_args") or {}).get("binarization")
    return {
        "dynamic": " Pixels are drawn as 0 or 1 with their grey value as the probability, anew in "
        "each epoch; test pixels once.",
        "static": " Pixels are drawn as 0 or 1 with their grey value as the probability, once.",
    }.get(str(binarization), " Pixels are grey or colour values in [0, 1].")


def _table(metrics: list[dict[str, Any]]) -> str:
    rows = ["| metric | value | standard error | unit | what | data |", "|---|---|---|---|---|---|"]
    for m in metrics:
        data = f"{m['dataset']} {m['split']}, {m['images']:,} images, seed {m['seed']}"
        cells = (m["name"], m["value"], m["standard_error"], m["unit"], _cell(m["kind"]), data)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")  # a bar would end the cell


def models_table() -> str:
    """README's table of models, from the cards of the shipped checkpoints."""
    rows = ["| name | family | data | latent | parameters | NLL (nats) | ELBO (nats) |"]
    rows += ["|---|---|---|---|---|---|---|"]
    for name in catalog.list_models():
        d = catalog.describe(name)
        values = {m["name"]: m["value"] for m in d.metrics}
        rows.append(
            f"| [`{name}`](hub_cards/{name}/README.md) | {d.family} | {d.data} | "
            f"{' x '.join(map(str, d.latent_shape))} | {d.parameters:,} | "
            f"{values.get('nll', '')} | {values.get('elbo', '')} |"
        )
    return "\n".join(rows)
