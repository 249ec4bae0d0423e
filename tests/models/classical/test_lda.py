"""Latent Dirichlet allocation against enumeration, scikit-learn's updates, and known topics."""

import itertools
import math

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from scipy import integrate, sparse
from scipy.optimize import linear_sum_assignment
from scipy.special import digamma, gammaln
from sklearn.decomposition import LatentDirichletAllocation
from torch.distributions import Dirichlet, kl_divergence

import zoo
from zoo.datamodules import FakeBagOfWords
from zoo.datamodules.text.bag_of_words import dense
from zoo.inference.topics import halves
from zoo.metrics import perplexity
from zoo.models import LDA
from zoo.models.classical.lda import DOCUMENTS


def small(terms=30, topics=4, **arguments):
    """A model in float64 at its start, whose documents' posteriors are at their optimum."""
    model = LDA(terms, topics, **{"iterations": 2000, "tol": 1e-12, **arguments}).double()
    model.concentrations.data = torch.rand(terms, topics).double() + 0.5
    model.started.fill_(True)
    return model


def drawn(**arguments):
    data = FakeBagOfWords(**{"n": 96, "batch_size": 16, "words": 30, "length": 25, **arguments})
    data.setup()
    return data


def training_counts(data):
    """The training documents in their order, dense (N, V)."""
    x = torch.zeros(data.n, data.words, dtype=torch.float64)
    for i in range(data.n):
        span = data.span("train", i)
        x[i, data.items["tokens"][span].long()] = data.items["counts"][span].double()
    return x


def trainer(folder, **arguments):
    return Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            **arguments,
        }
    )


def sklearn_of(model, n):
    """scikit-learn's estimator with the topics and the settings of a model."""
    (topics,) = model.latent_shape
    estimator = LatentDirichletAllocation(
        topics,
        doc_topic_prior=float(model.alpha[0]),
        topic_word_prior=model.eta,
        learning_decay=model.kappa or 0.7,
        learning_offset=model.t0,
        total_samples=n,
        max_doc_update_iter=20_000,
        mean_change_tol=1e-12,
    )
    estimator._init_latent_vars(model.x_shape[0])
    estimator.components_ = model.concentrations.detach().T.numpy().copy()
    expectation = digamma(estimator.components_)
    expectation -= digamma(estimator.components_.sum(1, keepdims=True))
    estimator.exp_dirichlet_component_ = np.exp(expectation)
    return estimator


def collapsed_log_evidence(documents, terms, alpha, eta):
    """log p(words) with topics and proportions integrated out: all assignments enumerated."""
    topics = len(alpha)
    owner = [d for d, document in enumerate(documents) for _ in document]
    words = [w for document in documents for w in document]
    logs = []
    for z in itertools.product(range(topics), repeat=len(words)):
        of_document, of_topic = np.zeros((len(documents), topics)), np.zeros((topics, terms))
        np.add.at(of_document, (owner, z), 1)
        np.add.at(of_topic, (z, words), 1)
        log_p = gammaln(alpha.sum()) - gammaln(alpha.sum() + of_document.sum(1))
        log_p = log_p.sum() + (gammaln(alpha + of_document) - gammaln(alpha)).sum()
        log_p += (gammaln(terms * eta) - gammaln(terms * eta + of_topic.sum(1))).sum()
        logs.append(log_p + (gammaln(eta + of_topic) - gammaln(eta)).sum())
    return np.logaddexp.reduce(logs)


def test_the_whole_bound_is_below_the_evidence():
    documents = [[0, 0, 1], [1, 2], [2, 2, 0]]
    x = np.stack([np.bincount(d, minlength=3) for d in documents])
    model = small(3, 2, alpha=0.7, eta=0.5).fit(x, max_epochs=200, tol=1e-12, warm_start=True)
    evidence = collapsed_log_evidence(documents, 3, model.alpha.numpy(), 0.5)
    bound = 3 * model.history[-1]
    assert bound < evidence
    assert bound > evidence - 4  # mean field, of 2 topics and 8 words
    assert 3 * model.history[0] < bound - 0.1


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_every_iteration_raises_the_bound(alpha):
    x = training_counts(drawn(n=48))
    model = small(alpha=alpha).fit(x, max_epochs=30, tol=-math.inf, warm_start=True)
    assert len(model.history) == 31
    assert min(np.diff(model.history)) > -1e-10
    assert model.history[-1] > model.history[0] + 1


