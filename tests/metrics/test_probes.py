"""Probes against brute force, scikit-learn's neighbours, and the optimum's own equations."""

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from zoo.metrics import KNNProbe, LinearProbe
from zoo.metrics.probes import knn_probe, linear_probe


def blobs(n, d=4, classes=5):
    """Overlapping Gaussians and their labels."""
    labels = torch.randint(classes, (n,))
    centres = torch.linspace(-2, 2, classes)[:, None] * torch.ones(d)
    return centres[labels] + torch.randn(n, d), labels


@pytest.mark.parametrize("k", [1, 4, 5])
def test_neighbours_are_scikit_learns(k, monkeypatch):
    monkeypatch.setattr("zoo.metrics.probes.CHUNK", 7)
    (codes, labels), (test_codes, _) = blobs(300), blobs(100)
    theirs = KNeighborsClassifier(k, algorithm="brute").fit(codes.double(), labels)
    found = knn_probe(codes, labels, test_codes, k)
    assert found.tolist() == theirs.predict(test_codes.double()).tolist()
    assert len(found.unique()) > 2


def test_neighbours_far_from_the_origin():
    codes, labels = blobs(200)
    test_codes = blobs(50)[0]
    near = knn_probe(codes, labels, test_codes)
    # floats that far away are 0.06 apart: their rounding is taken out first
    far, test_far = codes.double() + 1e6, test_codes.double() + 1e6
    assert torch.equal(knn_probe(far, labels, test_far), near)


def test_a_line_is_found_by_gradient_descent_too():
    (codes, labels), (test_codes, _) = blobs(400), blobs(300)
    z, mean, scale = codes.double(), codes.double().mean(0), codes.double().std(0, unbiased=False)
    w = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([w, b], max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        logits = (z - mean) / scale @ w + b
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        loss = loss + w.square().sum() / 2
        loss.backward()
        return loss

    solver.step(closure)
    expected = ((test_codes.double() - mean) / scale @ w + b).argmax(1)
    found = linear_probe(codes, labels, test_codes)
    # both stop near the optimum: a datum on the border may fall on either side
    assert (found != expected).sum() <= 1
    assert len(found.unique()) == 5


def test_scale_and_shift_of_a_code_do_not_matter_to_a_line():
    (codes, labels), (test_codes, _) = blobs(400), blobs(300)
    scale = torch.tensor([1e-3, 1.0, 40.0, 1e3])
    same = linear_probe(codes * scale - 5, labels, test_codes * scale - 5)
    assert (same != linear_probe(codes, labels, test_codes)).sum() <= 1


def test_two_processes_get_what_one_does(by_one, by_two):
    codes, labels = blobs(400)
    parts = [
        (z, y, test)
        for z, y, test in zip(
            codes.split(50), labels.split(50), [False, False, True, True] * 2, strict=True
        )
    ]
    for metric in (KNNProbe, LinearProbe):
        found = by_one(metric(), parts)
        assert 0.5 < found < 1
        assert by_two(metric(), parts) == [found, found]


def test_bad_input_is_refused_in_a_sentence():
    metric = KNNProbe()
    metric.update(*blobs(9), test=False)
    with pytest.raises(ValueError, match="no codes to be tested"):
        metric.compute()
    with pytest.raises(ValueError, match="5 neighbours"):
        knn_probe(*blobs(4), torch.zeros(1, 4))
