import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from zoo.errors import ZooError
from zoo.plots.charts import scatter
from zoo.plots.grids import grid, save_animation, save_grid, signed


def read(path):
    with Image.open(path) as picture:
        array = np.asarray(picture)
    return torch.from_numpy(array.copy())


def test_grid_tiles_row_by_row():
    images = torch.tensor([0.0, 0.25, 1.0]).reshape(3, 1, 1, 1)
    g = 0.5
    expected = torch.tensor(
        [
            [g, g, g, g, g],
            [g, 0.0, g, 0.25, g],
            [g, g, g, g, g],
            [g, 1.0, g, g, g],  # the last place stays grey
            [g, g, g, g, g],
        ]
    )
    assert torch.equal(grid(images, columns=2, gap=1), expected[None])


def test_grid_keeps_rows_columns_and_channels_apart():
    images = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    page = grid(images, columns=3, gap=2)
    assert page.shape == (3, 2 + 2 * (4 + 2), 2 + 3 * (5 + 2))
    for i in range(6):
        top, left = 2 + (i // 3) * 6, 2 + (i % 3) * 7
        assert torch.equal(page[:, top : top + 4, left : left + 5], images[i])


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (2, 2), (9, 3), (10, 4)])
def test_grid_is_square_by_default(n, columns):
    assert grid(torch.zeros(n, 1, 1, 1), gap=0).shape[-1] == columns


def test_saved_grey_pixels_read_back_equal(tmp_path):
    images = torch.arange(256).reshape(4, 1, 8, 8) / 255
    save_grid(images, tmp_path / "grid.png", columns=2, min_width=1)
    pixels = read(tmp_path / "grid.png")
    assert torch.equal(pixels, (grid(images, 2)[0] * 255).round().byte())


def test_saved_colours_read_back_equal(tmp_path):
    images = torch.randint(256, (2, 3, 4, 4), generator=torch.Generator().manual_seed(0)) / 255
    save_grid(images, tmp_path / "grid.png", min_width=1)
    pixels = read(tmp_path / "grid.png").permute(2, 0, 1)
    assert torch.equal(pixels[:, 2:6, 2:6], (images[0] * 255).round().byte())


def test_values_out_of_range_are_clipped_not_wrapped(tmp_path):
    images = torch.tensor([-0.3, 1.3]).reshape(2, 1, 1, 1)
    save_grid(images, tmp_path / "grid.png", min_width=1)
    pixels = read(tmp_path / "grid.png")
    assert (int(pixels[2, 2]), int(pixels[2, 5])) == (0, 255)


