import io
import math
import pickle
import zipfile
from itertools import chain

import numpy as np
import pytest
import torch

from zoo.datamodules import ColouredSprites, Sprites
from zoo.datamodules.files.places import DataError
from zoo.datamodules.loader import Batches
from zoo.datamodules.sprites import dsprites, sprites
from zoo.datamodules.sprites.render import AREAS, SHAPES, coverage

CPU = torch.device("cpu")
LOOKS = np.stack(np.unravel_index(np.arange(720), (3, 6, 40)), 1)  # shape, scale, orientation
RADII = 12.5 * (0.5 + 0.1 * LOOKS[:, 1])


def inside(shape, x, y):
    """Whether points, from the centroid of a shape of radius 1, are in it; y points down."""
    if shape == "square":
        return (abs(x) <= 0.5**0.5) & (abs(y) <= 0.5**0.5)
    if shape == "ellipse":
        return x**2 + 4 * y**2 <= 1
    # the tip is at (0, 1); the square on its corner has half a diagonal m, the discs a radius h
    k = (math.pi / 8 + 1 / 6) / (1 + math.pi / 4)
    m, h = 1 / (1 + k), 0.5**0.5 / (1 + k)
    up = y - (1 - m)
    discs = [(x - side) ** 2 + (up + m / 2) ** 2 <= h**2 for side in (m / 2, -m / 2)]
    return (abs(x) + abs(up) <= m) | discs[0] | discs[1]


def counted(look, samples):
    """The share of each pixel at position 0, by counting points on a grid; (32, 32)."""
    shape, scale, orientation = look
    angle = 2 * math.pi * orientation / 39
    point = (np.arange(32 * samples) + 0.5) / samples
    x, y = point[None] - 16.85, point[:, None] - 16.7
    right = math.cos(angle) * x + math.sin(angle) * y
    down = math.cos(angle) * y - math.sin(angle) * x
    radius = 12.5 * (0.5 + 0.1 * scale)
    hit = inside(SHAPES[shape], right / radius, down / radius)
    return hit.reshape(32, samples, 32, samples).mean((1, 3))


def at_start(look):
    """The factors with this look at position 0."""
    return torch.tensor([[*look, 0, 0]])


@pytest.mark.parametrize("look", LOOKS[[0, 93, 239, 240, 371, 472, 480, 585, 599, 711]].tolist())
def test_pixels_are_the_share_that_a_shape_covers(look):
    share = counted(look, 40)
    # counting is off by at most half a row of points, 1/80, where an edge is parallel to them
    grey = Sprites(antialias=True).render(at_start(look))[0, 0, :32, :32].numpy()
    assert abs(grey - share).max() < 0.04 + 1 / 80
    on = Sprites().render(at_start(look))[0, 0, :32, :32].numpy()
    assert set(np.unique(on)) == {0, 1}
    sure = abs(share - 0.5) > 0.02
    assert (on == (share > 0.5))[sure].all()


def test_areas_and_centroids():
    grey = sprites.masks(True, CPU).double().numpy()
    area = np.array(AREAS)[LOOKS[:, 0]] * RADII**2
    # some 60 pixels lie on an outline, each off by 0.003 in the root mean square and some of them
    # alike: 60 * 0.003 is an upper limit for all but a few
    assert abs(grey.sum((1, 2)) - area).max() < 0.3
    pixel = np.arange(26) + 4.5
    for axis, centre in ((1, 16.85), (2, 16.7)):
        found = (grey.sum(axis) * pixel).sum(1) / grey.sum((1, 2))
        assert abs(found - centre).max() < 0.02
    # a pixel on the outline that is rounded is off by 0.29 in the root mean square
    on = sprites.masks(False, CPU).double().numpy()
    assert abs(on.sum((1, 2)) - area).max() < 4 * 0.29 * math.sqrt(100)
    assert abs((on.sum((1, 2)) - area).mean()) < 4 * 0.29 * math.sqrt(100 / 720)


def test_closed_forms_of_the_heart():
    # by counting points 0.001 apart: its straight edges, 2.2 long and at 45 degrees to the rows,
    # may all be off by half a diagonal step, which is 0.0008 in area
    point = (np.arange(2000) + 0.5) / 1000 - 1
    x, y = np.broadcast_arrays(point[None], point[:, None])
    hit = inside("heart", x, y)
    assert hit.mean() * 4 == pytest.approx(AREAS[2], abs=1e-3)
    assert abs(x[hit].mean()) < 1e-3
    assert abs(y[hit].mean()) < 1e-3
    assert np.hypot(x, y)[hit].max() == pytest.approx(1, abs=2e-3)


