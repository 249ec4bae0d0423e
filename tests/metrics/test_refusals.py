"""What a metric cannot be computed of is said in a sentence: too few data, NaN, nothing at all."""

import math

import pytest
import torch

from zoo.metrics import (
    DCI,
    MIG,
    SAP,
    ActiveUnits,
    CodebookPerplexity,
    DensityCoverage,
    FactorVAEScore,
    FrechetDistance,
    KernelDistance,
    KNNProbe,
    LinearProbe,
    ManyToOne,
    ModeCoverage,
    Modularity,
    PrecisionRecall,
    TopicCoherence,
    perplexity,
)
from zoo.metrics.disentanglement import dci, mig, modularity, sap
from zoo.metrics.quality import density_coverage, kernel_distance, precision_recall

Z = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
BAD = Z.clone().index_fill_(0, torch.tensor([7]), math.nan)
HUGE = Z.clone().index_fill_(0, torch.tensor([7]), 1e30)
Y = torch.arange(60) % 3
TWO = torch.stack([Y, torch.arange(60) // 30], 1)
TERMS = torch.tensor([[0, 1], [2, 3]])


def updated(metric, *updates):
    for update in updates:
        metric.update(*update)
    return metric.compute()


def of_both(metric, real, generated):
    return updated(metric, (real, True), (generated, False))


CASES = [
    (lambda: of_both(FrechetDistance(4), Z[:1], Z), "1 real and 60 generated data, .* at least 2"),
    (lambda: of_both(FrechetDistance(4), Z, Z[:0]), "60 real and 0 generated data"),
    (lambda: FrechetDistance(4).compute(), "0 real and 0 generated data"),
    (lambda: of_both(FrechetDistance(4), Z, BAD), "features of generated data have NaN"),
    (lambda: of_both(FrechetDistance(4), Z, HUGE), "distance is not finite"),
    (
        lambda: of_both(FrechetDistance(4), Z[:, :3], Z),
        "real data have 3 columns, but this distance takes 4",
    ),
    (lambda: KernelDistance(1), "subset_size is 1, but must be at least 2"),
    (lambda: of_both(KernelDistance(2), Z, BAD), "features of generated data have NaN"),
    (lambda: kernel_distance(Z[:1], Z), "real data have 1 rows, but at least 2"),
    (lambda: kernel_distance(Z, Z[:0]), "generated data have 0 rows"),
    (lambda: kernel_distance(BAD, Z), "real data have NaN"),
    (lambda: precision_recall(Z, BAD), "generated data have NaN"),
    (lambda: of_both(PrecisionRecall(0), Z, Z), "k is 0, but must be at least 1"),
    (lambda: density_coverage(BAD, Z), "real data have NaN"),
    (lambda: density_coverage(Z, Z[:0]), "generated data have 0 rows"),
    (lambda: of_both(DensityCoverage(5), Z[:5], Z), "5 rows, but at least 6"),
    (lambda: MIG().compute(), "there are no codes"),
    (lambda: updated(MIG(), (Z[:0], TWO[:0])), "codes have 0 rows"),
    (lambda: updated(MIG(), (Z, TWO.float())), "factors have type torch.float32"),
    (lambda: updated(MIG(), (Z, TWO[:, :0])), "0 columns, but need at least 1"),
    (lambda: mig(BAD, TWO), "codes have NaN"),
    (lambda: mig(Z, TWO * 0), "factor 0 has one value only"),
    (lambda: updated(Modularity(), (Z, TWO[:, :1])), "1 columns, but need at least 2"),
    (lambda: modularity(BAD, TWO), "codes have NaN"),
    (lambda: updated(SAP(), (Z[:4], Y[[0, 0, 0, 1], None])), "only among the 3 codes to fit"),
    (lambda: sap(BAD, TWO), "codes have NaN"),
    (lambda: updated(DCI(), (Z, TWO[:, :1])), "1 columns, but need at least 2"),
    (lambda: dci(BAD, TWO), "codes have NaN"),
    (lambda: dci(Z, TWO * 0), "factor 0 has one value only"),
    (lambda: FactorVAEScore(4).compute(), "there are no codes"),
    (lambda: updated(FactorVAEScore(4), (Z[:, None], Y)), "L at least 2"),
    (lambda: updated(FactorVAEScore(4), (BAD.view(6, 10, 4), Y[:6])), "codes have NaN"),
    (lambda: updated(FactorVAEScore(4), (Z.view(6, 10, 4), Y[:6] * 0)), "agree on factor 0"),
    (lambda: ActiveUnits(4).compute(), "0 data, but a variance needs at least 2"),
    (lambda: updated(ActiveUnits(4), (Z[:1],)), "1 data, but a variance needs at least 2"),
    (lambda: updated(ActiveUnits(4), (BAD,)), "posterior means have NaN"),
    (lambda: ManyToOne(3, 3).compute(), "no item was counted"),
    (lambda: updated(ManyToOne(3, 3), (Y, Y[:5])), "60 states, but 5 tags"),
    (lambda: updated(ManyToOne(3, 2), (Y, Y)), "there is a tag 0 or 2, but they are 0 to 1"),
    (lambda: updated(ManyToOne(3, 3), (Y, Y - 1)), "there is a tag -1 or 1"),
    (lambda: ModeCoverage(5).compute(), "no mode was counted"),
    (lambda: updated(ModeCoverage(5), (Z,)), "a mode has type torch.float32"),
    (lambda: CodebookPerplexity(5).compute(), "no code was counted"),
    (lambda: perplexity(BAD[:, 0], Y), "log_prob has NaNs"),
    (lambda: perplexity(Z[:, 0], Y[:5]), "60 probabilities, but 5 documents"),
    (lambda: TopicCoherence(TERMS).compute(), "there are no documents"),
    (lambda: updated(TopicCoherence(TERMS), (BAD,)), "documents have NaN"),
    (lambda: updated(TopicCoherence(TERMS), (Z[:, :2],)), "term 3, but documents have 2 terms"),
    *(
        case
        for probe in (LinearProbe, KNNProbe)
        for case in (
            (lambda p=probe: updated(p(), (BAD, Y, False), (Z, Y, True)), "fitted have NaN"),
            (lambda p=probe: updated(p(), (Z, Y, False), (BAD, Y, True)), "tested have NaN"),
            (lambda p=probe: updated(p(), (Z, Y, False), (Z[:0], Y[:0], True)), "tested have 0"),
            (lambda p=probe: updated(p(), (Z[:0], Y[:0], False), (Z, Y, True)), "fitted have 0"),
            (lambda p=probe: updated(p(), (Z, Y[:5], False)), "60 codes, but 5 labels"),
        )
    ),
    (lambda: updated(LinearProbe(), (Z, Y * 0, False), (Z, Y, True)), "have the label 0"),
    (lambda: updated(KNNProbe(), (Z, Y - 1, False), (Z, Y, True)), "there is a label -1"),
]


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize(("compute", "sentence"), CASES, ids=[sentence for _, sentence in CASES])
def test_what_cannot_be_computed_is_said_in_a_sentence(compute, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        compute()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("log_prob", [-math.inf, -1e6])
def test_an_impossible_document_has_an_infinite_perplexity(log_prob):
    assert perplexity(torch.tensor([log_prob, -1.0]), torch.tensor([1, 2])) == (math.inf, None)
