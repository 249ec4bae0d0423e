"""Training through Lightning: distribution, precision, resuming, fine-tuning, logging."""

import io
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from PIL import Image
from torch.distributions import Normal
from torch.utils.data import DataLoader

import zoo
from zoo.datamodules import FakeFaces, FakeImages, FakeTaggedText
from zoo.models import AE, DBVAE, GMM, VAE
from zoo.pretrained.export import export
from zoo.pretrained.loading import check_golden
from zoo.pretrained.runs import load_training_checkpoint
from zoo.training.fit import run
from zoo.training.monitors import LogActiveUnits, SampleGrid
from zoo.training.saving import AtomicCheckpointIO, SaveLast
from zoo.training.seeding import SeedEpoch


def small(**arguments):
    return VAE(**{"x_shape": (1, 12, 12), "latent_dim": 4, "hidden": (32,), **arguments})


def data(**arguments):
    return FakeImages(**{"x_shape": (1, 12, 12), "n": 96, "batch_size": 16, **arguments})


def trainer(folder, **arguments):
    return Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "max_epochs": 2,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            **arguments,
        }
    )


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_two_processes_on_half_the_batch_equal_one(tmp_path, monkeypatch):
    # Without noise both runs have the same gradient: the mean over the whole batch.
    monkeypatch.setattr(Normal, "rsample", lambda self, shape=None: self.loc)
    results = []
    for devices, batch_size in ((1, 16), (2, 8)):
        torch.manual_seed(0)
        model = small()
        trainer(tmp_path, devices=devices, strategy="ddp_fork" if devices == 2 else "auto").fit(
            model, data(batch_size=batch_size, binarization="none")
        )
        results.append(weights(model))
    torch.manual_seed(0)
    assert not torch.allclose(weights(small()), results[0], rtol=1e-2)  # it did train
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


class Noise(SeedEpoch):
    """Keeps the first draw of each epoch where the parent process can read it."""

    def __init__(self, folder):
        super().__init__(seed=0)
        self.folder = folder

    def on_train_epoch_start(self, trainer, pl_module):
        super().on_train_epoch_start(trainer, pl_module)
        state = torch.get_rng_state()
        torch.save(torch.randn(8), self.folder / f"{trainer.current_epoch}-{trainer.global_rank}")
        torch.set_rng_state(state)


def test_ranks_and_epochs_draw_different_noise(tmp_path):
    trainer(tmp_path, devices=2, strategy="ddp_fork", callbacks=[Noise(tmp_path)]).fit(
        small(), data()
    )
    draws = [torch.load(tmp_path / f"{epoch}-{rank}") for epoch in (0, 1) for rank in (0, 1)]
    for i, a in enumerate(draws):
        assert all(not torch.equal(a, b) for b in draws[:i])


def test_the_callbacks_of_the_recipes_agree_across_processes(tmp_path):
    callbacks = [
        EMAWeightAveraging(decay=0.5),
        ModelCheckpoint(monitor="val/elbo", mode="max", filename="best", save_last=True),
        LogActiveUnits(),
        SampleGrid(every_n_epochs=1, n=4),
        SeedEpoch(0),
    ]
    run = trainer(
        tmp_path,
        devices=2,
        strategy="ddp_fork",
        callbacks=callbacks,
        enable_checkpointing=True,
        logger=CSVLogger(tmp_path, name="two"),
    )
    run.fit(small(), data())  # waits for ever where one process asks what the others do not
    folder = tmp_path / "two" / "version_0"
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert len([*(folder / "pictures").iterdir()]) == 4
    assert 0 <= run.callback_metrics["val/active_units"] <= 4


def test_bf16_mixed_ends_near_float32(tmp_path):
    ends = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        run = trainer(tmp_path, precision=precision, max_epochs=15, callbacks=[SeedEpoch(0)])
        model, module = small(), data(n=192, binarization="static")
        run.fit(model, module)
        ends[precision] = run.validate(model, module, verbose=False)[0]["val/elbo"]
        start = trainer(tmp_path).validate(small(), module, verbose=False)[0]["val/elbo"]
        assert ends[precision] > start + 10  # it learned
    assert ends["bf16-mixed"] == pytest.approx(ends["32-true"], abs=0.5)


