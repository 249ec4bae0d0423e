"""The examples of the pages run as they stand, on fewer data and with small models."""

import re
from pathlib import Path

import pytest

import zoo
from zoo import datamodules
from zoo.models import AE, VAE, Classifier

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "fewer"),
    [
        ("anomaly", []),
        ("latent", []),
        ("disentanglement", [("15_000", "60"), ("60, 64", "60, 4")]),
        ("sample_quality", [("KernelDistance(1000)", "KernelDistance(50)")]),
    ],
)
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_examples_run(page, fewer, monkeypatch, capsys):
    def load(name):
        return {"ae-mnist": AE, "vae-mnist": VAE, "lenet-mnist": Classifier}[name]().eval()

    def images(binarization, batch_size):
        return datamodules.FakeImages(n=400, batch_size=50, binarization=binarization)

    monkeypatch.setattr(zoo, "from_pretrained", load)
    monkeypatch.setattr(datamodules, "MNIST", images)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    for old, new in fewer:
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, page, "exec"), {})
    printed = capsys.readouterr().out
    assert "tensor(" in printed
    assert "nan" not in printed
