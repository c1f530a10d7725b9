# SPDX-License-Identifier: Apache-2.0
"""A child process whose own children end with it, however it ends."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.lab.namespaces import HostProcess


class Confined(HostProcess):
    """The first process of a process namespace, which takes all others there along.

    RabbitMQ starts programs that outlive it, Nova's conductor and scheduler fork their workers.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            ['unshare', '--pid', '--fork', '--kill-child', *argv],
            log,
            name=name,
            environment=environment,
        )
