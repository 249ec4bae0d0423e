"""Functions of codes, held against linear models whose answers are known."""

import math
import sys

import numpy as np
import pytest
import torch

import zoo
from zoo.base import LatentVariableModel
from zoo.datamodules import FakeFaces, FakeImages, IceCream
from zoo.models import AE, GMM, VQVAE
from zoo.models.classical.em import modality_of
from zoo.tasks.directions import mean_difference


class Linear(LatentVariableModel):
    """Codes are 2 x and decoding halves them."""

    def __init__(self, x_shape=(4,)):
        super().__init__()
        self.modality, self.x_shape = modality_of(x_shape), x_shape
        self.latent_shape = x_shape

    def loss(self, batch):
        return {}

    def encode(self, x):
        return 2 * x

    def decode(self, z):
        return z / 2


# --- paths ---------------------------------------------------------------------------------------


def test_interpolation_is_a_line_between_the_codes():
    a, b = torch.rand(4), torch.rand(4)
    path = zoo.interpolate(Linear(), a, b, steps=5)
    expected = torch.stack([a + t * (b - a) for t in (0, 0.25, 0.5, 0.75, 1.0)])
    torch.testing.assert_close(path, expected)


def test_spherical_interpolation_turns_evenly():
    a, b = torch.tensor([2.0, 0, 0, 0]), torch.tensor([0, 2.0, 0, 0])
    path = zoo.interpolate(Linear(), a, b, steps=4, path="spherical")
    angles = torch.tensor([0, 30, 60, 90]).deg2rad()
    expected = torch.stack([2 * angles.cos(), 2 * angles.sin(), 0 * angles, 0 * angles], 1)
    torch.testing.assert_close(path, expected, atol=1e-6, rtol=0)
    same = zoo.interpolate(Linear(), a, a, steps=3, path="spherical")
    torch.testing.assert_close(same, a.expand(3, 4))


def test_interpolation_refuses_what_has_no_path():
    with pytest.raises(ValueError, match="at least its 2 ends"):
        zoo.interpolate(Linear(), torch.rand(4), torch.rand(4), steps=1)
    with pytest.raises(ValueError, match="linear or spherical"):
        zoo.interpolate(Linear(), torch.rand(4), torch.rand(4), path="curved")
    with pytest.raises(ValueError, match="x1 has shape"):
        zoo.interpolate(Linear(), torch.rand(4), torch.rand(5))


def test_traversal_varies_one_dimension_at_a_time():
    x = torch.rand(4)
    rows = zoo.traverse(Linear(), x, dims=[2, 0], span=4, steps=5)
    assert rows.shape == (2, 5, 4)
    for row, d in zip(rows, (2, 0), strict=True):
        torch.testing.assert_close(row[:, d], torch.tensor([-2.0, -1, 0, 1, 2]))
        others = [i for i in range(4) if i != d]
        torch.testing.assert_close(row[:, others], x[others].expand(5, 3))
    assert zoo.traverse(Linear(), x).shape[0] == 4
    with pytest.raises(ValueError, match="no latent dimension 4"):
        zoo.traverse(Linear(), x, dims=[4])


def test_codes_without_anything_between_are_no_path():
    gmm = GMM(x_shape=(1, 4, 4), components=3)
    with pytest.raises(ValueError, match="a code of GMM is made of whole numbers"):
        zoo.interpolate(gmm, torch.zeros(1, 4, 4), torch.ones(1, 4, 4))


# --- directions ----------------------------------------------------------------------------------


def classes(**arguments):
    data = FakeImages(x_shape=(1, 8, 8), n=200, classes=3, binarization="none", **arguments)
    data.setup()
    return data


