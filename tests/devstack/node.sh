#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# node.sh PHASE... - plays a node's stack.sh, unstack.sh and clean.sh around the plugin, in
# devstack's order of phases, and stubs of what these do to the files in between.
#
# PLUGIN is the plugin's directory; without one it is what devstack does alone.

# Where stack.sh is, a failure ends it, and it says so.
function err_trap {
    local found=$?
    echo "${0##*/} failed"
    exit $found
}
trap err_trap ERR
set -o errexit
# shellcheck source-path=SCRIPTDIR source=stubs.sh
source "$(dirname "${BASH_SOURCE[0]}")/stubs.sh"

function run_phase {
    if [[ -n $PLUGIN ]]; then
        called "== $*"
        # shellcheck disable=SC1091
        source "$PLUGIN/plugin.sh" "$@"
    fi
}

# Each of stack.sh, unstack.sh and clean.sh is a process of its own, which reads the settings.
function load_plugin_settings {
    if [[ -n $PLUGIN ]]; then
        # shellcheck disable=SC1091
        source "$PLUGIN/settings"
    fi
}

# devstack makes nova.conf again each time.
function create_nova_conf {
    mkdir -p "$ROOT/etc/nova"
    printf '[DEFAULT]\ndebug = True\n' > "$NOVA_CONF"
    iniset "$NOVA_CONF" filter_scheduler enabled_filters "$NOVA_FILTERS"
    iniset "$NOVA_CONF" libvirt virt_type kvm
    # What a test wants to be there already: "section option value" lines.
    local section option value
    while read -r section option value; do
        if [[ -n $section ]]; then
            iniset "$NOVA_CONF" "$section" "$option" "$value"
        fi
    done <<< "$NOVA_BEFORE"
}

# As slow as it needs to be for someone who doesn't wait to lose what he wrote.
function configure_neutron_nova {
    local content
    content=$(cat "$NOVA_CONF")
    sleep 0.2
    printf '%s\n\n[neutron]\nauth_type = password\n' "$content" > "$NOVA_CONF"
}

function stack {
    load_plugin_settings
    mkdir -p "$DATA_DIR"
    run_phase stack pre-install
    called restart_service libvirtd "(configure_libvirt)"
    create_nova_conf
    run_phase stack install
    async_runfunc configure_neutron_nova
    run_phase stack post-config
    async_wait configure_neutron_nova
    iniset "$NOVA_CONF" key_manager fixed_key 0123
    # start_nova_compute
    if is_service_enabled n-cpu; then
        cp "$NOVA_CONF" "$NOVA_CPU_CONF"
        iniset "$NOVA_CPU_CONF" workarounds disable_group_policy_check_upcall True
        run_process n-cpu "/nova-compute --config-file $NOVA_CPU_CONF"
    fi
    run_phase stack extra
    run_phase stack test-config
}

function unstack {
    load_plugin_settings
    # unstack.sh goes on after a failure.
    trap - ERR
    set +o errexit
    run_phase unstack
    # stop_nova
    stop_process n-cpu
}

function clean {
    unstack
    load_plugin_settings
    run_phase clean
}

for phase in "$@"; do
    # A process each, with the files as the last one left them; not "( ... ) || exit", in which
    # errexit means nothing.
    if [[ $# == 1 ]]; then
        "$phase"
    else
        "$BASH" "${BASH_SOURCE[0]}" "$phase"
    fi
done
