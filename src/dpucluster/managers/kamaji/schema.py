"""Fits what is sent to the schema of the Kamaji that is installed. Pure.

Server-side apply refuses a field that the CRD does not have, where a POST would drop it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_version(crd: Mapping[str, Any], version: str) -> Mapping[str, Any] | None:
    """The schema of one version of a CustomResourceDefinition, or None."""
    for one in crd.get("spec", {}).get("versions", []):
        if one.get("name") == version:
            found: Mapping[str, Any] | None = one.get("schema", {}).get("openAPIV3Schema")
            return found
    return None


def fit(value: Any, schema: Mapping[str, Any] | None) -> Any:
    """``value`` without the fields that ``schema`` does not have; None: everything passes."""
    if schema is None or schema.get("x-kubernetes-preserve-unknown-fields"):
        return value
    if isinstance(value, Mapping):
        return _fit_object(value, schema)
    if isinstance(value, list):
        return [fit(item, schema.get("items")) for item in value]
    return value


def _fit_object(value: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    if properties is None:
        values = schema.get("additionalProperties")
        inner = values if isinstance(values, Mapping) else None
        return {name: fit(item, inner) for name, item in value.items()}
    return {name: fit(item, properties[name]) for name, item in value.items() if name in properties}