def test_direction_is_the_difference_of_the_classes_means():
    data = classes()
    train = data.splits["train"]
    z = 2 * train["image"].double() / 255
    means = [z[train["label"] == k].mean(0) for k in range(3)]
    model = Linear((1, 8, 8))
    found = zoo.direction(model, data, "2", against="0")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), means[2] - means[0], atol=1e-6, rtol=0)
    found = zoo.direction(model, data, "1")
    others = z[train["label"] != 1].mean(0)
    torch.testing.assert_close(found.double(), means[1] - others, atol=1e-6, rtol=0)
    few, label = z[:50], train["label"][:50]
    expected = few[label == 2].mean(0) - few[label != 2].mean(0)
    found = zoo.direction(model, data, "2", limit=50)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def faces(**arguments):
    data = FakeFaces(size=16, n=300, batch_size=64, **arguments)
    data.setup()
    return data


def test_direction_of_an_attribute_leaves_out_what_is_both_or_unlabelled():
    data = faces(unlabelled=True)
    train = data.splits["train"]
    known = train["labelled"]
    assert not known.all()
    z = 2 * train["image"][known].double() / 255
    marks = train["attributes"][known] > 0
    smiles, glasses = (marks[:, data.attribute_names.index(n)] for n in ("Smiling", "Eyeglasses"))
    assert (smiles & glasses).any()
    model = Linear((3, 16, 16))
    for against, with_it, without in (
        (None, smiles, ~smiles),
        ("Eyeglasses", smiles & ~glasses, glasses & ~smiles),
    ):
        found = zoo.direction(model, data, "Smiling", against)
        expected = z[with_it].mean(0) - z[without].mean(0)
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_a_balanced_difference_is_the_coefficient_of_least_squares():
    torch.manual_seed(0)
    n = 500
    group = torch.randint(4, (n,))
    first = torch.rand(n) < torch.tensor([0.1, 0.9, 0.5, 0.0])[group]  # one group has one kind
    z = torch.randn(n, 3).double() + 5 * group[:, None] + 2 * first[:, None]
    design = torch.cat([first[:, None], torch.nn.functional.one_hot(group, 4)], 1).double()
    coefficient = torch.linalg.lstsq(design, z).solution[0]
    found = mean_difference(z, first, ~first, group)
    torch.testing.assert_close(found, coefficient, atol=1e-10, rtol=0)
    assert (found - 2).abs().max() < 0.5  # where unbalanced means differ by more than 7
    plain = mean_difference(z, first, ~first, torch.zeros(n))
    torch.testing.assert_close(plain, z[first].mean(0) - z[~first].mean(0))


def test_balance_takes_groups_of_equal_attributes():
    data = faces()
    train = data.splits["train"]
    marks = train["attributes"] > 0
    smiles, *others = (
        marks[:, data.attribute_names.index(n)] for n in ("Smiling", "Eyeglasses", "Pale_Skin")
    )
    groups = others[0] + 10 * others[1].long()
    z = 2 * train["image"].float() / 255
    expected = mean_difference(z, smiles, ~smiles, groups)
    found = zoo.direction(Linear((3, 16, 16)), data, "Smiling", balance=["Eyeglasses", "Pale_Skin"])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_directions_that_are_none():
    model = Linear((1, 8, 8))
    with pytest.raises(ValueError, match="no label '7'; did you mean"):
        zoo.direction(model, classes(), "7")
    with pytest.raises(ValueError, match="none with 1 can be compared with one with 1"):
        zoo.direction(model, classes(), "1", against="1")
    with pytest.raises(ValueError, match="one without 1 and like 1; use more data"):
        zoo.direction(model, classes(), "1", balance=["1"])
    with pytest.raises(ValueError, match="IceCream has no attributes and no labels"):
        zoo.direction(model, IceCream(), "hot")
    gmm = GMM(x_shape=(1, 8, 8), components=3)
    with pytest.raises(ValueError, match="a code of GMM is made of whole numbers"):
        zoo.direction(gmm, classes(), "1")


