"""The autoscaler of a served model, and the rules by which prometheus-adapter gives it Triton's queue.

Metrics: Triton's docs/user_guide/metrics.md. `nv_inference_pending_request_count` is a gauge, requests that no copy of
the model has begun; `nv_inference_queue_duration_us` and `nv_inference_request_success` are counters. All are by model.
Rules: prometheus-adapter's docs/config.md, as values of its Helm chart.
"""

from __future__ import annotations

from lat_export.deploy.kubernetes_objects import Object, Workload

PENDING, QUEUE_US = "triton_pending_requests", "triton_queue_us_per_request"
WINDOW = "1m"
CALM_S = 300


def autoscaler(work: Workload, replicas: tuple[int, int], pending: int, queue_us: int) -> Object:
    """
    Args:
        replicas: at least and at most.
        pending: requests that may wait in a pod, on average.
        queue_us: microseconds that a request may wait, on average.
    """
    targets = {PENDING: pending, QUEUE_US: queue_us}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": work.metadata,
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": work.name},
            "minReplicas": replicas[0],
            "maxReplicas": replicas[1],
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": name},
                        "target": {"type": "AverageValue", "averageValue": str(target)},
                    },
                }
                for name, target in targets.items()
            ],
            "behavior": {
                # A pod that has just gone takes its time to come back: loading, and warming up.
                "scaleDown": {
                    "stabilizationWindowSeconds": CALM_S,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                }
            },
        },
    }


def adapter_values() -> Object:
    """Of the chart prometheus-adapter. The series carry the labels `namespace` and `pod` where Prometheus finds the
    pods by Kubernetes' own discovery."""
    ours, by = "<<.LabelMatchers>>", "<<.GroupBy>>"

    def rate(series: str) -> str:
        return f"sum(rate({series}{{{ours}}}[{WINDOW}])) by ({by})"

    # Where nothing is served the quotient would be 0/0, and the autoscaler would see no number at all.
    per_request = f"{rate('<<.Series>>')} / clamp_min({rate('nv_inference_request_success')}, 0.01)"
    pending = f"sum(avg_over_time(<<.Series>>{{{ours}}}[{WINDOW}])) by ({by})"
    rules = (
        ("nv_inference_pending_request_count", PENDING, pending),
        ("nv_inference_queue_duration_us", QUEUE_US, per_request),
    )
    return {
        "rules": {
            "custom": [
                {
                    "seriesQuery": f'{series}{{namespace!="",pod!=""}}',
                    "resources": {
                        "overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}},
                    },
                    "name": {"matches": f"^{series}$", "as": name},
                    "metricsQuery": query,
                }
                for series, name, query in rules
            ]
        }
    }
