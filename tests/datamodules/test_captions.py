"""Which picture and which caption a batch holds, in each epoch and on each process."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from caption_files import (
    FILES,
    WRITE,
    emoji,
    flat,
    flickr,
    load,
    number_of,
    rows_of,
    said,
    texts,
)
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from zoo.datamodules import Captions
from zoo.datamodules.captions.captions import Turns
from zoo.datamodules.captions.tokenizer import BOS, EOS, PAD

# --- what the batches hold -----------------------------------------------------------------------


@pytest.mark.parametrize("source", FILES)
def test_batches_pair_a_picture_with_its_caption(tmp_path, source):
    WRITE[source](tmp_path)
    data = load(tmp_path, source)
    for split in ("train", "val", "test"):
        seen = []
        for batch in getattr(data, f"{split}_dataloader")():
            assert list(batch) == [
                "image", "caption", "mask", "lengths", "picture", "index", "text",
            ]  # fmt: skip
            n, longest = batch["caption"].shape
            assert batch["image"].shape == (n, 3, 8, 8)
            assert batch["image"].dtype == torch.float32
            assert 0 <= batch["image"].min() <= batch["image"].max() <= 1
            assert batch["caption"].dtype == batch["lengths"].dtype == torch.int64
            assert batch["picture"].dtype == batch["index"].dtype == torch.int64
            assert batch["mask"].dtype == torch.bool
            assert torch.equal(batch["mask"].sum(1), batch["lengths"])
            assert torch.equal(batch["mask"], batch["caption"] != PAD)
            assert longest == batch["lengths"].max()
            assert (batch["caption"][:, 0] == BOS).all()
            last = batch["caption"].gather(1, batch["lengths"][:, None] - 1)
            assert (last == EOS).all()
            spoken = data.tokenizer.decode(batch["caption"])
            assert spoken == [text.lower() for text in batch["text"]]
            assert [said(text)[0] for text in batch["text"]] == [*map(number_of, batch["image"])]
            seen += batch["picture"].tolist()
        assert sorted(seen) == list(range(len(data.names[split])))


def test_x_shape_and_sizes(tmp_path):
    emoji(tmp_path)
    for size in (8, 64, 80):
        data = load(tmp_path, "emoji", size=size)
        assert data.x_shape == (3, size, size)
        images = data.splits["train"]["image"]
        assert images.shape[1:] == data.x_shape
        # plain pictures stay plain at any size
        assert (images.amax((1, 2, 3)) == images.amin((1, 2, 3))).all()


def test_resized_pictures_match_pillow(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    emoji(tmp_path, images=images)
    data = load(tmp_path, "emoji", size=16, skin_tones=True)
    resized = data.splits["train"]["image"].permute(0, 2, 3, 1).int().numpy()
    for name, ours in zip(data.names["train"], resized, strict=True):
        original = Image.fromarray(images[int(name[6:8])])
        theirs = np.asarray(original.resize((16, 16), Image.Resampling.BICUBIC), dtype=int)
        # both convolve with the same kernel; Pillow rounds after each of the two directions
        assert abs(ours - theirs).max() <= 2


def test_long_captions_are_cut_and_counted(tmp_path):
    flickr(tmp_path)
    with pytest.warns(UserWarning, match=r"120 of 120 captions have more than 7 tokens"):
        data = load(tmp_path, "flickr8k", max_length=7)
    batch = next(iter(data.val_dataloader()))
    assert (batch["lengths"] == 7).all()
    assert (batch["caption"][:, -1] == EOS).all()
    spoken = data.tokenizer.decode(batch["caption"])
    assert all(text.lower().startswith(s) for s, text in zip(spoken, batch["text"], strict=True))


def test_captions_are_held_in_few_bytes(tmp_path):
    flickr(tmp_path)
    assert load(tmp_path, "flickr8k").tables["train"].ids.dtype == torch.int16


# --- which caption -------------------------------------------------------------------------------


def test_training_takes_one_caption_of_each_picture_in_an_epoch(tmp_path):
    flickr(tmp_path)
    data = load(tmp_path, "flickr8k")
    loader = data.train_dataloader()
    epochs = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        epochs.append(texts(loader))
        numbers = [said(text)[0] for text in epochs[-1]]
        assert sorted(numbers) == sorted(int(n[:3]) for n in data.names["train"])
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 3


def test_captions_depend_on_seed_and_epoch_only(tmp_path):
    flickr(tmp_path, official=["train"] * 20 + ["dev", "dev", "test", "test"])

    def choice(seed=0, epoch=1, processes=1, batch_size=4):
        data = load(tmp_path, "flickr8k", seed=seed, batch_size=batch_size)
        batches = [
            rows_of(data, rank=rank, world_size=processes, epoch=epoch) for rank in range(processes)
        ]
        return dict(said(text) for batch in flat(batches) for text in batch["text"])

    torch.manual_seed(1)
    first = choice()
    torch.manual_seed(2)
    assert choice() == first
    assert choice(batch_size=7) == first
    assert choice(processes=2) == first
    assert choice(processes=4) == first
    assert choice(seed=1) != first
    assert choice(epoch=2) != first


def test_drawing_captions_leaves_the_global_generator_alone(tmp_path):
    flickr(tmp_path)
    data = load(tmp_path, "flickr8k")
    before = torch.get_rng_state()
    texts(data.train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def chi_square(counts):
    expected = counts.sum() / counts.size
    return ((counts - expected) ** 2 / expected).sum()


def test_every_caption_of_a_picture_is_as_likely():
    pictures, epochs = 200, 300
    count = torch.tensor([5, 3] * (pictures // 2))
    first = count.cumsum(0) - count
    turns = Turns(first, count, seed=0)
    drawn = np.stack([(turns(epoch)["row"] - first).numpy() for epoch in range(epochs)])  # (E, P)
    fives, threes = drawn[:, ::2], drawn[:, 1::2]
    # a chi-square variable with d degrees of freedom exceeds d + 4 sqrt(2 d) + 8 about once in
    # 10,000 times for d from 2 to 24
    for choices, k in ((fives, 5), (threes, 3)):
        assert chi_square(np.bincount(choices.ravel(), minlength=k)) < bound(k - 1)
        # nor does it depend on the last epoch's, or on the neighbour's
        for other in (np.roll(choices, 1, 0), np.roll(choices, 1, 1)):
            both = np.bincount((k * choices + other).ravel(), minlength=k * k)
            assert chi_square(both) < bound(k * k - 1)
    # single pictures: 100 sums of 4 degrees of freedom each
    each = sum(chi_square(np.bincount(column, minlength=5)) for column in fives.T)
    assert abs(each - 400) < 4 * math.sqrt(2 * 400)


def bound(d):
    return d + 4 * math.sqrt(2 * d) + 8


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_takes_the_first_caption_or_all(tmp_path, split):
    flickr(tmp_path)
    first = rows_of(load(tmp_path, "flickr8k"), split, shuffle=False)
    assert [said(text)[1] for batch in first for text in batch["text"]] == [0, 0, 0]
    data = load(tmp_path, "flickr8k", eval_captions="all")
    every = rows_of(data, split, shuffle=False)
    assert flat(b["picture"].tolist() for b in every) == [p for p in range(3) for _ in range(5)]
    assert flat(b["index"].tolist() for b in every) == list(range(15))
    pairs_seen = [said(text) for batch in every for text in batch["text"]]
    numbers = [int(file[:3]) for file in data.names[split]]
    assert pairs_seen == [(number, k) for number in numbers for k in range(5)]
    assert [number_of(image) for b in every for image in b["image"]] == [n for n, _ in pairs_seen]
    # training goes on with one caption of each picture
    assert len(texts(data.train_dataloader())) == 18


def test_training_in_order_takes_the_first_captions(tmp_path):
    """As to overfit a few batches, which have to stay the same."""
    flickr(tmp_path)
    batches = rows_of(load(tmp_path, "flickr8k"), shuffle=False)
    assert {said(text)[1] for batch in batches for text in batch["text"]} == {0}


# --- processes and training ----------------------------------------------------------------------


@pytest.mark.parametrize(("split", "shuffle"), [("train", True), ("val", False)])
def test_two_processes_see_different_pairs(tmp_path, split, shuffle):
    flickr(tmp_path, official=["train"] * 12 + ["dev"] * 7 + ["test"] * 5)
    data = load(tmp_path, "flickr8k", eval_captions="all")
    ranks = [rows_of(data, split, shuffle, rank, 2) for rank in range(2)]
    seen = [flat(batch["text"] for batch in batches) for batches in ranks]
    assert not set(seen[0]) & set(seen[1])
    whole = flat(batch["text"] for batch in rows_of(data, split, shuffle))
    assert sorted(seen[0] + seen[1]) == sorted(whole)
    assert len({len(batches) for batches in ranks}) == 1


class Recorder(LightningModule):
    """Notes which captions it is trained with."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {}

    def training_step(self, batch, batch_idx):
        self.seen.setdefault(str(self.current_epoch), []).extend(batch["text"])
        return (self.weight - batch["image"].mean()) ** 2

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_train_end(self):
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(self.seen))


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_draws_captions_anew_in_each_epoch_on_all_processes(tmp_path):
    flickr(tmp_path)
    data = load(tmp_path, "flickr8k")
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Recorder(tmp_path), data)
    for epoch in range(2):
        expected = [
            flat(b["text"] for b in rows_of(data, "train", True, r, 2, epoch)) for r in (0, 1)
        ]
        seen = [json.loads((tmp_path / f"{r}.json").read_text())[str(epoch)] for r in (0, 1)]
        assert seen == expected


def test_loader_can_be_pickled(tmp_path):
    flickr(tmp_path)
    loader = load(tmp_path, "flickr8k").train_dataloader()
    assert texts(pickle.loads(pickle.dumps(loader))) == texts(loader)


def test_loaders_and_examples_need_setup():
    for ask in (Captions.train_dataloader, lambda data: data.examples(1)):
        with pytest.raises(RuntimeError, match=r"Call Captions.setup\(\) before asking for"):
            ask(Captions())
