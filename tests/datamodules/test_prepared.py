import io
import json
import multiprocessing
import os
import pickle
import random
import resource
import signal
import threading
import time
import tracemalloc

import numpy as np
import pytest
import torch

from zoo.datamodules.files import prepared
from zoo.datamodules.files.arrays import write_npz
from zoo.datamodules.files.places import DataError
from zoo.datamodules.files.prepared import Chunk, Plan, Prepared, fingerprint, prepare
from zoo.datamodules.loader import Batches

# from Python 3.12 on; no other thread holds anything here
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
fork = multiprocessing.get_context("fork")
SHAPE = (3, 8, 8)


def picture(number, shape=SHAPE):
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def decode(file):
    """Make the picture of the number in the file, or fail where that is negative."""
    number = int(file.read())
    if number < 0:
        raise ValueError("it is negative")
    return picture(number)


def plan(numbers=range(20), bad=(), at_once=5, decode=decode, before=lambda chunk: None):
    """Two parts and an empty one between; `before` is called before each chunk."""
    half = len(numbers) // 2

    def chunks():
        for part, some in (("first", numbers[:half]), ("last", numbers[half:])):
            for start in range(0, len(some), at_once):
                cut = some[start : start + at_once]
                before(cut[0])
                yield Chunk(
                    part,
                    [f"no. {i}" for i in cut],
                    [io.BytesIO(str(-1 if i in bad else i).encode()) for i in cut],
                    {"number": np.array(cut), "pair": np.array([[i, -i] for i in cut])},
                )

    return Plan("numbers", SHAPE, ("first", "none", "last"), len(numbers), chunks(), decode, ("a",))


def check(store, numbers=range(20)):
    """Check a store against what the plan's arguments say."""
    half = len(numbers) // 2
    for part, some in (("first", numbers[:half]), ("none", []), ("last", numbers[half:])):
        rows = store.rows(part)
        assert rows["number"].tolist() == list(some)
        assert rows["pair"].tolist() == [[i, -i] for i in some]
        assert rows["image"].shape == (len(some), *SHAPE)
        assert all(
            torch.equal(image, torch.from_numpy(picture(i)))
            for image, i in zip(rows["image"], some, strict=True)
        )
    assert store.rows("first", "none", "last")["number"].tolist() == list(numbers)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run(function, *args):
    """Start a child process."""
    child = fork.Process(target=function, args=args)
    child.start()
    return child


def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)


def test_pictures_and_labels_come_back(tmp_path):
    folder = tmp_path / "deep" / "store"
    prepare(folder, plan)
    store = Prepared(folder)
    check(store)
    assert store.notes == ["a"]
    assert names(folder.parent) == [".store.lock", "store"]
    assert names(folder) == ["image.u8", "labels.npz"]


def test_labels_can_be_read_with_numpy(tmp_path):
    prepare(tmp_path / "store", plan)
    with np.load(tmp_path / "store" / "labels.npz") as arrays:
        assert arrays["number"].tolist() == list(range(20))
        assert json.loads(str(arrays["about"]))["parts"] == [
            ["first", 10],
            ["none", 0],
            ["last", 10],
        ]


def test_a_store_is_made_once(tmp_path):
    prepare(tmp_path / "store", plan)
    before = (tmp_path / "store" / "image.u8").stat()
    prepare(tmp_path / "store", lambda: pytest.fail("prepared again"))
    assert (tmp_path / "store" / "image.u8").stat() == before


def test_bad_pictures_are_left_out_with_their_labels_and_named(tmp_path):
    bad = [0, 7, 8, 9, 12, 15, 19]
    prepare(tmp_path / "store", lambda: plan(bad=bad))
    store = Prepared(tmp_path / "store")
    good = [i for i in range(20) if i not in bad]
    rows = store.rows("first", "none", "last")
    assert rows["number"].tolist() == good
    assert rows["pair"][:, 1].tolist() == [-i for i in good]
    assert torch.equal(rows["image"][5], torch.from_numpy(picture(good[5])))
    why = ", ".join(f"no. {i}: it is negative" for i in (0, 12, 15, 19, 7))
    assert store.notes == ["a", f"pictures that cannot be read: 7 of 20 ({why}, and 2 more)"]


