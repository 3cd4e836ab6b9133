"""How PostgreSQL is reached: connections that never show a password, names, literals, errors."""

from __future__ import annotations

import re
import selectors
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from raystream.contracts.secret import Secret, check_plain, resolve
from raystream.errors import ConfigError, ExternalError, PlanError, SinkError, SourceError

# What texts of the server look like, so that they are read the same way from every server.
_SETTINGS = (
    "SET client_encoding = 'UTF8'; SET timezone = 'UTC'; SET datestyle = 'ISO'; "
    "SET bytea_output = 'hex'; SET extra_float_digits = 1; SET standard_conforming_strings = on"
)
_CONNECT_TIMEOUT_S = 10
SILENT_S = 30.0
"""How long a server may say nothing before it is seen whether it answers anybody."""


class Unreachable(SourceError):  # noqa: N818  the name says what happened
    """The server did not answer, which it may do in a while."""


def driver() -> Any:
    """Give the module that speaks to PostgreSQL.

    Raises: ConfigError where it is not installed.
    """
    try:
        import psycopg
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the PostgreSQL connectors need psycopg, which is not installed",
            hint="pip install 'raystream[postgres]', on every node",
        ) from error
    return psycopg


@dataclass(frozen=True, slots=True)
class Server:
    """A database, by its connection string; a password stands in a secret alone.

    ``error`` is what is raised where it refuses something, ``unreachable`` where it cannot be
    reached.
    """

    dsn: str | Secret
    password: Secret | None
    error: type[ExternalError]
    unreachable: type[ExternalError]

    def __post_init__(self) -> None:
        """Refuse what would show a password."""
        check_plain(self.dsn, "dsn=")
        if self.password is not None and not isinstance(self.password, Secret):
            raise PlanError('password= takes a rs.secret("NAME"), so that nothing shows it')

    def __str__(self) -> str:
        return repr(self.dsn) if isinstance(self.dsn, Secret) else self.dsn

    @property
    def is_known(self) -> bool:
        """Whether this process has all that it takes to connect."""
        secrets = [one for one in (self.dsn, self.password) if isinstance(one, Secret)]
        return all(one.is_there for one in secrets)

    def connect(self, *, replication: bool = False) -> Any:
        """Open a connection that commits each statement.

        Raises: ConfigError for a connection string that cannot be read, ``unreachable`` where the
        server does not answer, or does not let us in.
        """
        psycopg = driver()
        fields = self._fields(psycopg)
        if replication:
            fields["replication"] = "database"
        try:
            connection = psycopg.connect(**fields, autocommit=True)
            _watch(connection, lambda: self._look(fields))
            connection.execute(_SETTINGS)
        except psycopg.Error as error:
            # Not chained: what libpq says is told here, less the password.
            raise self.unreachable(
                self._shown(f"cannot connect to {self}: {_said(error)}", fields)
            ) from None
        connection.prepare_threshold = None
        return connection

    def _look(self, fields: dict[str, Any]) -> None:
        """See that the server answers somebody.

        A statement may take for hours, and the network of a server that is stuck goes on: only who
        asks beside it can tell. Raises: OperationalError of the driver.
        """
        psycopg = driver()
        asked = {name: value for name, value in fields.items() if name != "replication"}
        try:
            psycopg.connect(**asked).close()
        except psycopg.OperationalError as error:
            if "FATAL" in str(error):
                return  # it has answered: perhaps that it has too many clients
            raise psycopg.OperationalError(
                f"the server has said nothing for {SILENT_S:g} s, and answers nobody"
            ) from None

    def _fields(self, psycopg: Any) -> dict[str, Any]:
        fields: dict[str, Any] | None
        try:
            fields = psycopg.conninfo.conninfo_to_dict(resolve(self.dsn))
        except psycopg.Error:
            fields = None  # outside of the handler: its error would repeat what it could not read
        host, port = (
            ("", "") if fields is None else (str(fields.get(n, "")) for n in ("host", "port"))
        )
        # A password that is not encoded ends up in these, and messages show them.
        if fields is None or "@" in host or not re.fullmatch(r"[\d,]*", port):
            raise ConfigError(
                f"the connection string {self} cannot be read",
                hint="postgresql://user@host:5432/database; encode what is special in a password",
            )
        if self.password is not None:
            fields["password"] = self.password.reveal()
        fields.setdefault("connect_timeout", _CONNECT_TIMEOUT_S)
        fields.setdefault("fallback_application_name", "raystream")
        return fields

    def _shown(self, text: str, fields: dict[str, Any]) -> str:
        held = [str(fields[name]) for name in ("password", "sslpassword") if fields.get(name)]
        for one in held:
            text = text.replace(one, "***")
        return text

    @contextmanager
    def translated(self, doing: str, *, gone: bool = False) -> Iterator[None]:
        """Turn what the driver raises into an error that says what was being done.

        With ``gone`` that the server is gone is left as it is, for one who goes on without.
        """
        psycopg = driver()
        try:
            yield
        except psycopg.Error as error:
            if gone and isinstance(error, psycopg.OperationalError):
                raise
            raise self.error(f"{doing}: {_said(error)}") from error


