# SPDX-License-Identifier: Apache-2.0
"""The exit codes of all commands but ``upgrade check``, and which error ends in which."""

import contextlib
import sys
from collections.abc import Callable
from typing import TextIO

from fbm_placement import errors
from fbm_placement.agent import logs

GOOD = 0
NOT_GOOD = 1
"""What was asked for could not be reached, or something is not as it should be."""
FORBIDDEN = 2
"""The configuration forbids to run, or the command line is wrong."""
INTERRUPTED = 130


def run(prog: str, function: Callable[[], int]) -> int:
    """Return the exit code of ``function``; its errors are printed, each reason on a line."""
    logs.to_stderr(None, prog)
    try:
        return function()
    except errors.ConfigurationError as exc:
        for reason in exc.reasons:
            show(f'{prog}: {reason}', sys.stderr, 'ERROR')
        return FORBIDDEN
    except errors.FileBackedMemoryError as exc:
        show(f'{prog}: {exc}', sys.stderr, 'ERROR')
        return NOT_GOOD
    except SystemExit as exc:
        # argparse: --help and --version are good, everything else is a wrong option.
        return FORBIDDEN if exc.code else GOOD
    except KeyboardInterrupt:
        return INTERRUPTED


def show(text: str, stream: TextIO, level: str = 'INFO') -> None:
    """Print in the encoding of ``stream``; a stream that is closed or full is no error.

    :param level: the line's level, where systemd's journal reads it
    """
    text = logs.for_stream(text, stream, level)
    encoding = stream.encoding or 'ascii'
    with contextlib.suppress(OSError):
        print(text.encode(encoding, 'backslashreplace').decode(encoding), file=stream, flush=True)
