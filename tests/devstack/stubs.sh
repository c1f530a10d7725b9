#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the plugin finds of devstack, as stubs: a real one needs a machine of its own, which it
# changes for good. They write what they are called with to $ROOT/calls, and edit real files; all
# paths are below $ROOT. Nothing is mounted, no service is started, and sudo is none.
#
# Names and values are devstack's.
# shellcheck disable=SC2034

DEST=$ROOT/opt/stack
DATA_DIR=$DEST/data
STACK_USER=stack
SYSTEMD_DIR=$ROOT/etc/systemd/system
NOVA_CONF=$ROOT/etc/nova/nova.conf
NOVA_CPU_CONF=$ROOT/etc/nova/nova-cpu.conf
QEMU_CONF=$ROOT/etc/libvirt/qemu.conf
NOVA_FILTERS=ComputeFilter,SameHostFilter,DifferentHostFilter
VIRT_DRIVER=${VIRT_DRIVER:-libvirt}
FBM_STORE_DIR=${FBM_STORE_DIR:-$ROOT/srv/fbm}

function called {
    local words=$*
    echo "${words//"$ROOT"/}" >> "$ROOT/calls"
}

function echo_summary {
    echo "$@"
}

function define_plugin {
    :
}

function warn {
    shift
    echo "WARNING: $*" >&2
}

function die {
    shift
    echo "ERROR: $*" >&2
    exit 1
}

# trueorfalse default variable
function trueorfalse {
    case ${!2:-$1} in
        True|true|1|yes|y) echo True ;;
        *) echo False ;;
    esac
}

function is_service_enabled {
    [[ ,$ENABLED_SERVICES, == *,$1,* ]]
}

function enable_service {
    if [[ ,$DISABLED_SERVICES, != *,$1,* ]] && ! is_service_enabled "$1"; then
        ENABLED_SERVICES+=,$1
    fi
}

function get_python_exec_prefix {
    echo "$BIN"
}

function setup_develop {
    called setup_develop
}

function pip_uninstall {
    called pip_uninstall "$@"
}

function restart_service {
    called restart_service "$@"
}

function iniset {
    "$PYTHON" -I -S "$INI" set "$@"
}

function iniget {
    "$PYTHON" -I -S "$INI" get "$@"
}

function iniget_multiline {
    "$PYTHON" -I -S "$INI" get "$@"
}

function iniadd_literal {
    "$PYTHON" -I -S "$INI" add "$@"
}

function ini_has_option {
    "$PYTHON" -I -S "$INI" has "$@"
}

function run_process {
    called run_process "$@"
    if is_service_enabled "$1"; then
        mkdir -p "$SYSTEMD_DIR"
        local unit=$SYSTEMD_DIR/devstack@$1.service
        iniset "$unit" Unit Description "Devstack devstack@$1.service"
        iniset "$unit" Service User "$STACK_USER"
        iniset "$unit" Service ExecStart "$2"
    fi
}

function stop_process {
    called stop_process "$@"
}

# async_runfunc and async_wait name: as devstack's, for one function at a time
function async_runfunc {
    "$1" &
    _ASYNC_PID=$!
}

function async_wait {
    if [[ -n $_ASYNC_PID ]]; then
        wait "$_ASYNC_PID"
        _ASYNC_PID=
    fi
}

function mountpoint {
    grep -qxF "$2" "$ROOT/mounts" 2>/dev/null
}

# Runs what only touches files, and plays what needs root.
function sudo {
    called sudo "$@"
    case $1 in
        "$FAILS") return 1 ;;
        chown|systemctl|mkfs.ext4) ;;
        # As large as said, but sparse.
        fallocate) truncate -s "$3" "$4" ;;
        mount) echo "${!#}" >> "$ROOT/mounts" ;;
        umount) sed -i -e "\\|^${!#}\$|d" "$ROOT/mounts" ;;
        *) "$@" ;;
    esac
}