def one(shape, angle, side=41):
    """A shape of radius 17.3 in the middle of a picture, in double precision."""
    values = (torch.tensor([v], dtype=torch.float64) for v in (17.3, angle, side / 2, side / 2))
    return coverage(torch.tensor([SHAPES.index(shape)]), *values, side, 4)[0]


@pytest.mark.parametrize(
    ("shape", "turns"), [("square", 4), ("ellipse", 2), ("heart", 1)], ids=SHAPES
)
def test_symmetries(shape, turns):
    first = one(shape, 0.7)
    for turn in range(1, 9):
        same = torch.allclose(one(shape, 0.7 + 2 * math.pi * turn / 8), first, atol=1e-9)
        assert same == (turn * turns % 8 == 0)
    upright = one(shape, 0)
    assert torch.allclose(upright.flip(1), upright, atol=1e-12)
    # a quarter of a turn is clockwise, in the rows and columns of a picture
    assert torch.allclose(one(shape, math.pi / 2), upright.rot90(-1), atol=1e-9)


def test_hearts_stand_on_their_tip():
    heart = one("heart", 0)
    rows = heart.sum(1)
    assert rows.argmax() < 20
    # one pixel above the tip the heart is 2 wide, as its corner is a right angle
    tip = 41 / 2 + 17.3
    assert rows[int(tip) - 2] == pytest.approx(2 * (tip - int(tip) + 1.5), abs=0.05)
    # between its two lobes, the middle column begins lower than those beside it
    start = (heart > 0.5).int().argmax(0)
    assert start[20] > start[14]
    assert start[14] == start[26]


def test_all_pictures_differ_but_for_whole_turns():
    for antialias in (False, True):
        look = sprites.masks(antialias, CPU).flatten(1)
        turns = look.view(18, 40, -1)
        assert torch.equal(turns[:, 0], turns[:, 39])
        assert len(turns[:, :39].flatten(0, 1).unique(dim=0)) == 18 * 39


def test_one_step_in_position_is_one_pixel():
    data = Sprites(antialias=True)
    factors = data.sample_factors(40, torch.Generator().manual_seed(0))
    factors[:, 3:] %= 31
    first = data.render(factors)
    right, down = factors.clone(), factors.clone()
    right[:, 3] += 1
    down[:, 4] += 1
    assert torch.equal(data.render(right), first.roll(1, 3))
    assert torch.equal(data.render(down), first.roll(1, 2))


def test_no_ink_leaves_the_picture():
    # at the four outermost positions, against the whole picture computed without a window
    looks = torch.tensor(LOOKS[::13])
    for x, y in ((0, 0), (31, 0), (0, 31), (31, 31)):
        factors = torch.cat([looks, torch.tensor([[x, y]]).expand(len(looks), 2)], 1)
        image = Sprites(antialias=True).render(factors)[:, 0]
        radius = torch.tensor(RADII[::13])
        angle = 2 * math.pi * looks[:, 2].double() / 39
        centre = (torch.full_like(radius, v) for v in (16.85 + x, 16.7 + y))
        whole = coverage(looks[:, 0], radius, angle, *centre, 64, 4)
        # a pixel within 1e-7 of the clamp may differ, as angles are reduced to one turn
        assert (image - whole).abs().max() < 1e-5
        assert image[:, :3].max() == image[:, -3:].max() == 0
        assert image[:, :, :3].max() == image[:, :, -3:].max() == 0


def test_positions_and_sizes_have_the_stated_values():
    data = Sprites()
    assert data.factor_names == ("shape", "scale", "orientation", "x", "y")
    assert data.factor_sizes == (3, 6, 40, 32, 32)
    values = data.factor_values
    assert np.allclose(values["scale"], np.linspace(0.5, 1, 6))
    assert np.allclose(values["orientation"], np.linspace(0, 2 * np.pi, 40))
    assert np.allclose(values["x"], np.linspace(0, 1, 32))
    assert values["y"] == values["x"]


