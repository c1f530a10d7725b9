# SPDX-License-Identifier: Apache-2.0
"""Request facts: what a RequestSpec asks for, read with Nova's own helpers."""

from collections.abc import Callable, Iterable

from nova import exception, objects
from nova.objects.request_spec import RequestSpec
from nova.scheduler import utils as scheduler_utils
from nova.virt import hardware
from oslo_log import log

from fbm_filters.rules import TRAIT_OF_NOVA, RequestFacts
from fbm_placement.constants import TRAIT_ENABLED

LOG = log.getLogger(__name__)

VGPU = 'VGPU'
# The other two traits begin with the first.
_TRAITS = (TRAIT_ENABLED, TRAIT_OF_NOVA)
_NAMES = (*_TRAITS, 'mem_page_size', 'cpu_realtime', 'mem_encryption', VGPU, 'device_profile')


def read(spec: RequestSpec) -> RequestFacts:
    """Return all facts but source and destination; NovaException: Nova finds the request wrong."""
    resources = scheduler_utils.ResourceRequest.from_request_spec(spec)
    host_group = resources.get_request_group(None)
    return RequestFacts(
        needs=frozenset(_needs(spec, resources)),
        required=frozenset(host_group.required_traits) | frozenset(spec.root_required),
        forbidden=frozenset(host_group.forbidden_traits) | frozenset(spec.root_forbidden),
    )


def mentions_rules(spec: RequestSpec) -> bool:
    """Return whether the request could concern file-backed memory; for when ``read`` fails.

    Coarse, and on the safe side: it searches for the bare names that the rules are about.
    """
    if 'flavor' not in spec:
        return True
    asked = set(spec.flavor.extra_specs)
    image = spec.image if 'image' in spec else None
    if image is not None and 'properties' in image:
        asked.update(image.properties.obj_to_primitive()['nova_object.data'])
        asked.update(image.properties.get('traits_required') or ())
    return bool(
        'pci_requests' in spec and spec.pci_requests and spec.pci_requests.requests
    ) or any(name in key for key in asked for name in _NAMES)


def _needs(spec: RequestSpec, resources: 'scheduler_utils.ResourceRequest') -> Iterable[str]:
    flavor = spec.flavor
    image = spec.image if 'image' in spec else None
    image = image or objects.ImageMeta(properties=objects.ImageMetaProps())
    if _asked(_has_page_size, flavor, image, 'mem_page_size'):
        yield 'page_size'
    if hardware.is_realtime_enabled(flavor):
        yield 'realtime'
    if _asked(hardware.get_mem_encryption_constraint, flavor, image, 'mem_encryption'):
        yield 'memory_encryption'
    if VGPU in resources.merged_resources():
        yield 'mediated_devices'
    groups = spec.requested_resources if 'requested_resources' in spec else None
    # nova/accelerator/cyborg.py names the group of a port so.
    ids = [group.requester_id or '' for group in groups or ()]
    if flavor.extra_specs.get('accel:device_profile') or any(
        name.startswith('device_profile_') for name in ids
    ):
        yield 'accelerators'
    if 'pci_requests' in spec and spec.pci_requests:
        yield from kinds_of(spec.pci_requests.requests)


def _asked(
    read_constraint: Callable[['objects.Flavor', 'objects.ImageMeta'], object],
    flavor: 'objects.Flavor',
    image: 'objects.ImageMeta',
    name: str,
) -> bool:
    """Return what Nova's helper reads; where it refuses, as Nova will, whether it is mentioned."""
    try:
        return bool(read_constraint(flavor, image))
    except (exception.NovaException, ValueError) as exc:
        mentioned = f'hw:{name}' in flavor.extra_specs or bool(image.properties.get(f'hw_{name}'))
        LOG.debug('Nova finds the request inconsistent (%s); hw:%s: %s', exc, name, mentioned)
        return mentioned


def _has_page_size(flavor: 'objects.Flavor', image: 'objects.ImageMeta') -> bool:
    topology = hardware.numa_get_constraints(flavor, image)
    return topology is not None and any(cell.pagesize is not None for cell in topology.cells)


def kinds_of(requests: 'Iterable[objects.InstancePCIRequest]') -> Iterable[str]:
    """Return the needs that PCI requests stand for."""
    for request in requests:
        if request.source == objects.InstancePCIRequest.FLAVOR_ALIAS:
            yield 'pci_passthrough'
        elif any(spec.get('dev_type') == 'vdpa' for spec in request.spec or ()):
            yield 'vdpa'
        else:
            yield 'sriov'
