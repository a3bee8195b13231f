"""Builds the plugin that makes the requests of guest-sdk/tests/asking.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "../.."))

from portreeve_guest.build import main  # noqa: E402

main(__file__)