@pytest.mark.parametrize("make", [Sprites, ColouredSprites])
def test_rows_and_factors_are_one_to_one(make):
    data = make()
    row = torch.arange(data.n)
    if make is ColouredSprites:
        row = torch.cat([row[:2000], row[::997], row[-2000:]])
    factors = data.factors_of(row)
    assert torch.equal(data.row_of(factors), row)
    expected = np.stack(np.unravel_index(row.numpy(), data.factor_sizes), 1)
    assert np.array_equal(factors.numpy(), expected)


def test_a_batch_is_what_its_pictures_are_one_by_one():
    for data in (Sprites(), Sprites(antialias=True), ColouredSprites()):
        factors = data.sample_factors(33, torch.Generator().manual_seed(0))
        single = [data.render(row[None]) for row in factors]
        assert torch.equal(data.render(factors), torch.cat(single))


def test_coloured_sprites_are_sprites_in_colour():
    data = ColouredSprites()
    assert data.n == 7 * 737_280
    factors = data.sample_factors(70, torch.Generator().manual_seed(0))
    factors[:, 0] = torch.arange(70) % 7
    image, white = data.render(factors), Sprites().render(factors[:, 1:])
    names = data.factor_values["colour"]
    assert set(image.unique().tolist()) == {0, 1}
    assert torch.equal(image.amax(1, keepdim=True), white)
    seen = {names[i % 7]: tuple(x.flatten(1).amax(1).int().tolist()) for i, x in enumerate(image)}
    assert seen["red"] == (1, 0, 0)
    assert seen["yellow"] == (1, 1, 0)
    assert seen["cyan"] == (0, 1, 1)
    assert seen["white"] == (1, 1, 1)
    assert len(set(seen.values())) == 7


def loaded(data):
    data.prepare_data()
    data.setup()
    return data


def rows(data, split):
    return data.splits[split]["row"]


def test_training_sees_every_picture_once_by_default():
    data = loaded(Sprites())
    train, val, test = (rows(data, split) for split in ("train", "val", "test"))
    assert torch.equal(train.sort().values, torch.arange(737_280))
    assert len(val) == len(test) == 10_000
    assert len(torch.cat([val, test]).unique()) == 20_000
    # a tenth of the bytes of one picture for each
    assert sum(t.nbytes for split in data.splits.values() for t in split.values()) < 737_280 * 12