def test_gradients_are_clipped_in_mixed_precision(tmp_path):
    moved = []
    for clip in (None, 1e-12):  # Adam moves far less when gradients are small beside its epsilon
        torch.manual_seed(0)
        model = small()
        before = weights(model).clone()
        run = trainer(
            tmp_path, precision="bf16-mixed", gradient_clip_val=clip, callbacks=[SeedEpoch(0)]
        )
        run.fit(model, data())
        moved.append((weights(model) - before).abs().max())
    assert moved[1] < 0.01 * moved[0]


def test_loss_falls_on_eight_images():
    model = small(lr=1e-2, hidden=(64,))
    module = data(binarization="static")
    module.setup()
    image = module.splits["train"]["image"][:8].float() / 255
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = model.loss({"image": image})["loss"].item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.loss({"image": image})["loss"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.6 * first


RECIPE = """
# zoo fit tiny.yaml
seed_everything: 3
model:
  class_path: VAE
  init_args: {x_shape: [1, 12, 12], latent_dim: 4, hidden: [32], lr_schedule: cosine,
    kl_warmup_steps: 20}
data:
  class_path: FakeImages
  init_args: {x_shape: [1, 12, 12], n: 96, batch_size: 16}
trainer:
  max_epochs: 6
  accelerator: cpu
  enable_model_summary: false
  enable_progress_bar: false
  log_every_n_steps: 3
  callbacks:
    - class_path: EMAWeightAveraging
      init_args: {decay: 0.9}
    - class_path: ModelCheckpoint
      init_args: {monitor: val/elbo, mode: max, filename: best, save_last: true}
    - class_path: LogActiveUnits
    - class_path: SampleGrid
      init_args: {every_n_epochs: 3, n: 4}
  logger:
    class_path: CSVLogger
    init_args: {save_dir: runs, name: tiny}
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A whole run of the recipe, and the folder it left."""
    folder = tmp_path_factory.mktemp("run")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE)
    torch.set_num_threads(1)
    cli = run("fit", str(recipe), ["--trainer.logger.init_args.save_dir", str(folder)])
    return cli, folder, recipe


