import json
import logging

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from zoo.datamodules import FakeImages, FakeTaggedText

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "disabled", True)


class Recorder(LightningModule):
    """Notes which images it sees."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {"train": {}, "val": {}, "test": {}}

    def note(self, split, batch):
        key = str(self.current_epoch)
        self.seen[split].setdefault(key, []).append(batch["index"].tolist())

    def training_step(self, batch, batch_idx):
        self.note("train", batch)
        return (self.weight - batch["image"].mean()) ** 2

    def validation_step(self, batch, batch_idx):
        self.note("val", batch)

    def test_step(self, batch, batch_idx):
        self.note("test", batch)
        self.log("mean", batch["image"].mean(), batch_size=len(batch["image"]), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_train_end(self):
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(self.seen))

    def on_test_end(self):
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(self.seen))


def trainer(**args):
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **args,
    )


def fit(folder, n=30, batch_size=8, **args):
    model = Recorder(folder)
    data = FakeImages((1, 8, 8), n=n, batch_size=batch_size)
    trainer(**{"devices": 1, **args}).fit(model, data)
    return model.seen


class Reader(Recorder):
    """Notes which sentences it sees, and how many words they have."""

    def training_step(self, batch, batch_idx):
        self.note("train", batch)
        assert torch.equal(batch["mask"].sum(1), batch["lengths"])
        return (self.weight - batch["tokens"].float().mean()) ** 2

    def validation_step(self, batch, batch_idx):
        self.note("val", batch)


def flat(batches):
    return [i for batch in batches for i in batch]


def test_fit_shuffles_anew_in_each_epoch_and_validates_in_order(tmp_path):
    seen = fit(tmp_path, max_epochs=3, num_sanity_val_steps=1)
    epochs = [flat(batches) for batches in seen["train"].values()]
    assert [len(batch) for batch in seen["train"]["0"]] == [8, 8, 8, 6]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert seen["val"]["1"] == seen["val"]["2"] == [list(range(7))]


def test_resumed_fit_goes_on_with_the_order_of_its_epoch(tmp_path):
    whole = fit(tmp_path, max_epochs=2)["train"]
    model, data = Recorder(tmp_path), FakeImages((1, 8, 8), n=30, batch_size=8)
    first = trainer(devices=1, max_epochs=1)
    first.fit(model, data)
    first.save_checkpoint(tmp_path / "end.ckpt")
    model, data = Recorder(tmp_path), FakeImages((1, 8, 8), n=30, batch_size=8)
    trainer(devices=1, max_epochs=2).fit(model, data, ckpt_path=tmp_path / "end.ckpt")
    assert model.seen["train"] == {"1": whole["1"]}


def test_limits_and_reloading(tmp_path):
    whole = fit(tmp_path, max_epochs=2)["train"]
    part = fit(tmp_path, max_epochs=2, limit_train_batches=2)["train"]
    assert part == {epoch: batches[:2] for epoch, batches in whole.items()}
    assert fit(tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1)["train"] == whole


def test_overfitting_repeats_the_same_batches(tmp_path):
    seen = fit(tmp_path, max_epochs=3, overfit_batches=2)["train"]
    assert seen["0"] == seen["1"] == seen["2"] == [list(range(8)), list(range(8, 16))]


@pytest.mark.parametrize("use_distributed_sampler", [True, False])
def test_two_processes_see_different_images(tmp_path, use_distributed_sampler):
    fit(
        tmp_path,
        n=31,
        batch_size=4,
        max_epochs=2,
        devices=2,
        strategy="ddp_fork",
        num_sanity_val_steps=0,
        use_distributed_sampler=use_distributed_sampler,
    )
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    single = fit(tmp_path, n=31, batch_size=8, max_epochs=2, num_sanity_val_steps=0)
    for epoch in ("0", "1"):
        parts = [rank["train"][epoch] for rank in ranks]
        assert not set(flat(parts[0])) & set(flat(parts[1]))
        assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [
            sorted(batch) for batch in single["train"][epoch]
        ]
        assert sorted(flat(flat(rank["val"][epoch]) for rank in ranks)) == list(range(7))


def test_two_processes_read_different_sentences(tmp_path):
    model = Reader(tmp_path)
    data = FakeTaggedText(n=30, batch_size=4)
    two = trainer(devices=2, strategy="ddp_fork", max_epochs=1, num_sanity_val_steps=0)
    two.fit(model, data)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    parts = [flat(rank["train"]["0"]) for rank in ranks]
    assert [len(part) for part in parts] == [15, 15]
    assert sorted(parts[0] + parts[1]) == list(range(30))
    assert sorted(flat(flat(rank["val"]["0"]) for rank in ranks)) == list(range(7))


def test_two_processes_test_each_image_once(tmp_path):
    data = FakeImages((1, 8, 8), n=68, batch_size=8)  # 17 to test: 9 and 8
    model = Recorder(tmp_path)
    spread = trainer(devices=2, strategy="ddp_fork")
    mean = spread.test(model, data, verbose=False)[0]["mean"]
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text())["test"]["0"] for rank in range(2)]
    assert sorted(flat(ranks[0]) + flat(ranks[1])) == list(range(17))
    assert [len(rank) for rank in ranks] == [2, 2]
    single = trainer(devices=1).test(Recorder(tmp_path), data, verbose=False)[0]["mean"]
    # Lightning averages the processes' means, here of 9 and 8 images, with equal weight
    assert mean == pytest.approx(single, abs=0.02)
