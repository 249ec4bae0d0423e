import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.datamodules import ImageFolder
from zoo.datamodules.files.places import DataError
from zoo.datamodules.images.folder import first_pictures, picture_files, read_picture

GRADIENT = np.linspace(0, 255, 32).round().astype(np.uint8)[None, :].repeat(32, 0)  # dark to bright


def plain(path, value=128, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (20, 20), value).save(path)


def load(root, **args):
    data = ImageFolder(str(root), **{"size": 8, "channels": 1, **args})
    data.prepare_data()
    data.setup()
    return data


def everything(data):
    return {k: torch.cat([data.splits[s][k] for s in data.splits]) for k in ("image", "label")}


def test_pictures_labels_and_split(tmp_path):
    for i in range(10):
        plain(tmp_path / "dogs" / f"{i}.png", i)
        plain(tmp_path / "cats" / "deep" / f"{i}.bmp", 100 + i)
    plain(tmp_path / "loose.gif", 200)
    (tmp_path / "notes.txt").write_text("no picture")
    plain(tmp_path / ".hidden" / "x.png")
    data = load(tmp_path, val_fraction=0.2, test_fraction=0.3)
    assert [len(t["image"]) for t in data.splits.values()] == [11, 4, 6]
    assert data.class_names == [".", "cats", "dogs"]
    assert data.label_names == (".", "cats", "dogs")
    batch = next(iter(data.train_dataloader()))
    dogs = data.attribute(batch, "dogs")
    assert torch.equal(dogs.bool(), batch["label"] == 2)
    assert torch.equal(dogs.bool(), batch["image"].amax((1, 2, 3)) < 50 / 255)  # as they are drawn
    with pytest.raises(ValueError, match="there is no label 'dog'; did you mean 'dogs'"):
        data.attribute(batch, "dog")
    whole = everything(data)
    found = {int(im.flatten()[0]): int(y) for im, y in zip(*whole.values(), strict=True)}
    dogs, cats = dict.fromkeys(range(10), 2), dict.fromkeys(range(100, 110), 1)
    assert found == {**dogs, **cats, 200: 0}
    assert whole["image"].shape == (21, 1, 8, 8)
    assert whole["image"].dtype == torch.uint8


def test_sub_folders_as_attributes(tmp_path):
    for i in range(10):
        for name in ("dogs", "cats", "birds"):
            plain(tmp_path / name / f"{i}.png", {"dogs": 0, "cats": 100, "birds": 200}[name] + i)
    batch = next(iter(load(tmp_path, attributes=["dogs", "birds"]).train_dataloader()))
    value = batch["image"].amax((1, 2, 3)) * 255
    expected = torch.stack([value < 50, value > 150], 1)
    assert torch.equal(batch["attributes"], expected.long())
    assert expected.any(0).all()
    assert not expected.any(1).all()
    assert "attributes" not in next(iter(load(tmp_path).train_dataloader()))
    with pytest.raises(ValueError, match="there is no sub-folder 'dog'; did you mean 'dogs'"):
        load(tmp_path, attributes=["dog"])


def test_no_sub_folders_give_one_class(tmp_path):
    for i in range(5):
        plain(tmp_path / f"{i}.jpg")
    assert everything(load(tmp_path))["label"].tolist() == [0] * 5


def test_split_follows_the_seed(tmp_path):
    for i in range(12):
        plain(tmp_path / f"{i}.png", i)
    first = load(tmp_path).splits["train"]["image"]
    assert torch.equal(load(tmp_path).splits["train"]["image"], first)
    assert not torch.equal(load(tmp_path, seed=1).splits["train"]["image"], first)