def test_held_out_splits_are_disjoint():
    data = loaded(Sprites(train_size=5000, val_size=300, test_size=200))
    parts = [rows(data, split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [5000, 300, 200]
    assert len(torch.cat(parts).unique()) == 5500
    again = loaded(Sprites(train_size=5000, val_size=300, test_size=200))
    assert torch.equal(rows(again, "train"), parts[0])
    other = loaded(Sprites(train_size=5000, val_size=300, test_size=200, seed=1))
    assert not torch.equal(rows(other, "val"), parts[1])
    # 5,000 draws of 32 values with a standard error of 12.3 each
    counts = data.factors_of(parts[0])[:, 3].bincount(minlength=32)
    assert (counts - 5000 / 32).abs().max() < 4.5 * 12.3


def test_batches():
    data = loaded(Sprites(batch_size=100, train_size=1000, val_size=150, test_size=10))
    batches = list(data.train_dataloader())
    assert [len(batch["image"]) for batch in batches] == [100] * 10
    batch = batches[3]
    kinds = {key: (tensor.dtype, *tensor.shape[1:]) for key, tensor in batch.items()}
    assert kinds == {
        "image": (torch.float32, *data.x_shape),
        "factors": (torch.int64, 5),
        "index": (torch.int64,),
    }
    assert torch.equal(batch["image"], data.render(batch["factors"]))
    assert torch.equal(data.row_of(batch["factors"]), rows(data, "train")[batch["index"]])
    assert sorted(chain.from_iterable(b["index"].tolist() for b in batches)) == list(range(1000))
    again = next(iter(loaded(Sprites(batch_size=100, train_size=1000)).train_dataloader()))
    assert torch.equal(again["index"], batches[0]["index"])
    assert [len(b["index"]) for b in data.val_dataloader()] == [100, 50]
    loader = pickle.loads(pickle.dumps(data.train_dataloader()))
    assert torch.equal(next(iter(loader))["image"], batches[0]["image"])


def test_two_processes_see_different_pictures():
    data = loaded(Sprites(train_size=1000))

    def seen(rank, world_size):
        tensors, finish = data.tensors("train"), data.finish("train")
        loader = Batches(tensors, 50, finish=finish, shuffle=True, rank=rank, world_size=world_size)
        return torch.cat([data.row_of(batch["factors"]) for batch in loader])

    first, second = seen(0, 2), seen(1, 2)
    assert len(first) == len(second) == 500
    assert torch.equal(torch.cat([first, second]).sort().values, seen(0, 1).sort().values)


def test_drawn_factors():
    data = ColouredSprites()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    factors = data.sample_factors(20_000, generator)
    for column, size in zip(factors.unbind(1), data.factor_sizes, strict=True):
        error = math.sqrt(20_000 / size * (1 - 1 / size))
        assert (column.bincount(minlength=size) - 20_000 / size).abs().max() < 4.5 * error
    first, second = data.sample_pairs(3000, "scale", generator)
    agree = (first == second).double().mean(0)
    for share, name, size in zip(agree, data.factor_names, data.factor_sizes, strict=True):
        p = 1.0 if name == "scale" else 1 / size
        assert abs(share - p) <= 4.5 * math.sqrt(p * (1 - p) / 3000)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match=r"factor is 'scal', but .* did you mean 'scale'\?"):
        data.sample_pairs(2, "scal")


def test_groups_agree_on_one_factor_that_is_drawn():
    data, generator = Sprites(), torch.Generator().manual_seed(0)
    factors, fixed = data.sample_groups(2000, 16, generator)
    assert factors.shape == (2000, 16, 5)
    alike = (factors == factors[:, :1]).all(1)  # (2000, 5)
    assert alike[torch.arange(2000), fixed].all()
    # of 16 shapes all are the same by chance with 3^-15, of others more rarely
    assert alike.sum() == 2000
    share = torch.bincount(fixed, minlength=5) / 2000
    assert share.tolist() == pytest.approx([0.2] * 5, abs=4 * (0.2 * 0.8 / 2000) ** 0.5)
    for column, size in enumerate(data.factor_sizes):
        mean = factors[..., column].double().mean().item()
        spread = size / 12**0.5  # a fixed factor counts as one draw a group
        assert mean == pytest.approx((size - 1) / 2, abs=4 * spread / 2000**0.5)


def test_examples_say_their_factors():
    data = loaded(ColouredSprites(train_size=100))
    examples = data.examples(5)
    assert len(examples) == 5
    factors = data.factors_of(rows(data, "train")[:5])
    for example, row in zip(examples, factors.tolist(), strict=True):
        assert example.image.dtype == torch.uint8
        assert torch.equal(example.image / 255, data.render(torch.tensor([row]))[0])
        assert data.factor_values["colour"][row[0]] in example.text
        assert SHAPES[row[1]] in example.text
    assert sprites.in_words([2, 3, 13, 31, 0]) == "heart, scale 0.8, turned by 120°, x 1.00, y 0.00"
    assert len(data.examples(1000)) == 100
    with pytest.raises(RuntimeError, match=r"Call Sprites.setup\(\) before"):
        Sprites().examples(1)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([[3, 0, 0, 0, 0]], "shape is 3, but must be 0 to 2"),
        ([[0, 0, 0, 0, 0], [0, 0, 40, 0, 0]], "orientation is 40, but must be 0 to 39"),
        ([[0, 0, 0, 0, -1]], "y is -1, but must be 0 to 31"),
        ([[0, 0, 0, 0]], r"factors are int64 \(1, 4\), but must be int64 \(B, 5\): shape, scale"),
        ([0, 0, 0, 0, 0], r"factors are int64 \(5,\)"),
        ([[0.0, 0, 0, 0, 0]], r"factors are float32 \(1, 5\)"),
    ],
)
def test_factors_out_of_range_are_refused(factors, message):
    with pytest.raises(ValueError, match=message):
        Sprites().render(torch.tensor(factors))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sprites(source="dsprite"), "did you mean 'dsprites'"),
        (lambda: Sprites(source="dsprites", antialias=True), "antialias must be false"),
        (lambda: Sprites(train_size=0), "train_size is 0, but must be at least 1"),
        (lambda: Sprites(val_size=0), "val_size is 0"),
        (lambda: Sprites(train_size=720_000), "740,000 pictures together, but .* only 737,280"),
        (lambda: ColouredSprites(test_size=-1), "test_size is -1"),
        (lambda: ColouredSprites(batch_size=0), "batch_size is 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# The original dSprites: a file in their layout, with fewer values of each factor.

FEW = {
    "shape": SHAPES,
    "scale": (0.5, 1.0),
    "orientation": (0.0, 2 * math.pi),
    "x": (0.0, 1.0),
    "y": (0.0, 0.5, 1.0),
}
N = 3 * 2 * 2 * 2 * 3


class Trap:
    """Fails when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def arrays():
    sizes = (1, 3, 2, 2, 2, 3)
    classes = np.indices(sizes).reshape(6, N).T.copy()
    columns = [[1.0], [1.0, 2.0, 3.0], [0.5, 1.0], [0, 2 * np.pi], [0, 1.0], [0, 0.5, 1.0]]
    values = np.stack([np.array(v)[c] for v, c in zip(columns, classes.T, strict=True)], 1)
    pixels = np.random.default_rng(0).integers(0, 2, (N, 64, 64), dtype=np.uint8)
    metadata = np.array(Trap(), dtype=object)
    return {
        "metadata": metadata,
        "imgs": pixels,
        "latents_classes": classes,
        "latents_values": values,
    }


@pytest.fixture
def original(tmp_path, monkeypatch):
    """Write arrays as the file of the original, and return its path."""
    monkeypatch.setattr(sprites, "FACTORS", FEW)

    def write(save=np.savez_compressed, **changes):
        path = tmp_path / "dsprites" / dsprites.FILE
        path.parent.mkdir(exist_ok=True)
        content = arrays() | changes
        save(path, **{name: array for name, array in content.items() if array is not None})
        return path

    return write


def from_file(path, **args):
    sizes = {"val_size": 10, "test_size": 5, **args}
    return loaded(Sprites(source="dsprites", root=str(path.parent.parent), **sizes))


def test_original_pictures(original, tmp_path):
    assert Sprites.inventory(str(tmp_path)).folder is None
    path = original()
    inventory = Sprites.inventory(str(tmp_path))
    assert (inventory.folder, inventory.found, inventory.missing) == (path.parent, (path.name,), ())
    data = from_file(path)
    expected = torch.from_numpy(arrays()["imgs"]).float()[:, None]
    assert torch.equal(data.render(data.factors_of(torch.arange(N))), expected)
    assert data.bits.nbytes == N * 512
    seen = 0
    for batch in chain(data.train_dataloader(), data.val_dataloader()):
        assert torch.equal(batch["image"], expected[data.row_of(batch["factors"])])
        seen += len(batch["image"])
    assert seen == N + 10
    assert data.examples(1)[0].image.shape == (1, 64, 64)
    data = from_file(path, train_size=20)
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(batch["image"], expected[data.row_of(batch["factors"])])


def test_original_is_looked_for_under_zoo_data(original, monkeypatch):
    path = original()
    monkeypatch.setenv("ZOO_DATA", str(path.parent.parent))
    data = loaded(Sprites(source="dsprites", val_size=1, test_size=1))
    assert data.bits.shape == (N, 512)


def test_large_original_is_read_in_parts(original, monkeypatch):
    path = original()
    whole = from_file(path).bits
    monkeypatch.setattr(dsprites, "CHUNK", 7)
    assert torch.equal(from_file(path).bits, whole)


def swapped(name):
    array = arrays()[name]
    array[[3, 4]] = array[[4, 3]]
    return array


DAMAGE = {
    "no pictures": ({"imgs": None}, "no item named 'imgs.npy'"),
    "no classes": ({"latents_classes": None}, "no item named 'latents_classes.npy'"),
    "no values": ({"latents_values": None}, "no item named 'latents_values.npy'"),
    "too few": ({"imgs": arrays()["imgs"][:-1]}, r"imgs is uint8 \(71, 64, 64\), but should be"),
    "too small": ({"imgs": arrays()["imgs"][:, :32]}, r"imgs is uint8 \(72, 32, 64\)"),
    "float": ({"imgs": arrays()["imgs"].astype(np.float32)}, "imgs is float32"),
    "objects": ({"imgs": np.full((N, 64, 64), None)}, "imgs is object"),
    "trap": ({"latents_classes": np.array([Trap()])}, "latents_classes is object"),
    "columns": ({"imgs": np.asfortranarray(arrays()["imgs"])}, "in Fortran order"),
    "grey": ({"imgs": arrays()["imgs"] * 255}, "imgs has pixels other than 0 and 1"),
    "shuffled": ({"latents_classes": swapped("latents_classes")}, "latents_classes are not all"),
    "range": ({"latents_classes": arrays()["latents_classes"] + 1}, "latents_classes are not all"),
    "values": ({"latents_values": swapped("latents_values")}, "latents_values are not those"),
    "nan": ({"latents_values": arrays()["latents_values"] * np.nan}, "latents_values are not"),
    "five": ({"latents_classes": arrays()["latents_classes"][:, 1:]}, r"int64 \(72, 5\)"),
    "int32": ({"latents_classes": arrays()["latents_classes"].astype(np.int32)}, "is int32"),
}


@pytest.mark.parametrize(("changes", "message"), DAMAGE.values(), ids=DAMAGE)
def test_wrong_arrays_are_refused(original, changes, message):
    path = original(**changes)
    with pytest.raises(DataError, match=message) as caught:
        from_file(path)
    text = str(caught.value)
    assert text.startswith(f"{path} is damaged, or is no dSprites (")
    assert "\n" not in text
    assert text.endswith(
        "put the file from https://github.com/google-deepmind/dsprites-dataset there."
    )


def test_missing_original_says_where_it_belongs(tmp_path):
    with pytest.raises(DataError, match=r"64x64\.npz is not there: put"):
        loaded(Sprites(source="dsprites", root=str(tmp_path)))
    with pytest.raises(RuntimeError, match=r"Call Sprites.setup\(\) before"):
        Sprites(source="dsprites").render(torch.zeros(1, 5, dtype=torch.int64))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"no zip" * 1000])
def test_other_files_are_refused(original, content):
    path = original()
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged, or is no dSprites"):
        from_file(path)


def test_cut_files_are_refused(original):
    path = original()
    data = path.read_bytes()
    for share in (0.01, 0.3, 0.7, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError, match="is damaged"):
            from_file(path)


@pytest.mark.parametrize("length", [-1, 1])
def test_arrays_shorter_or_longer_than_their_header_are_refused(original, length):
    path = original()
    file = io.BytesIO()
    np.save(file, arrays()["imgs"])
    data = file.getvalue()
    data = data + b"\0" if length > 0 else data[:-1]
    with zipfile.ZipFile(path) as archive:
        others = {n: archive.read(n) for n in archive.namelist() if n != "imgs.npy"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (others | {"imgs.npy": data}).items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match="imgs goes on after" if length > 0 else "imgs ends too"):
        from_file(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bytes_never_go_unnoticed(original, save):
    path = original(save)
    data = path.read_bytes()
    good = from_file(path).bits
    with zipfile.ZipFile(path) as archive:  # the headers are where a byte can do most
        starts = [info.header_offset for info in archive.infolist()]
    rng = np.random.default_rng(0)
    near = [start + rng.integers(0, 250) for start in starts for _ in range(10)]
    refused = 0
    for place in [*near, *rng.integers(0, len(data), 15)]:
        broken = bytearray(data)
        broken[min(place, len(data) - 1)] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            assert torch.equal(from_file(path).bits, good)
        except DataError:
            refused += 1
    assert refused > 10


@pytest.mark.slow  # unpacks 3 GB
def test_real_original(real_dsprites):
    data = loaded(Sprites(source="dsprites", root=real_dsprites))
    assert data.bits.shape == (737_280, 512)
    row = torch.arange(0, data.n, 211)
    factors = data.factors_of(row)
    image = data.render(factors)[:, 0]
    area = image.sum((1, 2))
    pixel = torch.arange(64) + 0.5
    for column, centre in ((3, image.sum(1) @ pixel), (4, image.sum(2) @ pixel)):
        step = torch.stack([factors[:, column].float(), centre / area])
        assert torch.corrcoef(step)[0, 1] > 0.99
    for shape in range(3):
        chosen = factors[:, 0] == shape
        scale = 0.5 + 0.1 * factors[chosen, 1]
        share = area[chosen] / scale**2
        # half the outline of the smallest, 20 pixels, is rounded either way: 4 of its 60 pixels
        assert share.std() / share.mean() < 0.1
