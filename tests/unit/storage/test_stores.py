"""Every store keeps the same promises."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from raystream.errors import ConfigError, StorageError
from raystream.storage.failures import storage_error
from raystream.storage.opening import open_store, probe
from raystream.storage.store import UNFINISHED, Created, Exists, Missing, joined


def test_what_is_written_is_read(store):
    store.put("a/b", b"0123456789")
    assert store.get("a/b") == b"0123456789"
    assert store.get("a/b", 3) == b"3456789"
    assert store.get("a/b", 3, 4) == b"3456"
    assert store.get("a/b", 8, 100) == b"89"
    assert store.get("a/b", 10, 5) == b""
    assert store.get("a/b", 99, 5) == b""
    store.put("a/b", b"")
    assert store.get("a/b") == b""


def test_what_is_not_there_is_missing_and_no_error_to_delete(store):
    assert store.get("a") == Missing(joined(store.url, "a"))
    store.put("a", b"1")
    assert isinstance(store.get("a/b"), Missing)
    assert isinstance(store.get("b", 2, 3), Missing)
    store.delete(["b", "a", "c/d"])
    assert isinstance(store.get("a"), Missing)


def test_a_listing_names_what_lies_directly_in_a_folder(store):
    assert store.list() == store.list("x") == []
    for path in ("b/2", "b/1", "a", "b/c/d", "bb/x"):
        store.put(path, b"")
    assert store.list() == ["a", "b", "bb"]
    assert store.list("b") == ["1", "2", "c"]
    assert store.list("b/c") == ["d"]
    assert store.list("b/1") == []
    store.delete(["b/1", "b/c/d"])
    assert "1" not in store.list("b")


def test_a_created_object_is_never_replaced_by_another_create(store):
    assert store.create("log/0", b"mine") == Created()
    assert store.create("log/0", b"yours") == Exists(b"mine")
    assert store.create("log/0", b"mine") == Exists(b"mine")  # a lost reply looks like this
    assert store.get("log/0") == b"mine"
    store.delete(["log/0"])
    assert store.create("log/0", b"yours") == Created()


def test_names_may_hold_what_urls_and_globs_mean_something_by(store):
    path = "hot%20items/a+b=c~x"
    store.put(path, b"1")
    assert store.list("hot%20items") == ["a+b=c~x"]
    assert store.get(path) == b"1"
    store.delete([path])
    assert isinstance(store.get(path), Missing)


def test_the_same_address_is_the_same_folder(store, url):
    store.put("a", b"1")
    assert open_store(url).get("a") == b"1"
    assert open_store(store.url).get("a") == b"1"
    assert open_store(joined(store.url, "x")).url == joined(store.url, "x")


@pytest.mark.slow
def test_of_sixteen_threads_one_creates_and_all_see_what_it_wrote(store):
    for round_ in range(5):
        gate = threading.Barrier(16)
        results = {}

        def create(number, round_=round_, gate=gate, results=results):
            gate.wait()
            results[number] = store.create(f"log/{round_}", b"%d" % number)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [number for number, result in results.items() if result == Created()]
        assert len(winners) == 1
        losers = [result for result in results.values() if result != Created()]
        assert losers == [Exists(b"%d" % winners[0])] * 15
        assert store.get(f"log/{round_}") == b"%d" % winners[0]


RACER = """
import sys
from raystream.storage.opening import open_store
from raystream.storage.store import Created

store, me = open_store(sys.argv[1]), sys.argv[2].encode()
print("ready", flush=True)
sys.stdin.readline()
for round_ in range(50):
    result = store.create(f"log/{round_}", me)
    print(me.decode() if result == Created() else result.data.decode(), result == Created())
"""


@pytest.mark.slow
def test_of_four_processes_one_creates_and_all_see_what_it_wrote(tmp_path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [racer.communicate(timeout=60)[0].splitlines() for racer in racers]
    for of_round in zip(*told, strict=True):
        assert len({line.split()[0] for line in of_round}) == 1
        assert sum(line.endswith("True") for line in of_round) == 1
    assert len(told[0]) == 50
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == sorted(map(str, range(50)))


KILLED = """
import os, pathlib, sys
from raystream.storage.opening import open_store

def die(*args, **kwargs):
    os.kill(os.getpid(), 9)

match sys.argv[2]:
    case "before the disk has it":
        os.fsync = die
    case "before it has its name":
        os.link = pathlib.Path.replace = die
getattr(open_store(sys.argv[1]), sys.argv[3])("log/0", b"0123456789" * 100_000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["create", "put"])
@pytest.mark.parametrize("when", ["before the disk has it", "before it has its name"])
def test_a_writer_that_is_killed_leaves_nothing_under_the_name(tmp_path, when, how):
    (tmp_path / "log").mkdir()
    writer = subprocess.run([sys.executable, "-c", KILLED, tmp_path, when, how], check=False)
    assert writer.returncode == -9
    store = open_store(str(tmp_path))
    assert isinstance(store.get("log/0"), Missing)
    (left,) = store.list("log")
    assert left.startswith("0.")
    assert left.endswith(UNFINISHED)
    assert store.create("log/0", b"mine") == Created()
    assert store.get("log/0") == b"mine"


