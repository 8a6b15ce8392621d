"""benchmarks/transfer.py: a run's time by data/timings.csv, of which stages that overlap are no sum."""

import pytest

from benchmarks.transfer import read_times
from stages.runtime.errors import UserError

COMMANDS = ["split x", "train a", "train b"]
AN_HOUR_BEFORE = ["2026-01-01T09:00:00+00:00,split x,7.0", "2026-01-01T09:10:00+00:00,train a,600.0"]
RUN = [
    "2026-01-01T10:00:10+00:00,split x,10.0",
    "2026-01-01T10:01:10+00:00,train b,58.0",
    "2026-01-01T10:01:50+00:00,train a,99.5",
]


def write_timings(folder, *lines):
    (folder / "timings.csv").write_text("\n".join(["finished,command,duration_s", *lines]), encoding="utf-8")
    return folder / "timings.csv"


def test_a_run_begins_with_its_first_stage_and_an_earlier_run_does_not_count(tmp_path):
    times = read_times(write_timings(tmp_path, *AN_HOUR_BEFORE, *RUN), COMMANDS)
    assert times.to_dict() == {"split x": 10, "train a": 110, "train b": 70}


@pytest.mark.parametrize("lines", [RUN[:2], [*AN_HOUR_BEFORE, *RUN[:2]]])
def test_a_part_of_a_run_is_refused(tmp_path, lines):
    with pytest.raises(UserError, match=r"timings\.csv"):
        read_times(write_timings(tmp_path, *lines), COMMANDS)