@pytest.mark.parametrize("numbers", [range(0), range(3)])
def test_nothing_that_can_be_read_is_refused(tmp_path, numbers):
    with pytest.raises(DataError, match=r"numbers holds no picture that can be used; a"):
        prepare(tmp_path / "store", lambda: plan(numbers, bad=numbers))
    assert names(tmp_path) == [".store.lock"]


def test_many_pictures_draw_a_progress_bar(tmp_path, capsys):
    numbers = range(prepared.PROGRESS_FROM + 7)
    prepare(tmp_path / "store", lambda: plan(numbers, at_once=50))
    check(Prepared(tmp_path / "store"), numbers)


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    shape = (3, 64, 64)
    n, at_once = 2000, 40

    def chunks():
        for start in range(0, n, at_once):
            files = [io.BytesIO() for _ in range(at_once)]
            yield Chunk("all", [""] * at_once, files, {"x": np.arange(start, start + at_once)})

    whole = Plan("zeros", shape, ("all",), n, chunks(), lambda file: np.zeros(shape, np.uint8))
    tracemalloc.start()
    try:
        prepare(tmp_path / "store", lambda: whole)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = (tmp_path / "store" / "image.u8").stat().st_size
    assert size == n * 3 * 64 * 64
    # a chunk is 1/50 of the pictures; two of them live at once when one follows the other
    assert peak < size / 10


def test_failure_leaves_nothing_and_is_passed_on(tmp_path):
    def fail(number):
        if number == 15:
            raise KeyError("a defect")

    with pytest.raises(KeyError, match="a defect"):
        prepare(tmp_path / "store", lambda: plan(before=fail))
    assert names(tmp_path) == [".store.lock"]
    prepare(tmp_path / "store", plan)
    check(Prepared(tmp_path / "store"))


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(5, "Input/output error"), DataError, r"could not be read .Input/output error.\.$"),
        (MemoryError("no room"), MemoryError, "no room"),
    ],
)
def test_trouble_of_the_system_leaves_no_picture_out(tmp_path, error, kind, message):
    def fail(file):
        number = int(file.read())
        if number == 13:
            raise error
        return picture(number)

    with pytest.raises(kind, match=message):
        prepare(tmp_path / "store", lambda: plan(decode=fail))
    assert names(tmp_path) == [".store.lock"]


def test_full_disk_is_a_sentence_and_leaves_nothing(tmp_path):
    def limited(pipe):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # 20 pictures have 3,840 bytes
        try:
            prepare(tmp_path / "store", plan)
        except DataError as error:
            pipe.send(str(error))

    ours, theirs = fork.Pipe()
    run(limited, theirs).join(20)
    message = ours.recv()
    assert f"{tmp_path / 'store'} could not be written (File too large): make room" in message
    assert "\n" not in message
    assert names(tmp_path) == [".store.lock"]


@pytest.mark.parametrize("call", ["mkdir", "rename", "fsync"])
def test_what_the_system_refuses_is_a_sentence(tmp_path, monkeypatch, call):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(DataError, match=r"could not be written .Read-only file system.: make room"):
        prepare(tmp_path / "store", plan)
    monkeypatch.undo()
    assert names(tmp_path) == [".store.lock"]


def test_a_file_where_the_folder_should_be_is_a_sentence(tmp_path):
    (tmp_path / "prepared").write_text("a file")
    with pytest.raises(DataError, match=r"could not be written .File exists.: make"):
        prepare(tmp_path / "prepared" / "store", plan)


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "gone"])
@pytest.mark.parametrize("name", ["image.u8", "labels.npz"])
def test_damaged_store_is_refused(tmp_path, name, damage):
    prepare(tmp_path / "store", plan)
    path = tmp_path / "store" / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-1], "longer": data + b"\0", "empty": b""}[damage])
    if (name, damage) == ("labels.npz", "longer"):
        check(Prepared(tmp_path / "store"))  # a zip archive may be followed by a comment
        return
    with pytest.raises(DataError, match=rf"store is damaged \({name}: .*delete this folder"):
        Prepared(tmp_path / "store")


def test_flipped_bits_in_the_labels_are_noticed_or_harmless(tmp_path):
    prepare(tmp_path / "store", plan)
    path = tmp_path / "store" / "labels.npz"
    data = path.read_bytes()
    rng = random.Random(0)
    refused = 0
    places = rng.sample(range(len(data)), 100)
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            store = Prepared(tmp_path / "store")
        except DataError:
            refused += 1
        else:
            assert store.rows("first", "last")["number"].tolist() == list(range(20))
            assert store.rows("first", "last")["pair"].tolist() == [[i, -i] for i in range(20)]
    # all but some fields of the archive, such as times, that nobody reads
    assert refused > 0.8 * len(places)


