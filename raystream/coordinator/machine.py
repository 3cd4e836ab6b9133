"""One job as a state machine: attempt after attempt, to the last commit; no threads, no I/O.

``opening``: the log is read and this attempt written into it, so that nobody else may go on.
``starting``: subtasks are made and restored; when all are ready, what the restored checkpoint had
prepared is committed; then all start. ``running``: checkpoints, until every subtask has seen the
end of its input. ``finishing``: the final checkpoint and its commits. ``closing``: subtasks let go,
whatever the outcome; behind a failure that a restart follows comes ``waiting``, and then the next
attempt is opened. ``ending``: the log says how it ended.
"""

from __future__ import annotations

from typing_extensions import assert_never

from raystream.clock import Clock
from raystream.coordinator import events as job
from raystream.coordinator.assignment import Assignment
from raystream.coordinator.checkpoints import CheckpointFigures, Checkpoints
from raystream.coordinator.chronicle import Chronicle
from raystream.coordinator.course import Course
from raystream.coordinator.history import History
from raystream.coordinator.journal import Journal
from raystream.coordinator.moves import STOP, Moves, ends, stops
from raystream.coordinator.opening import Opening, fallback
from raystream.coordinator.pacing import AlignmentGroups
from raystream.coordinator.restarts import Restarts, is_final
from raystream.coordinator.states import AT_WORK, BETWEEN, ENDED, NEXT, RESTART, Beginning
from raystream.errors import ProtocolError, SubtaskLost
from raystream.flow import messages
from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import AttemptEntry, CheckpointEntry, EndedEntry, Entry
from raystream.flow.split import Split
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan


