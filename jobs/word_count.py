"""Count the words of a text file: ``python jobs/word_count.py FILE``."""

import sys

import raystream as rs

col = rs.col

job = rs.Job("word-count")
words = (
    job.source(rs.FileSource(sys.argv[1], format="text"))
    .select(word=col("line").str.to_lowercase().str.split(" "))
    .explode("word")
    .filter(col("word") != "")
)
words.key_by("word").aggregate(n=rs.count(), emit="final").print()

if __name__ == "__main__":
    job.run()
