"""Windows as users write them."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest

from raystream.contracts.window import Sliding, Tumbling
from raystream.errors import ConfigError, PlanError


def test_durations_in_any_form_are_the_same_window():
    assert Tumbling("10s") == Tumbling(timedelta(seconds=10)) == Tumbling(10_000_000)
    assert Sliding("1m", "10s", "-5s") == Sliding(60_000_000, 10_000_000, -5_000_000)
    assert (Sliding("1m", "10s", "-5s").size_us, Tumbling("2d").slide_us) == (
        60_000_000,
        172_800_000_000,
    )
    assert Sliding("1m", "10s", "-5s").offset_us == -5_000_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tumbling(0),
        lambda: Tumbling("-1s"),
        lambda: Sliding("10s", 0),
        lambda: Sliding("-10s", "1s"),
        lambda: Tumbling("40000000d"),
    ],
)
def test_a_window_without_length_is_refused_by_name(make):
    with pytest.raises(PlanError, match=r"(Tumbling|Sliding)\((size|slide)=\)"):
        make()


def test_what_is_no_duration_is_refused():
    with pytest.raises(ConfigError, match="not a duration"):
        Tumbling("ten seconds")


def test_later_releases_arguments_are_not_taken_yet():
    with pytest.raises(TypeError):
        Tumbling("1d", tz="Europe/Berlin")  # type: ignore[call-arg]


def test_windows_print_themselves_and_travel():
    assert str(Tumbling("1h30m")) == "tumbling 1h30m"
    assert str(Sliding("10s", "2500ms", "1s")) == "sliding 10s every 2s500ms offset 1s"
    assert str(Tumbling(7, -3)) == "tumbling 7us offset -3us"
    assert pickle.loads(pickle.dumps(Sliding("10s", "2s"))) == Sliding("10s", "2s")
