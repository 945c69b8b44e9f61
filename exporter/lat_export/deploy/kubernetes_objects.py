"""Deployment, Service and PodDisruptionBudget of a served model, as the objects that their YAML holds.

They fit the Pod Security Standard "restricted". Fields: the API reference of Kubernetes, apps/v1, v1 and policy/v1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lat_export.deploy.pod_resources import MIB, PROBE_S, PodResources

Object = dict[str, Any]

# The user triton-server of NVIDIA's images.
USER = 1000
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
READY, LIVE, METRICS = "/v2/health/ready", "/v2/health/live", "/metrics"
# A server is taken out of the endpoints while it still serves, then finishes what it has begun.
DRAIN_S, FINISH_S, SPARE_S = 5, 30, 10


@dataclass(frozen=True)
class Workload:
    """
    Attributes:
        name: of every object, a DNS label.
        args: command of the container.
        architecture: of the nodes, as Kubernetes calls it.
        digest: SHA-256 of the bundle's manifest.
    """

    name: str
    image: str
    args: tuple[str, ...]
    resources: PodResources
    architecture: str
    digest: str

    @property
    def selector(self) -> dict[str, str]:
        """What tells its pods from others: never changed, so that a Deployment can be applied again."""
        return {"app.kubernetes.io/name": "lat-export-triton", "app.kubernetes.io/instance": self.name}

    @property
    def metadata(self) -> Object:
        labels = {**self.selector, "app.kubernetes.io/managed-by": "lat-export"}
        return {"name": self.name, "labels": labels, "annotations": self.annotations}

    @property
    def annotations(self) -> dict[str, str]:
        return {"lat-export/bundle-manifest-sha256": self.digest}


def deployment(work: Workload) -> Object:
    """No `replicas`: the autoscaler sets them, and applying the file again would set them back."""
    scraped = {"scrape": "true", "port": str(PORTS["metrics"]), "path": METRICS}
    annotations = {**work.annotations, **{f"prometheus.io/{key}": value for key, value in scraped.items()}}
    gpu = work.resources.gpus > 0
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": work.metadata,
        "spec": {
            "selector": {"matchLabels": work.selector},
            "strategy": {
                "type": "RollingUpdate",
                # A GPU more than are in use is rarely free, a processor is.
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1} if gpu else {"maxSurge": 1, "maxUnavailable": 0},
            },
            "progressDeadlineSeconds": 2 * work.resources.start_s + DRAIN_S + FINISH_S,
            "template": {
                "metadata": {"labels": work.metadata["labels"], "annotations": annotations},
                "spec": _pod(work),
            },
        },
    }


def _pod(work: Workload) -> Object:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": work.selector},
    }
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": DRAIN_S + FINISH_S + SPARE_S,
        "nodeSelector": {"kubernetes.io/arch": work.architecture, "kubernetes.io/os": "linux"},
        **({"tolerations": tolerations} if work.resources.gpus else {}),
        "topologySpreadConstraints": [spread],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(work)],
        "volumes": [
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(work.resources.shared)}},
            {"name": "temporary", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
    }


def _container(work: Workload) -> Object:
    resources = work.resources
    limits = {"cpu": str(resources.cpus), "memory": quantity(resources.memory)}
    gpus = {"nvidia.com/gpu": str(resources.gpus)} if resources.gpus else {}
    return {
        "name": "triton",
        "image": work.image,
        "imagePullPolicy": "IfNotPresent",
        # Not `command`: the entry point of NVIDIA's image sets the libraries of the GPU up.
        "args": [*work.args, f"--exit-timeout-secs={FINISH_S}"],
        # What would be written to the home folder, as compiled CUDA code, and beside Python files.
        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
        "ports": [{"name": name, "containerPort": port} for name, port in PORTS.items()],
        # Limits as requests: the pod is of the class Guaranteed, evicted last; processors can be its own.
        "resources": {"limits": {**limits, **gpus}, "requests": {**limits, **gpus}},
        "startupProbe": _probe(READY, PROBE_S, math.ceil(resources.start_s / PROBE_S)),
        "readinessProbe": _probe(READY, 5, 3),
        "livenessProbe": _probe(LIVE, 10, 3),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(DRAIN_S)]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "temporary", "mountPath": "/tmp"},
        ],
    }


def _probe(path: str, period_s: int, failures: int) -> Object:
    # A second, the default, is short for a server whose processors are all busy.
    http = {"path": path, "port": "http"}
    return {"httpGet": http, "periodSeconds": period_s, "timeoutSeconds": 5, "failureThreshold": failures}


def service(work: Workload) -> Object:
    ports: list[Object] = [{"name": name, "port": port, "targetPort": name} for name, port in PORTS.items()]
    ports[list(PORTS).index("grpc")]["appProtocol"] = "kubernetes.io/h2c"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": work.metadata,
        "spec": {"type": "ClusterIP", "selector": work.selector, "ports": ports},
    }


def disruption_budget(work: Workload) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": work.metadata,
        "spec": {
            "maxUnavailable": 1,
            # A pod that does not serve keeps no node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": work.selector},
        },
    }


def quantity(count: int) -> str:
    """Bytes as Kubernetes writes them; a whole number of MiB."""
    return f"{math.ceil(count / MIB)}Mi"