def source_server(dsn: str | Secret, password: Secret | None) -> Server:
    """Give the database that a source reads."""
    return Server(dsn, password, SourceError, Unreachable)


def sink_server(dsn: str | Secret, password: Secret | None) -> Server:
    """Give the database that a sink writes."""
    return Server(dsn, password, SinkError, SinkError)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def quoted(name: str) -> str:
    """Give a name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Give a text as SQL takes it, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Table:
    """A table by its schema and name; without a schema, the one that the server finds."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """The table as SQL names it."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    def beside(self, name: str) -> Table:
        """Name another table of the same schema."""
        return Table(self.schema, name)


def found(connection: Any, table: str, what: str) -> Table:
    """Find a table, written as ``name`` or ``schema.name``, as SQL would.

    Raises: PlanError where there is none.
    """
    schema, _, name = table.rpartition(".")
    wanted = f"{quoted(schema)}.{quoted(name)}" if schema else quoted(name)
    row = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = to_regclass(%s)",
        [wanted],
    ).fetchone()
    if row is None:
        raise PlanError(
            f'{what}: there is no table "{table}" in the database, or this user does not see it',
            hint="names are taken as they stand: 'name', or 'schema.name'",
        )
    return Table(*row)


def primary_key(connection: Any, table: Table) -> tuple[str, ...]:
    """Give the columns of a table's primary key, in its order; () where it has none."""
    rows = connection.execute(
        "SELECT a.attname FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(att, n), "
        "pg_attribute a WHERE i.indrelid = %s::regclass AND i.indisprimary "
        "AND a.attrelid = i.indrelid AND a.attnum = k.att ORDER BY k.n",
        [table.sql],
    )
    return tuple(name for (name,) in rows)


def _watch(connection: Any, look: Callable[[], None]) -> None:
    """Let a connection look whether its server is there, whenever that says nothing for long."""
    wait = connection.wait

    def watched(steps: Generator[Any, Any, Any], *more: Any, **named: Any) -> Any:
        return wait(_watched(connection, steps, look), *more, **named)

    connection.wait, connection.look = watched, look


def _watched(
    connection: Any, steps: Generator[Any, Any, Any], look: Callable[[], None]
) -> Generator[Any, Any, Any]:
    """Take the steps of what a connection does; the driver comes by ten times a second."""
    heard_s = time.monotonic()
    try:
        wants = next(steps)
        while True:
            ready = yield wants
            if ready:
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s >= SILENT_S:
                _look_or_end(connection, look)
                heard_s = time.monotonic()
            wants = steps.send(ready)
    except StopIteration as end:
        return end.value


def _look_or_end(connection: Any, look: Callable[[], None]) -> None:
    try:
        look()
    except driver().OperationalError:
        connection.pgconn.finish()  # or its end would be waited for, too
        raise


def await_more(connection: Any, patience_s: float | None) -> bool:
    """Wait until a connection has something to read, at most for so long, and take it in.

    None: until it has, or its server answers nobody; that raises OperationalError.
    """
    wire = connection.pgconn
    with selectors.DefaultSelector() as waiting:
        waiting.register(wire.socket, selectors.EVENT_READ)
        came = waiting.select(SILENT_S if patience_s is None else patience_s)
    if not came and patience_s is None:
        _look_or_end(connection, connection.look)
    wire.consume_input()
    return bool(came)


def begin_copy(connection: Any, command: str, *, both: bool = False) -> None:
    """Begin what the server answers with a stream of messages."""
    states = driver().pq.ExecStatus
    # Not at once by exec_(): no signal reaches it while it waits, perhaps for a lock of the table.
    wire = connection.pgconn
    wire.send_query(command.encode())
    wire.flush()
    result = _result(connection)
    if result is None or result.status != (states.COPY_BOTH if both else states.COPY_OUT):
        raise driver().OperationalError(_said_by(result))


def end_copy(connection: Any) -> None:
    """See that a stream of messages ended because it was complete."""
    result = _result(connection)
    if result is None or result.status != driver().pq.ExecStatus.COMMAND_OK:
        raise driver().OperationalError(_said_by(result))


def _result(connection: Any) -> Any:
    wire = connection.pgconn
    while wire.is_busy():
        await_more(connection, None)
    return wire.get_result()


def _said_by(result: Any) -> str:
    return (
        "nothing was answered" if result is None else result.error_message.decode(errors="replace")
    )


def let_go(connection: Any) -> None:
    """Close a connection, also one that is broken."""
    if connection is not None:
        with suppress(driver().Error):
            connection.close()