def test_a_probe_passes_and_leaves_nothing(store):
    probe(store)
    assert store.list() == []


class Broken:
    """A store that breaks one promise."""

    def __init__(self, store, **broken):
        self._store = store
        self.__dict__.update(broken)

    def __getattr__(self, name):
        return getattr(self._store, name)


def replacing(store):
    def create(path, data):
        store.put(path, data)
        return Created()

    return create


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda s: {"create": replacing(s)}, "replaced"),
        (lambda s: {"list": lambda folder="": []}, "not listed"),
        (lambda s: {"create": lambda path, data: Exists(data)}, "was refused"),
        (lambda s: {"get": lambda path, start=0, length=None: b"x"}, "does not read"),
        (lambda s: {"delete": lambda paths: None}, "still listed"),
    ],
)
def test_a_probe_finds_a_broken_promise(tmp_path, broken, said):
    store = open_store(str(tmp_path))
    with pytest.raises(StorageError, match=said):
        probe(Broken(store, **broken(store)))


@pytest.mark.parametrize("protocol", ["gs", "abfs", "http", "hdfs", "github"])
def test_protocols_without_an_exclusive_create_are_refused_with_those_that_have_one(protocol):
    with pytest.raises(ConfigError, match="exclusive create") as caught:
        open_store(f"{protocol}://bucket/folder")
    assert "s3://" in str(caught.value)


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/x", "ftp://me:pw@host/", "s3://[x:y@z"])
def test_an_address_with_a_password_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "  ", "s3://", "s3:///"])
def test_an_address_that_names_no_folder_is_refused(url):
    with pytest.raises(ConfigError):
        open_store(url)


def test_local_addresses_come_in_several_forms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forms = (str(tmp_path / "x"), f"file://{tmp_path}/x/", "x", "./x", "y/../x")
    assert {open_store(form).url for form in forms} == {str(tmp_path / "x")}


def test_a_place_that_cannot_be_written_is_told_with_its_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        probe(open_store(str(tmp_path / "file" / "x")))
    assert str(tmp_path / "file") in str(caught.value)
    assert "a part of the path is a file" in str(caught.value)


def test_a_folder_without_permission_is_told_with_its_reason(tmp_path):
    me = os.geteuid()
    if me == 0:  # who may write anywhere
        os.seteuid(65_534)
    else:
        tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="grant writing") as caught:
            probe(open_store(str(tmp_path)))
    finally:
        os.seteuid(me)
    assert str(tmp_path) in str(caught.value)


def test_files_have_the_mode_that_the_umask_leaves(tmp_path):
    store = open_store(str(tmp_path / "x"))
    mask = os.umask(0o027)
    try:
        store.create("created", b"")
        store.put("put", b"")
    finally:
        os.umask(mask)
    for name in ("created", "put"):
        assert (tmp_path / "x" / name).stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (OSError(28, "No space left on device"), "the disk is full"),
        (OSError(13, "Permission denied"), "grant writing"),
        (PermissionError("Forbidden"), "grant writing"),
        (OSError(30, "Read-only file system"), "read-only"),
    ],
)
def test_reasons_of_the_system_come_with_what_to_do(error, hint):
    told = storage_error("write", "/x/y", error)
    assert "cannot write /x/y" in told.message
    assert hint in str(told)


def test_a_missing_package_is_told_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StorageError, match=r"raystream\[s3\]"):
        open_store("s3://bucket/folder")


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_told(s3_bucket):
    with pytest.raises(StorageError, match="create the bucket"):
        probe(open_store("s3://no-such-bucket-here/x"))
    with pytest.raises(StorageError, match="create the bucket"):
        open_store("s3://no-such-bucket-here/x").list()


@pytest.mark.slow
def test_s3_refusals_of_other_servers_are_understood(s3_bucket, monkeypatch):
    """SeaweedFS answers 412 without saying which condition; AWS 409 while another create runs."""
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    store = open_store(f"{s3_bucket}/others")
    store.put("there", b"theirs")
    answers = ["PreconditionFailed", "ConditionalRequestConflict"]

    def refuse(*_args, **_kwargs):
        reply = {"Error": {"Code": answers[0], "Message": "no"}}
        raise translate_boto_error(ClientError(reply, "PutObject"))

    monkeypatch.setattr(store._files, "pipe_file", refuse)
    for _ in range(2):
        assert store.create("there", b"mine") == Exists(b"theirs")
        answers.pop(0)
        answers.append("ConditionalRequestConflict")
    with pytest.raises(StorageError, match="has none"):
        store.create("not there", b"mine")
    answers[0] = "AccessDenied"
    with pytest.raises(StorageError, match="grant reading"):
        store.create("not there", b"mine")