def test_with_small_priors_the_bound_falls_by_little_and_rarely():
    # a document's posterior, which starts anew in each iteration, may find another optimum
    model = small(alpha=0.1).fit(
        training_counts(drawn(n=48)), max_epochs=40, tol=-math.inf, warm_start=True
    )
    rises = np.diff(model.history)
    assert rises.min() > -0.01  # of 60 nats
    assert np.mean(rises < 0) <= 0.1
    assert model.history[-1] > model.history[0] + 1


@pytest.mark.parametrize("seed", range(3))
def test_a_small_fall_is_not_the_end(seed):
    """Stopping at the first left 0.28 to 0.39 nats a document."""
    rng = np.random.default_rng(seed)
    topics, shares = rng.dirichlet(np.full(100, 0.1), 10), rng.dirichlet(np.full(10, 0.1), 200)
    x = np.stack([rng.multinomial(rng.poisson(50), p) for p in shares @ topics])
    torch.manual_seed(seed)
    model = LDA(100, 10).fit(x, max_epochs=200)
    torch.manual_seed(seed)
    far = LDA(100, 10).fit(x, max_epochs=200, tol=-math.inf)
    first = next(i for i, rise in enumerate(np.diff(far.history)) if rise < 0)
    assert far.history[first] < max(far.history) - 0.1
    assert model.history[-1] > max(far.history) - 0.05
    assert first < len(model.history) < 200


def test_fit_stops_once_the_bound_is_level():
    model = small(alpha=2.0).fit(training_counts(drawn(n=48)), max_epochs=5000, tol=1e-6)
    assert len(model.history) < 5000
    assert max(model.history[-10:]) - max(model.history[:-10]) < 1e-6
    assert np.diff(model.history[:-10]).max() > 1e-6


def test_history_is_the_evidence_bound_of_a_document():
    x = training_counts(drawn())
    model = small(eta=0.3)
    model.fit(x, max_epochs=3, warm_start=True)
    before = small(eta=0.3)
    before.load_state_dict(model.state_dict())
    model.fit(x, max_epochs=1, warm_start=True)
    # the terms one by one, of what the iteration set out from
    lam = before.concentrations.detach()
    log_beta = torch.digamma(lam) - torch.digamma(lam.sum(0))  # (V, K)
    q = before.posterior(x)
    log_theta = torch.digamma(q.concentration)
    log_theta -= torch.digamma(q.concentration.sum(1, keepdim=True))
    logits = log_theta[:, None] + log_beta  # (N, V, K)
    phi = logits.softmax(2)
    words = (x[:, :, None] * phi * (logits - phi.log())).sum()
    prior = Dirichlet(before.alpha.expand(len(x), -1))
    topics = kl_divergence(Dirichlet(lam.T), Dirichlet(torch.full_like(lam.T, 0.3))).sum()
    bound = (words - kl_divergence(q, prior).sum() - topics) / len(x)
    assert model.history[0] == pytest.approx(float(bound), abs=1e-9)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_a_batch_update_is_that_of_scikit_learn(alpha):
    x = training_counts(drawn())
    model = small(alpha=alpha, eta=0.2).fit(x, max_epochs=4, warm_start=True)  # at clear topics
    other = sklearn_of(model, len(x))
    other._em_step(x.numpy(), len(x), batch_update=True)
    model.fit(x, max_epochs=1, warm_start=True)
    np.testing.assert_allclose(model.concentrations.detach().T, other.components_, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 2.0])
