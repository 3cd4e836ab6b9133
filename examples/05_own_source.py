"""Lesson 5: a source of your own: splits that are read apart, each from a position."""

from typing import Any

import raystream as rs


class DiceReader(rs.Reader):
    """Rolls one die; where it is in its sequence is all that it needs to remember."""

    def __init__(self, die: int, rolled: int) -> None:
        self.die, self.rolled = die, rolled

    def poll(self, max_rows: int) -> Any:
        if self.rolled == 60:
            return rs.END
        self.rolled += 1
        return [{"die": self.die, "eyes": (self.die * 7 + self.rolled * 5) % 6 + 1}]

    def position(self) -> int:
        return self.rolled


class Dice(rs.Source):
    """Three dice. Guarantee: exactly once, because a roll can be repeated."""

    def splits(self) -> list[rs.Split]:
        return [rs.Split(f"die-{die}", die) for die in range(3)]

    def open(self, split: rs.Split, position: int | None) -> DiceReader:
        return DiceReader(split.payload, position or 0)


if __name__ == "__main__":
    job = rs.Job("dice", parallelism=2)
    eyes = job.source(Dice()).key_by("eyes").aggregate(times=rs.count(), emit="final")
    eyes.sink(rs.CallbackSink(print))
    job.run()  # on Ray: two subtasks read, two count
