# SPDX-License-Identifier: Apache-2.0
"""The real openstack command with the osc-placement plug-in."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tests.services.keystone import Account
from tests.services.process import PATIENCE, child_environment, program, run


class CommandError(RuntimeError):
    """The command failed; its error output is the message."""


@dataclass(frozen=True)
class OpenStackCommand:
    variables: Mapping[str, str]

    @classmethod
    def with_token(cls, url: str, token: str = 'admin') -> Self:
        return cls({'OS_AUTH_TYPE': 'admin_token', 'OS_TOKEN': token, 'OS_ENDPOINT': url})

    @classmethod
    def with_account(cls, account: Account) -> Self:
        return cls(account.environment())

    def text(self, *arguments: str) -> str:
        environment = child_environment(
            **self.variables,
            # The caller's clouds.yaml is none of our business.
            OS_CLIENT_CONFIG_FILE=os.devnull,
            # Tables of one width wherever they are printed.
            COLUMNS='200',
        )
        argv = [program('openstack'), *arguments]
        done = run(argv, environment=environment, timeout=PATIENCE)
        if done.returncode:
            command = ' '.join(['openstack', *arguments])
            raise CommandError(f'{command}: {done.returncode}\n{done.stderr.strip()}')
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.text(*arguments, '-f', 'json'))
