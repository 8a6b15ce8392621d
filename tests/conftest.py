"""Nothing in, a quiet and repeatable surrounding for every test out."""

import os
import signal

os.environ["DVC_NO_ANALYTICS"] = "1"
# a shell starts what runs in its background with Ctrl-C ignored, and every process of a test would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
