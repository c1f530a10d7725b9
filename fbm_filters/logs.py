# SPDX-License-Identifier: Apache-2.0
"""Lines of the filter and the pre-filter reach a handler, whatever Nova's logging is."""

import logging
import sys

from oslo_log import log

from fbm_placement.notices import is_written

PACKAGE = 'fbm_filters'

LOG = log.getLogger(__name__)


def ensure_written() -> None:
    """Log where and as Nova does if else not even this package's errors would be written.

    In Nova's own sample for ``log_config_append`` the logger ``nova`` has a handler, and root has
    a NullHandler.
    """
    if is_written(PACKAGE, logging.ERROR):
        return
    own, nova = logging.getLogger(PACKAGE), logging.getLogger('nova')
    own.parent, own.propagate, own.disabled = nova, True, False
    own.setLevel(logging.NOTSET)
    where = 'the logger nova'
    if not is_written(PACKAGE, logging.ERROR):
        own.addHandler(logging.StreamHandler(sys.stderr))
        own.setLevel(logging.INFO)
        own.propagate = False
        where = 'stderr'
    LOG.warning(
        '[DEFAULT]log_config_append gives the logger %s no handler: it logs to %s; to change '
        'that, name it there',
        PACKAGE,
        where,
    )
