"""A sound checkpoint folder, to be changed."""

import contextlib
import io
import shutil
from pathlib import Path

import pytest

import zoo
from tests.hostile.attacks import USES, make
from tests.watch import TRAP
from zoo.checkpoints.card import write_card
from zoo.checkpoints.metrics import write_metrics
from zoo.evaluation.protocol import Protocol, with_quick_values
from zoo.evaluation.suites import run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "vae-tiny"
    make(folder)
    model = zoo.from_pretrained(str(folder))
    metrics, quick = (run(model, ["likelihood"], Protocol(2, n)) for n in (20, 10))
    write_metrics(folder, with_quick_values(metrics, quick))
    write_card(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        for act in USES.values():  # what is imported and cached the first time is not watched
            act(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / f"{TRAP}.py").write_text("def run(*_, **__): raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    return shutil.copytree(whole, tmp_path / "vae-tiny")
