"""`python3 make.py` builds the component, `python3 make.py test` runs the unit tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "../../guest-sdk/python"))

from portreeve_guest.build import main  # noqa: E402

main(__file__)
