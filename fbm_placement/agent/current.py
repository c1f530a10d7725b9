# SPDX-License-Identifier: Apache-2.0
"""The options of Nova that the agent goes by: nova-compute's, also after an edit of nova.conf."""

import contextlib

from oslo_config import cfg
from oslo_log import log

from fbm_placement import errors
from fbm_placement.conf import reader
from fbm_placement.host import state_file
from fbm_placement.host.numa import dram_mib
from fbm_placement.model import Inventory, Settings
from fbm_placement.notices import Notices
from fbm_placement.rules.edit import goes_by_edit, reports

LOG = log.getLogger(__name__)

UNREADABLE = (cfg.Error, log.LogConfigError, errors.ConfigurationError, OSError, ValueError)


class CurrentSettings:
    """What nova-compute runs with, as far as its report in Placement shows it."""

    def __init__(self, conf: cfg.ConfigOpts, settings: Settings, notices: Notices) -> None:
        """Begin with those that were read from ``conf``."""
        self.value = settings
        self._conf = conf
        self._notices = notices
        self._started = False

    def resume(self) -> None:
        """Begin with those of the agent before this one; the first check shows which count.

        It may have crashed between an edit and the restart of nova-compute.
        """
        self._started = True
        with contextlib.suppress(errors.HostError):
            self.value = state_file.read(state_file.path(), None).settings(self.value)

    def check(self, seen: Inventory | None) -> None:
        """Go by an edited nova.conf once nova-compute does; then raise SettingsChanged.

        :param seen: what Placement has, before the agent writes
        """
        started, self._started = self._started, False
        if not started and (seen is None or self._is_reported(seen)):
            return
        edited = self.edited()
        if edited is None or not goes_by_edit(edited, self.value, seen, dram_mib(), started):
            return
        before, self.value = self.value, edited
        if str(before) != str(edited):
            LOG.info(
                'File-backed memory %s, as in the edited nova.conf (Placement has %s); before: %s',
                edited,
                seen,
                before,
            )
            raise errors.SettingsChanged

    def _is_reported(self, seen: Inventory) -> bool:
        """Whether nova.conf need not be read: only a capacity is sure to be no other's."""
        return self.value.enabled and reports(self.value, self.value, seen, None)

    def edited(self) -> Settings | None:
        """Return what nova.conf has now; None: it can't be used, which is logged once."""
        found, error = None, None
        try:
            found = reader.read_settings_again(self._conf)
        except UNREADABLE as exc:
            error = str(exc)
        if error != self._notices.replace('edit', error) and error is not None:
            LOG.warning(
                'nova.conf was changed and cannot be used: %s; the agent goes on with '
                'file-backed memory %s; correct it, nova-compute does not start with it either',
                error,
                self.value,
            )
        return found

    def log_edit(self) -> None:
        """Log where nova.conf differs from what the agent goes by."""
        edited = self.edited()
        if edited is not None and str(edited) != str(self.value):
            LOG.info(
                'nova.conf has file-backed memory %s; the agent goes on with %s until '
                'nova-compute reports the new value: restart nova-compute',
                edited,
                self.value,
            )
