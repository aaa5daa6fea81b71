"""What a cluster may still get: nodes that its autoscaler can start."""

from __future__ import annotations

import contextlib
from typing import Any


def may_get(ray: Any, resource: str) -> bool:
    """Return whether an autoscaler can start nodes with more of a resource than there is.

    Args:
        ray: the module, connected to the cluster.
        resource: ``GPU`` or ``CPU``.
    """
    with contextlib.suppress(Exception):  # Ray has no public call for this; without an autoscaler there is no answer
        most = ray._private.state.state.get_max_resources_from_cluster_config() or {}
        return bool(most.get(resource, 0) > ray.cluster_resources().get(resource, 0.0))
    return False
