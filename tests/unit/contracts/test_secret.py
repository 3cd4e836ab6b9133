"""A secret is named in a job and read where it is used; its name is all that anything shows."""

from __future__ import annotations

import pickle

import pytest

import raystream as rs
from raystream.connectors.postgres import PostgresCdcSource, PostgresSink, PostgresSource
from raystream.contracts.secret import check_plain, resolve


def test_it_is_read_when_it_is_used(monkeypatch, tmp_path):
    named = rs.secret("RS_TEST_TOKEN")
    with pytest.raises(rs.ConfigError, match="RS_TEST_TOKEN"):
        named.reveal()
    monkeypatch.setenv("RS_TEST_TOKEN", "hush")
    assert resolve(named) == named.reveal() == "hush"
    assert resolve("plain") == "plain"
    (tmp_path / "token").write_text("hush\n")
    kept = rs.secret(file=tmp_path / "token")
    assert kept.reveal() == "hush"
    (tmp_path / "token").unlink()
    assert not kept.is_there
    with pytest.raises(rs.ConfigError, match="token"):
        kept.reveal()


def test_nothing_of_it_is_in_what_travels(monkeypatch):
    monkeypatch.setenv("RS_TEST_TOKEN", "hush")
    named = rs.secret("RS_TEST_TOKEN")
    assert repr(named) == "secret('RS_TEST_TOKEN')"
    assert b"hush" not in pickle.dumps(named)
    assert pickle.loads(pickle.dumps(named)) == named


@pytest.mark.parametrize("given", [{}, {"name": "A", "file": "b"}, {"name": "postgres://u:hush@h"}])
def test_what_is_no_name_is_refused_and_not_repeated(given):
    with pytest.raises(rs.PlanError) as raised:
        rs.secret(**given)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:hush@host/db",
        "redis://:hush@host:6379",
        "postgresql://host/db?user=u&password=hush",
        "host=h password=hush",
        "host=h sslpassword = 'hush'",
        "postgresql://user:hu/sh@host",
    ],
)
def test_a_text_with_a_password_in_it_is_refused(text):
    makers = (
        lambda: check_plain(text, "dsn="),
        lambda: PostgresSink(text, "t"),
        lambda: PostgresSource(text, "t"),
        lambda: PostgresCdcSource(text, "t"),
    )
    for make in makers:
        with pytest.raises(rs.PlanError, match="has a password in it") as raised:
            make()
        assert "hu" not in str(raised.value).replace("should", "")


@pytest.mark.parametrize(
    "text", ["postgresql://user@host:5432/db", "host=h user=u", "redis://host:6379/0", "s3://b/k"]
)
def test_a_text_without_one_is_taken(text):
    check_plain(text, "dsn=")


def test_a_password_beside_the_address_must_be_a_secret():
    with pytest.raises(rs.PlanError, match="password= takes"):
        PostgresSink("host=h", "t", password="hush")  # noqa: S106


def test_a_source_behind_a_secret_that_is_not_known_wants_its_schema():
    for kind in (PostgresSource, PostgresCdcSource):
        with pytest.raises(rs.PlanError, match="give schema= and key="):
            kind(rs.secret("RS_TEST_NOT_SET"), "t")
