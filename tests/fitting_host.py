# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the check of the host, where a test is about Placement alone."""

from fbm_placement.host.observer import HostObserver, HostView
from fbm_placement.model import AgentOptions, Guest, HostFacts, Settings


class FittingHost(HostObserver):
    """A host with a disk store on which nothing is wrong, whatever machine the test runs on."""

    def guests(self, name_template: str) -> tuple[Guest, ...]:
        return ()

    def observe(self, _settings: Settings, _options: AgentOptions) -> HostView:
        return HostView(HostFacts())
