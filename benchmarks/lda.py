"""Online LDA against scikit-learn's and gensim's: seconds to train, and perplexity of the topics.

All get the same documents, batch size, number of passes, priors, step sizes, and the same limit and
tolerance for a document's posterior; each starts as it does by default. Then each one's topics
are put into the zoo's model, which measures the perplexity of the second half of every held-out
document's words given the first, so that one evaluator judges them all.

By default the documents are drawn from the model itself: 5,000 of 100 words on average, 50 topics
over 5,000 terms whose frequencies fall off as words' do. `--name ap` takes a corpus in the format
of lda-c instead, which $ZOO_DATA has under that name.

The zoo is trained by Lightning's Trainer over its own DataModule. scikit-learn has two rows: `fit`,
and `partial_fit` a pass, which leaves out the pass that `fit` makes at its end to measure itself.
Contestants take turns; each row is the median of its repetitions.

The limit is the time that the products with the topics alone would take, at the speed that this
machine multiplies blocks of that shape: each iteration reads the part of the topics that a document
needs twice.

Target on a CPU, for the drawn documents: a third of the time of scikit-learn's `fit` and of
gensim's, at no higher perplexity.

    python benchmarks/lda.py --repetitions 3 --threads 2

On a machine that is busy otherwise, `--threads 1 --clock cpu` counts the process's CPU seconds in
place of the wall clock's.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from scipy.sparse import csr_matrix
from torch import Tensor

from zoo.datamodules import BagOfWords
from zoo.datamodules.text.bag_of_words import dense, halves
from zoo.inference import topics as inference
from zoo.metrics import Perplexity, perplexity
from zoo.models import LDA

TARGET = 3.0
KAPPA, T0 = 0.7, 10.0
ITERATIONS, TOL = 100, 1e-3
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def draw_corpus(folder: Path, n: int, length: int, terms: int, topics: int) -> None:
    """Draw documents of the model, and write them in the format of lda-c."""
    rng = np.random.default_rng(0)
    frequency = 1 / (np.arange(terms) + 10.0)
    beta = rng.standard_gamma(terms / 20 * frequency / frequency.sum(), (topics, terms))
    beta /= beta.sum(1, keepdims=True)
    lines = []
    for theta in rng.dirichlet(np.full(topics, 1 / topics), n):
        counts = rng.multinomial(rng.poisson(length), theta @ beta / (theta @ beta).sum())
        found = counts.nonzero()[0]
        lines.append(" ".join([str(len(found)), *(f"{t}:{counts[t]}" for t in found)]))
    folder.mkdir()
    (folder / "drawn.dat").write_text("\n".join(lines) + "\n")
    (folder / "vocab.txt").write_text("".join(f"w{i}\n" for i in range(terms)))


def training_matrix(data: BagOfWords) -> csr_matrix:
    """The training documents as scikit-learn takes them, in the type in which it is the fastest."""
    rows = data.splits["train"]
    lengths = rows["lengths"].numpy()
    starts = np.concatenate([[0], lengths.cumsum()])
    at = np.repeat(rows["start"].numpy() - starts[:-1], lengths) + np.arange(starts[-1])
    tokens, counts = data.items["tokens"].numpy()[at], data.items["counts"].numpy()[at]
    shape = (len(lengths), len(data.vocabulary))
    return csr_matrix((counts.astype(np.float32), tokens, starts), shape=shape)


class Contest:
    """The corpus and the settings that all contestants share; each returns topics (V, K)."""

    def __init__(self, data: BagOfWords, topics: int, passes: int) -> None:
        self.data = data
        self.topics = topics
        self.passes = passes
        self.x = training_matrix(data)
        starts = self.x.indptr
        self.bags = [
            [*zip(self.x.indices[a:b].tolist(), self.x.data[a:b].tolist(), strict=True)]
            for a, b in pairwise(starts)
        ]

    def zoo(self, seed: int) -> Tensor:
        torch.manual_seed(seed)
        model = LDA(
            self.x.shape[1], self.topics, kappa=KAPPA, t0=T0, iterations=ITERATIONS, tol=TOL
        )
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=self.passes,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, self.data)
        return model.concentrations.detach()

    def sklearn(self, seed: int, whole: bool) -> Tensor:
        from sklearn.decomposition import LatentDirichletAllocation

        model = LatentDirichletAllocation(
            self.topics,
            learning_method="online",
            learning_decay=KAPPA,
            learning_offset=T0,
            max_iter=self.passes,
            batch_size=self.data.batch_size,
            total_samples=self.x.shape[0],
            max_doc_update_iter=ITERATIONS,
            mean_change_tol=TOL,
            random_state=seed,
        )
        if whole:
            model.fit(self.x)
        else:
            for _ in range(self.passes):
                model.partial_fit(self.x)
        return torch.from_numpy(model.components_.T)

    def gensim(self, seed: int) -> Tensor:
        from gensim.models import LdaModel

        model = LdaModel(
            self.bags,
            num_topics=self.topics,
            id2word=dict(enumerate(self.data.vocabulary)),
            alpha=[1 / self.topics] * self.topics,
            eta=1 / self.topics,
            decay=KAPPA,
            offset=T0,
            passes=self.passes,
            chunksize=self.data.batch_size,
            update_every=1,
            eval_every=None,
            iterations=ITERATIONS,
            gamma_threshold=TOL,
            random_state=seed,
        )
        return torch.from_numpy(model.state.get_lambda().T)


def measure(concentrations: Tensor, data: BagOfWords) -> Perplexity:
    """Perplexity of the second halves of the test documents given the first."""
    terms, topics = concentrations.shape
    model = LDA(terms, topics, iterations=1000, tol=1e-6).double()
    model.concentrations.data = concentrations.double()
    log_prob, words = [], []
    for batch in data.test_dataloader():
        observed, held_out = (dense(half, terms).double() for half in halves(batch, seed=0))
        log_prob.append(model.completion(observed, held_out))
        words.append(held_out.sum(1))
    return perplexity(torch.cat(log_prob), torch.cat(words))


def limit(contest: Contest, clock: Callable[[], float]) -> tuple[float, float, float]:
    """Seconds, GFlop and GB of the products of one training."""
    numbers = 0  # that were read, counting each time
    iterate = inference.Block.iterate

    def counted(self, gamma):
        nonlocal numbers
        numbers += 2 * self.beta.numel()
        return iterate(self, gamma)

    inference.Block.iterate = counted
    contest.zoo(0)
    inference.Block.iterate = iterate
    rows = round(contest.data.batch_size * contest.x.nnz / contest.x.shape[0] / inference.WIDTH)
    beta = torch.rand(rows, inference.WIDTH, contest.topics)
    theta, weights = torch.rand(rows, 1, contest.topics), torch.rand(rows, 1, inference.WIDTH)
    speeds = []
    for _ in range(200):
        start = clock()
        torch.bmm(theta, beta.mT)
        torch.bmm(weights, beta)
        speeds.append(2 * beta.numel() / (clock() - start))
    return numbers / statistics.median(speeds), 2e-9 * numbers, 4e-9 * numbers


def main() -> None:
    parser = argparse.ArgumentParser(description="Online LDA against scikit-learn and gensim.")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--name", help="a corpus of $ZOO_DATA; by default documents are drawn")
    parser.add_argument("--min_df", type=int, default=5, help="of the corpus's terms")
    parser.add_argument("--topics", type=int, default=50)
    parser.add_argument("--passes", type=int, default=3, help="over the documents")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    args = parser.parse_args()
    clock = CLOCKS[args.clock]
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "gensim"):
        logging.getLogger(name).setLevel(logging.ERROR)

    with tempfile.TemporaryDirectory() as folder:
        name, min_df = args.name, args.min_df
        if name is None:
            name, min_df = str(Path(folder, "drawn")), 0
            # the DataModule keeps a tenth to validate, and a tenth to test
            draw_corpus(Path(name), round(5000 / 0.8), 100, 5000, 50)
        data = BagOfWords(name=name, min_df=min_df, batch_size=args.batch_size)
        data.setup()
    contest = Contest(data, args.topics, args.passes)
    contestants: dict[str, Callable[[int], Tensor]] = {
        "zoo": contest.zoo,
        "scikit-learn, fit": lambda seed: contest.sklearn(seed, whole=True),
        "scikit-learn, partial_fit": lambda seed: contest.sklearn(seed, whole=False),
    }
    try:
        import gensim

        contestants[f"gensim {gensim.__version__}"] = contest.gensim
    except ImportError:
        print("gensim is not installed, and left out.")

    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    found: dict[str, list[Perplexity]] = {name: [] for name in contestants}
    for seed in range(args.repetitions + 1):
        for name, run in contestants.items():
            start = clock()
            topics = run(seed)
            if seed:  # the first run warms up
                seconds[name].append(clock() - start)
                found[name].append(measure(topics, data))

    print(
        f"{contest.x.shape[0]:,} documents of {contest.x.sum() / contest.x.shape[0]:.0f} words, "
        f"{contest.x.shape[1]:,} terms, {args.topics} topics, {args.passes} passes in batches of "
        f"{args.batch_size}\n{args.clock} clock, {args.threads} threads, {args.repetitions} "
        "repetitions"
    )
    print(
        f"{'':28}{'seconds':>9}{'lowest':>9}{'highest':>9}{'of zoo':>8}{'perplexity':>12}{'+-':>7}"
    )
    ours = statistics.median(seconds["zoo"])
    best = statistics.median(p.value for p in found["zoo"])
    met = True
    for name, values in seconds.items():
        middle = statistics.median(values)
        value = statistics.median(p.value for p in found[name])
        error = statistics.median(p.standard_error for p in found[name])
        rival = name not in ("zoo", "scikit-learn, partial_fit")
        met &= not rival or (middle >= TARGET * ours and best <= value)
        cells = f"{middle:9.2f}{min(values):9.2f}{max(values):9.2f}{middle / ours:8.2f}"
        print(f"{name:28}{cells}{value:12.1f}{error:7.1f}")
    least, flops, numbers = limit(contest, clock)
    print(f"limit: {least:.2f} s for the products alone, {flops:.1f} GFlop and {numbers:.1f} GB")
    print(
        f"target: {TARGET:g} times as fast, at no higher perplexity: {'met' if met else 'not met'}"
    )


if __name__ == "__main__":
    main()
