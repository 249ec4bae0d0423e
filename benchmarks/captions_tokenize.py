"""What it costs to tokenise captions once, in `setup()`, against tokenising every batch.

`Captions` keeps its captions as padded token ids, and a batch slices them. The other way is the
usual one: keep the strings, and tokenise those of a batch when it is its turn. Both are timed over
an epoch of training batches without their pictures, in turn; each figure is the median of the
repetitions. So is the epoch with its pictures, as training sees it.

    python benchmarks/captions_tokenize.py --source flickr8k

On a machine that is busy otherwise, `--clock cpu` counts the process's CPU seconds, of all threads
together, in place of the wall clock's.
"""

import argparse
import statistics
import time

import torch

from zoo.datamodules import Captions
from zoo.datamodules.captions.captions import tokenised
from zoo.datamodules.captions.tokenizer import Tokenizer, token_mask

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="scenes", help="source of Captions")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    args = parser.parse_args()
    clock = CLOCKS[args.clock]

    data = Captions(args.source, batch_size=args.batch_size)
    data.prepare_data()
    data.setup()
    text = {split: table.text for split, table in data.tables.items()}
    table = data.tables["train"]
    rows = data.train_dataloader().draw(0)["row"].split(args.batch_size)

    def sliced():
        for row in rows:
            lengths = table.lengths.index_select(0, row)
            mask = token_mask(lengths)
            table.ids.index_select(0, row)[:, : mask.shape[1]].long()

    def each_batch():
        for row in rows:
            data.tokenizer.encode([table.text[i] for i in row.tolist()], data.max_length)

    def whole():
        for _ in data.train_dataloader():
            pass

    contestants = {
        "train the tokenizer": lambda: Tokenizer.train(text["train"], data.vocab_size),
        "tokenise all captions, once": lambda: tokenised(data.tokenizer, text, data.max_length),
        "epoch, captions sliced": sliced,
        "epoch, captions tokenised": each_batch,
        "epoch, with pictures": whole,
    }
    seconds = {name: [] for name in contestants}
    for _ in range(args.repetitions):
        for name, run in contestants.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    n = sum(map(len, text.values()))
    print(
        f"{args.source}: {n:,} captions, {sum(map(len, rows)):,} training pictures in {len(rows)} "
        f"batches, {torch.get_num_threads()} threads, {args.clock} seconds"
    )
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        print(f"{name:30} {value:9.4f} s")
    ratio = median["epoch, captions tokenised"] / median["epoch, captions sliced"]
    print(f"{'tokenised over sliced':30} {ratio:9.1f}")


if __name__ == "__main__":
    main()
