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

# warn line words: as devstack's it says the second argument only, on stdout, and passes on the exit
# code that it finds.
function warn {
    local found=$?
    echo "[WARNING] $1 $2"
    return $found
}

# As devstack's it ends with the exit code that it finds, if that is one.
function die {
    # shellcheck disable=SC2319 # that it may be a condition's is what devstack's does too
    local found=$?
    shift
    echo "[ERROR] $*" >&2
    exit $((found ? found : 1))
}

# trueorfalse default variable: as devstack's, which knows these words and takes any other for the
# default.
function trueorfalse {
    case ${!2:-} in
        1|[yY]es|YES|[tT]rue|TRUE) echo True ;;
        0|[nN]o|NO|[fF]alse|FALSE) echo False ;;
        *) echo "$1" ;;
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

# A line of a file is there, or not.
function add_line {
    grep -qsxF "$2" "$1" || echo "$2" >> "$1"
}

function drop_line {
    if [[ -e $1 ]]; then
        sed -i -e "\\|^$2\$|d" "$1"
    fi
}

# systemctl verb [--now] unit: which units are enabled and which run are lines of two files.
function systemctl {
    local verb=$1 unit=${!#}
    if [[ $verb == is-enabled ]]; then
        grep -qsxF "$unit" "$ROOT/enabled"
        return
    elif [[ $verb != daemon-reload && ! -e $SYSTEMD_DIR/$unit ]]; then
        echo "Unit file $unit does not exist." >&2
        return 1
    fi
    case $verb in
        enable) add_line "$ROOT/enabled" "$unit" ;;
        start) add_line "$ROOT/running" "$unit" ;;
        disable) drop_line "$ROOT/enabled" "$unit" ;;
    esac
    if [[ $verb == stop || $2 == --now ]]; then
        drop_line "$ROOT/running" "$unit"
    fi
}

# As devstack's these two do nothing for a service that is not enabled.
function run_process {
    called run_process "$@"
    if ! is_service_enabled "$1"; then
        return 0
    fi
    if [[ $2 != /* ]]; then
        die $LINENO "cmd=\"$2\" does not start with an absolute path"
    fi
    mkdir -p "$SYSTEMD_DIR"
    local unit=devstack@$1.service
    printf '\n[%s]\n%s\n' Unit "Description = Devstack $unit" \
        Service "User = $STACK_USER"$'\n'"ExecStart = $2" \
        Install "WantedBy = multi-user.target" > "$SYSTEMD_DIR/$unit"
    systemctl enable "$unit"
    systemctl start "$unit"
}

function stop_process {
    called stop_process "$@"
    if is_service_enabled "$1" && systemctl is-enabled "devstack@$1.service"; then
        systemctl stop "devstack@$1.service"
        systemctl disable "devstack@$1.service"
    fi
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
        chown|mkfs.ext4) ;;
        # As large as said, but sparse.
        fallocate) truncate -s "$3" "$4" ;;
        mount) add_line "$ROOT/mounts" "${!#}" ;;
        umount) drop_line "$ROOT/mounts" "${!#}" ;;
        *) "$@" ;;
    esac
}
