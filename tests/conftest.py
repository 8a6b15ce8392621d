"""A quiet and repeatable environment for every test, and an order in which the longest test does not come last."""

import os
import signal

import pytest

os.environ["DVC_NO_ANALYTICS"] = "1"
# a shell starts background commands with Ctrl-C ignored, and every process of a test would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in ("test_pipeline", "test_kills"))
