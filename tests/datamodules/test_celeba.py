import json
import multiprocessing
import os
import random
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from celeba_files import (
    SPLITS,
    TEXTS,
    attributes,
    identity,
    jpeg,
    load,
    numbers,
    same,
    same_as_shard,
    shards,
    square,
    stores,
    write_folder,
    write_shards,
)
from PIL import Image
from test_data_trainer import Recorder, flat, trainer

from zoo.datamodules import CelebA
from zoo.datamodules.faces import folder
from zoo.datamodules.faces.celeba import chosen
from zoo.datamodules.faces.source import ATTRIBUTES, PARTS, read_face
from zoo.datamodules.files.places import DataError

# from Python 3.12 on; no other thread holds anything here
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _prepared_here(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "zoo"))


@pytest.mark.parametrize(("size", "crop"), [(64, 148), (32, 148), (50, 177), (100, 100), (1, 2)])
def test_folder(tmp_path, size, crop):
    write_folder(tmp_path)
    data = load(tmp_path, size=size, crop=crop)
    assert data.x_shape == (3, size, size)
    assert numbers(data) == {split: list(some) for split, some in SPLITS.items()}
    for split, some in SPLITS.items():
        tensors = data.splits[split]
        assert tensors["attributes"].tolist() == [(attributes(n) > 0).tolist() for n in some]
        assert tensors["identity"].tolist() == [identity(n) for n in some]
        pairs = zip(tensors["image"], some, strict=True)
        assert all(same(image, square(n, crop, size)) for image, n in pairs)


def test_shards(tmp_path):
    write_shards(tmp_path)
    data = load(tmp_path)
    assert numbers(data) == {split: list(some) for split, some in SPLITS.items()}
    for split, some in SPLITS.items():
        tensors = data.splits[split]
        assert tensors["attributes"].tolist() == [(attributes(n) > 0).tolist() for n in some]
        assert tensors["identity"].tolist() == [identity(n) for n in some]
        for image, n in zip(tensors["image"], some, strict=True):
            assert same_as_shard(image, n)


def test_batches(tmp_path):
    write_folder(tmp_path)
    data = load(tmp_path, batch_size=5)
    batches = list(data.train_dataloader())
    assert [len(batch["image"]) for batch in batches] == [5, 5, 2]
    kinds = {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in batches[0].items()}
    assert kinds == {
        "image": (torch.float32, (5, 3, 64, 64)),
        "attributes": (torch.int64, (5, 40)),
        "identity": (torch.int64, (5,)),
        "image_id": (torch.int64, (5,)),
        "index": (torch.int64, (5,)),
    }
    for batch in batches:
        for row in range(len(batch["image"])):
            n = int(batch["image_id"][row])
            assert batch["index"][row] == list(SPLITS["train"]).index(n)
            assert torch.equal(
                batch["image"][row] * 255, data.splits["train"]["image"][n - 1].float()
            )
            assert batch["attributes"][row].tolist() == (attributes(n) > 0).tolist()
    assert 0 <= batches[0]["image"].min() <= batches[0]["image"].max() <= 1


def order(data):
    return [batch["image_id"].tolist() for batch in data.train_dataloader()]


def test_order_follows_the_seed(tmp_path):
    write_folder(tmp_path)
    first = order(load(tmp_path, seed=3, batch_size=5))
    assert order(load(tmp_path, seed=3, batch_size=5)) == first
    assert order(load(tmp_path, seed=4, batch_size=5)) != first
    assert sorted(flat(first)) == list(SPLITS["train"])
    data = load(tmp_path, batch_size=3)
    assert [b["image_id"].tolist() for b in data.test_dataloader()] == [[17, 18, 19], [20, 21]]


@pytest.mark.filterwarnings("ignore")
def test_two_processes_see_different_halves(tmp_path):
    write_folder(tmp_path)
    run = trainer(devices=2, strategy="ddp_fork", max_epochs=1, num_sanity_val_steps=0)
    run.fit(Recorder(tmp_path), CelebA(root=str(tmp_path), batch_size=4))
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    halves = [flat(rank["train"]["0"]) for rank in seen]
    assert [len(half) for half in halves] == [6, 6]
    assert sorted(halves[0] + halves[1]) == list(range(12))
    assert sorted(flat(flat(rank["val"]["0"]) for rank in seen)) == list(range(4))
    single = CelebA(root=str(tmp_path), batch_size=8)
    single.setup()
    together = [sorted(a + b) for a, b in zip(*(rank["train"]["0"] for rank in seen), strict=True)]
    assert together == [sorted(batch["index"].tolist()) for batch in single.train_dataloader()]


