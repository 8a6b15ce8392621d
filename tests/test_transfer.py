"""benchmarks/transfer.py: the time of a run from data/timings.csv, in which stages may overlap."""

import pytest

from benchmarks.transfer import read_times
from stages.runtime.errors import UserError

COMMANDS = ["split x", "train a", "train b"]
RUN = [
    "2026-01-01T10:00:10+00:00,code data/code,10.0",
    "2026-01-01T10:00:20+00:00,split x,9.0",
    "2026-01-01T10:01:20+00:00,train b,58.0",
    "2026-01-01T10:02:00+00:00,train a,99.5",
    "2026-01-01T10:02:10+00:00,report metrics,1.0",
]
AN_HOUR_BEFORE = [line.replace("T10", "T09") for line in RUN]
A_DAY_LATER = [line.replace("-01T", "-02T") for line in RUN]


def write_timings(folder, *lines):
    (folder / "timings.csv").write_text("\n".join(["finished,command,duration_s", *lines]), encoding="utf-8")
    return folder / "timings.csv"


def test_a_run_is_from_code_to_report_and_what_was_before_and_after_does_not_count(tmp_path):
    times = read_times(write_timings(tmp_path, *AN_HOUR_BEFORE, *RUN, A_DAY_LATER[1]), COMMANDS)
    ended_s = {"code data/code": 10, "split x": 20, "train a": 120, "train b": 80, "report metrics": 130}
    assert times.to_dict() == ended_s


@pytest.mark.parametrize("lines", [RUN[1:], [*AN_HOUR_BEFORE, *RUN[:3]], [*RUN, *A_DAY_LATER[3:]]])
def test_a_part_of_a_run_and_one_of_two_days_are_refused(tmp_path, lines):
    with pytest.raises(UserError, match=r"timings\.csv"):
        read_times(write_timings(tmp_path, *lines), COMMANDS)