def test_move_adds_the_direction_to_the_code():
    x, d = torch.rand(4), torch.randn(4)
    moved = zoo.move(Linear(), x, d, [-1, 0, 0.5])
    torch.testing.assert_close(moved, torch.stack([x - d / 2, x, x + d / 4]))
    with pytest.raises(ValueError, match="direction has shape"):
        zoo.move(Linear(), x, torch.zeros(5), [1])


# --- maps ----------------------------------------------------------------------------------------


def test_principal_components_are_those_of_the_svd():
    torch.manual_seed(0)
    z = torch.randn(60, 5) @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1])) + 7
    centred = z.double().numpy() - z.double().numpy().mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    found = zoo.latent_map(z, "pca").double().numpy()
    for column, expected in zip(found.T, (u * s).T[:2], strict=True):
        sign = np.sign(column @ expected)
        np.testing.assert_allclose(sign * column, expected, atol=1e-5)


def test_tsne_keeps_clusters_together_and_is_repeatable():
    torch.manual_seed(0)
    z = torch.randn(60, 6) + 20 * (torch.arange(60) % 2)[:, None]
    places = zoo.latent_map(z, "tsne")
    assert places.shape == (60, 2)
    distances = torch.cdist(places, places).fill_diagonal_(math.inf)
    assert ((distances.argmin(1) - torch.arange(60)) % 2 == 0).all()
    assert torch.equal(zoo.latent_map(z, "tsne"), places)


def test_maps_that_are_none(monkeypatch):
    with pytest.raises(ValueError, match="4 codes of 2 numbers at least, but there are 3 of 5"):
        zoo.latent_map(torch.rand(3, 5))
    with pytest.raises(ValueError, match="method cannot be 'tsn'; did you mean tsne"):
        zoo.latent_map(torch.rand(9, 5), "tsn")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(zoo.ZooError, match=r"pip install 'latent-zoo\[umap\]'"):
        zoo.latent_map(torch.rand(9, 5), "umap")


# --- denoising and compression -------------------------------------------------------------------


def test_denoise_hides_its_share_and_says_how_far_off_both_are():
    model, x = AE(x_shape=(1, 4, 4), latent_dim=3, hidden=(8,)).eval(), torch.ones(2000, 1, 4, 4)
    noisy, restored, before, after = zoo.denoise(model, x, 0.3)
    assert set(noisy.unique().tolist()) == {0, 1}
    torch.testing.assert_close(before, 1 - noisy.mean((1, 2, 3)))
    assert before.mean().item() == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 32000) ** 0.5)
    torch.testing.assert_close(restored, model.reconstruct(noisy).detach())
    torch.testing.assert_close(after, (1 - restored).square().mean((1, 2, 3)))
    with pytest.raises(ValueError, match=r"noise is 1\.5, but must be a share"):
        zoo.denoise(model, x, 1.5)


def test_code_length_of_a_tiny_codebook_by_hand():
    """Two places of four indices each, whose prior is uniform but for one index of the first."""
    model = VQVAE(
        x_shape=(1, 2, 4), codes=4, code_dim=1, hidden=(2,), prior_width=4, prior_heads=1
    ).eval()
    assert model.latent_shape == (1, 2)

    def logits(s):
        odd = torch.tensor([math.log(5.0), 0.0, 0.0, 0.0]).expand(len(s), 1, 4)  # 5/8, 1/8, ...
        return torch.cat([odd, torch.zeros(len(s), s.shape[1], 4)], 1)[:, :2]

    model.transformer.forward = logits
    model.encode = lambda x: torch.tensor([[[0, 3]], [[2, 1]]])
    learned, uniform = zoo.code_length(model, torch.zeros(2, 1, 2, 4))
    assert uniform == pytest.approx(2 * 2 / 8)
    assert learned.tolist() == pytest.approx([(math.log2(8 / 5) + 2) / 8, (3 + 2) / 8])
    with pytest.raises(ValueError, match="but those of Linear are not"):
        zoo.code_length(Linear(), torch.rand(1, 4))