def test_posterior_and_perplexity_are_those_of_scikit_learn(alpha):
    data = drawn()
    x = training_counts(data)
    model = small(alpha=alpha, eta=0.2).fit(x, max_epochs=4, warm_start=True)
    other = sklearn_of(model, len(x))
    gamma, _ = other._e_step(x.numpy(), cal_sstats=False, random_init=False)
    found = model.posterior(x).concentration
    near = (found - torch.from_numpy(gamma)).abs().amax(1) < 1e-7
    # a document may have several optima, which the two ways up need not agree on
    assert near.double().mean() > (0.9 if alpha < 1 else 0.999)
    if alpha > 1:
        statistics = model.expectation(model.as_batch(x))
        bound = float(statistics["log_likelihood"] + model.log_prior())
        perplexity = math.exp(-bound / x.sum())
        assert perplexity == pytest.approx(other._perplexity_precomp_distr(x.numpy(), gamma))


def test_online_updates_are_hoffmans(tmp_path):
    data = drawn(n=32)
    model = small(kappa=0.6, t0=3.0, alpha=0.5).fit(
        training_counts(data), max_epochs=4, warm_start=True
    )
    batches = [*data.train_dataloader()]  # the order of the first epoch
    assert len(batches) == 2
    other = sklearn_of(model, 32)
    lam = model.concentrations.detach().T.numpy().copy()
    for t, batch in enumerate(batches, start=1):
        x = dense(batch, 30).double().numpy()
        # Hoffman et al. 2010, algorithm 2, with scikit-learn's expected counts
        _, expected = other._e_step(x, cal_sstats=True, random_init=False)
        rho = (3.0 + t) ** -0.6
        lam = (1 - rho) * lam + rho * (model.eta + 32 / len(x) * expected)
        other.components_ = lam
        log_beta = digamma(lam) - digamma(lam.sum(1, keepdims=True))
        other.exp_dirichlet_component_ = np.exp(log_beta)
    trainer(tmp_path, limit_val_batches=0).fit(model, data)
    np.testing.assert_allclose(model.concentrations.detach().T, lam, rtol=1e-7)


class Rises(Callback):
    """Holds the whole bound before each M-step over all documents against that before the last."""

    def __init__(self):
        self.bounds, self.log_prior = [], 0.0

    def on_train_epoch_start(self, trainer, pl_module):
        self.log_prior = float(pl_module.log_prior()) / pl_module._data_size

    def on_train_epoch_end(self, trainer, pl_module):
        words = float(trainer.callback_metrics["train/log_likelihood"])
        self.bounds.append(words + self.log_prior)
        assert self.bounds == sorted(self.bounds)