def test_a_store_of_another_format_is_refused(tmp_path, monkeypatch):
    prepare(tmp_path / "store", plan)
    monkeypatch.setattr(prepared, "FORMAT", 2)
    with pytest.raises(DataError, match="store is damaged"):
        Prepared(tmp_path / "store")


def test_missing_store_says_what_to_call(tmp_path):
    with pytest.raises(DataError, match=r"store is not there; call prepare_data\(\)"):
        Prepared(tmp_path / "store")


@pytest.mark.parametrize("point", ["a chunk", "fsync", "rename"])
def test_killed_at_a_point_and_started_again(tmp_path, point, monkeypatch):
    def before(number):
        if (point, number) == ("a chunk", 15):
            die()

    with monkeypatch.context() as patch:
        if point != "a chunk":
            patch.setattr(os, point, die)
        child = run(prepare, tmp_path / "store", lambda: plan(before=before))
        child.join(20)
    assert child.exitcode == -signal.SIGKILL
    assert names(tmp_path) == [".store.lock", ".store.partial"]
    with pytest.raises(DataError, match="is not there"):
        Prepared(tmp_path / "store")
    prepare(tmp_path / "store", plan)
    check(Prepared(tmp_path / "store"))
    assert names(tmp_path) == [".store.lock", "store"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_time_and_started_again(tmp_path, seed):
    numbers = range(3000)
    start = time.perf_counter()
    prepare(tmp_path / "whole", lambda: plan(numbers))
    taken = time.perf_counter() - start
    child = run(prepare, tmp_path / "store", lambda: plan(numbers))
    child.join(random.Random(seed).uniform(0, taken))
    child.kill()
    child.join(20)
    if (tmp_path / "store").exists():
        check(Prepared(tmp_path / "store"), numbers)
    prepare(tmp_path / "store", lambda: plan(numbers))
    check(Prepared(tmp_path / "store"), numbers)
    assert names(tmp_path) == [".store.lock", ".whole.lock", "store", "whole"]


def test_one_of_several_processes_prepares_and_all_can_read(tmp_path):
    made = fork.Value("i", 0)
    together = fork.Barrier(3)

    def counted():
        with made.get_lock():
            made.value += 1
        return plan()

    def start():
        together.wait(20)
        prepare(tmp_path / "store", counted)
        check(Prepared(tmp_path / "store"))

    children = [run(start) for _ in range(3)]
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert made.value == 1
    assert names(tmp_path) == [".store.lock", "store"]


def test_threads_of_one_process_share_the_work_too(tmp_path):
    made = []
    together = threading.Barrier(3)

    def start():
        together.wait(20)
        prepare(tmp_path / "store", lambda: made.append(1) or plan())

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert made == [1]
    check(Prepared(tmp_path / "store"))


def test_a_process_that_waits_takes_over_from_one_that_is_killed(tmp_path):
    ours, theirs = fork.Pipe()

    def hang(number):
        if number == 15:
            theirs.send("here")
            signal.pause()

    holder = run(prepare, tmp_path / "store", lambda: plan(before=hang))
    assert ours.recv() == "here"
    waiting = run(prepare, tmp_path / "store", plan)
    waiting.join(0.1)
    assert waiting.exitcode is None
    assert not (tmp_path / "store").exists()
    holder.kill()
    waiting.join(20)
    assert waiting.exitcode == 0
    check(Prepared(tmp_path / "store"))
    assert names(tmp_path) == [".store.lock", "store"]


def large_store(folder, n):
    """A store of n pictures of 3 x 64 x 64, all black."""
    folder.mkdir()
    about = {"format": 1, "shape": [3, 64, 64], "parts": [["all", n]], "notes": []}
    with open(folder / "labels.npz", "wb") as file:
        write_npz(file, {"x": np.arange(n), "about": np.array(json.dumps(about))})
    with open(folder / "image.u8", "wb") as file:
        for _ in range(0, n, 256):  # in pieces that make huge pages likely
            file.write(bytes(256 * 3 * 64 * 64))
        file.truncate(n * 3 * 64 * 64)
    return Prepared(folder)


def memory(key):
    """A figure of the process's memory, in bytes."""
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith(key)]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux says how much")
@pytest.mark.parametrize("by_the_batch", [True, False])
def test_memory_that_a_file_of_twice_the_limit_takes(tmp_path, monkeypatch, by_the_batch):
    limit = 40 * 2**20
    n = 2 * limit // (3 * 64 * 64)
    small, large = large_store(tmp_path / "small", 128), large_store(tmp_path / "large", n)
    ours, theirs = fork.Pipe()

    def read():
        # The small store comes first: code of libraries counts in a child once it has run there.
        for store, mapped in ((small, 0), (large, limit)):
            monkeypatch.setattr(prepared, "MAPPED", mapped)
            rows = store.rows("all")
            if by_the_batch:
                rows["image"] = store.image_rows("all")
            before = memory("VmRSS")
            seen = sum(len(batch["x"]) for batch in Batches(rows, 64, shuffle=True))
        theirs.send((seen, memory("VmHWM") - before))

    run(read).join(20)
    seen, growth = ours.recv()
    assert seen == n
    if by_the_batch:  # 64 pictures as floats are 3 MB, of which a few live at once
        assert growth < limit / 2
    else:  # what is mapped does count, so that the figure above says something
        assert growth > 1.5 * limit