def test_chosen_attributes_and_their_columns(tmp_path):
    write_folder(tmp_path)
    data = load(tmp_path, attributes=["Smiling", "Male"], batch_size=12)
    assert data.attribute_names == ("Smiling", "Male")
    batch = next(iter(data.train_dataloader()))
    both = torch.stack([data.attribute(batch, "Smiling"), data.attribute(batch, "Male")], 1)
    assert torch.equal(both, batch["attributes"])
    for row, n in zip(both, batch["image_id"].tolist(), strict=True):
        assert row.tolist() == [attributes(n)[31] > 0, attributes(n)[20] > 0]
    assert torch.equal(data.attribute(batch, "smiling"), both[:, 0])
    with pytest.raises(ValueError, match="no attribute 'smilling'; did you mean 'Smiling'"):
        data.attribute(batch, "smilling")
    with pytest.raises(ValueError, match="no attribute 'Young'"):
        data.attribute(batch, "Young")
    assert CelebA().attribute_names == ATTRIBUTES


def test_unlabelled_pictures_are_mixed_in_and_marked(tmp_path):
    write_shards(tmp_path)
    data = load(tmp_path, unlabelled=True, batch_size=6)
    assert numbers(data) == {
        **{s: list(n) for s, n in SPLITS.items()},
        "train": [*range(1, 13), *range(30, 36)],
    }
    batches = list(data.train_dataloader())
    assert sum(len(batch["image_id"]) for batch in batches) == 18
    assert any(len(batch["labelled"].unique()) == 2 for batch in batches)
    for batch in batches:
        assert batch["labelled"].dtype == torch.bool
        assert torch.equal(batch["labelled"], batch["image_id"] < 30)
        assert batch["attributes"][~batch["labelled"]].eq(0).all()
        assert batch["attributes"][batch["labelled"]].any(1).all()
        assert batch["identity"].tolist() == [identity(n) for n in batch["image_id"].tolist()]
    assert data.splits["test"]["labelled"].all()
    assert len(stores(tmp_path)) == 1
    load(tmp_path)  # the same store serves both
    assert len(stores(tmp_path)) == 1


def test_examples_have_their_attributes_names(tmp_path):
    write_folder(tmp_path)
    with pytest.raises(RuntimeError, match="setup"):
        CelebA().examples(1)
    data = load(tmp_path, attributes=["Smiling", "Male"])
    examples = data.examples(12)
    for n, example in enumerate(examples, 1):
        expected = [
            name for name in ("Smiling", "Male") if attributes(n)[ATTRIBUTES.index(name)] > 0
        ]
        assert example.text == (", ".join(expected) or "none of the attributes")
        assert same(example.image, square(n))
    assert len({example.text for example in examples}) == 4
    assert len(data.examples(100)) == 12


def test_source_is_predictable(tmp_path):
    write_shards(tmp_path)
    assert len(load(tmp_path).splits["train"]["image"]) == 12
    assert stores(tmp_path)[0].startswith("celeba64-size64-crop148-")
    write_folder(tmp_path, {0: range(1, 5), 1: range(5, 6), 2: range(6, 7)})
    assert len(load(tmp_path).splits["train"]["image"]) == 4
    assert len(load(tmp_path, source="folder").splits["train"]["image"]) == 4
    assert len(load(tmp_path, source="shards").splits["train"]["image"]) == 12
    assert len(stores(tmp_path)) == 2


def test_shards_have_one_size_and_crop(tmp_path):
    write_shards(tmp_path)
    for arguments in ({"size": 32}, {"crop": 140}):
        with pytest.raises(
            ValueError, match=r"celeba64 has pictures of 64 pixels from a crop of 148"
        ):
            load(tmp_path, **arguments)
    assert not (tmp_path / "zoo").exists()