def run_and_kill(recipe, folder):
    """Run the recipe in a process of its own and kill it in the middle of its third epoch."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    code = (
        "import sys, time, torch\n"
        "torch.set_num_threads(1)\n"
        "from zoo.models import VAE\n"
        "from zoo.cli.main import main\n"
        "step = VAE.training_step\n"
        "def slow(self, batch, i):\n"
        "    if self.current_epoch == 2 and i == 3:\n"
        "        print('in the middle', flush=True)\n"
        "        time.sleep(60)\n"
        "    return step(self, batch, i)\n"
        "VAE.training_step = slow\n"
        f"main(['fit', {str(recipe)!r}, '--trainer.logger.init_args.save_dir', {str(folder)!r}])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert any("in the middle" in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_a_resumed_run_ends_with_the_same_bits(uninterrupted, tmp_path):
    whole, _, recipe = uninterrupted
    flags = ["--trainer.logger.init_args.save_dir", str(tmp_path)]
    checkpoint = tmp_path / "tiny" / "version_0" / "checkpoints" / "last.ckpt"
    run_and_kill(recipe, tmp_path)
    assert [p.name for p in checkpoint.parent.iterdir() if p.suffix != ".ckpt"] == []
    resumed = run("fit", str(recipe), [*flags, "--ckpt_path", str(checkpoint)])
    assert resumed.trainer.global_step == whole.trainer.global_step == 36
    assert torch.equal(weights(resumed.model), weights(whole.model))
    # the best epoch is still known, and the checkpoints stay in one folder
    best = [run.trainer.checkpoint_callback.best_model_score for run in (resumed, whole)]
    assert best[0] == best[1]
    assert checkpoint.parent == Path(resumed.trainer.checkpoint_callback.dirpath)


def images():
    return data(n=240)


RESUMED = {
    "VAE": (small, images),
    "AE": (
        lambda: AE(x_shape=(1, 12, 12), latent_dim=4, hidden=(32,), noise=0.2, components=2),
        images,
    ),
    "DBVAE": (
        lambda: DBVAE(x_shape=(3, 16, 16), latent_dim=4, hidden=(4, 8)),
        lambda: FakeFaces(size=16, n=60, batch_size=8, attributes=["Smiling"]),
    ),
    "GMM": (
        lambda: GMM((1, 4, 4), 2, covariance="diag"),
        lambda: FakeImages((1, 4, 4), n=240, batch_size=16, binarization="none"),
    ),
}


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization")
@pytest.mark.parametrize("saved", ["validation", "step"])
@pytest.mark.parametrize(
    ("family", "devices"), [*((name, 1) for name in RESUMED), ("VAE", 2), ("GMM", 2)]
)
def test_a_run_resumed_in_the_middle_of_an_epoch_ends_with_the_same_bits(
    tmp_path, family, devices, saved
):
    model, module = RESUMED[family]

    def fit(folder, ckpt_path=None):
        keep = ModelCheckpoint(
            folder,
            filename="{step}",
            save_top_k=-1,
            every_n_train_steps=1 if saved == "step" else None,
        )
        torch.manual_seed(0 if ckpt_path is None else 1)
        trained = model()
        run = trainer(
            folder,
            enable_checkpointing=True,
            val_check_interval=2,
            callbacks=[SeedEpoch(0), keep],
            devices=devices,
            strategy="auto" if devices == 1 else "ddp_fork",
        )
        run.fit(trained, module(), ckpt_path=ckpt_path)
        return trained.state_dict()

    whole = fit(tmp_path / "whole")
    paths = sorted((tmp_path / "whole").glob("*.ckpt"), key=lambda path: int(path.stem[5:]))
    for path in (paths[1], paths[-3]):  # in the first epoch, and in the second
        resumed = fit(tmp_path / path.stem, path)
        assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_validation_leaves_the_noise_of_training_alone(tmp_path):
    ends = []
    for interval in (1, 3, 1.0):
        torch.manual_seed(0)
        model = small()
        trainer(tmp_path, val_check_interval=interval, callbacks=[SeedEpoch(0)]).fit(model, data())
        ends.append(weights(model))
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_the_last_checkpoint_is_the_last_even_if_it_is_not_the_best(tmp_path):
    best = ModelCheckpoint(tmp_path, monitor="val/loss", mode="max", filename="b", save_last=True)
    trainer(tmp_path, max_epochs=4, enable_checkpointing=True, callbacks=[SaveLast(), best]).fit(
        small(lr=1e-2), data()
    )
    epochs = {
        path.name: torch.load(path, weights_only=True)["epoch"] for path in tmp_path.glob("*.ckpt")
    }
    assert epochs == {"b.ckpt": 0, "last.ckpt": 3}
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    scores = [s["best_model_score"] for s in state.values() if "best_model_score" in s]
    assert scores == [best.best_model_score]


def test_a_run_leaves_its_logs_pictures_and_checkpoints(uninterrupted):
    _, folder, _ = uninterrupted
    run = folder / "tiny" / "version_0"
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {p.name for p in (run / "pictures").iterdir()} == {
        f"{kind}-{epoch:04d}.png" for kind in ("samples", "reconstructions") for epoch in (3, 6)
    }
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    for name in ("elbo", "rate", "distortion", "loss"):
        assert f"train/{name}" in header
        assert f"val/{name}" in header
    assert "val/active_units" in header


def pictures_of_a_run(folder, logger):
    """The files that a run with two epochs of pictures leaves, by name."""
    sample = SampleGrid(every_n_epochs=1, n=4)
    trainer(folder, callbacks=[sample], logger=logger).fit(small(), data(binarization="none"))
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    paths = [*(Path(logger.save_dir) / logger.name / version / "pictures").iterdir()]
    assert {path.name for path in paths} == {
        f"{kind}-{epoch:04d}.png" for kind in ("samples", "reconstructions") for epoch in (1, 2)
    }
    return {path.stem: np.asarray(Image.open(path)) for path in paths}


def shrunk(saved, like):
    scale = len(saved) // len(like)
    return saved[scale // 2 :: scale, scale // 2 :: scale]


def test_tensorboard_gets_the_pictures(tmp_path):
    reason = "TensorBoard is not installed; pip install tensorboard"
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason=reason
    )
    logger = TensorBoardLogger(tmp_path / "logs")
    saved = pictures_of_a_run(tmp_path, logger)
    logger.finalize("success")
    found = events.EventAccumulator(logger.log_dir).Reload()
    assert {*found.Tags()["images"]} == {"samples", "reconstructions"}
    for kind in ("samples", "reconstructions"):
        for epoch, event in enumerate(found.Images(kind), start=1):
            assert event.step == 6 * epoch
            image = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("L"))
            expected = shrunk(saved[f"{kind}-{epoch:04d}"], image)
            assert np.abs(image.astype(int) - expected).max() <= 1  # it rounds down


def test_mlflow_gets_the_pictures(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed; pip install mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a data base would need more packages
    uri = (tmp_path / "store").as_uri()
    logger = MLFlowLogger(tracking_uri=uri, artifact_location=(tmp_path / "artifacts").as_uri())
    saved = pictures_of_a_run(tmp_path, logger)
    client = mlflow.MlflowClient(uri)
    paths = [file.path for file in client.list_artifacts(logger.run_id, "pictures")]
    assert sorted(paths) == sorted(f"pictures/{name}.png" for name in saved)
    for name, picture in saved.items():
        file = tmp_path / "artifacts" / logger.run_id / "artifacts" / "pictures" / f"{name}.png"
        image = np.asarray(Image.open(file))
        assert np.array_equal(image, shrunk(picture, image))


def test_export_keeps_the_averaged_weights_and_the_recipe(uninterrupted, tmp_path):
    cli, folder, _ = uninterrupted
    ckpt = folder / "tiny" / "version_0" / "checkpoints" / "last.ckpt"
    export(ckpt, tmp_path / "tiny")
    model = zoo.from_pretrained(str(tmp_path / "tiny"))
    assert torch.equal(weights(model), weights(cli.model))  # fit ends with the averages
    raw = torch.load(ckpt, weights_only=True)["current_model_state"]
    assert not torch.equal(torch.cat([v.flatten() for v in raw.values()]), weights(model))
    assert model.data["class_path"] == "FakeImages"
    arguments = model.data["init_args"]
    assert (arguments["x_shape"], arguments["n"], arguments["batch_size"]) == ([1, 12, 12], 96, 16)
    assert {p.name for p in (tmp_path / "tiny").iterdir()} == {
        "config.json",
        "model.safetensors",
        "golden.safetensors",
        "recipe.yaml",
        "samples.png",
        "means.png",
    }


def test_export_in_half_precision_stores_the_nearest_numbers_in_half_the_space(
    uninterrupted, tmp_path
):
    cli, folder, _ = uninterrupted
    ckpt = folder / "tiny" / "version_0" / "checkpoints" / "last.ckpt"
    export(ckpt, tmp_path / "whole")
    export(ckpt, tmp_path / "half", half=True)
    stored = {
        name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")
    }
    numbers = weights(cli.model)
    assert stored["whole"] - stored["half"] == pytest.approx(2 * len(numbers), abs=16)
    model = zoo.from_pretrained(str(tmp_path / "half"))
    assert torch.equal(weights(model), numbers.half().float())
    assert not torch.equal(weights(model), numbers)
    check_golden(model, tmp_path / "half")
    assert torch.equal(weights(cli.model), numbers)


def test_half_precision_refuses_a_weight_that_it_cannot_hold(tmp_path):
    model = small()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = 1e5
    with pytest.raises(zoo.ZooError, match=r"beyond 65,504; store the model in full"):
        model.save_pretrained(tmp_path / "half", half=True)


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_export_refuses_what_is_no_training_checkpoint(uninterrupted, tmp_path, damage):
    _, folder, _ = uninterrupted
    path = tmp_path / "x.ckpt"
    whole = (folder / "tiny" / "version_0" / "checkpoints" / "last.ckpt").read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    if damage == "foreign":
        torch.save({"state_dict": {}}, path)
    with pytest.raises(zoo.ZooError):
        load_training_checkpoint(path)


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    io = AtomicCheckpointIO()
    path = tmp_path / "a" / "last.ckpt"
    io.save_checkpoint({"x": torch.ones(3)}, path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(zoo.ZooError, match="No space left"):
        io.save_checkpoint({"x": torch.zeros(3)}, path)
    assert torch.equal(torch.load(path)["x"], torch.ones(3))
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_fine_tuning_starts_in_train_mode(tmp_path):
    small().save_pretrained(tmp_path / "base")
    model = zoo.from_pretrained(str(tmp_path / "base"), lr=0.5)
    assert not model.training
    assert model.lr == model.hparams["lr"] == 0.5
    run = trainer(tmp_path, max_epochs=1)
    before = weights(model).clone()
    modes = []
    model.on_train_batch_end = lambda *_: modes.append(model.encoder.training)
    run.fit(model, data())
    assert all(modes)
    assert not torch.equal(before, weights(model))


def test_images_of_the_wrong_shape_or_range_stop_the_run(tmp_path):
    with pytest.raises(ValueError, match="built for"):
        trainer(tmp_path).fit(small(), data(x_shape=(1, 8, 8)))


@pytest.mark.parametrize(
    ("value", "found"),
    [(math.nan, "nan, nan"), (math.inf, "0, inf"), (1.5, "0, 1.5"), (-1, "-1, 0")],
)
@pytest.mark.parametrize("place", [0, 7, 20])
def test_images_out_of_range_stop_the_run_in_whichever_batch_they_are(
    tmp_path, value, found, place
):
    images = torch.zeros(24, 1, 12, 12)
    images[place, 0, 3, 4] = value
    model = small()
    loader = DataLoader([{"image": image} for image in images], batch_size=4)
    with pytest.raises(ValueError, match=rf"image has values in \[{found}\], .* remove the NaNs"):
        trainer(tmp_path, num_sanity_val_steps=0).fit(model, loader, loader)
    assert weights(model).isfinite().all()


@pytest.mark.parametrize("model", [small, lambda: GMM((1, 8, 8), 2)], ids=["VAE", "GMM"])
@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_data_without_images_stop_the_run(tmp_path, model, stage):
    texts = FakeTaggedText(n=8, batch_size=8)
    with pytest.raises(ValueError, match="but no image; pick other data"):
        getattr(trainer(tmp_path), stage)(model(), texts)


def test_ema_and_checkpoint_callbacks_work_outside_the_command_line(tmp_path):
    callbacks = [
        EMAWeightAveraging(decay=0.5),
        ModelCheckpoint(dirpath=tmp_path, monitor="val/elbo", mode="max", filename="best"),
        LogActiveUnits(),
        SampleGrid(every_n_epochs=1, n=4),
        SeedEpoch(),
    ]
    run = trainer(tmp_path, callbacks=callbacks, enable_checkpointing=True)
    run.fit(small(), data())
    assert 0 <= run.callback_metrics["val/active_units"] <= 4
    assert load_training_checkpoint(tmp_path / "best.ckpt").latent_shape == (4,)