class CoordinatorMachine:
    """Decides what happens to a job; a shell does it and says how it went."""

    def __init__(
        self,
        plan: PhysicalPlan,
        clock: Clock,
        beginning: Beginning | None = None,
        replan: Replan | None = None,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._beginning = beginning or Beginning()
        self.state = "created"
        self.error: BaseException | None = None
        self.last_error: BaseException | None = None
        self.attempt = 0
        self.restarts = Restarts(plan.restart)
        self.chronicle = Chronicle(self.restarts)
        self._outcome, self._restart_us = "finished", 0
        self._bad: set[int] = set()  # checkpoints that cannot be read
        self._waiting: set[SubtaskId] = set()
        self._undecided: messages.Prepared = ()  # whether it is in the log the next attempt knows
        self.moves = Moves(replan, clock)
        self._journal = Journal(lambda: self.chronicle.so_far(self.moves))
        self._opening = self._open(History())
        self._alignment = AlignmentGroups(plan)
        self._assignment = Assignment(plan, {})
        self._course = self._set_out([])

    # What the shell asks ---------------------------------------------------------------------

    @property
    def checkpoints(self) -> list[CheckpointFigures]:
        """The newest checkpoints, and how they went."""
        return self._course.shown

    @property
    def over(self) -> bool:
        """Whether the job has ended, one way or another."""
        return self.state in ENDED

    @property
    def wake_us(self) -> int | None:
        """Monotonic time at which ``job.Ticked`` would do something."""
        if self.state == "waiting":
            return self._restart_us
        return self._course.due_us() if self.state in AT_WORK else None

    def begin(self) -> list[job.Effect]:
        """Start the job."""
        self._to("opening")
        return self._go_open(self._opening.begin())

    def step(self, event: job.Event) -> list[job.Effect]:
        """Take one event; give what is to be done about it."""
        if self.over:
            return []
        match event:
            case job.Said(subtask, attempt, report):
                return self._said(subtask, report) if self._lasts(attempt) else []
            case job.Failed(_, error, attempt):
                return self._failed(error) if not attempt or self._lasts(attempt) else []
            case job.StopAsked(finished):
                if finished and self.state in ("finishing", "ending"):
                    return []  # all has been seen: it ends by itself, with its rows visible
                return self._close("finished" if finished else "canceled", None)
            case job.SavepointAsked():
                return self._asked(event)
            case job.RescaleAsked():
                return self.moves.ask(event, self._plan, self.state, self._course)
            case job.Grown() | job.NodesLeaving():
                return self._then(self.moves.heard(event, self._plan, self.state, self._course))
            case job.Ticked():
                return self._ticked()
            case job.SplitsListed(chain, splits):
                return self._listed(chain, splits)
            case _:
                return self._stored(event)

    def abandon(self, error: BaseException) -> None:
        """End where it stands: the shell itself is broken."""
        self.error, self.state = error, "failed"

    def _said(self, subtask: SubtaskId, report: messages.Report) -> list[job.Effect]:
        match report:
            case messages.Ready(splits):
                return self._ready(subtask, splits)
            case messages.SourceTime(least_us):
                at_work = self.state in AT_WORK
                return [*self._alignment.take(subtask, least_us)] if at_work else []
            case messages.Acked():
                return self._then(self._course.acked(subtask, report))
            case messages.Declined():
                return self._then(self._course.declined(subtask, report))
            case messages.Ended():
                return self._ended(subtask)
            case messages.Committed(checkpoint_id):
                return self._committed(subtask, checkpoint_id)
            case messages.Closed(prepared, rests):
                self._course.checkpoints.closed(subtask, prepared)
                self.moves.staying.closed(subtask, rests=rests)
                return self._closed(subtask)
            case _:
                assert_never(report)

    def _stored(self, event: job.Stored) -> list[job.Effect]:
        match event:
            case job.LogRead():
                return self._read(event)
            case job.ManifestRead(manifest):
                self._opening.manifest = manifest
                return self._go_open([])
            case job.Appended(number):
                return self._appended(self._journal.written(number))
            case job.Outrun(_, entry):
                return self._outrun(entry)
            case job.SavepointWritten():
                return self._then(self._course.savepoint_written())
            case job.StorageFailed(effect, error):
                return self._storage_failed(effect, error)
            case _:
                assert_never(event)

    # Opening ---------------------------------------------------------------------------------

    def _open(self, before: History) -> Opening:
        begun, resumed = self._beginning, self._beginning.resumed and not self.attempt
        return Opening(self._plan, before, begun.source, frozenset(self._bad), resumed)

    def _read(self, log: job.LogRead) -> list[job.Effect]:
        opening = self._opening
        opening.take(log)
        if self._journal.is_replaced(opening.history, self._beginning):
            return self._taken_over(opening.history.attempt)
        if self._beginning.came_back and opening.history.by != self._beginning.by:
            self._plan = opening.plan = self.moves.recover(self._plan, opening.history.scale)
            self.chronicle.inherit(opening.history, self.moves, self._clock.now_us())
        return self._go_open(opening.ask())

    def _set_out(self, asked: list[job.SavepointAsked]) -> Course:
        now_us = self._clock.monotonic_us()
        checkpoints = Checkpoints(self._plan, self.attempt, self._opening.next_id, now_us)
        return Course(self._plan, self._clock, checkpoints, self._journal, asked)

    def _go_open(self, asked: list[job.Effect]) -> list[job.Effect]:
        if self.state != "opening":
            return []
        if not self._opening.complete or self._journal.under_way is not None:
            return asked
        history = self._opening.history
        self.attempt = max(self.attempt, history.attempt) + 1
        if self._plan.checkpoint is None:
            return [*asked, *self._deploy()]
        self._journal.open(history, self._bad)
        now_us, scale = self._clock.now_us(), self.moves.scale
        entry = self._opening.entry(self.attempt, self._beginning, now_us, scale)
        return [*asked, *self._journal.append(entry)]

    def _deploy(self) -> list[job.Effect]:
        self._to("starting")
        self._waiting = set(self._plan.subtasks)
        self._alignment = AlignmentGroups(self._plan)
        self._assignment = Assignment(self._plan, self._opening.splits)
        before, opening, leaving = self._course, self._opening, self.moves.leaving
        kept = self.moves.staying.take(self._plan, opening.manifest)
        self._course = self._set_out([one for one in before.asked if one is not STOP])
        self._course.shown = before.shown
        deploy = job.Deploy(self.attempt, self._plan, opening.manifest, opening.path, leaving, kept)
        return [*self.moves.give_up("the job has failed meanwhile"), deploy]

    def _appended(self, entry: Entry | None) -> list[job.Effect]:
        match entry:
            case None:
                return []
            case EndedEntry():
                return self._over()
            case AttemptEntry() if self.state == "opening":
                undone = self._opening.history.not_in(self._undecided)
                sweep = job.Sweep(self.attempt, self._journal.manifests)
                return [*([job.AbortSinks(undone)] if undone else []), sweep, *self._deploy()]
            case CheckpointEntry() if self.state in AT_WORK:
                return self._then(self._course.durable())
            case _:
                return self._closed_all() if self.state == "closing" else self._go_on()

    def _outrun(self, entry: Entry) -> list[job.Effect]:
        late = self._journal.outrun(entry, self._beginning.born_us)
        if self.state == "ending":
            return self._over()
        if late is None:
            return self._taken_over(entry.attempt)
        return self._closed_all() if self.state == "closing" else self._failed(late)

    def _taken_over(self, attempt: int) -> list[job.Effect]:
        error = self._journal.fence(self._plan.job, attempt)
        if self.state == "closing":
            self._outcome, self.error = "failed", self.error or error
            return self._closed_all()
        return self._close("failed", error)

    def _ready(self, subtask: SubtaskId, splits: tuple[str, ...]) -> list[job.Effect]:
        if self.state != "starting" or subtask not in self._waiting:
            return []
        self._assignment.restored(subtask, splits)
        self._waiting.discard(subtask)
        manifest, checkpoints = self._opening.manifest, self._course.checkpoints
        if self._waiting:
            return []
        orders = [] if manifest is None else checkpoints.recover(manifest)
        return [*orders, *self._start()] if checkpoints.settled else orders

    def _start(self) -> list[job.Effect]:
        self._to("running")
        orders = self._assignment.start(self._alignment.others_us)
        asked = self.moves.running(self._plan, self._course)
        return [*orders, *asked, *self._go_on()]

    def _listed(self, chain: str, splits: tuple[Split, ...]) -> list[job.Effect]:
        if self.state == "opening":
            self._opening.splits[chain] = splits
            return self._go_open([])
        if self.state != "running":
            return []
        found = self._assignment.found(chain, splits)
        return [*found, *self._assignment.discover(chain)]

    # At work ---------------------------------------------------------------------------------

    def _ticked(self) -> list[job.Effect]:
        now_us = self._clock.monotonic_us()
        due_us = self.wake_us
        if due_us is None or now_us < due_us:
            return []
        if self.state == "waiting":
            self._to("opening")
            self._plan = self.moves.next_plan(self._plan)
            self._opening = self._open(self._opening.history)
            return self._go_open(self._opening.begin())
        return self._then(self._course.due())

    def _asked(self, asked: job.SavepointAsked) -> list[job.Effect]:
        if ends(self._course) or self.state in ("finishing", "closing", "ending"):
            return [job.Answer(asked.request, None, f"the job is {self.state} already")]
        self._course.asked.append(asked)
        return self._go_on() if self.state == "running" else []

    def _ended(self, subtask: SubtaskId) -> list[job.Effect]:
        if self.state != "running":
            return []
        self._course.ended(subtask)
        return [*self._alignment.leave(subtask), *self._go_on()]

    def _committed(self, subtask: SubtaskId, checkpoint_id: int) -> list[job.Effect]:
        checkpoints = self._course.checkpoints
        effects = checkpoints.committed(subtask, checkpoint_id)
        starts = self.state == "starting" and checkpoints.settled
        return [*effects, *(self._start() if starts else self._go_on())]

    def _then(self, effects: list[job.Effect]) -> list[job.Effect]:
        return [*effects, *self._go_on()]

    def _go_on(self) -> list[job.Effect]:
        """Do what waited for a checkpoint to be over, or for the last subtask to end."""
        if self.state not in AT_WORK or self._journal.under_way is not None:
            return []
        if self._course.broken is not None:
            return self._failed(self._course.broken)
        if self.state == "running" and self._course.all_ended:
            self._to("finishing")
        effects = self._course.go_on()
        outcome = self._course.outcome
        if outcome is None:
            return effects
        if stops(self._course) and self.moves.take(self._course.stopped_us, self.checkpoints):
            self._restart_us, outcome = self._clock.monotonic_us(), RESTART
        return [*effects, *self._close(outcome, None)]

    def _storage_failed(self, effect: job.Effect, error: BaseException) -> list[job.Effect]:
        if isinstance(effect, job.Append):
            # It may have been written all the same: only the log itself can say.
            if not self._journal.failed(effect):
                return []
            if self.state == "ending":
                return self._over()
            return self._closed_all() if self.state == "closing" else self._failed(error)
        if isinstance(effect, job.WriteSavepoint):
            return self._then(self._course.not_written(error))
        return self._failed(error) if isinstance(effect, job.ReadLog | job.ReadManifest) else []

    def _lasts(self, attempt: int) -> bool:  # what is heard of one that is over was said before
        return attempt == self.attempt and self.state not in BETWEEN

    # Ending ----------------------------------------------------------------------------------

    def _failed(self, error: BaseException) -> list[job.Effect]:
        if self.state == "closing":
            # Whoever dies when all is done is only let go a little sooner.
            done = self._outcome in ("finished", "stopped") and isinstance(error, SubtaskLost)
            return [] if done else self._close("failed", error)
        now_us = self._clock.monotonic_us()
        if fallback(self._plan, self._opening, error, self._bad, self.state):
            self._restart_us = now_us
            return self._close(RESTART, None)
        unborn = not self.attempt and not self._beginning.resumed
        hopeless = self._journal.fenced or unborn or is_final(error)
        pause_us = None if hopeless else self.restarts.pause_us(now_us)
        if pause_us is None:
            return self._close("failed", error)
        self._restart_us, self.last_error = now_us + pause_us, error
        return self._close(RESTART, None)

    def _close(self, outcome: str, error: BaseException | None) -> list[job.Effect]:
        if self.state == "closing":
            if self._outcome == RESTART and error is None and outcome != RESTART:
                self._outcome = outcome  # somebody wants it to end instead
            elif self._outcome != RESTART and error is not None and self.error is None:
                self._outcome, self.error = outcome, error
            return []
        self._outcome, self.error = outcome, error
        if self.state == "ending":
            return []
        if self.state == "waiting":
            return self._conclude()
        deployed, closed = self.state != "opening", self.moves.staying.close(self._plan)
        self._to("closing")
        self._waiting = set(self._plan.subtasks) if deployed else set()
        return [*closed] if deployed else self._closed_all()

    def _closed(self, subtask: SubtaskId) -> list[job.Effect]:
        if self.state != "closing":
            return []
        self._waiting.discard(subtask)
        return self._closed_all()

    def _closed_all(self) -> list[job.Effect]:
        if self._waiting or self._journal.under_way is not None:
            return []  # what is being written decides what is undone
        if self._outcome != RESTART:
            return self._conclude()
        checkpoints = self._course.checkpoints
        undone, self._undecided = checkpoints.undone(), checkpoints.undecided
        self._to("waiting")
        return [*([job.AbortSinks(undone)] if undone else []), *self._ticked()]

    def _conclude(self) -> list[job.Effect]:
        """End the job: what will never be committed goes, whoever still waits is told."""
        undone = () if self._journal.fenced else self._course.checkpoints.undone()
        effects: list[job.Effect] = [job.AbortSinks(undone)] if undone else []
        effects += [*self._course.refuse(f"the job is over: {self._outcome}"), *self.moves.over()]
        if not self._journal.is_ours(self.attempt):
            return [*effects, *self._over()]
        self._to("ending")
        ended = EndedEntry(self.attempt, self._outcome, self._clock.now_us())
        return [*effects, *self._journal.append(ended)]

    def _over(self) -> list[job.Effect]:
        self._to(self._outcome)
        return [job.Done(self._outcome, self.error)]

    def _to(self, state: str) -> None:
        if state not in NEXT[self.state]:
            raise ProtocolError(f"a job cannot go from {self.state} to {state}")
        self.state = state
