"""What a card shows is drawn from the model's verbs, and says what it is."""

import numpy as np
import torch
from PIL import Image

from datamodules import IceCream
from zoo import cards, checkpoint
from zoo.checkpoint import write_text
from zoo.gallery import draw
from zoo.models import HMM, VAE
from zoo.plots import grid, heatmap


def pixels(path):
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("L"))).float()


def test_captions_are_there_for_every_file_of_the_gallery():
    assert (*cards._SHOWN,) == checkpoint.GALLERY


def test_draw_pairs_each_image_with_its_own_reconstruction(tmp_path):
    torch.manual_seed(0)
    model = VAE(x_shape=(1, 8, 8), latent_dim=3, hidden=(16,)).eval()
    x = torch.rand(30, 1, 8, 8).round()
    draw(model, tmp_path, {"image": x})
    shown = pixels(tmp_path / "reconstructions.png") / 255
    mean = model.reconstruct(x)
    expected = grid(torch.cat([x[:12], mean[:12], x[12:24], mean[12:24]]), 12)[0]
    scale = shown.shape[0] // expected.shape[0]
    torch.testing.assert_close(shown[::scale, ::scale], expected, atol=1 / 255, rtol=0)
    assert {path.name for path in tmp_path.iterdir()} == {
        "samples.png",
        "reconstructions.png",
        "interpolations.png",
        "traversals.png",
    }


def test_draw_writes_what_an_hmm_shows(tmp_path):
    torch.manual_seed(0)
    model = HMM(states=2, symbols=3, length=33)
    module = IceCream()
    module.setup("test")
    draw(model, tmp_path, next(iter(module.test_dataloader())))
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
    text = cards.card(tmp_path)
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
