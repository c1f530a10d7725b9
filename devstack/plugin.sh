#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# plugin.sh - devstack sources it in each phase; the work is in lib/file-backed-memory.

FBM_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=lib/file-backed-memory
source "$FBM_DIR/devstack/lib/file-backed-memory"

if [[ "$1" == "stack" && "$2" == "pre-install" ]]; then
    echo_summary "Preparing the store for file-backed memory"
    prepare_fbm
elif [[ "$1" == "stack" && "$2" == "install" ]]; then
    echo_summary "Installing fbm-placement"
    install_fbm
elif [[ "$1" == "stack" && "$2" == "post-config" ]]; then
    echo_summary "Configuring Nova for file-backed memory"
    configure_fbm
elif [[ "$1" == "stack" && "$2" == "extra" ]]; then
    echo_summary "Starting fbm-agent"
    start_fbm
elif [[ "$1" == "stack" && "$2" == "test-config" ]]; then
    check_fbm
elif [[ "$1" == "unstack" ]]; then
    stop_fbm
elif [[ "$1" == "clean" ]]; then
    cleanup_fbm
fi
