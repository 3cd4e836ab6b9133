"""The manifests are what KubeRay takes; its schemas are looked at where they are given."""

from __future__ import annotations

import os
from pathlib import Path

import jsonschema
import pytest
import yaml

MANIFESTS = sorted((Path(__file__).parents[3] / "k8s").glob("*.yaml"))
CRDS = os.environ.get("RAYSTREAM_TEST_KUBERAY_CRDS")


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


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_a_kuberay_resource_whose_ray_parameters_are_text(path):
    document = yaml.safe_load(path.read_text())
    assert document["apiVersion"] == "ray.io/v1"
    cluster = document["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        for container in group["template"]["spec"]["containers"]:
            wanted, most = container["resources"]["requests"], container["resources"]["limits"]
            assert wanted["memory"] == most["memory"]


@pytest.mark.skipif(CRDS is None, reason="requires RAYSTREAM_TEST_KUBERAY_CRDS")
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_fits_kuberays_own_schema(path):
    document = yaml.safe_load(path.read_text())
    definition = yaml.safe_load(
        (Path(CRDS) / f"ray.io_{document['kind'].lower()}s.yaml").read_text()
    )
    version = next(v for v in definition["spec"]["versions"] if v["storage"])
    schema = version["schema"]["openAPIV3Schema"]
    strict(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
    assert [error.message for error in errors] == []
