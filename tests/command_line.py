"""Run the program `segaware` in this process, and see it succeed or fail."""

import io
from contextlib import contextmanager, redirect_stderr

from segaware_np.commands.main import main


def run(capsys, *arguments) -> str:
    code = main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def fails(capsys, *arguments) -> str:
    """Run a command that must fail; return its message, which must be one line."""
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as stopped:  # argparse's own way out
        code = stopped.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1 and err.endswith("\n"), err
    assert "Traceback" not in err
    return err


@contextmanager
def terminal():
    """Standard error that says it is a terminal."""
    stream = io.StringIO()
    stream.isatty = lambda: True
    with redirect_stderr(stream):
        yield stream
