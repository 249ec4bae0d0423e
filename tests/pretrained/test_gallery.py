"""What a card shows is drawn from the model's verbs, and says what it is."""

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.checkpoints.card import _SHOWN, card
from zoo.checkpoints.files import GALLERY, write_text
from zoo.datamodules import FakeFaces, FakeImages, IceCream
from zoo.models import AE, HMM, VAE, VQVAE, WAE
from zoo.plots.charts import heatmap
from zoo.plots.grids import grid, save_grid
from zoo.pretrained import gallery
from zoo.pretrained.gallery import draw, draw_samples
from zoo.tasks.directions import move


def pixels(path):
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("L"))).float()


def test_captions_are_there_for_every_file_of_the_gallery():
    assert (*_SHOWN,) == GALLERY


def test_draw_pairs_each_image_with_its_own_reconstruction(tmp_path):
    torch.manual_seed(0)
    model = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(16,)).eval()
    x = torch.rand(30, 1, 8, 8).round()
    draw(model, tmp_path, [{"image": x}])
    shown = pixels(tmp_path / "reconstructions.png") / 255
    mean = model.reconstruct(x)
    expected = grid(torch.cat([x[:12], mean[:12], x[12:24], mean[12:24]]), 12)[0]
    scale = shown.shape[0] // expected.shape[0]
    torch.testing.assert_close(shown[::scale, ::scale], expected, atol=1 / 255, rtol=0)
    assert {path.name for path in tmp_path.iterdir()} == {
        "samples.png",
        "means.png",
        "reconstructions.png",
        "interpolations.png",
        "traversals.png",
    }


def test_of_larger_pictures_cards_show_fewer(tmp_path):
    torch.manual_seed(0)
    model = VAE(x_shape=(1, 64, 64), latent_dim=12, hidden=(4,)).eval()
    draw(model, tmp_path, [{"image": torch.rand(30, 1, 64, 64)}])
    tiles = {"samples": (8, 4), "reconstructions": (8, 4), "interpolations": (8, 4)}
    for name, (columns, rows) in {**tiles, "traversals": (7, 8)}.items():
        shape = pixels(tmp_path / f"{name}.png").shape
        assert shape == (66 * rows + 2, 66 * columns + 2), name


def test_means_are_those_that_the_samples_are_drawn_about(tmp_path):
    torch.manual_seed(0)
    model = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(16,)).eval()
    for parameter in model.decoder.parameters():
        parameter.data.mul_(30)  # means near 0 and 1, from which few draws differ
    draw_samples(model, tmp_path)
    samples, means = (pixels(tmp_path / name) / 255 for name in ("samples.png", "means.png"))
    assert not torch.equal(samples, means)
    assert (samples - means).abs().mean() < 0.5 * (samples - means.flip(0)).abs().mean()


def test_there_are_no_means_where_samples_have_no_noise(tmp_path):
    torch.manual_seed(0)
    model = WAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(16,)).eval()
    draw_samples(model, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"samples.png"}