def test_settings_and_changed_sources_are_prepared_anew(tmp_path):
    folder = write_folder(tmp_path)
    load(tmp_path)
    load(tmp_path, batch_size=7, seed=1, attributes=["Male"])
    assert len(stores(tmp_path)) == 1
    load(tmp_path, size=32)
    load(tmp_path, crop=100)
    assert len(stores(tmp_path)) == 3
    (folder / "img_align_celeba" / "000001.jpg").write_bytes(jpeg(99))
    data = load(tmp_path)
    assert len(stores(tmp_path)) == 4
    assert same(data.splits["train"]["image"][0], square(99))
    text = folder / TEXTS[2]
    text.write_text(text.read_text().replace("000001.jpg 100", "000001.jpg 7777"))
    assert load(tmp_path).splits["train"]["identity"][0] == 7777
    assert len(stores(tmp_path)) == 5


def test_sources_are_not_touched(tmp_path):
    files = [*write_folder(tmp_path).rglob("*"), *write_shards(tmp_path).iterdir()]
    before = [(file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    load(tmp_path, source="folder")
    load(tmp_path, source="shards")
    assert [(file.stat().st_mtime_ns, file.stat().st_size) for file in files] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["celeba", "celeba64", "zoo"]


def test_setup_before_prepare_data_says_so(tmp_path):
    with pytest.raises(DataError, match=r"celeba lacks img_align_celeba.*call prepare_data"):
        CelebA(root=str(tmp_path)).setup()
    write_folder(tmp_path)
    with pytest.raises(DataError, match=r"is not there; call prepare_data"):
        CelebA(root=str(tmp_path)).setup()


def test_inventory(tmp_path):
    inventory = CelebA.inventory(str(tmp_path))["auto"]
    assert inventory.folder == tmp_path / "celeba"
    assert inventory.missing == ("img_align_celeba", TEXTS[0], TEXTS[1])
    assert "put them there" in inventory.remedy
    write_shards(tmp_path)
    inventory = CelebA.inventory(str(tmp_path))["auto"]
    assert inventory.folder == tmp_path / "celeba64"
    assert inventory.found == tuple(sorted(f"{name}.npz" for name in shards()))
    assert (inventory.missing, inventory.remedy) == ((), "")
    folder = write_folder(tmp_path)
    assert CelebA.inventory(str(tmp_path))["auto"].found == ("img_align_celeba", *TEXTS)
    (folder / TEXTS[1]).unlink()
    assert CelebA.inventory(str(tmp_path))["auto"].missing == (TEXTS[1],)
    assert not (tmp_path / "zoo").exists()


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)  # importing it fails, as where it is not there


@pytest.mark.parametrize("gone", [("img_align_celeba",), TEXTS[:1], TEXTS[1:2], TEXTS[:2]])
def test_missing_files_that_cannot_be_downloaded(tmp_path, offline, gone):
    folder = write_folder(tmp_path)
    for name in gone:
        (folder / name).rename(tmp_path / name)
    with pytest.raises(DataError) as caught:
        load(tmp_path, source="folder")
    message = str(caught.value)
    assert f"{folder} lacks {', '.join(gone)}, and they could not be downloaded" in message
    assert "put them there" in message
    assert "\n" not in message
    assert not list(folder.glob(".*"))


def test_nothing_there(tmp_path, offline):
    with pytest.raises(DataError, match=r"celeba lacks img_align_celeba, list_attr"):
        load(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"celeba64 holds no npz shards: put CelebA's npz shards into"
    ):
        load(tmp_path / "nowhere", source="shards")


def test_download_moves_whole_files_into_place(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    published = write_folder(tmp_path / "published")
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "w") as archive:
        for file in (published / "img_align_celeba").iterdir():
            archive.write(file, f"img_align_celeba/{file.name}")

    def download(number, folder, file, md5):
        here = tmp_path if file.endswith(".zip") else published
        Path(folder, file).write_bytes((here / file).read_bytes())

    monkeypatch.setattr(utils, "download_file_from_google_drive", download)
    data = load(tmp_path)
    assert numbers(data) == {split: list(some) for split, some in SPLITS.items()}
    assert sorted(p.name for p in (tmp_path / "celeba").iterdir()) == sorted(
        [*TEXTS, "img_align_celeba"]
    )


def test_text_that_arrived_stays_when_the_pictures_do_not(tmp_path, monkeypatch):
    texts = write_folder(tmp_path / "published")

    def fetch(name, folder):
        if name == "img_align_celeba":
            Path(folder, name).mkdir()
            raise RuntimeError("quota\n\nexceeded for this file\n")
        Path(folder, name).write_bytes((texts / name).read_bytes())

    monkeypatch.setattr(folder, "fetch", fetch)
    with pytest.raises(DataError, match=r"could not be downloaded \(exceeded for this file\)"):
        load(tmp_path)
    assert sorted(path.name for path in (tmp_path / "celeba").iterdir()) == sorted(TEXTS)


@pytest.mark.parametrize("name", ["image.u8", "labels.npz"])
def test_damaged_store_is_refused(tmp_path, name):
    write_folder(tmp_path)
    load(tmp_path)
    path = tmp_path / "zoo" / "prepared" / stores(tmp_path)[0] / name
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(
        DataError, match=rf"is damaged \({name}: .*delete this folder and run again"
    ):
        load(tmp_path)


def test_source_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write_folder(tmp_path)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"celeba could not be read \(Permission denied\)"):
        load(tmp_path)


