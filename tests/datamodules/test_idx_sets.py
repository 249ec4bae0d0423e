import os
import socket
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from idx_files import made_files

from zoo.datamodules import MNIST, FashionMNIST
from zoo.datamodules.files.places import DataError, data_dir
from zoo.datamodules.images import mnist

CLASSES = {"MNIST": MNIST, "FashionMNIST": FashionMNIST}
PAIR = ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def load(root, cls=MNIST, **args):
    data = cls(root=str(root), val_size=10, **args)
    data.prepare_data()
    data.setup()
    return data.splits


def snapshot(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def offline(monkeypatch):
    """torchvision's own download, with mirrors that refuse."""
    from torchvision import datasets

    for cls in (datasets.MNIST, datasets.FashionMNIST):
        monkeypatch.setattr(cls, "mirrors", ["http://127.0.0.1:9/"])


def test_checksums_are_those_of_torchvision():
    from torchvision import datasets

    for name, cls in CLASSES.items():
        assert mnist.MD5[name] == dict(getattr(datasets, name).resources)
        assert cls.__name__ == name


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("packed", "unpacked"), [(True, True), (True, False), (False, True)], ids=["both", "gz", "raw"]
)
def test_either_kind_of_file_is_enough(made, tmp_path, name, packed, unpacked):
    raw = made(name, packed=packed, unpacked=unpacked)
    before = snapshot(raw)
    splits = load(tmp_path, CLASSES[name])
    assert {s: len(t["image"]) for s, t in splits.items()} == {"train": 30, "val": 10, "test": 10}
    assert splits["test"]["label"].tolist() == list(range(10))
    pixels = list(made_files()["t10k-images-idx3-ubyte"][16:])
    assert splits["test"]["image"].flatten().tolist() == pixels
    assert snapshot(raw) == before


def test_train_and_val_share_no_image_and_follow_the_seed(made, tmp_path):
    made()
    splits = load(tmp_path)
    rows = [tuple(im.flatten().tolist()) for s in ("train", "val") for im in splits[s]["image"]]
    assert len(set(rows)) == 40
    assert torch.equal(load(tmp_path)["val"]["image"], splits["val"]["image"])
    assert not torch.equal(load(tmp_path, seed=1)["val"]["image"], splits["val"]["image"])


@pytest.mark.parametrize("file", PAIR)
@pytest.mark.parametrize("keep", [0, 2, 6, 100, -1])
@pytest.mark.parametrize("packed", [True, False])
def test_truncated_raw_file_is_named(made, tmp_path, file, keep, packed):
    raw = made(packed=packed)
    whole = (raw / file).read_bytes()
    (raw / file).write_bytes(whole[: min(keep, len(whole) - 1)] if keep >= 0 else whole[:-1])
    before = snapshot(raw)
    with pytest.raises(DataError, match=f"{file} is damaged.*delete it and run again"):
        load(tmp_path)
    assert snapshot(raw) == before


@pytest.mark.parametrize("file", PAIR)
@pytest.mark.parametrize("unpacked", [True, False])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_archive_is_named(made, tmp_path, file, unpacked, damage):
    raw = made(unpacked=unpacked)
    archive = raw / f"{file}.gz"
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes({"truncated": data[:-9], "flipped": data, "empty": b""}[damage])
    before = snapshot(raw)
    with pytest.raises(DataError, match=f"{file}.gz is damaged.*delete it and run again"):
        load(tmp_path)
    assert snapshot(raw) == before


def test_flipped_byte_in_raw_file_is_noticed_beside_its_archive(made, tmp_path):
    raw = made()
    data = bytearray((raw / PAIR[0]).read_bytes())
    data[5000] ^= 1
    (raw / PAIR[0]).write_bytes(data)
    with pytest.raises(DataError, match=f"{PAIR[0]} is damaged .it is not what {PAIR[0]}.gz holds"):
        load(tmp_path)


def test_images_without_their_labels_are_refused(made, tmp_path):
    raw = made(packed=False)
    (raw / "train-labels-idx1-ubyte").write_bytes((raw / "t10k-labels-idx1-ubyte").read_bytes())
    with pytest.raises(DataError, match=r"raw is damaged: its train images"):
        load(tmp_path)


def test_chosen_digits_are_trained_on_and_the_others_marked(made, tmp_path):
    made()
    whole, few = load(tmp_path), load(tmp_path, digits=[0, 1, 2, 3, 4])
    for split in ("train", "val"):  # of the same split, in its order
        kept = [i for i, label in enumerate(whole[split]["label"].tolist()) if label < 5]
        assert torch.equal(few[split]["image"], whole[split]["image"][kept])
        assert few[split]["label"].tolist() == [whole[split]["label"][i] for i in kept]
    assert torch.equal(few["test"]["image"], whole["test"]["image"])
    assert few["test"]["anomaly"].tolist() == [digit > 4 for digit in range(10)]
    data = MNIST(root=str(tmp_path), val_size=10, digits=[0, 1, 2, 3, 4], batch_size=4)
    data.setup()
    batches = list(data.test_dataloader())
    assert torch.equal(torch.cat([b["anomaly"] for b in batches]), few["test"]["anomaly"])
    assert "anomaly" not in next(iter(data.train_dataloader()))


def test_digits_without_images_are_named(made, tmp_path):
    made()
    present = {*load(tmp_path)["val"]["label"].tolist()}
    absent = min({*range(10)} - present)
    with pytest.raises(DataError, match=rf"none of the val images of .* of the digits \[{absent}"):
        load(tmp_path, digits=[absent])


