"""`zoo data`: what it lists, describes and draws, and one sentence for every mistake."""

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from zoo import datamodules
from zoo.cli.main import main
from zoo.datamodules.files.places import Example
from zoo.plots.contact_sheet import FONT_SIZE, LARGE, LINE, SMALL, sheet, wrap

ROOT = Path(__file__).resolve().parents[2]
FONT = ImageFont.load_default(FONT_SIZE)


@pytest.fixture
def shelf(monkeypatch, tmp_path):
    """An empty folder of all data sets."""
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def said(capsys):
    """Run a command that must succeed; return what it says."""

    def run(*words):
        assert main([str(word) for word in words]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


@pytest.fixture
def refused(capsys):
    """Run a command that must fail; return its sentence."""

    def run(*words, code=1):
        assert main([str(word) for word in words]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("zoo")
        assert len(err) < 600
        for riddle in ("Traceback", "Namespace(", "<class", "Parser key", "recipe"):
            assert riddle not in err
        return err

    return run


def write_corpus(folder):
    folder.mkdir(parents=True)
    lines = [f"2 {i % 5}:3 {(i + 1) % 5}:1\n" for i in range(30)]
    (folder / "tiny.dat.gz").write_bytes(gzip.compress("".join(lines).encode()))
    (folder / "vocab.txt").write_text("ant\nbee\ncat\ndog\nelk\n")


# --- the list, and one set -----------------------------------------------------------------------


def test_list_names_every_set_and_what_is_missing(shelf, said):
    out = said("data")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == datamodules.__all__
    assert f"{shelf}/MNIST/raw lacks train-images-idx3-ubyte.gz" in out
    assert f"lda-c: {shelf}/ap lacks *.dat, vocab.txt: unpack https://" in out
    assert f"git clone https://github.com/UniversalDependencies/UD_English-EWT {shelf}" in out
    write_corpus(shelf / "ap")
    assert f"lda-c: {shelf}/ap has tiny.dat.gz, vocab.txt\n" in said("data")
    (shelf / "ap" / "vocab.txt").unlink()
    assert f"{shelf}/ap has tiny.dat.gz and lacks vocab.txt: unpack" in said("data")


def test_one_set_is_described_with_its_counts(shelf, said):
    write_corpus(shelf / "ap")
    out = said("data", "BagOfWords")
    assert "train       24 documents, 96 words\n" in out
    assert "val         3 documents, 12 words\n" in out
    assert "test        3 documents, 12 words\n" in out
    assert "vocabulary  5\n" in out
    assert "tokens int64 (24, 2), counts int64 (24, 2), mask bool (24, 2)" in out
    out = said("data", "BagOfWords", "--set", "batch_size=4", "--set", "val_fraction=0.5")
    assert "train       12 documents, 48 words\n" in out
    assert "tokens int64 (4, 2)" in out
    out = said("data", "BagOfWords", "--set", f"root={shelf}", "--set", "source=lda-c")
    assert "24 documents" in out


def test_settings_take_the_types_of_the_constructor(said, tmp_path):
    out = said("data", "FakeImages", "--set", "x_shape=[3, 8, 9]", "--set", "binarization=none")
    assert "image float32 (128, 3, 8, 9)" in out
    table = tmp_path / "a=b.csv"
    table.write_text("x,y\n1,2\n3,4\n")
    settings = [f"path={table}", "kind=real", "columns=[y, x]", "val_fraction=0", "test_fraction=0"]
    out = said("data", "Sequences", *(word for s in settings for word in ("--set", s)))
    assert "values float64 (1, 2, 2)" in out


def test_preview_draws_the_examples(said, tmp_path):
    for name, n in (("Digits", 7), ("FakeTaggedText", 3), ("IceCream", 24)):
        out = said("data", name, "--preview", tmp_path / "new" / f"{name}.png", "-n", n)
        assert out.splitlines()[-1] == str(tmp_path / "new" / f"{name}.png")
    module = datamodules.Digits()
    module.setup()
    examples = module.examples(7)
    with Image.open(tmp_path / "new" / "Digits.png") as page:
        assert page.format == "PNG"
        assert np.array_equal(np.asarray(page), np.asarray(sheet(examples)))
    assert len([*(tmp_path / "new").iterdir()]) == 3  # and no half-written file beside them


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Mnits"], "there is no data set 'Mnits'; did you mean MNIST"),
        (["mnist-like-things"], "there is no data set 'mnist-like-things'; known are BagOfWords"),
        ([""], "there is no data set ''"),
        (["DataModule"], "there is no data set 'DataModule'"),
        (["MNIST"], "MNIST: .*/MNIST/raw lacks .*: they are downloaded when training starts"),
        (["TaggedText"], r"TaggedText: .*/ud_english_ewt lacks \*-train.conllu, .*: git clone"),
        (["TaggedText", "--set", "name=mine"], r"/mine holds no \*-train.conllu"),
        (["BagOfWords"], r"BagOfWords: .*/ap lacks \*.dat, vocab.txt: unpack"),
        (["BagOfWords", "--set", "source=20newsgroups"], "/20newsgroups lacks 20news"),
        (["BagOfWords", "--set", "source=texts"], "source 'texts' needs name"),
        (["BagOfWords", "--set", "source=ldac"], "source cannot be 'ldac'; did you mean lda-c"),
        (["BagOfWords", "--set", "sauce=lda-c"], "no argument 'sauce'; did you mean source"),
        (["MNIST", "--set", "root=/nowhere"], "MNIST: /nowhere/MNIST/raw lacks"),
        (["Sequences"], "Sequences needs its argument path; add --set path=VALUE"),
        (["ImageFolder"], "ImageFolder needs its argument root; add --set root=VALUE"),
        (["ImageFolder", "--set", "root=/nowhere"], "ImageFolder: needs /nowhere: give root"),
        (["Sequences", "--set", "path=/nowhere.csv"], "/nowhere.csv is not there"),
        (["Digits", "--set", "size"], "--set size is no KEY=VALUE"),
        (["Digits", "--set", "=3"], "--set =3 is no KEY=VALUE"),
        (["Digits", "--set", "size=9", "--set", "size=8"], "--set gives size twice"),
        (["Digits", "--set", "size=big"], "size must be int, not 'big'"),
        (["Digits", "--set", "size=3"], "size is 3, but must be at least 8"),
        (["Digits", "--set", "help=1"], "Digits has no argument 'help'"),
        (["Digits", "-n", "3"], "-n says how many examples to draw; add --preview"),
        (["Digits", "--preview", "a.png", "-n", "0"], "-n is 0, but a page holds 1 to 1000"),
        (["Digits", "--preview", "a.png", "-n", "1001"], "-n is 1001"),
        (["Digits", "--preview", "a.jpg"], "a.jpg is no PNG file by its name"),
        (["--preview", "a.png"], "are about one data set; name it"),
        (["--set", "root=x"], "are about one data set; name it"),
        (["-n", "4"], "are about one data set; name it"),
    ],
)
def test_mistakes_are_one_sentence(shelf, refused, words, message):
    assert re.search(message, refused("data", *words))
    assert not [*Path.cwd().iterdir()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MNIST", "Digits"], "unknown argument Digits; see zoo data --help"),
        (["MNIST", "--prewiev", "a.png"], "unknown flag --prewiev; did you mean --preview"),
        (["MNIST", "--preview"], "argument --preview: expected one argument"),
        (["MNIST", "-n", "many"], "argument -n: invalid int value: 'many'"),
        (["MNIST", "--root", "x"], "unknown flag --root"),
    ],
)
def test_bad_usage_is_one_sentence(refused, words, message):
    assert message in refused("data", *words, code=2)


