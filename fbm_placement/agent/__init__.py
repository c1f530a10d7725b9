# SPDX-License-Identifier: Apache-2.0
"""The daemon: its loop, one pass over the provider, and its messages."""