def test_val_size_must_leave_something(made, tmp_path):
    made()
    data = MNIST(root=str(tmp_path), val_size=40)
    with pytest.raises(ValueError, match=r"val_size is 40, but .* has only 40"):
        data.setup()


def test_failed_download_says_where_what_and_how(tmp_path, offline):
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        MNIST(root=str(tmp_path)).prepare_data()
    assert time.monotonic() - start < 5
    message = str(caught.value)
    assert "\n" not in message
    for part in [str(tmp_path / "MNIST" / "raw"), *mnist.MD5["MNIST"], "ZOO_DATA"]:
        assert part in message
    assert not list((tmp_path / "MNIST" / "raw").iterdir())


def test_failed_download_keeps_what_is_there(made, tmp_path, offline):
    raw = made(unpacked=False)
    (raw / f"{PAIR[0]}.gz").unlink()
    before = snapshot(raw)
    with pytest.raises(DataError, match=rf"raw lacks {PAIR[0]}.gz, and"):
        MNIST(root=str(tmp_path)).prepare_data()
    assert snapshot(raw) == before


def test_download_time_out_is_put_back(tmp_path, offline):
    with pytest.raises(DataError):
        MNIST(root=str(tmp_path)).prepare_data()
    assert socket.getdefaulttimeout() is None


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "MNIST").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"MNIST.raw lacks .* could not be downloaded"):
        MNIST(root=str(tmp_path)).prepare_data()


def test_complete_folder_is_not_written_to(made, tmp_path, monkeypatch):
    made(unpacked=False)

    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert len(load(tmp_path)["train"]["image"]) == 30


def test_setup_before_prepare_data_says_so(tmp_path):
    with pytest.raises(DataError, match=r"lacks train-images.*call prepare_data"):
        MNIST(root=str(tmp_path)).setup()


def test_two_processes_that_download_at_once_do_not_harm_each_other(made, tmp_path, monkeypatch):
    raw = made()
    source = {path.name: data for path, data in snapshot(raw).items()}
    for path in raw.iterdir():
        path.unlink()
    together = threading.Barrier(2)

    def fetch(name, folder):
        together.wait(5)
        for file, data in source.items():
            (Path(folder) / name / "raw" / file).write_bytes(data)
        together.wait(5)

    monkeypatch.setattr(mnist, "fetch", fetch)
    errors = []

    def run():
        try:
            assert len(load(tmp_path)["train"]["image"]) == 30
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert {path.name: data for path, data in snapshot(raw).items()} == source


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder served on the loopback interface as torchvision's only mirror of MNIST."""
    from torchvision import datasets

    folder = tmp_path / "mirror"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(datasets.MNIST, "mirrors", [url])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield folder
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_download_fetches_what_is_missing(made, tmp_path, mirror, monkeypatch):
    from torchvision import datasets

    raw = made()
    before = snapshot(raw)
    monkeypatch.setattr(datasets.MNIST, "resources", list(mnist.MD5["MNIST"].items()))
    # the mirror has no other file, so that none may be asked for
    (mirror / f"{PAIR[0]}.gz").write_bytes((raw / f"{PAIR[0]}.gz").read_bytes())
    for file in (PAIR[0], f"{PAIR[0]}.gz"):
        (raw / file).unlink()
    assert len(load(tmp_path)["train"]["image"]) == 30
    assert snapshot(raw) == before


def test_nothing_of_a_cut_download_stays(tmp_path, mirror):
    for archive in mnist.MD5["MNIST"]:
        (mirror / archive).write_bytes(b"cut")
    with pytest.raises(DataError, match="could not be downloaded"):
        MNIST(root=str(tmp_path)).prepare_data()
    assert not list((tmp_path / "MNIST" / "raw").iterdir())


def test_data_dir_is_zoo_data_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.delenv("ZOO_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_dir() == tmp_path / "cache" / "latent-zoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_dir() == Path.home() / ".cache" / "latent-zoo"


def test_real_mnist(real_root):
    data = MNIST(root=real_root, binarization="none")
    data.prepare_data()
    data.setup()
    sizes = {split: len(tensors["image"]) for split, tensors in data.splits.items()}
    assert sizes == {"train": 55_000, "val": 5_000, "test": 10_000}
    both = (data.splits["train"], data.splits["val"])
    label, image = (torch.cat([part[key] for part in both]) for key in ("label", "image"))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert label.bincount().tolist() == counts
    assert image.float().mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.splits["test"]["label"].bincount().tolist() == counts
    batch = next(iter(data.test_dataloader()))
    assert batch["image"].shape == (128, 1, 28, 28)
    assert batch["label"][:5].tolist() == [7, 2, 1, 0, 4]


def test_real_mnist_of_one_digit(real_root):
    data = MNIST(root=real_root, digits=[8])
    data.setup()
    assert sum(len(data.splits[split]["label"]) for split in ("train", "val")) == 5851
    assert (~data.splits["test"]["anomaly"]).sum() == 974


def test_real_archive_alone_gives_the_same(real_root, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    published = Path(real_root) / "MNIST" / "raw"
    name = "t10k-images-idx3-ubyte"
    if not (published / f"{name}.gz").exists() or not (published / name).exists():
        pytest.skip("$ZOO_DATA does not hold both kinds of file")
    (raw / f"{name}.gz").write_bytes((published / f"{name}.gz").read_bytes())
    md5 = mnist.MD5["MNIST"][f"{name}.gz"]
    assert torch.equal(mnist.read_idx(raw / name, md5), mnist.read_idx(published / name, md5))