@pytest.mark.parametrize("kappa", [None, 0.7])
def test_two_processes_equal_one(kappa, tmp_path):
    ends, logged = [], []
    for devices, batch_size in ((1, 32), (2, 16)):
        torch.manual_seed(0)
        model = small(kappa=kappa, alpha=1.0, tol=1e-3)
        run = trainer(
            tmp_path,
            max_epochs=4,
            devices=devices,
            strategy="ddp_fork" if devices == 2 else "auto",
            callbacks=[] if kappa else [Rises()],  # which fails in the process where it falls
        )
        run.fit(model, drawn(batch_size=batch_size))
        ends.append(model.concentrations)
        logged.append(float(run.callback_metrics["val/elbo"]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-10, atol=0)
    assert logged[0] == pytest.approx(logged[1], rel=1e-6)  # logged in float32
    assert not torch.allclose(ends[0], torch.ones(30, 4).double(), rtol=0.5)  # it did train


def test_a_trainer_does_what_fit_does(tmp_path):
    model, other, rises = small(alpha=1.0), small(alpha=1.0), Rises()
    other.load_state_dict(model.state_dict())
    trainer(tmp_path, max_epochs=4, callbacks=[rises]).fit(model, drawn())
    other.fit(training_counts(drawn()), max_epochs=4, tol=-math.inf, warm_start=True)
    assert rises.bounds == pytest.approx(other.history[:-1], rel=1e-6)  # logged in float32
    torch.testing.assert_close(model.concentrations, other.concentrations, rtol=1e-9, atol=0)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    data = drawn()
    whole, part, resumed = (small(kappa=0.7, tol=1e-3) for _ in range(3))
    for model in (part, resumed):
        model.load_state_dict(whole.state_dict())
    run = trainer(tmp_path, max_epochs=2)
    run.fit(part, data)
    run.save_checkpoint(tmp_path / "part.ckpt")
    trainer(tmp_path, max_epochs=4).fit(whole, data)
    trainer(tmp_path, max_epochs=4).fit(
        resumed, data, ckpt_path=tmp_path / "part.ckpt", weights_only=True
    )
    assert torch.equal(whole.concentrations, resumed.concentrations)
    assert not torch.equal(whole.concentrations, part.concentrations)


def distances(model, data):
    """L1 distances of the true topics to those found, matched at best: in [0, 2], (K,)."""
    found, true = model.topics.double(), data.topics
    cost = (true[:, None] - found).abs().sum(2).numpy()
    return cost[linear_sum_assignment(cost)]


@pytest.mark.parametrize("kappa", [None, 0.7])
def test_finds_the_topics_that_made_the_documents(kappa, tmp_path):
    data = drawn(n=1000, batch_size=128, words=60, length=60, n_topics=3)
    torch.manual_seed(1)
    model = LDA(60, 3, kappa=kappa)
    assert distances(model, data).min() > 0.8
    trainer(tmp_path, max_epochs=4 if kappa else 8, limit_val_batches=0).fit(model, data)
    # each topic has some 20,000 words: of 60 terms, sampling alone leaves about 0.04
    assert distances(model, data).max() < 0.15
    # and the proportions that go with them
    cost = (data.topics[:, None] - model.topics.double()).abs().sum(2).numpy()
    order = linear_sum_assignment(cost)[1]
    x = training_counts(data).float()[:200]
    error = (model.encode(x)[:, order] - data.proportions["train"][:200]).abs().mean()
    assert error < 0.06


def test_dense_sparse_and_padded_are_the_same():
    data = drawn()
    x = training_counts(data)
    batch = next(iter(data.val_dataloader()))
    model = small()
    padded = model.expectation(batch)["term_counts"]
    torch.testing.assert_close(
        model.expectation(model.as_batch(dense(batch, 30)))["term_counts"], padded
    )
    torch.testing.assert_close(model.inputs(batch), dense(batch, 30).double())
    unsummed = sparse.coo_array(
        (np.ones(int(x.sum())), np.repeat(np.nonzero(x.numpy()), x[x > 0].int(), axis=1))
    )
    wanted = model.as_batch(x)
    for data in (
        x.numpy(),
        x.int().tolist(),
        x.to(torch.uint8),
        x.long().to(torch.uint16),
        x.numpy().astype(np.uint32),
        x.numpy().astype(">i4"),
        x.numpy()[:, ::-1].copy()[:, ::-1],
        sparse.csr_matrix(x.numpy()),
        sparse.csc_array(x.numpy().astype(np.uint16)),
        sparse.csr_array(unsummed.tocsr()),
    ):
        found = model.as_batch(data)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    torch.testing.assert_close(
        model.fit(sparse.csr_matrix(x.numpy()), 2, batch_size=7, warm_start=True).concentrations,
        small_like(x).concentrations,
    )


def small_like(x, max_epochs=2):
    torch.manual_seed(0)
    return small().fit(x, max_epochs=max_epochs, warm_start=True)


def test_empty_documents_and_terms_never_seen():
    x = torch.zeros(40, 30)
    x[1:, :20] = torch.poisson(torch.full((39, 20), 0.7))
    x[1] = 0
    x[1, 3] = 1
    model = LDA(30, 4).fit(x, max_epochs=20)
    assert all(math.isfinite(value) for value in model.history)
    torch.testing.assert_close(model.posterior(x[:1]).concentration[0], model.alpha)
    torch.testing.assert_close(model.concentrations[20:], torch.full((10, 4), model.eta))
    assert model.posterior(x[1:2]).concentration.sum() == pytest.approx(2.0)  # 4 alpha and a word
    assert model.loss(model.as_batch(x[:1]))["elbo"].abs() < 1e-6
    unseen = torch.zeros(1, 30)
    unseen[0, 25] = 3
    for value in (model.encode(unseen), model.loss(model.as_batch(unseen))["elbo"]):
        assert value.isfinite().all()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(2, 31), r"counts have shape \(2, 31\), but .* \(N, 30\)"),
        (torch.ones(30), r"shape \(30,\)"),
        (torch.ones(2, 3, 30), r"shape \(2, 3, 30\)"),
        (torch.ones(0, 30), "counts has no rows"),
        ([], "counts has no rows"),
        (sparse.csr_matrix((0, 30)), "no documents"),
        ({"tokens": torch.ones(0, 3).long(), "counts": torch.ones(0, 3)}, "tokens has no rows"),
        ([["the"] * 30], "must be numbers"),
        ([[1], [1, 2]], "rows differ in length"),
        (-torch.ones(2, 30), "at least 0"),
        (torch.full((2, 30), torch.nan), "NaN"),
        (torch.full((2, 30), torch.inf), "finite"),
        (sparse.csr_matrix(-np.ones((2, 30))), "at least 0"),
        (sparse.csr_matrix(np.ones((2, 29))), r"shape \(2, 29\)"),
    ],
)
def test_wrong_counts_are_refused(x, message):
    model = LDA(30, 4)
    for use in (model.encode, model.fit):
        with pytest.raises(ValueError, match=message):
            use(x)


