"""`python3 -m portreeve_guest.build` in a project's folder, for a project without a make.py."""

from portreeve_guest.build import main

main("make.py")
