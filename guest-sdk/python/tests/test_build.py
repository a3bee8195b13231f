"""What the build says before it compiles anything."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path
from typing import Optional

from portreeve_guest.build import main, no_sockets


def complaint(source: Optional[str]) -> str:
    """What the build of a project with this module says on standard error."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "src").mkdir()
        if source is not None:
            (project / "src/plugin.py").write_text(source)
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            main(str(project / "make.py"), [])
        return said.getvalue()


class Build(unittest.TestCase):
    def test_a_project_without_its_module_is_told_where_it_goes(self) -> None:
        self.assertIn("src/plugin.py does not exist", complaint(None))

    def test_a_module_without_a_marked_function_is_told_of_the_marks(self) -> None:
        self.assertIn("@verifier or @parser", complaint("def parse(context, message): ..."))

    def test_a_syntax_error_has_its_line(self) -> None:
        self.assertIn("plugin.py, line 2: ", complaint("x = 1\ndef f(:\n"))


class NoSockets(unittest.TestCase):
    def test_what_is_no_component_is_refused(self) -> None:
        with self.assertRaises(no_sockets.Unknown):
            no_sockets.remove(b"\0asm\1\0\0\0")

    def test_a_component_without_sockets_keeps_its_imports_and_exports(self) -> None:
        sockets = Path(no_sockets.__file__).with_name("no_sockets.wasm").read_bytes()
        wrapped = no_sockets.remove(sockets)
        self.assertEqual(list(no_sockets._exports(wrapped)), list(no_sockets._exports(sockets)))
