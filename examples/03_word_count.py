"""Lesson 3: Python functions on rows, keys, and a result that grows with every row."""

import raystream as rs

job = rs.Job("words")
lines = job.from_items(["to be or not to be", "that is the question", "to be sure"])

words = lines.flat_map(str.split).key_by(lambda word: word)

# A running aggregate gives its new value after each row; emit="final" gives only the last.
running = words.aggregate(n=rs.count())
final = words.aggregate(n=rs.count(), emit="final")

if __name__ == "__main__":
    print("after each word:", [(row["key"], row["n"]) for row in running.collect()][:6])
    print("in the end:", sorted((row["key"], row["n"]) for row in final.collect()))