def test_proportions_in_any_form():
    model = LDA(30, 2).double()
    wanted = model.decode(torch.tensor([[1.0, 0.0]]))
    for z in ([[1, 0]], np.array([[1.0, 0.0]]), np.array([[1, 0]], dtype=np.uint16)):
        assert torch.equal(model.decode(z), wanted)
    with pytest.raises(ValueError, match=r"z has shape \(2, 3\)"):
        model.decode(torch.ones(2, 3) / 3)
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"n is {n}, but must be at least 1"):
            model.sample(n)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"tokens": torch.ones(2, 3).long()}, "the batch has tokens, but no counts"),
        ({"counts": torch.ones(2, 3)}, "the batch has counts, but no tokens"),
        ({"tokens": torch.ones(2, 3).long(), "counts": torch.ones(2, 4)}, r"\(B, T\) both"),
        ({"tokens": torch.ones(2, 3).long(), "counts": -torch.ones(2, 3)}, "at least 0"),
        ({"tokens": torch.ones(2, 3).long(), "counts": torch.ones(2, 3) / 0}, "finite"),
    ],
)
def test_wrong_batches_are_refused(batch, message):
    model = LDA(30, 4)
    for use in (model.encode, model.fit, model.loss, model.expectation):
        with pytest.raises(ValueError, match=message):
            use(batch)


def test_a_batch_and_fractions_of_words_will_do():
    data = drawn()
    batch = next(iter(data.test_dataloader()))
    model = small().fit(batch, max_epochs=3, warm_start=True)
    x = dense(batch, 30)
    assert torch.equal(model.encode(batch), model.encode(x))
    torch.testing.assert_close(model.concentrations, small_like(x, 3).concentrations)
    # ever less of a word is ever nearer to none
    gammas = [model.posterior(x / n).concentration for n in (1, 10, 1e6)]
    for gamma, n in zip(gammas, (1, 10, 1e6), strict=True):
        torch.testing.assert_close((gamma - model.alpha).sum(1), x.sum(1).double() / n)


