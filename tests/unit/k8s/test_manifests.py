"""The manifests are what KubeRay takes; its schemas are looked at where they are given."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from raystream.ops.cli import commands

ROOT = Path(__file__).parents[3]
K8S = ROOT / "k8s"
FOLDERS = [path.parent for path in sorted(K8S.rglob("kustomization.yaml"))]
CRDS = os.environ.get("RAYSTREAM_TEST_KUBERAY_CRDS")


def documents(path):
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


RESOURCES = [
    (path, one)
    for path in sorted(K8S.rglob("*.yaml"))
    for one in documents(path)
    if isinstance(one, dict) and one["kind"] != "Kustomization"
]
RAY = [(path, one) for path, one in RESOURCES if one["apiVersion"] == "ray.io/v1"]


def named(pairs):
    return [
        pytest.param(one, id=f"{path.relative_to(K8S)}:{one['kind']}:{one['metadata']['name']}")
        for path, one in pairs
    ]


def cluster_of(document):
    return document["spec"].get("rayClusterSpec", document["spec"])


def templates(document):
    cluster = cluster_of(document)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def strict(node):
    """Turn an OpenAPI v3 schema of Kubernetes into a JSON schema that refuses unknown fields."""
    if isinstance(node, dict):
        if node.pop("x-kubernetes-int-or-string", None):
            node.pop("type", None)
            node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        open_ended = node.get("x-kubernetes-preserve-unknown-fields")
        if node.get("type") == "object" and "properties" in node and not open_ended:
            node.setdefault("additionalProperties", False)
        for key, value in node.items():
            if key != "default":
                strict(value)
    elif isinstance(node, list):
        for value in node:
            strict(value)


def errors_of(document):
    """Compare a resource with KubeRay's own schema."""
    path = Path(CRDS) / f"ray.io_{document['kind'].lower()}s.yaml"
    version = next(v for v in documents(path)[0]["spec"]["versions"] if v["storage"])
    schema = version["schema"]["openAPIV3Schema"]
    strict(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [error.message for error in found]


@pytest.mark.parametrize("document", named(RAY))
def test_memory_is_never_shared_and_rays_parameters_are_text(document):
    cluster = cluster_of(document)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(v, str) for v in group.get("rayStartParams", {}).values())
        for container in group["template"]["spec"]["containers"]:
            wanted, most = container["resources"]["requests"], container["resources"]["limits"]
            assert wanted["memory"] == most["memory"]


@pytest.mark.parametrize("document", named(RAY))
def test_a_pod_has_longer_to_end_than_ray_has_to_drain(document):
    for template in templates(document)[1:]:
        (container,) = template["spec"]["containers"]
        env = {one["name"]: one["value"] for one in container["env"]}
        drain_s = int(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert template["spec"]["terminationGracePeriodSeconds"] > drain_s


@pytest.mark.parametrize("document", named(p for p in RAY if p[1]["kind"] == "RayJob"))
def test_an_entrypoint_is_a_command_that_there_is_and_goes_on_from_its_checkpoints(document):
    words = shlex.split(document["spec"]["entrypoint"])
    options, arguments = words[: words.index("--")], words[words.index("--") + 1 :]
    assert options[:2] == ["raystream", "run"]
    assert (ROOT / options[2]).exists()
    assert options[options.index("--from") + 1] == "latest"
    assert "--checkpoint" in options
    usage = CliRunner().invoke(commands, ["run", "--help"]).output
    assert all(word in usage for word in options if word.startswith("-"))
    assert arguments[0] == "q5"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(K8S)))
def test_what_a_kustomization_names_is_there(folder):
    (made,) = documents(folder / "kustomization.yaml")
    for resource in made["resources"]:
        place = (folder / resource).resolve()
        assert place.is_file() or (place / "kustomization.yaml").is_file()
    files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    used = {Path(one).name for one in made["resources"]}
    used |= {one["path"] for one in made.get("patches", [])}
    assert files <= used, "a file that nobody applies"


def pointed(node, path):
    for part in path.strip("/").split("/"):
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


def test_patches_change_what_base_has():
    base = {one["kind"]: one for path, one in RESOURCES if path.parent == K8S / "base"}
    (credentials,) = documents(K8S / "overlays/prod/credentials.yaml")
    for step in credentials:
        assert step["op"] == "add"
        assert "image" in pointed(base["RayJob"], step["path"].rpartition("/")[0])
    (small,) = documents(K8S / "overlays/local/small.yaml")
    assert small["metadata"]["name"] == base["RayJob"]["metadata"]["name"]


def test_a_disruption_budget_finds_the_pods_of_its_cluster():
    for path, budget in RESOURCES:
        if budget["kind"] != "PodDisruptionBudget":
            continue
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        (ray,) = [one for where, one in RAY if where.parent == path.parent]
        assert all(wanted <= one["metadata"]["labels"].items() for one in templates(ray))


@pytest.mark.skipif(CRDS is None, reason="requires RAYSTREAM_TEST_KUBERAY_CRDS")
@pytest.mark.parametrize("document", named(p for p in RAY if p[0].name != "small.yaml"))
def test_a_resource_fits_kuberays_own_schema_and_a_typo_does_not(document):
    assert errors_of(document) == []
    document = yaml.safe_load(yaml.safe_dump(document))
    cluster_of(document)["headGroupSpec"]["template"]["spec"]["container"] = []
    assert errors_of(document)