def test_place_that_cannot_be_written_is_named(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "zoo").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"zoo/prepared/celeba-size64.* could not be written"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size is 0, but must be at least 1"),
        ({"crop": 0}, "crop is 0, but must be at least 1"),
        ({"size": 149}, "size must be at most crop"),
        ({"crop": 179}, "crop 178"),
        ({"source": "shard"}, "did you mean 'shards'"),
        ({"attributes": ["Smilling"]}, "no attribute 'Smilling'; did you mean 'Smiling'"),
        ({"attributes": ["eye glasses"]}, "did you mean 'Eyeglasses'"),
        ({"attributes": []}, "at least one"),
        ({"attributes": ["Male", "Male"]}, "different names"),
        ({"attributes": ["Male", "male"]}, "different names"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        CelebA(**arguments)
    assert "\n" not in str(caught.value)


def test_attributes_are_celebas():
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 40
    assert list(ATTRIBUTES) == sorted(ATTRIBUTES)
    places = {"5_o_Clock_Shadow": 0, "Eyeglasses": 15, "Male": 20, "Smiling": 31, "Young": 39}
    assert {name: ATTRIBUTES.index(name) for name in places} == places


def test_two_processes_that_prepare_at_once(tmp_path):
    write_folder(tmp_path)
    together = fork.Barrier(2)

    def start():
        together.wait(20)
        assert numbers(load(tmp_path)) == {split: list(some) for split, some in SPLITS.items()}

    children = [fork.Process(target=start) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0, 0]
    assert len(stores(tmp_path)) == 1


def counts(data):
    return {split: len(tensors["image"]) for split, tensors in data.splits.items()}


def words(path):
    """The rows of one of CelebA's text files by the picture's name."""
    return {row[0]: row[1:] for row in map(str.split, path.read_text().splitlines()) if row}


def test_real_folder(real_celeba):
    data = load(real_celeba, source="folder")
    assert counts(data) == {"train": 2000, "val": 500, "test": 500}
    folder = real_celeba / "celeba"
    header = (folder / TEXTS[0]).read_text().splitlines()[1]
    assert data.attribute_names == tuple(header.split())
    marks, partition, people = (words(folder / name) for name in TEXTS)
    for number, (_, tensors) in enumerate(data.splits.items()):
        names = [f"{n:06}.jpg" for n in tensors["image_id"].tolist()]
        assert names == [name for name, row in partition.items() if row == [str(number)]]
        assert tensors["identity"].tolist() == [int(people[name][0]) for name in names]
        assert tensors["attributes"].tolist() == [[v == "1" for v in marks[name]] for name in names]
        for row in (0, 1, 100, 499):
            image = Image.open(folder / "img_align_celeba" / names[row]).crop((15, 35, 163, 183))
            pixels = np.asarray(image.resize((64, 64), Image.Resampling.LANCZOS))
            assert same(tensors["image"][row], pixels)
    groups = [set(tensors["identity"].tolist()) for tensors in data.splits.values()]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


def test_real_texts_that_are_longer_or_shorter_than_the_pictures(real_celeba, tmp_path):
    real = real_celeba / "celeba"
    originals = {
        TEXTS[0]: real / "annotations_full" / "list_attr_celeba_000001-020000.txt.gz",
        TEXTS[1]: real / "annotations_full" / f"{TEXTS[1]}.gz",
        TEXTS[2]: real / "annotations_full" / f"{TEXTS[2]}.gz",
    }
    if not all(path.exists() for path in originals.values()):
        pytest.skip("$ZOO_DATA holds no original text files of CelebA")
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    for path in sorted((real / "img_align_celeba").iterdir())[::100]:
        (folder / "img_align_celeba" / path.name).symlink_to(path)
    for name, path in originals.items():
        (folder / f"{name}.gz").symlink_to(path)
    with pytest.warns(UserWarning, match="celeba: ") as caught:
        data = load(tmp_path)
    assert counts(data) == {"train": 20, "val": 0, "test": 0}
    message = str(caught[0].message)
    for part in (
        "list_attr_celeba.txt.gz has 20,000 rows, but says 202,599;",
        "rows of list_eval_partition.txt.gz without a picture: 202,569 of 202,599;",
        "left out as they are not for training: 10 (",
    ):
        assert part in message
    whole = words(real / TEXTS[2])
    names = [f"{n:06}.jpg" for n in data.splits["train"]["image_id"].tolist()]
    assert data.splits["train"]["identity"].tolist() == [int(whole[name][0]) for name in names]


def test_real_shards_say_what_the_folder_says(real_celeba):
    source = chosen("shards", str(real_celeba), 64, 148)
    n = dict.fromkeys(PARTS, 0)
    plan = source.plan()
    assert plan.notes == ()
    assert plan.n == 12_300 + 16_490 + 2_000 + 2_000
    folder = real_celeba / "celeba"
    marks, _, people = (words(folder / name) for name in TEXTS)
    compared = 0
    for chunk in plan.chunks:
        n[chunk.part] += len(chunk.pictures)
        if chunk.part == "val" and compared < 20:
            for row, number in enumerate(chunk.labels["image_id"].tolist()):
                name = f"{number:06}.jpg"
                if name not in people:
                    continue
                assert chunk.labels["identity"][row] == int(people[name][0])
                assert chunk.labels["attributes"][row].tolist() == [v == "1" for v in marks[name]]
                there = read_face(folder / "img_align_celeba" / name, (178, 218), 148, 64)
                # what JPEG at quality 88 loses; two different faces are apart by 50 or more
                difference = plan.decode(chunk.pictures[row]).astype(int) - there
                assert abs(difference).mean() < 6
                compared += 1
    assert n == {"train": 12_300, "unlabelled": 16_490, "val": 2_000, "test": 2_000}
    assert compared >= 20


@pytest.mark.slow
def test_real_shards(real_celeba):
    data = load(real_celeba, source="shards")
    assert counts(data) == {"train": 12_300, "val": 2_000, "test": 2_000}
    data = load(real_celeba, source="shards", unlabelled=True)
    assert counts(data) == {"train": 28_790, "val": 2_000, "test": 2_000}
    labelled = data.splits["train"]["labelled"]
    assert labelled.sum() == 12_300
    assert labelled[:12_300].all()
    assert data.splits["train"]["attributes"][12_300:].eq(0).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_real_preparation_killed_at_any_time(real_celeba, tmp_path, seed):
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    for path in sorted((real_celeba / "celeba" / "img_align_celeba").iterdir())[::6]:
        (folder / "img_align_celeba" / path.name).symlink_to(path)
    for name in TEXTS:
        rows = (real_celeba / "celeba" / name).read_text().splitlines(True)
        first = 2 if name == TEXTS[0] else 0
        (folder / name).write_text("".join(rows[1:first] + rows[first::6]))
    start = time.perf_counter()
    whole = load(tmp_path)
    taken = time.perf_counter() - start
    [name] = stores(tmp_path)
    place = tmp_path / "zoo" / "prepared" / name
    place.rename(tmp_path / "whole")
    child = fork.Process(target=load, args=(tmp_path,))
    child.start()
    child.join(random.Random(seed).uniform(0, taken))
    child.kill()
    child.join(20)
    again = load(tmp_path)
    for split, tensors in whole.splits.items():
        assert all(torch.equal(tensors[key], again.splits[split][key]) for key in tensors)
    assert stores(tmp_path) == [name]
    assert not list(place.parent.glob("*.partial"))