def test_channels(tmp_path):
    Image.new("RGB", (9, 9), (200, 100, 50)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", 8, 3)[0, 0].tolist() == [200, 100, 50]
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert abs(int(read_picture(tmp_path / "a.png", 8, 1)[0, 0, 0]) - luma) <= 1
    plain(tmp_path / "b.png", 77)
    assert read_picture(tmp_path / "b.png", 8, 3)[0, 0].tolist() == [77, 77, 77]
    for i in range(3):
        plain(tmp_path / f"{i}.png")
    data = load(tmp_path, channels=3)
    assert data.x_shape == (3, 8, 8)
    assert next(iter(data.train_dataloader()))["image"].shape[1:] == (3, 8, 8)


def test_centre_is_kept(tmp_path):
    wide = np.zeros((16, 48), dtype=np.uint8)
    wide[:, 16:32] = 255
    for name, pixels in (("wide.png", wide), ("tall.png", wide.T)):
        Image.fromarray(pixels).save(tmp_path / name)
        assert read_picture(tmp_path / name, 16, 1).min() == 255


@pytest.mark.parametrize("value", [0, 128, 1000, 32896, 65535])
@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits(tmp_path, value, extension):
    path = tmp_path / f"a.{extension}"
    Image.fromarray(np.full((9, 9), value, dtype=np.uint16)).save(path)
    assert abs(int(read_picture(path, 8, 1)[0, 0, 0]) - value / 257) <= 0.5


DEEP = [
    ("int32", 255),
    ("int32", 1000),
    ("int32", 65535),
    ("uint16", 255),
    ("uint16", 65535),
    ("float32", 0.5),
    ("float32", 1),
    ("float32", 255),
    ("float32", 65535),
]


@pytest.mark.parametrize(("dtype", "high"), DEEP)
def test_deep_tiffs_have_the_greys_that_were_saved(tmp_path, dtype, high):
    saved = (GRADIENT / 255.0 * high).astype(dtype)
    Image.fromarray(saved).save(tmp_path / "a.tif")
    scales = {"int32": (255, 65535), "uint16": (65535,), "float32": (1, 255, 65535)}[dtype]
    white = min(scale for scale in scales if scale >= high)
    expected = saved.astype(float) / white * 255
    assert abs(read_picture(tmp_path / "a.tif", 32, 1)[..., 0] - expected).max() <= 0.51
    assert abs(read_picture(tmp_path / "a.tif", 32, 3)[..., 2] - expected).max() <= 0.51


@pytest.mark.parametrize(
    ("pixels", "span"),
    [
        (np.full((9, 9), -3, np.int32), "-3 to -3"),
        (np.full((9, 9), 70000, np.int32), "70000 to 70000"),
        (np.full((9, 9), np.nan, np.float32), "nan to nan"),
        (np.full((9, 9), np.inf, np.float32), "inf to inf"),
        (np.linspace(-1, 1, 81, dtype=np.float32).reshape(9, 9), "-1 to 1"),
    ],
)
def test_deep_tiffs_without_a_known_white_are_named(tmp_path, pixels, span):
    for i in range(3):
        plain(tmp_path / f"good{i}.png", i)
    Image.fromarray(pixels).save(tmp_path / "deep.tif")
    with pytest.warns(UserWarning, match=rf"deep.tif .*pixels go from {span}, .*values from 0"):
        load(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_lab_is_read_in_grey_and_in_colour(tmp_path, channels):
    grey = Image.fromarray(GRADIENT).convert("RGB").convert("LAB")
    grey.save(tmp_path / "a.tif")
    assert (
        abs(read_picture(tmp_path / "a.tif", 32, channels)[..., 0] - GRADIENT.astype(int)).max() < 3
    )


def test_linked_folders_are_followed(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for i in range(4):
        plain(root / "cats" / f"{i}.png", i)
        plain(elsewhere / "dogs" / f"{i}.png", 100 + i)
        plain(elsewhere / "birds" / "deep" / f"{i}.png", 200 + i)
    (root / "dogs").symlink_to(elsewhere / "dogs")
    (root / "birds").mkdir()
    (root / "birds" / "more").symlink_to(elsewhere / "birds")
    (root / "fish.png").symlink_to(elsewhere / "dogs" / "0.png")
    (tmp_path / "alias").symlink_to(root)
    for folder in (root, tmp_path / "alias"):
        data = load(folder)
        assert data.class_names == [".", "birds", "cats", "dogs"]
        whole = everything(data)
        found = {(int(im.max()), int(y)) for im, y in zip(*whole.values(), strict=True)}
        assert found == {
            (100, 0),
            *((200 + i, 1) for i in range(4)),
            *((i, 2) for i in range(4)),
            *((100 + i, 3) for i in range(4)),
        }


def test_links_that_lead_back_are_not_followed(tmp_path):
    for i in range(3):
        plain(tmp_path / "cats" / f"{i}.png", i)
        plain(tmp_path / "dogs" / f"{i}.png", 100 + i)
    (tmp_path / "cats" / "up").symlink_to(tmp_path)
    (tmp_path / "cats" / "same").symlink_to(tmp_path / "cats")
    assert len(picture_files(tmp_path)) == 6
    (tmp_path / "cats" / "x").symlink_to(tmp_path / "dogs")
    (tmp_path / "dogs" / "y").symlink_to(tmp_path / "cats")
    names = {path.parent.as_posix() for path in picture_files(tmp_path)}
    assert names == {"cats", "cats/x", "dogs", "dogs/y"}


def test_links_to_nothing_are_named(tmp_path):
    for i in range(3):
        plain(tmp_path / f"{i}.png", i)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.warns(UserWarning, match=r"Passed over 1 of 4 .*gone\.png \(FileNotFoundError"):
        load(tmp_path)


def test_transparent_is_white(tmp_path):
    Image.new("RGBA", (9, 9), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (9, 9), (255, 0, 0, 128)).save(tmp_path / "half.png")
    Image.new("LA", (9, 9), (0, 0)).save(tmp_path / "grey.png")
    palette = Image.new("P", (9, 9), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    palette.save(tmp_path / "solid.gif")
    pixel = {p.name: read_picture(p, 8, 3)[0, 0].tolist() for p in tmp_path.iterdir()}
    assert pixel.pop("half.png") == [255, 127, 127]
    assert pixel.pop("solid.gif") == [255, 0, 0]
    assert set(pixel) == {"clear.png", "grey.png", "palette.png"}
    assert all(value == [255, 255, 255] for value in pixel.values())


def test_other_modes(tmp_path):
    Image.new("1", (9, 9), 1).save(tmp_path / "bits.png")
    Image.new("CMYK", (9, 9), (0, 0, 0, 255)).save(tmp_path / "ink.tif")
    Image.new("RGB", (9, 9), "white").save(tmp_path / "a.webp")
    assert read_picture(tmp_path / "bits.png", 8, 1).min() == 255
    assert read_picture(tmp_path / "ink.tif", 8, 1).max() == 0
    assert read_picture(tmp_path / "a.webp", 8, 1).min() >= 254


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation(tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GRADIENT).save(tmp_path / "a.jpg", exif=exif, quality=100)
    expected = np.rot90(GRADIENT, turns).astype(int)
    # JPEG rounds to a few grey values; a wrong turn would be off by up to 255
    assert abs(read_picture(tmp_path / "a.jpg", 32, 1)[..., 0] - expected).max() < 12


def test_large_jpeg_shrinks_like_a_bitmap(tmp_path):
    image = Image.fromarray(GRADIENT).resize((700, 700), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.jpg", quality=95)
    image.save(tmp_path / "a.png")
    jpeg, png = (read_picture(tmp_path / f"a.{e}", 16, 1).astype(int) for e in ("jpg", "png"))
    assert abs(jpeg - png).max() < 6


def test_bad_files_are_named_once_and_passed_over(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for i in range(6):
        plain(tmp_path / f"good{i}.png", i)
    noise = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    for extension in ("jpg", "png"):
        noise.save(tmp_path / f"cut.{extension}")
        data = (tmp_path / f"cut.{extension}").read_bytes()
        (tmp_path / f"cut.{extension}").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpeg").write_text("not a picture")
    Image.new("L", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)  # twice as many are an error
    with pytest.warns(UserWarning, match="Passed over") as caught:
        data = load(tmp_path)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "Passed over 5 of 11 files" in message
    for name in ("bomb.png", "cut.jpg", "cut.png", "empty.png", "text.jpeg"):
        assert name in message
    assert sorted(everything(data)["image"][:, 0, 0, 0].tolist()) == list(range(6))


def test_many_bad_files_are_counted(tmp_path):
    for i in range(3):
        plain(tmp_path / f"good{i}.png", i)
    for i in range(7):
        (tmp_path / f"bad{i}.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"Passed over 7 of 10 .*bad4.png .* and 2 more\.$"):
        load(tmp_path)


def test_the_first_pictures_are_those_that_can_be_read(tmp_path):
    for i in range(4):
        plain(tmp_path / f"{i}.png", 10 * i)
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"Passed over 1 of 3 .*1\.png"):
        found = first_pictures(tmp_path, 2, 4, 3)
    assert found.shape == (2, 3, 4, 4)
    assert (255 * found[:, 0, 0, 0]).round().tolist() == [0, 20]
    with pytest.warns(UserWarning, match=r"Passed over 1 of 4 "):
        assert len(first_pictures(tmp_path, 9, 4, 1)) == 3


def test_progress_bar_for_many_pictures(tmp_path):
    for i in range(210):
        plain(tmp_path / f"{i:03}.png", i)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(everything(load(tmp_path))["image"]) == 210


def test_empty_and_missing_folders_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="holds no pictures: put png, jpg"):
        load(tmp_path)
    with pytest.raises(DataError, match="is not a folder: give the folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is not a folder"):
        load(tmp_path / "notes.txt")


def test_too_few_pictures_are_refused(tmp_path):
    plain(tmp_path / "a.png")
    plain(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"has 2 readable pictures, too few .* put more"):
        load(tmp_path)
    plain(tmp_path / "c.png")
    assert [len(t["image"]) for t in load(tmp_path).splits.values()] == [1, 1, 1]


def test_only_bad_files_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="a.png"), pytest.raises(DataError, match="0 readable"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"size": 0}, "size is 0, but must be at least 1"),
        ({"channels": 4}, "channels is 4, but must be 1"),
        ({"val_fraction": 0.0}, "must be above 0"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave something to train on"),
    ],
)
def test_bad_arguments(args, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder("anywhere", **args)
