import numpy as np
import pytest
import torch
from PIL import Image

from zoo.errors import ZooError
from zoo.plots import grid, save_grid, signed


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


def test_large_images_are_not_shrunk(tmp_path):
    save_grid(torch.zeros(1, 1, 96, 96), tmp_path / "grid.png", min_width=10)
    assert read(tmp_path / "grid.png").shape == (100, 100)


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
