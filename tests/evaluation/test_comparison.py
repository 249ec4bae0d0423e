"""Models side by side: nothing in one column that cannot be compared, and all that can."""

import csv
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA

import zoo
from zoo.checkpoints import catalog
from zoo.cli.main import main
from zoo.datamodules import FakeImages
from zoo.evaluation.comparison import throughput, write
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.suites import SUITES, Suite, run
from zoo.evaluation.tables import Cell, Row, markdown, table
from zoo.metrics import KNNProbe
from zoo.models import HMM, PPCA, VAE, Classifier

GREY = {"x_shape": [1, 8, 8], "n": 480, "classes": 3, "binarization": "none"}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Shipped models of three families, and the classifier that looks at their samples."""
    monkeypatch.setattr(catalog, "CARDS", tmp_path / "cards")
    monkeypatch.setattr(catalog, "PINS", tmp_path / "cards" / "sha256.json")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(FakeImages, "feature_network", "lenet-stars")
    quick = SUITES["quick"]
    monkeypatch.setitem(SUITES, "quick", Suite(quick.jobs, Protocol(10, 110)))
    monkeypatch.setattr("zoo.evaluation.comparison.TIMED", 4)
    made = {
        "lenet-stars": (Classifier, {"channels": (4,), "features": 6, "labels": ("0", "1", "2")}),
        "ppca-stars": (PPCA, {"latent_dim": 2}),
        "vae-stars": (VAE, {"latent_dim": 3, "hidden": (6,)}),
    }
    for name, (cls, arguments) in made.items():
        torch.manual_seed(0)
        model = cls(x_shape=(1, 8, 8), **arguments)
        support = "dynamic" if cls is VAE else "none"
        model.data = {"class_path": "FakeImages", "init_args": {**GREY, "binarization": support}}
        model.save_pretrained(tmp_path / "cards" / name)
    catalog.write_pins()
    return tmp_path


def test_a_comparison_asks_the_same_of_all(shelf, capsys, monkeypatch):
    monkeypatch.setattr(
        "zoo.evaluation.comparison.throughput", lambda act, n, device: float(len(act(n)))
    )
    assert main(["compare", "*-stars", "-o", "out", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    head, _, *lines = (line for line in out.splitlines() if line.startswith("|"))
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    cells = {line.split("|")[1].strip(): [*map(str.strip, line.split("|")[1:-1])] for line in lines}
    assert [*cells] == ["lenet-stars", "ppca-stars", "vae-stars"]
    binary = columns.index("NLL of FakeImages binary pixels (nats/image)")
    grey = columns.index("NLL of FakeImages grey values, a density (nats/image)")
    filled = {name: (bool(row[binary]), bool(row[grey])) for name, row in cells.items()}
    assert filled == {
        "lenet-stars": (False, False),
        "ppca-stars": (False, True),
        "vae-stars": (True, False),
    }
    assert cells["vae-stars"][binary].endswith("(estimate)")
    assert cells["ppca-stars"][grey].endswith("(exact)")
    distance = columns.index("Fréchet distance, 110 in lenet-stars features")
    assert [bool(row[distance]) for row in cells.values()] == [False, True, True]
    samples, codes = columns.index("samples/s"), columns.index("codes/s")
    assert [row[samples] for row in cells.values()] == ["", "4.00", "4.00"]
    assert [row[codes] for row in cells.values()] == ["4.00"] * 3

    with Path("out/comparison.csv").open(newline="") as file:
        found = {row["model"]: row for row in csv.DictReader(file)}
    wanted = {m.name: m for m in run(*_asked("ppca-stars"))}
    header = columns[grey]
    assert float(found["ppca-stars"][header]) == wanted["nll"].value
    assert float(found["ppca-stars"][f"{header}: standard error"]) == wanted["nll"].standard_error
    assert found["ppca-stars"][f"{header}: kind"] == "exact"
    page = Path("out/comparison.html").read_text(encoding="utf-8")
    assert page.count("<tr>") == 4
    assert '<img src="pictures.png"' in page
    with Image.open("out/pictures.png") as picture:
        assert picture.width > 448
    assert not [*(shelf / "cache" / "latent-zoo" / "evaluations").iterdir()]


def _asked(name):
    return zoo.from_pretrained(name), SUITES["quick"].jobs, Protocol(10, 110)


@pytest.mark.usefixtures("shelf")
def test_principal_components_are_those_of_the_same_images(monkeypatch):
    monkeypatch.setattr("zoo.evaluation.comparison.throughput", lambda *args: 1.0)
    (row,) = zoo.compare(["ppca-stars"])
    module = FakeImages(**GREY)
    module.setup()
    x, y = (
        {s: module.splits[s][key][:110] for s in ("train", "test")} for key in ("image", "label")
    )
    pixels = {split: image.flatten(1).double().numpy() / 255 for split, image in x.items()}
    pca = PCA(2, svd_solver="full").fit(pixels["train"])
    probe = KNNProbe(5)
    for split in ("train", "test"):
        codes = torch.from_numpy(pca.transform(pixels[split]))
        probe.update(codes, y[split], test=split == "test")
    found = {m.name: m for m in row.principal}
    # a float32 pixel may make another neighbour the fifth
    assert found["knn_probe"].value == pytest.approx(probe.compute().item(), abs=0.01)
    assert "on 2 principal components" in found["knn_probe"].kind


def test_what_the_data_do_not_fit_has_a_note(shelf, monkeypatch):
    monkeypatch.setattr("zoo.evaluation.comparison.throughput", lambda *args: 1.0)
    torch.manual_seed(0)
    HMM(states=2, symbols=3).save_pretrained(shelf / "hmm")
    ppca, hmm = zoo.compare(["ppca-stars", str(shelf / "hmm")], "fakeimages")
    assert ppca.metrics
    assert hmm.note
    assert hmm.metrics == []
    assert "note" in table([ppca, hmm])
    assert "note" not in table([ppca])


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ppca-stras"], "did you mean ppca-stars"),
        (["*-nothing"], "no model matches '*-nothing'"),
        (["ppca-stars", "--data", "minst"], "did you mean MNIST"),
    ],
)
def test_wrong_words(words, message, capsys):
    assert main(["compare", *words, "--device", "cpu"]) == 1
    out, err = capsys.readouterr()
    assert (len(err.splitlines()), out) == (1, "")
    assert message in err


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(84.5152, 0.6984, "estimate"), "84.52 ± 0.70 (estimate)"),
        (Cell(-1182.4, 17.7), "-1,182 ± 18"),
        (Cell(0.992, 0.0), "0.992 ± 0.000"),
        (Cell(5094.3), "5,094"),
        (Cell(0.1041), "0.104"),
        (Cell(0.0), "0"),
        (Cell("1x8"), "1x8"),
    ],
)
def test_numbers_have_the_digits_that_their_error_leaves(cell, text):
    assert str(cell) == text


def test_names_cannot_break_the_files(tmp_path):
    row = Row('a|b,<i>"', "VAE", "grey values", (2,), 7, 40)
    assert r"a\|b" in markdown(table([row]))
    files = write([row], tmp_path / "out", "a & b")
    assert [path.name for path in files] == ["comparison.csv", "comparison.html"]  # no pictures
    with files[0].open(newline="") as file:
        assert next(csv.DictReader(file))["model"] == row.name
    page = files[1].read_text(encoding="utf-8")
    assert "a|b,&lt;i&gt;&quot;" in page
    assert "a &amp; b" in page


def test_a_page_of_pictures_has_a_row_a_model(tmp_path):
    dark, light = torch.zeros(8, 1, 4, 4), torch.ones(8, 1, 4, 4)
    rows = [
        Row("a", "VAE", "grey values", (2,), 7, 40, samples=dark, inputs=light),
        Row("b", "AE", "grey values", (2,), 7, 40, reconstructions=dark, inputs=light),
    ]
    write(rows, tmp_path, "")
    with Image.open(tmp_path / "pictures.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    height, width = pixels.shape
    for row, column in ((1, 0.4), (2, 0.9)):  # the rows of a and b below that of the test images
        strip = pixels[int((row + 0.3) * height / 3) : int((row + 0.8) * height / 3)]
        left, right = (strip[:, : width // 2] < 10).mean(), (strip[:, width // 2 :] < 10).mean()
        assert (left > right) == (column < 0.5)


def test_speed_counts_data_per_second():
    n, start = 0, time.perf_counter()

    def act(k):
        nonlocal n
        n += k
        return torch.rand(k, 100, 100)

    found = throughput(act, 50, torch.device("cpu"))
    seconds = time.perf_counter() - start
    assert seconds >= 1
    assert found == pytest.approx((n - 1) / seconds, rel=0.05)  # the first call has one datum