def test_directions_are_a_row_for_each_image_under_each_attribute(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = AE(x_shape=(3, 16, 16), latent_dim=3, hidden=(16,)).eval()
    data = FakeFaces(size=16, n=300, batch_size=64)
    monkeypatch.setattr(FakeFaces, "directions", ("Smiling", "Eyeglasses"))
    x = torch.rand(2, 3, 16, 16)
    assert gallery.has_directions(model, data)
    assert not gallery.has_directions(model, FakeFaces(attributes=["Smiling"]))
    assert not gallery.has_directions(VQVAE(x_shape=(3, 16, 16)), data)  # codes are indices
    gallery.draw_directions(model, data, x, tmp_path / "directions.png")
    glasses = zoo.direction(model, data, "Eyeglasses")
    rows = [move(model, one, glasses, [-3, -2, -1, 0, 1, 2, 3]) for one in x]
    save_grid(torch.cat(rows).detach(), tmp_path / "expected.png", 7)
    shown, expected = pixels(tmp_path / "directions.png"), pixels(tmp_path / "expected.png")
    assert shown.shape[1] == expected.shape[1]
    below = (shown.shape[0] - 1) // 2  # the second attribute's rows
    torch.testing.assert_close(shown[-below:], expected[-below:], atol=1, rtol=0)


def test_draw_maps_codes_of_labelled_images(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = AE(x_shape=(1, 8, 8), latent_dim=3, hidden=(16,)).eval()
    module = FakeImages(x_shape=(1, 8, 8), n=160, classes=3, batch_size=15, binarization="none")
    module.setup("test")
    seen = []
    monkeypatch.setattr(gallery, "MAPPED", 35)
    monkeypatch.setattr(gallery, "draw_map", lambda *args: seen.append(args))
    draw(model, tmp_path, module.test_dataloader(), module.label_names)
    ((codes, kinds, names, method, path),) = seen
    test = module.splits["test"]
    expected = model.encode(test["image"][:35].float() / 255)
    torch.testing.assert_close(codes, expected.detach())
    assert torch.equal(kinds, test["label"][:35])
    assert (names, method, path) == (("0", "1", "2"), "tsne", tmp_path / "map.png")
    monkeypatch.undo()
    gallery.draw_map(codes, kinds, names, method, path)
    assert pixels(path).shape[1] > 400


def test_a_denoising_model_shows_noisy_denoised_and_clean(tmp_path):
    torch.manual_seed(0)
    model = AE(x_shape=(1, 8, 8), latent_dim=3, hidden=(16,), noise=0.4).eval()
    x = 0.2 + 0.8 * torch.rand(5, 1, 8, 8)
    draw(model, tmp_path, [{"image": x}])
    shown = pixels(tmp_path / "examples.png") / 255
    scale = shown.shape[1] // (8 * 5 + 2 * 6 + 4)  # a border of its own, and the page's
    shown = shown[::scale, ::scale][2:-2, 2:-2]
    rows = [shown[2 + 10 * i : 10 + 10 * i] for i in range(3)]
    noisy, restored, clean = (
        torch.stack([row[:, 2 + 10 * i : 10 + 10 * i] for i in range(5)])[:, None] for row in rows
    )
    torch.testing.assert_close(clean, x, atol=0.51 / 255, rtol=0)
    kept = noisy > 0
    torch.testing.assert_close(noisy[kept], x[kept], atol=0.51 / 255, rtol=0)
    assert 1 - kept.float().mean().item() == pytest.approx(0.4, abs=4 * (0.24 / 320) ** 0.5)
    # half a level of noisy pixels moves the answer by less than another half
    torch.testing.assert_close(restored, model.reconstruct(x * kept), atol=1.01 / 255, rtol=0)
    assert AE(x_shape=(1, 8, 8), latent_dim=3).exhibits({"image": x}) == {}


def test_draw_writes_what_an_hmm_shows(tmp_path):
    torch.manual_seed(0)
    model = HMM(states=2, symbols=3, length=33)
    module = IceCream()
    module.setup("test")
    draw(model, tmp_path, module.test_dataloader())
    assert {path.name for path in tmp_path.iterdir()} == {"samples.txt", *HMM.shows}
    (day,) = (tmp_path / "examples.txt").read_text(encoding="utf-8").splitlines()
    assert len(day.split()) == 33
    assert all(word[1] == "/" and word[2] in "01" for word in day.split())


def test_a_card_shows_each_title_once_with_the_familys_captions(tmp_path):
    torch.manual_seed(0)
    model = HMM(states=2, symbols=3, length=4)
    model.save_pretrained(tmp_path)
    write_text(tmp_path / "parameters.txt", "0: 1 2\n")
    write_text(tmp_path / "parameters.png", "")
    text = card(tmp_path)
    assert text.count("## Parameters") == 1
    assert all(HMM.shows[name] in text for name in ("parameters.png", "parameters.txt"))
    assert "```text\n0: 1 2\n```" in text
    assert "## Examples" not in text


def test_heatmap_darkens_what_is_small():
    picture = heatmap(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), ["a", "b"], ["c", "d"], "p")
    assert picture.shape[0] == 3
    assert 0 <= picture.min() < picture.max() <= 1
    # black of the map and its palest: a quarter of the matrix each is found in the picture
    black = (picture < 0.02).all(0).sum()
    pale = ((picture[0] > 0.95) & (picture[2] < 0.8)).sum()
    assert black > 1000
    assert pale > 1000
