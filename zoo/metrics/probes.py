"""Probes of the labels in codes: accuracy of a linear classifier, or of the nearest codes."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from zoo.metrics.checks import check_rows

CHUNK = 1024  # codes whose distances to all others are in memory at a time


def linear_probe(codes: Tensor, labels: Tensor, test_codes: Tensor) -> Tensor:
    r"""Labels of codes by multinomial logistic regression (Alain & Bengio 2017).

    Codes are standardised by the mean and variance of the codes to fit. L-BFGS minimises
    $\sum_n -\log p(y_n | z_n) + |W|^2 / 2$, scikit-learn's objective at its default C = 1.

    Args:
        codes: Codes to fit, floats (N, D).
        labels: Their labels, int64 (N,).
        test_codes: Codes to label, floats (M, D).

    Returns:
        Their labels, int64 (M,).

    Raises:
        ValueError: if there is one label only, or codes are not finite.
    """
    _check(codes, test_codes)
    if (labels == labels[0]).all():
        raise ValueError(
            f"all codes to be fitted have the label {int(labels[0])}; give others too."
        )
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(codes.double().cpu().numpy(), labels.cpu().numpy())
    found = probe.predict(test_codes.double().cpu().numpy())
    return torch.from_numpy(found).to(test_codes.device)


def knn_probe(codes: Tensor, labels: Tensor, test_codes: Tensor, k: int = 5) -> Tensor:
    """Labels of codes by the majority of the k nearest codes, by exact Euclidean distance.

    The lowest of the labels with equally many votes wins.

    Args:
        codes: Codes whose labels are known, floats (N, D), N at least k.
        labels: Their labels, int64 (N,), at least 0.
        test_codes: Codes to label, floats (M, D).
        k: Number of neighbours that vote.

    Returns:
        Their labels, int64 (M,).

    Raises:
        ValueError: if there are fewer than k codes, or codes are not finite.
    """
    _check(codes, test_codes)
    if labels.min() < 0:
        raise ValueError(f"there is a label {int(labels.min())}, but labels are at least 0.")
    if len(codes) < k:
        raise ValueError(f"there are {len(codes)} codes, but {k} neighbours are to vote.")
    x, votes = codes.double(), torch.nn.functional.one_hot(labels)
    x = x - (centre := x.mean(0))  # distances between large numbers would lose digits
    half_norms = x.square().sum(1) / 2
    found = []
    for rows in torch.split(test_codes.double(), CHUNK):
        # |x - y|^2 / 2 without |y|^2 / 2, which orders alike
        nearest = torch.topk((rows - centre) @ x.T - half_norms, k, dim=1).indices  # (CHUNK, k)
        found.append(votes[nearest].sum(1).argmax(1))
    return torch.cat(found)


def _check(codes: Tensor, test_codes: Tensor) -> None:
    check_rows("codes to be fitted", codes)
    check_rows("codes to be tested", test_codes)


class Probe(Metric, ABC):
    """Base class that keeps the codes and labels to fit and to test."""

    full_state_update = False
    codes: list[Tensor]
    labels: list[Tensor]
    test_codes: list[Tensor]
    test_labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("codes", "labels", "test_codes", "test_labels"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, codes: Tensor, labels: Tensor, test: bool) -> None:
        """Add codes, floats (B, D), and their labels, int64 (B,).

        Args:
            codes: Codes of data.
            labels: Labels of the data.
            test: Whether the probe is tested on these codes; else it is fitted to them.

        Raises:
            ValueError: if the numbers of codes and labels differ.
        """
        if len(codes) != len(labels):
            raise ValueError(f"there are {len(codes)} codes, but {len(labels)} labels.")
        (self.test_codes if test else self.codes).append(codes.detach())
        (self.test_labels if test else self.labels).append(labels)

    @abstractmethod
    def predict(self, codes: Tensor, labels: Tensor, test_codes: Tensor) -> Tensor:
        """Labels of the test codes, int64 (M,)."""

    def compute(self) -> Tensor:
        """The share of test codes with the correct predicted label, a scalar in [0, 1].

        Raises:
            ValueError: if there is nothing to fit or to test.
        """
        for name, parts in (("fitted", self.codes), ("tested", self.test_codes)):
            if not len(parts):
                raise ValueError(f"there are no codes to be {name}; a probe needs both.")
        codes, labels, test_codes = map(dim_zero_cat, (self.codes, self.labels, self.test_codes))
        found = self.predict(codes, labels, test_codes)
        return (found == dim_zero_cat(self.test_labels)).double().mean()


class LinearProbe(Probe):
    """Accuracy of multinomial logistic regression on codes; see `linear_probe`."""

    def predict(self, codes: Tensor, labels: Tensor, test_codes: Tensor) -> Tensor:
        return linear_probe(codes, labels, test_codes)


class KNNProbe(Probe):
    """Accuracy of the majority of the nearest codes; see `knn_probe`.

    Args:
        k: Number of neighbours that vote.
    """

    def __init__(self, k: int = 5) -> None:
        super().__init__()
        self.k = k

    def predict(self, codes: Tensor, labels: Tensor, test_codes: Tensor) -> Tensor:
        return knn_probe(codes, labels, test_codes, self.k)
