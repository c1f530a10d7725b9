# SPDX-License-Identifier: Apache-2.0
"""The host itself: its guests, its store, its hook, and what is published of them."""
