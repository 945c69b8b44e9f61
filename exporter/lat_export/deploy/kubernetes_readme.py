"""README.md of a deployment for Kubernetes: what is in it, in which order to use it, what the numbers come from."""

from __future__ import annotations

from lat_export.deploy.host_needs import HostNeeds
from lat_export.deploy.kubernetes_objects import Object, Workload
from lat_export.deploy.pod_resources import MIB
from lat_export.stages.bundle import Bundle


def readme(bundle: Bundle, work: Workload, needs: HostNeeds, notes: tuple[str, ...], scaling: Object) -> str:
    signature = bundle.signature
    lines = [
        f"# {signature.family}, {signature.task}, for Kubernetes",
        "",
        "Written by `lat-export bundle --format kubernetes`; `deployment.json` has the SHA-256 of every file.",
        "",
        "```bash",
        f"{build_command(work)} .",
        f"docker push {work.image}",
        "kubectl apply --kustomize kubernetes",
        f"kubectl rollout status deployment/{work.name}",
        "```",
        "",
        "- `models/`: the repository of NVIDIA Triton Inference Server; its README has a request to send.",
        "- `Dockerfile`: Triton with the repository in it, no root, one digest for server and model.",
        "- `kubernetes/`: Deployment, Service, HorizontalPodAutoscaler, PodDisruptionBudget. They name no namespace.",
        "- `prometheus-adapter.yaml`: values of prometheus-adapter's Helm chart, with the autoscaler's two metrics.",
        "",
        *(f"- {note}" for note in notes),
        "",
        "## What a pod asks for",
        "",
        *_resources(work, needs),
        "",
        "## Scaling",
        "",
        *_scaling(scaling),
        "",
        "gRPC clients keep one connection, and a Service balances connections: many clients, a mesh, or a client that "
        "reconnects spread the load; HTTP requests without keep-alive are spread as they are.",
    ]
    return "\n".join(lines) + "\n"


def build_command(work: Workload) -> str:
    """Without the place of the Dockerfile. The native ops are of one architecture, wherever the image is built."""
    return f"docker build --platform linux/{work.architecture} --tag {work.image}"


def _resources(work: Workload, needs: HostNeeds) -> list[str]:
    resources = work.resources
    how = (
        f"An estimate: {needs.not_measured}."
        if needs.not_measured
        else f"Measured on the machine that wrote this: loading {needs.load_s:.2f} s, a first run of one row of "
        f"{needs.tokens} tokens {needs.run_s:.2f} s, {needs.loaded_bytes / MIB:.0f} MiB resident after loading, "
        f"{needs.row_bytes / MIB:.0f} MiB more at the peak of the run."
    )
    rows = [f"| {part} | {count / MIB:.0f} MiB |" for part, count in resources.parts.items()]
    gpus = f", {resources.gpus} GPU" if resources.gpus else ""
    return [
        f"{resources.cpus} processors, {resources.memory / MIB:.0f} MiB of memory{gpus}; limits as requests. A pod "
        f"that does not serve within {resources.start_s} s is started anew. {how}",
        "",
        "| of the memory | |",
        "|---|---|",
        *rows,
    ]


def _scaling(scaling: Object) -> list[str]:
    spec = scaling["spec"]
    return [
        f"{spec['minReplicas']} to {spec['maxReplicas']} pods, by the larger of what two metrics ask for:",
        "",
        *(
            f"- `{metric['pods']['metric']['name']}`: {metric['pods']['target']['averageValue']} a pod on average"
            for metric in spec["metrics"]
        ),
        "",
        "They need Prometheus, finding pods by Kubernetes' discovery (the pods' annotations `prometheus.io/...`; for "
        "the Prometheus operator write a PodMonitor of the port `metrics`), and prometheus-adapter:",
        "",
        "```bash",
        "helm upgrade --install prometheus-adapter prometheus-community/prometheus-adapter --reuse-values "
        "--values prometheus-adapter.yaml",
        "```",
        "",
        "Until they are there the autoscaler keeps the pods that there are, and says so in its events.",
    ]
