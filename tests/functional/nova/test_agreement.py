# SPDX-License-Identifier: Apache-2.0
"""Placement with the pre-filter, and the filter alone, leave the same hosts of any fleet."""

import dataclasses
import types

import fixtures
import nova.conf
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from nova import exception, objects
from nova.scheduler import utils as scheduler_utils

from fbm_filters import moves
from fbm_filters.cache import Cache
from fbm_filters.host_filter import FileBackedMemoryFilter
from fbm_filters.options import read_policy, register_opts
from fbm_filters.placement import traits_in_use
from fbm_filters.prefilter import PreFilter
from fbm_filters.rules import ANY, FORBIDDEN, NEEDS, SchedulerHost
from fbm_placement.constants import TRAIT_DISK, TRAIT_ENABLED, TRAIT_UNHEALTHY
from tests.functional.nova.lone_placement import LonePlacement
from tests.unit.filters.specs import ALIAS, DIRECT, VDPA, spec

FLEET = 50
EXAMPLES = 150

HEALTHY_STATES = (
    frozenset(),
    frozenset({TRAIT_ENABLED}),
    frozenset({TRAIT_ENABLED, TRAIT_DISK}),
)
STATES = (*HEALTHY_STATES, *(state | {TRAIT_UNHEALTHY} for state in HEALTHY_STATES))
# Every host can serve every request but for what this project has to say.
INVENTORY = {
    'VCPU': 8,
    'PCPU': 8,
    'MEMORY_MB': 8192,
    'DISK_GB': 100,
    'VGPU': 1,
    'MEM_ENCRYPTION_CONTEXT': 8,
}
TRAITS = ('HW_CPU_X86_AMD_SEV',)

WISHES = {
    'required': {f'trait:{TRAIT_ENABLED}': 'required'},
    'forbidden': {f'trait:{TRAIT_ENABLED}': 'forbidden'},
    'disk required': {f'trait:{TRAIT_DISK}': 'required'},
    'disk forbidden': {f'trait:{TRAIT_DISK}': 'forbidden'},
    'unhealthy required': {f'trait:{TRAIT_UNHEALTHY}': 'required'},
    'no wish': {f'trait:{TRAIT_ENABLED}': 'perhaps'},
    'small pages': {'hw:mem_page_size': 'small'},
    'large pages': {'hw:mem_page_size': 'large'},
    'pages of 2 MiB': {'hw:mem_page_size': '2048'},
    'pages that do not exist': {'hw:mem_page_size': 'bogus'},
    'realtime': {
        'hw:cpu_realtime': 'yes',
        'hw:cpu_policy': 'dedicated',
        'hw:cpu_realtime_mask': '^0',
    },
    'memory encryption': {'hw:mem_encryption': 'true'},
    'vgpu': {'resources:VGPU': '1'},
    'vgpu of a numbered group': {'resources1:VGPU': '1'},
    'accelerator': {'accel:device_profile': 'fpga'},
}
"""Extra specs of a flavor."""

_ENCRYPTABLE = {'hw_firmware_type': 'uefi', 'hw_machine_type': 'q35'}
IMAGES = {
    'none': None,
    'of no use for encryption': {},
    'plain': _ENCRYPTABLE,
    'required': {**_ENCRYPTABLE, 'traits_required': [TRAIT_ENABLED]},
    'disk required': {**_ENCRYPTABLE, 'traits_required': [TRAIT_DISK]},
    'large pages': {**_ENCRYPTABLE, 'hw_mem_page_size': 'large'},
}
"""Properties of an image."""

PCI_REQUESTS = {'alias': ALIAS, 'sriov': DIRECT, 'vdpa': VDPA}

EARLIER = {
    'enabled required': ('root_required', TRAIT_ENABLED),
    'enabled forbidden': ('root_forbidden', TRAIT_ENABLED),
    'disk forbidden': ('root_forbidden', TRAIT_DISK),
    'status forbidden': ('root_forbidden', 'COMPUTE_STATUS_DISABLED'),
}
"""What other pre-filters have put there."""


def few(names, at_most):
    return st.lists(st.sampled_from(sorted(names)), max_size=at_most, unique=True)


