# SPDX-License-Identifier: Apache-2.0
"""Request facts: what a RequestSpec asks for, read with Nova's own helpers."""

from collections.abc import Callable, Iterable

from nova import exception, objects
from nova.scheduler import utils as scheduler_utils
from nova.virt import hardware
from oslo_log import log

from fbm_filters.rules import TRAIT_OF_NOVA, RequestFacts
from fbm_placement.names import TRAIT_ENABLED

LOG = log.getLogger(__name__)

VGPU = 'VGPU'
_VDPA = 'vdpa'
_WORDS = (
    TRAIT_ENABLED,  # and so the other two, which begin with it
    TRAIT_OF_NOVA,
    'mem_page_size',
    'cpu_realtime',
    'mem_encryption',
    VGPU,
    'device_profile',
)


def read(spec: 'objects.RequestSpec') -> RequestFacts:
    """Read what the request asks for; where it comes from and goes to is read elsewhere.

    Whatever an earlier pre-filter put there is taken for the request's own.
    """
    resources = scheduler_utils.ResourceRequest.from_request_spec(spec)
    host_group = resources.get_request_group(None)
    return RequestFacts(
        needs=frozenset(_needs(spec, resources)),
        required=frozenset(host_group.required_traits) | frozenset(spec.root_required),
        forbidden=frozenset(host_group.forbidden_traits) | frozenset(spec.root_forbidden),
    )


def mentions_rules(spec: 'objects.RequestSpec') -> bool:
    """Tell whether the request could concern file-backed memory; for when ``read`` fails.

    Coarse, and on the safe side: it looks for the bare names that the rules are about.
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
    ) or any(word in key for key in asked for word in _WORDS)


def _needs(
    spec: 'objects.RequestSpec', resources: 'scheduler_utils.ResourceRequest'
) -> Iterable[str]:
    flavor = spec.flavor
    image = spec.image if 'image' in spec and spec.image else _no_image()
    if _asked(_has_page_size, flavor, image, 'mem_page_size'):
        yield 'page_size'
    if hardware.is_realtime_enabled(flavor):
        yield 'realtime'
    if _asked(_has_memory_encryption, flavor, image, 'mem_encryption'):
        yield 'memory_encryption'
    if VGPU in resources.merged_resources():
        yield 'mediated_devices'
    if flavor.extra_specs.get('accel:device_profile') or _has_accelerator_port(spec):
        yield 'accelerators'
    if 'pci_requests' in spec and spec.pci_requests:
        yield from kinds_of(spec.pci_requests.requests)


def _no_image() -> 'objects.ImageMeta':
    return objects.ImageMeta(properties=objects.ImageMetaProps())


def _asked(
    read_constraint: Callable[['objects.Flavor', 'objects.ImageMeta'], bool],
    flavor: 'objects.Flavor',
    image: 'objects.ImageMeta',
    name: str,
) -> bool:
    """Ask Nova's helper; where it refuses the request, take the mere mention for asking.

    Nova will refuse such a request too, later and in its own words.
    """
    try:
        return read_constraint(flavor, image)
    except (exception.NovaException, ValueError) as exc:
        mentioned = f'hw:{name}' in flavor.extra_specs or bool(image.properties.get(f'hw_{name}'))
        LOG.debug('Nova finds the request inconsistent (%s); hw:%s: %s', exc, name, mentioned)
        return mentioned


def _has_page_size(flavor: 'objects.Flavor', image: 'objects.ImageMeta') -> bool:
    topology = hardware.numa_get_constraints(flavor, image)
    return topology is not None and any(cell.pagesize is not None for cell in topology.cells)


def _has_memory_encryption(flavor: 'objects.Flavor', image: 'objects.ImageMeta') -> bool:
    return bool(hardware.get_mem_encryption_constraint(flavor, image))


def _has_accelerator_port(spec: 'objects.RequestSpec') -> bool:
    groups = spec.requested_resources if 'requested_resources' in spec else None
    # nova/accelerator/cyborg.py names them so.
    return any((group.requester_id or '').startswith('device_profile_') for group in groups or ())


def kinds_of(requests: 'Iterable[objects.InstancePCIRequest]') -> Iterable[str]:
    """Return the needs that PCI requests stand for."""
    return map(_kind_of, requests)


def _kind_of(request: 'objects.InstancePCIRequest') -> str:
    if request.source == objects.InstancePCIRequest.FLAVOR_ALIAS:
        return 'pci_passthrough'
    if any(spec.get('dev_type') == _VDPA for spec in request.spec or ()):
        return 'vdpa'
    return 'sriov'