def test_small_images_are_magnified_to_whole_multiples(tmp_path):
    images = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    save_grid(images, tmp_path / "one.png", min_width=1)
    save_grid(images, tmp_path / "three.png", min_width=30)
    one, three = read(tmp_path / "one.png"), read(tmp_path / "three.png")
    assert three.shape == (30, 30)
    assert torch.equal(three, one.repeat_interleave(3, 0).repeat_interleave(3, 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "kind", "error"),
    [("a.jpg", "JPEG", 12), ("a.JPEG", "JPEG", 12), ("a.webp", "WEBP", 0), ("a.PNG", "PNG", 0)],
)
def test_a_picture_is_of_the_kind_that_its_name_says(tmp_path, name, kind, error, channels):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, channels, 4, 4, generator=generator)
    save_grid(images, tmp_path / name, colours=256 if kind == "JPEG" else None)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).int()
    scale = pixels.shape[-1] // 14
    page = (grid(images) * 255).round().int().expand(3, -1, -1)
    assert (pixels[:, scale // 2 :: scale, scale // 2 :: scale] - page).abs().max() <= error


@pytest.mark.parametrize("name", ["a.bmp", "a", "a.gif", ".png", "a.png.txt"])
def test_a_picture_of_another_kind_is_refused(tmp_path, name):
    with pytest.raises(ZooError, match=r"end in \.png or \.jpg or \.jpeg or \.webp"):
        save_grid(torch.zeros(1, 1, 2, 2), tmp_path / name)
    with pytest.raises(ZooError, match=r"end in \.gif or \.apng"):
        save_animation(torch.zeros(1, 2, 1, 2, 2), tmp_path / name.replace("gif", "mp4"))
    assert not [*tmp_path.iterdir()]


def test_large_images_are_not_shrunk(tmp_path):
    save_grid(torch.zeros(1, 1, 96, 96), tmp_path / "grid.png", min_width=10)
    assert read(tmp_path / "grid.png").shape == (100, 100)


def test_a_chart_keeps_its_few_colours(tmp_path):
    colours = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    chart = colours.T[:, torch.arange(64).reshape(8, 8) % 5]
    save_grid(chart[None], tmp_path / "chart.png", min_width=1, colours=256)
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.mode == "P"
        shown = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(shown[:, 2:10, 2:10], (chart * 255).round().byte())


def test_the_folder_is_made(tmp_path):
    save_grid(torch.zeros(1, 1, 2, 2), tmp_path / "deep" / "down" / "grid.png")
    assert [p.name for p in (tmp_path / "deep" / "down").iterdir()] == ["grid.png"]


def test_unwritable_place_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ZooError, match=r"cannot write .*grid\.png"):
        save_grid(torch.zeros(1, 1, 2, 2), tmp_path / "file" / "grid.png")
    assert (tmp_path / "file").read_text() == "mine"


def test_signed_values_lie_about_grey():
    values = torch.tensor([[-2.0, 0.0, 1.0], [0.0, 0.0, 0.0]]).reshape(2, 1, 1, 3)
    expected = torch.tensor([[0.0, 0.5, 0.75], [0.5, 0.5, 0.5]]).reshape(2, 1, 1, 3)
    assert torch.equal(signed(values), expected)


def frames(path):
    with Image.open(path) as picture:
        assert picture.info["loop"] == 0
        found = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)  # (T, 3, H, W)


@pytest.mark.parametrize(("name", "channels"), [("a.gif", 1), ("a.apng", 1), ("a.APNG", 3)])
def test_frames_of_an_animation_read_back_equal(tmp_path, name, channels):
    paths = torch.rand(5, 4, channels, 6, 6, generator=torch.Generator().manual_seed(0))
    save_animation(paths, tmp_path / name, min_width=1)
    found = frames(tmp_path / name)
    assert len(found) == 6  # 0 1 2 3 2 1, and from the start
    for frame, t in zip(found, (0, 1, 2, 3, 2, 1), strict=True):
        expected = (grid(paths[:, t]) * 255).round().byte()
        assert torch.equal(frame, expected.expand(3, -1, -1))


def test_colours_of_a_gif_are_near(tmp_path):
    paths = torch.rand(4, 3, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    save_animation(paths, tmp_path / "a.gif", min_width=1)
    found = frames(tmp_path / "a.gif").float() / 255
    assert len(found) == 4
    for frame, t in zip(found, (0, 1, 2, 1), strict=True):
        # 145 colours, fewer than a palette has, to about 5 bits a channel
        assert (frame - grid(paths[:, t])).abs().max() <= 8 / 255


def test_points_are_drawn_where_they_are_in_the_colour_of_their_kind():
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(400, 2, generator=generator)
    kinds = (places[:, 0] > 0).long()
    places[:, 0] += torch.where(kinds > 0, 4.0, -4.0)
    picture = scatter(places, kinds, ["left", "right", "nowhere"], "two clouds")
    assert picture.shape[0] == 3
    colours = torch.tensor([[31, 119, 180], [255, 127, 14], [44, 160, 44]]) / 255  # tab10
    area = [((picture - c[:, None, None]).abs().amax(0) < 0.01).nonzero() for c in colours]
    assert not len(area[2])
    assert min(map(len, area[:2])) > 1000
    middle = [spots[:, 1].double().median() for spots in area[:2]]
    assert middle[0] + 200 < middle[1]
