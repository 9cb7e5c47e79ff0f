"""Kamaji's CustomResourceDefinitions and ClusterRole, as its module has them.

Collected once, when Kamaji is built, and kept beside the binary: at run time no Go module is
needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from dpucluster import errors

SOURCES = ("charts/kamaji/crds/*.yaml", "config/rbac/role.yaml")
"""Where the module has them."""
ROLE = "manager-role"
"""The ClusterRole with what Kamaji's controllers may do."""


def collect(source: Path) -> str:
    """All manifests of the module that is unpacked at ``source``, ready to be applied, as JSON.

    Raises:
        BinaryError: they are not where they should be.
    """
    files = [file for pattern in SOURCES for file in sorted(source.glob(pattern))]
    texts = [file.read_text(encoding="utf-8") for file in files]
    documents = [each for text in texts for each in yaml.safe_load_all(text) if each]
    kinds = {each.get("kind") for each in documents}
    if kinds != {"CustomResourceDefinition", "ClusterRole"}:
        raise errors.BinaryError(f"{source} does not hold Kamaji's manifests: go clean -modcache")
    return json.dumps([ready(each) for each in documents])


def ready(document: dict[str, Any]) -> dict[str, Any]:
    """A manifest without what only a full installation has: cert-manager, conversion webhooks."""
    made = {key: value for key, value in document.items() if key != "status"}
    made["metadata"] = {"name": document["metadata"]["name"]}
    if document["kind"] == "CustomResourceDefinition":
        # There is one version, so nothing is to be converted, and no webhook to ask.
        made["spec"] = {**document["spec"], "conversion": {"strategy": "None"}}
    return made


def load(path: Path) -> list[dict[str, Any]]:
    """What ``collect`` has made, from its file."""
    documents: list[dict[str, Any]] = json.loads(path.read_bytes())
    return documents
