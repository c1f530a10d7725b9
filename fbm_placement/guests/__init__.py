# SPDX-License-Identifier: Apache-2.0
"""``fbm-status guests``: how guests' memory is backed, and which RAM files have no guest."""