FLEETS = st.lists(st.sampled_from(STATES), min_size=1, max_size=FLEET)
REQUESTS = st.fixed_dictionaries(
    {
        'wishes': few(WISHES, 2),
        'image': st.sampled_from(sorted(IMAGES)),
        'pci': few(PCI_REQUESTS, 2),
        'earlier': few(EARLIER, 1),
        # As where the instance is on the fleet: None is no live migration.
        'source': st.none() | st.integers(0, FLEET - 1),
        'destination': st.none() | st.integers(0, FLEET - 1),
        'later_port': st.booleans(),
    }
)
POLICIES = st.fixed_dictionaries(
    {
        'default_policy': st.sampled_from((ANY, FORBIDDEN)),
        'incompatible': st.one_of(
            st.just(list(NEEDS)), st.lists(st.sampled_from(sorted(NEEDS)), unique=True)
        ),
    }
)


@pytest.fixture(scope='module')
def placement():
    objects.register_all()
    register_opts(nova.conf.CONF)
    with LonePlacement() as lone:
        lone.fleet = lone.make_providers(FLEET, INVENTORY, TRAITS)
        yield lone


def request_spec(request):
    """Return a RequestSpec as the pre-filter gets it."""
    made = spec(
        {key: value for wish in request['wishes'] for key, value in WISHES[wish].items()},
        IMAGES[request['image']],
        [PCI_REQUESTS[kind] for kind in request['pci']],
        **({'image': None} if IMAGES[request['image']] is None else {}),
    )
    for name in request['earlier']:
        where, trait = EARLIER[name]
        getattr(made, where).add(trait)
    return made


def with_move(asked, request, states):
    if request['source'] is None:
        return asked

    def host(number):
        return SchedulerHost(f'host{number}', states[number % len(states)])

    return dataclasses.replace(
        asked,
        needs=asked.needs | ({'sriov'} if request['later_port'] else set()),
        source=host(request['source']),
        destination=None if request['destination'] is None else host(request['destination']),
    )


def left_by_placement(placement, asked):
    """Ask Placement as the scheduler does, after the pre-filter; return UUIDs, or the refusal."""
    cache = Cache(traits_in_use, 60, 300)
    try:
        PreFilter(read_policy(nova.conf.CONF), cache)(placement.context, asked)
    except exception.RequestFilterFailed as refused:
        return frozenset(), str(refused)
    finally:
        cache.close()
    resources = scheduler_utils.ResourceRequest.from_request_spec(asked)
    found = placement.client.get_allocation_candidates(placement.context, resources)
    assert found[1] is not None, f'Placement refused {resources.to_querystring()}'
    return frozenset(found[1]), None


def left_by_the_filter(fleet, asked):
    """Give all hosts to the filter, as if Placement had returned all."""
    hosts = [
        types.SimpleNamespace(uuid=one, host=f'host{number}', nodename=f'host{number}')
        for number, one in enumerate(fleet)
    ]
    alone = FileBackedMemoryFilter()
    try:
        return frozenset(host.uuid for host in alone.filter_all(hosts, asked))
    finally:
        alone.cache.close()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(states=FLEETS, request=REQUESTS, policy=POLICIES)
def check_agreement(placement, seen, states, request, policy):
    fleet = placement.fleet[: len(states)]
    placement.set_own_traits(dict(zip(fleet, states, strict=True)))
    with fixtures.MockPatchObject(
        moves, 'add_move', side_effect=lambda asked, *_: with_move(asked, request, states)
    ):
        conf = nova.conf.CONF
        for name, value in {**policy, 'prefilter': False}.items():
            conf.set_override(name, value, group='file_backed_memory')
        by_placement, refusal = left_by_placement(placement, request_spec(request))
        by_placement &= frozenset(fleet)
        alone = left_by_the_filter(fleet, request_spec(request))
    note(f'refusal: {refusal}')
    assert by_placement == alone
    size = 'all' if len(alone) == len(fleet) else 'some' if alone else 'none'
    seen['refused' if refusal else size] += 1


def test_agreement(placement):
    """What Placement returns with the pre-filter equals what the filter alone leaves of all."""
    seen = {'refused': 0, 'none': 0, 'some': 0, 'all': 0}
    try:
        check_agreement(placement, seen)
    finally:
        for name in ('default_policy', 'incompatible', 'prefilter'):
            nova.conf.CONF.clear_override(name, group='file_backed_memory')
    # Else they would agree on nothing.
    assert min(seen.values()) >= EXAMPLES // 25, seen
