"""Nothing in, a quiet and repeatable surrounding for every test out."""

import os

os.environ["DVC_NO_ANALYTICS"] = "1"
