# SPDX-License-Identifier: Apache-2.0
"""The scheduler's gate: keeps instances off hosts whose memory is not what they asked for."""
