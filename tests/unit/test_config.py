"""Settings by name: what is none is refused with what there is."""

from __future__ import annotations

import pytest

from raystream.config import Limits, limits_from
from raystream.errors import ConfigError


def test_settings_are_read_by_name():
    assert limits_from({"batch_rows_max": 5}) == Limits(batch_rows_max=5)
    assert limits_from(None) == Limits()
    assert limits_from(Limits(3)) == Limits(3)


def test_the_state_backend_is_a_word():
    assert limits_from({"state_backend": "disk"}).state_backend == "disk"
    assert limits_from({}).state_backend == "memory"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"state_backend": "rocksdb"}, 'state_backend must be one of "memory", "disk", got'),
        ({"state_backend": 3}, 'state_backend must be one of "memory", "disk", got 3'),
        ({"state_backend": ["disk"]}, "state_backend must be one of"),
        ({"state_backed": "disk"}, 'did you mean "state_backend"'),
        ({"batch_rows_max": 0}, "batch_rows_max must be a positive int, got 0"),
        ({"batch_rows_max": True}, "batch_rows_max must be a positive int, got True"),
        ({"batch_rows_max": "5"}, "batch_rows_max must be a positive int, got '5'"),
    ],
)
def test_what_is_no_setting_is_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        limits_from(settings)
    assert message in str(caught.value)