def test_a_page_that_cannot_be_written_is_a_sentence(refused_page, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused_page("--preview", tmp_path / "file" / "a.png")
    (tmp_path / "b.png").mkdir()
    assert "cannot write" in refused_page("--preview", tmp_path / "b.png")


@pytest.fixture
def refused_page(capsys):
    """Draw a page that cannot be written; return the sentence behind the description."""

    def run(*words):
        assert main(["data", "IceCream", *map(str, words)]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    return run


def test_damaged_data_is_one_sentence(shelf, refused):
    write_corpus(shelf / "ap")
    (shelf / "ap" / "tiny.dat.gz").write_bytes(gzip.compress(b"1 0:1\n1 0:x\n"))
    assert "tiny.dat.gz, line 2: '0:x' is no id:count" in refused("data", "BagOfWords")


def test_help_needs_no_torch():
    code = (
        "import sys\nfrom zoo.cli.main import main\nassert main(['data', '--help']) == 0\n"
        "assert not {'torch', 'lightning', 'zoo.datamodules', 'sklearn'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "--preview" in done.stdout


# --- the page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 112, 340])
@pytest.mark.parametrize(
    "text",
    [
        "a short caption",
        "many words " * 20,
        "two\nlines\n\nand a gap",
        "x" * 200,
        "Donaudampfschifffahrtsgesellschaft sails",
        "",
    ],
)
def test_lines_keep_every_word_and_stay_within_the_width(text, width):
    lines = wrap(text, width, 1000, FONT)
    assert all(FONT.getlength(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    if max((FONT.getlength(word) for word in text.split()), default=0) <= width:
        assert " ".join(" ".join(lines).split()) == " ".join(text.split())


def test_long_text_ends_in_an_ellipsis():
    lines = wrap("word " * 100, 112, 3, FONT)
    assert len(lines) == 3
    assert lines[-1].endswith(" …")
    assert all(FONT.getlength(line) <= 112 for line in lines)
    assert wrap("a" * 1_000_000, 112, 3, FONT)[-1].endswith("…")


def test_pictures_are_magnified_or_shrunk_and_text_is_below():
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (3, 8, 6), generator=generator).to(torch.uint8)
    page = np.asarray(sheet([Example(small, "W")])).astype(int)
    factor = SMALL // 8
    picture = page[10 : 10 + 8 * factor, 10 : 10 + 6 * factor]
    expected = small.permute(1, 2, 0).numpy().repeat(factor, 0).repeat(factor, 1)
    assert np.array_equal(picture, expected)
    below = page[10 + 8 * factor : 10 + 8 * factor + LINE]
    assert (below < 128).any()
    assert (page[:, :10] == 255).all()
    large = torch.zeros(1, 300, 1000, dtype=torch.uint8)
    page = np.asarray(sheet([Example(large, "")]))
    dark = page.max(2) < 128
    assert dark.any(0).sum() == LARGE
    assert abs(dark.any(1).sum() - 0.3 * LARGE) <= 1


def test_cells_stand_in_rows_that_fit_the_page():
    one = sheet([Example(None, "text")])
    many = sheet([Example(None, "text")] * 7)
    assert many.width <= 1200
    columns = (many.width - 10) // (one.width - 10)
    assert columns == 3
    assert many.height == 3 * (one.height - 10) + 10
    mixed = sheet([Example(torch.zeros(1, 28, 28, dtype=torch.uint8), "0"), Example(None, "zero")])
    assert mixed.height > one.height


def test_accents_are_left_out_as_the_font_lacks_them():
    assert wrap("Élan, 1\u20132 \u2014 crêpe", 340, 9, FONT) == ["Elan, 1-2 - crepe"]


def test_odd_characters_are_drawn_as_something():
    assert sheet([Example(None, "tab\tnul\0 é 中文 🙂 \x1b[0m")]).width > 0