@pytest.mark.parametrize("limit", [0, 2**30])
def test_rows_for_loaders(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(prepared, "MAPPED", limit)
    prepare(tmp_path / "store", plan)
    store = Prepared(tmp_path / "store")
    assert isinstance(store.image_rows("first"), torch.Tensor) == (limit > 0)
    for parts, first, n in ((("first",), 0, 10), (("last",), 10, 10), (("first", "none"), 0, 10)):
        rows = store.image_rows(*parts)
        assert (len(rows), rows.nbytes) == (n, n * 192)
        index = torch.tensor([9, 0, 3, 3])
        expected = [torch.from_numpy(picture(first + i)) for i in index.tolist()]
        assert torch.equal(rows.index_select(0, index), torch.stack(expected))
    loader = Batches({"image": store.image_rows("last")}, 3)
    images = torch.cat([batch["image"] for batch in loader])
    assert torch.equal(images, store.rows("last")["image"] / 255)
    again = torch.cat([batch["image"] for batch in pickle.loads(pickle.dumps(loader))])
    assert torch.equal(again, images)


def test_rows_move_to_another_device_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "MAPPED", 0)
    prepare(tmp_path / "store", plan)
    rows = Prepared(tmp_path / "store").image_rows("first")
    assert rows.to("cpu") is rows
    moved = rows.to("meta")  # a device without memory: what would be where
    assert (moved.shape, moved.dtype, moved.device.type) == ((10, *SHAPE), torch.uint8, "meta")


@pytest.mark.gpu
def test_rows_on_an_accelerator(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "MAPPED", 0)
    prepare(tmp_path / "store", plan)
    store = Prepared(tmp_path / "store")
    assert torch.equal(store.image_rows("first").to("cuda").cpu(), store.rows("first")["image"])


def test_a_file_that_was_cut_since_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "MAPPED", 0)
    prepare(tmp_path / "store", plan)
    rows = Prepared(tmp_path / "store").image_rows("last")
    os.truncate(tmp_path / "store" / "image.u8", 19 * 192)
    assert torch.equal(rows.index_select(0, torch.tensor([8]))[0], torch.from_numpy(picture(18)))
    with pytest.raises(DataError, match=r"image.u8 is damaged \(it ends too early"):
        rows.index_select(0, torch.tensor([8, 9]))


def test_fingerprint_follows_names_lengths_and_times(tmp_path):
    def mark():
        return fingerprint(os.scandir(tmp_path))

    for name in "abc":
        (tmp_path / name).write_bytes(b"12")
        os.utime(tmp_path / name, ns=(0, 0))
    seen = [mark()]
    assert mark() == seen[0]
    (tmp_path / "a").rename(tmp_path / "d")
    seen.append(mark())
    (tmp_path / "b").write_bytes(b"123")
    os.utime(tmp_path / "b", ns=(0, 0))
    seen.append(mark())
    os.utime(tmp_path / "c", ns=(0, 1))
    seen.append(mark())
    (tmp_path / "c").unlink()
    seen.append(mark())
    assert len(set(seen)) == 5
    assert all(len(value) == 12 for value in seen)
