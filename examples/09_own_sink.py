"""Lesson 9: a sink of your own that writes each row exactly once, into SQLite."""

import sqlite3
import tempfile
from dataclasses import dataclass

import raystream as rs


class Keeping(rs.Writer):
    """Keeps rows until a checkpoint takes them over, which has them until their commit."""

    rows: tuple = ()

    def write(self, batch: rs.Batch) -> None:
        self.rows += tuple(batch)

    def prepare_commit(self, checkpoint_id: int) -> tuple:
        prepared, self.rows = self.rows, ()
        return prepared


@dataclass
class Table(rs.Sink):
    """Guarantee: exactly once; rows come in one transaction with the id of their checkpoint."""

    path: str
    global_commit = True  # one commit takes the rows of all writers: its id stands for them

    def open(self, ctx: rs.OpenContext) -> Keeping:
        return Keeping()

    def commit(self, checkpoint_id: int, rows: list) -> None:
        with sqlite3.connect(self.path) as db:
            if db.execute("INSERT OR IGNORE INTO done VALUES (?)", [checkpoint_id]).rowcount:
                db.executemany("INSERT INTO words VALUES (?)", zip(rows))


if __name__ == "__main__":
    with tempfile.NamedTemporaryFile() as file, sqlite3.connect(file.name) as db:
        db.executescript("CREATE TABLE done (id INTEGER PRIMARY KEY); CREATE TABLE words (word)")
        job = rs.Job("own sink", parallelism=2)
        job.from_items(["to", "be", "or", "not", "to", "be"]).rebalance().sink(Table(file.name))
        job.run()
        print(*sorted(word for (word,) in db.execute("SELECT word FROM words")))
