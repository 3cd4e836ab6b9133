"""A live leaderboard: the best of running totals, told as changes and kept as a table."""

import pyarrow as pa

import raystream as rs

GAME = pa.schema({"team": pa.string(), "player": pa.string(), "points": pa.int64()})
GAMES = [
    ("red", "ann", 3), ("red", "bob", 5), ("blue", "cid", 1), ("red", "dan", 4),
    ("red", "ann", 6), ("blue", "eve", 2), ("red", "bob", -4),
]  # fmt: skip

job = rs.Job("leaderboard", config={"batch_rows_max": 1})  # game by game, to see each change
games = job.from_items([dict(zip(GAME.names, game, strict=True)) for game in GAMES], schema=GAME)
# The total of a player changes, so it is a changelog, and top_k takes the old total back.
totals = games.key_by("team", "player").aggregate(points=rs.sum("points"), emit="changes")
best = totals.key_by("team").top_k(2, by="points", rank="place", emit="changes")

if __name__ == "__main__":
    # Each change as a plain row: what a web page would be sent.
    for row in best.filter(rs.col("team") == "red").to_rows().collect():
        print(row["op"], row["place"], row["player"], row["points"])
    # The same changes, put together: the table as it is in the end.
    table = sorted(best.collect(), key=lambda row: (row["team"], row["place"]))
    print([tuple(row.values()) for row in table])
