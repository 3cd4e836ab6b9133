"""A model inside the stream: loaded once a subtask, fed with batches, sized by itself."""

import numpy as np
import pyarrow as pa

import raystream as rs

TRAINING = [  # what a naive Bayes filter learns from; yours would load a file, or weights
    ("win a free prize now", 1), ("cheap pills free shipping", 1), ("claim your prize money", 1),
    ("free money win big", 1), ("lunch at noon tomorrow", 0), ("notes of our meeting", 0),
    ("the build is green again", 0), ("see you at the meeting", 0),
]  # fmt: skip
MESSAGE = pa.schema({"user": pa.string(), "text": pa.string()})
SCORED = MESSAGE.append(pa.field("spam", pa.float64()))


class SpamFilter:
    """Give each text the chance that it is spam."""

    def open(self, ctx):  # once a subtask, and again only where a process is new
        self.words = {
            w: i for i, w in enumerate(sorted({w for t, _ in TRAINING for w in t.split()}))
        }
        counts = np.ones((2, len(self.words)))  # Laplace's: no word is impossible
        for text, label in TRAINING:
            np.add.at(counts[label], [self.words[w] for w in text.split()], 1)
        self.weights = np.diff(np.log(counts / counts.sum(1, keepdims=True)), axis=0)[0]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = batch["text"].to_pylist()
        seen = [[self.words[w] for w in text.split() if w in self.words] for text in texts]
        odds = np.array([self.weights[row].sum() for row in seen])
        return batch.append_column("spam", pa.array(np.round(1 / (1 + np.exp(-odds)), 2)))


TEXTS = ["free prize", "meeting at noon", "win money now", "the notes are green", "see the prize"]
messages = [{"user": "ann" if i % 2 else "bob", "text": text} for i, text in enumerate(TEXTS)]

job = rs.Job("spam")
# By key a user's messages stay in order, however many subtasks there are; while they are busy,
# the source waits. With a GPU each: .with_resources(num_gpus=1), and nodes that have one may come.
scored = job.from_items(messages, schema=MESSAGE).key_by("user")
scored = scored.map_batches(SpamFilter, schema=SCORED, batch_size=64).with_parallelism(2)

if __name__ == "__main__":
    for row in scored.collect():
        print(row["user"], row["spam"], row["text"])