def test_the_constructor_draws_nothing():
    state = torch.get_rng_state()
    with torch.device("meta"):
        assert LDA(30, 4).concentrations.is_meta
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("documents", [8, 2000])
def test_topics_start_from_documents(documents):
    x = torch.zeros(documents, 30)
    x[torch.arange(documents), torch.arange(documents) % 30] = 50.0
    model = LDA(30, 4)
    model._data_size = documents
    with torch.no_grad():
        model.start([model.as_batch(part) for part in x.split(500)])
    words = (model.concentrations.detach() - 1).sum(0)  # Gamma(100, 100) has mean 1
    wanted = 50.0 * min(documents // 4, DOCUMENTS)
    torch.testing.assert_close(words, torch.full((4,), wanted), rtol=0, atol=5 * 0.1 * 30**0.5)


@pytest.mark.parametrize("token", [30, 10**6, -1])
def test_terms_beyond_the_vocabulary_are_refused(token, tmp_path):
    batch = {"tokens": torch.tensor([[3, token]]), "counts": torch.tensor([[1, 1]])}
    with pytest.raises(ValueError, match=f"term {token}, but this model knows the terms 0 to 29"):
        LDA(30, 4).loss(batch)
    with pytest.raises(ValueError, match="the data have 30 words, but terms is 29"):
        trainer(tmp_path).fit(LDA(29, 4), drawn())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"terms": 0}, "terms is 0"),
        ({"topics": 0}, "topics is 0"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"eta": -1.0}, "eta is -1"),
        ({"eta": math.nan}, "eta is nan"),
        ({"kappa": 0.5}, "kappa is 0.5"),
        ({"kappa": 1.1}, "kappa is 1.1"),
        ({"t0": -1.0}, "t0 is -1"),
        ({"iterations": 0}, "iterations is 0"),
        ({"tol": -1.0}, "tol is -1"),
        ({"mean_length": 0.0}, "mean_length is 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LDA(**{"terms": 30, **arguments})


def test_verbs_agree_on_counts():
    data = drawn(n=400, words=30)
    model = LDA(30, 4, mean_length=50.0).fit(training_counts(data), max_epochs=20)
    assert model.verbs() == (
        *("sample", "prior", "posterior", "likelihood", "encode", "decode", "reconstruct"),
    )
    x = model.sample(2000)
    assert x.shape == (2000, 30)
    assert torch.equal(x, x.round())
    # a Poisson number of words, mean and variance 50
    assert x.sum(1).mean() == pytest.approx(50, abs=4 * math.sqrt(50 / 2000))
    torch.testing.assert_close(x.mean(0) / 50, model.prior().mean @ model.topics, rtol=0, atol=0.02)
    z = model.encode(x)
    torch.testing.assert_close(z.sum(1), torch.ones(2000))
    torch.testing.assert_close(model.decode(z), 50 * z @ model.topics)
    torch.testing.assert_close(model.reconstruct(x), model.decode(z))
    torch.manual_seed(5)
    first = model.sample(3)
    torch.manual_seed(5)
    assert torch.equal(first, model.sample(3))
    with pytest.raises(NotImplementedError, match="log_likelihood"):
        model.log_prob(x)


def test_log_likelihood_agrees_with_quadrature():
    model = small(6, 2, alpha=0.8)
    x = torch.tensor([[3, 0, 1, 0, 0, 2], [0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1.0]]).double()
    model.fit(x.repeat(4, 1), max_epochs=30)
    beta = model.topics.numpy()
    exact = []
    for row in x.numpy():
        value, _ = integrate.quad(
            lambda t, row=row: np.prod((t * beta[0] + (1 - t) * beta[1]) ** row),
            *(0, 1),
            weight="alg",
            wvar=(-0.2, -0.2),
        )
        exact.append(math.log(value) + gammaln(1.6) - 2 * gammaln(0.8))
    result = zoo.log_likelihood(model, x, samples=4000)
    assert result.kind == "lower bound"
    assert (result.standard_error < 0.03).all()
    error = (result.value - torch.tensor(exact)).abs()
    assert (error < 5 * result.standard_error + 1e-6).all()
    with pytest.raises(ValueError, match=r"counts have shape \(3, 5\)"):
        zoo.log_likelihood(model, x[:, :5])


def test_evaluate_measures_documents():
    data = drawn()
    model = LDA(30, 4).fit(training_counts(data), max_epochs=10)
    found = {m.name: m for m in zoo.evaluate(model, data.test_dataloader(), samples=200)}
    assert found["nll"].unit == "nats/document"
    assert found["nll"].value < -found["elbo"].value
    assert 0 < found["rate"].value < found["distortion"].value
    batch = next(iter(drawn(batch_size=100).test_dataloader()))  # the halves are the same in it
    observed, held_out = (dense(half, 30) for half in halves(batch, 0))
    log_prob = held_out * (model.encode(observed) @ model.topics).log()
    wanted = math.exp(-log_prob.sum() / held_out.sum())
    assert found["perplexity"].value == pytest.approx(wanted, rel=1e-5)
    assert found["perplexity"].count == 24
    assert 0 < found["perplexity"].standard_error < 0.2 * wanted


def test_completion_predicts_better_than_the_corpus_alone():
    data = drawn(n=1000, words=100, length=60, batch_size=250)
    model = LDA(100, 4).fit(training_counts(data), max_epochs=10)
    observed, held_out = (dense(b, 100) for b in halves(next(iter(data.test_dataloader())), 0))
    log_prob = model.completion(observed, held_out)
    mixture = model.encode(observed) @ model.topics
    torch.testing.assert_close(log_prob, (held_out * mixture.log()).sum(1))
    found = perplexity(log_prob, held_out.sum(1))
    unigram = training_counts(data).sum(0) + 1
    corpus = perplexity(held_out.double() @ (unigram / unigram.sum()).log(), held_out.sum(1))
    true = data.proportions["test"][:250] @ data.topics
    best = perplexity((held_out * true.log()).sum(1), held_out.sum(1))
    assert found.value < 0.7 * corpus.value
    assert best.value < found.value < 1.1 * best.value
    nothing = torch.zeros_like(observed)
    assert torch.equal(model.completion(observed, nothing), torch.zeros(len(observed)))
    with pytest.raises(ValueError, match="two halves"):
        model.completion(observed, held_out[:3])


def test_topics_in_words(tmp_path):
    data = drawn()
    model = LDA(30, 4, kappa=0.7)
    with pytest.raises(ValueError, match="no vocabulary; train it on BagOfWords"):
        model.top_words()
    trainer(tmp_path, limit_val_batches=0).fit(model, data)
    top = model.top_terms(5)
    assert top.shape == (4, 5)
    for k in range(4):
        order = sorted(range(30), key=lambda w, k=k: -float(model.topics[k, w]))
        assert top[k].tolist() == order[:5]
    words = model.top_words(5)
    assert words == [[f"w{i}" for i in row] for row in top.tolist()]
    # the topics that have most words come first
    batch = next(iter(data.test_dataloader()))
    shown = model.exhibits(batch)
    assert shown.keys() == model.shows.keys()
    share = model.concentrations.detach().sum(0)
    first = int(share.argmax())
    percent = 100 * float(share[first] / share.sum())
    assert len(shown["parameters.txt"]) == 4
    assert shown["parameters.txt"][0].startswith(f"{percent:.1f}%: {' '.join(words[first])} w")
    # a document's largest topic, and its most frequent word
    theta, x = model.encode(dense(batch, 30))[0], dense(batch, 30)[0]
    k = int(theta.argmax())
    line = shown["examples.txt"][0]
    assert line.startswith(f"{100 * theta[k]:.0f}% {' '.join(words[k][:3])}")
    assert line.split(": ")[1].split()[0] == f"w{int(x.argmax())}"
    assert len(line.split(": ")[1].split()) == min(15, int((x > 0).sum()))
    torch.manual_seed(3)
    drawn_texts = model.texts(5)
    assert len(drawn_texts) == 5
    torch.manual_seed(3)
    assert model.texts(5) == drawn_texts
    assert LDA(3, 2).texts(1)[0].split()[1].isdigit()


def test_saved_and_loaded(tmp_path):
    data = drawn()
    model = LDA(30, 4, alpha=0.3, t0=3.0).fit(training_counts(data), max_epochs=5)
    model.save_pretrained(tmp_path / "lda")
    loaded = zoo.from_pretrained(str(tmp_path / "lda"))
    assert isinstance(loaded, LDA)
    assert dict(loaded.hparams) == dict(model.hparams)
    x = training_counts(data)
    assert torch.equal(loaded.topics, model.topics)
    assert torch.equal(loaded.encode(x), model.encode(x))
    # training goes on from the topics that were loaded
    before = loaded.topics
    trainer(tmp_path, limit_val_batches=0, limit_train_batches=1).fit(loaded, data)
    assert 0 < (loaded.topics - before).abs().sum(1).max() < 0.5
