# SPDX-License-Identifier: Apache-2.0
"""RequestSpecs as nova-scheduler gets them."""

from nova import objects

objects.register_all()

ALIAS = {'alias_name': 'card', 'spec': [{'vendor_id': '8086'}]}
DIRECT = {'alias_name': None, 'spec': [{'physical_network': 'p'}]}
VDPA = {'alias_name': None, 'spec': [{'physical_network': 'p', 'dev_type': 'vdpa'}]}


def spec(extra_specs=None, properties=None, pci=(), groups=(), **changes):
    flavor = objects.Flavor(
        id=1,
        flavorid='f',
        name='f',
        vcpus=2,
        memory_mb=512,
        root_gb=1,
        ephemeral_gb=0,
        swap=0,
        extra_specs=extra_specs or {},
    )
    image = objects.ImageMeta(properties=objects.ImageMetaProps.from_dict(properties or {}))
    requests = [objects.InstancePCIRequest(count=1, **request) for request in pci]
    return objects.RequestSpec(
        flavor=flavor,
        image=changes.pop('image', image),
        is_bfv=False,
        instance_uuid='c2b9f0f4-0000-4000-8000-000000000000',
        pci_requests=objects.InstancePCIRequests(requests=requests),
        requested_resources=list(groups),
        scheduler_hints=changes.pop('scheduler_hints', {}),
        **changes,
    )


def to(**destination):
    return spec(requested_destination=objects.Destination(**destination))
