"""The CRDs and the structs say the same: fields, required, defaults, enums, ranges, patterns."""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import msgspec.inspect as struct_types
import pytest
import yaml

from dpucluster.api import dpfoperatorconfig, dpucluster

CRDS = pathlib.Path(__file__).parents[2] / "deploy" / "crds"
KEYWORDS = ("minimum", "maximum", "minLength", "maxLength", "pattern", "enum")
ROOT = frozenset({".apiVersion", ".kind", ".metadata"})
"""Implicit in every kind; the structs have metadata and leave the other two to the resource."""
WRITERS_FILL = frozenset(
    f".status.conditions[].{name}" for name in ("reason", "message", "lastTransitionTime")
)
"""Required on the wire, defaulted in the struct: `conditions.merge` stamps the time."""


class Kind(NamedTuple):
    """One CRD file and the struct that is held to it."""

    file: str
    struct: type[msgspec.Struct]


KINDS = (
    Kind("provisioning.dpu.nvidia.com_dpuclusters.yaml", dpucluster.DPUCluster),
    Kind("operator.dpu.nvidia.com_dpfoperatorconfigs.yaml", dpfoperatorconfig.DPFOperatorConfig),
)


def schema_of(kind: Kind) -> dict[str, Any]:
    crd = yaml.safe_load((CRDS / kind.file).read_text())
    (version,) = crd["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def for_python(pattern: str) -> str:
    """RE2's POSIX class as Python's `re` writes it."""
    return pattern.replace("[[:xdigit:]]", "[0-9A-Fa-f]")


def differences(
    schema: Mapping[str, Any], declared: struct_types.Type, path: str = ""
) -> Iterator[str]:
    """Everything in which the schema and the type at `path` differ, both ways."""
    type_, told = unwrapped(declared)
    if isinstance(type_, struct_types.StructType):
        yield from _object(schema, type_, path)
    elif isinstance(type_, struct_types.DictType):
        yield from _type_name(schema, "object", path)
        yield from differences(
            schema.get("additionalProperties", {}), type_.value_type, f"{path}{{}}"
        )
    elif isinstance(type_, struct_types.VarTupleType):
        yield from _type_name(schema, "array", path)
        yield from differences(schema.get("items", {}), type_.item_type, f"{path}[]")
    else:
        yield from _scalar(schema, type_, told, path)


def unwrapped(declared: struct_types.Type) -> tuple[struct_types.Type, dict[str, Any]]:
    """The type without `| None` and without what is told about it; and what is told."""
    told: dict[str, Any] = {}
    while isinstance(declared, struct_types.Metadata | struct_types.UnionType):
        if isinstance(declared, struct_types.Metadata):
            told |= declared.extra_json_schema or {}
            declared = declared.type
        else:
            (declared,) = (t for t in declared.types if not isinstance(t, struct_types.NoneType))
    return declared, told


def _type_name(schema: Mapping[str, Any], expected: str, path: str) -> Iterator[str]:
    if schema.get("type") != expected:
        yield f"{path}: type {schema.get('type')} in the schema, {expected} in the struct"


def _object(schema: Mapping[str, Any], type_: struct_types.StructType, path: str) -> Iterator[str]:
    yield from _type_name(schema, "object", path)
    properties = schema.get("properties", {})
    fields = {field.encode_name: field for field in type_.fields}
    for name in sorted({*properties, *fields}):
        where = f"{path}.{name}"
        if where in ROOT:
            continue
        if name not in fields or name not in properties:
            yield f"{where}: only in the {'schema' if name in properties else 'struct'}"
            continue
        required = name in schema.get("required", ())
        yield from _presence(properties[name], fields[name], required, where)
        yield from differences(properties[name], fields[name].type, where)


def _presence(
    schema: Mapping[str, Any], field: struct_types.Field, required: bool, path: str
) -> Iterator[str]:
    must_be_given = required and "default" not in schema
    if field.required or must_be_given:
        if field.required != must_be_given and path not in WRITERS_FILL:
            yield f"{path}: required in the {'struct' if field.required else 'schema'} only"
        return
    actual = (
        field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    )
    expected = _default(schema, field, actual)
    if expected != actual:
        yield f"{path}: default {expected!r} in the schema, {actual!r} in the struct"


def _default(schema: Mapping[str, Any], field: struct_types.Field, actual: Any) -> Any:
    """What the struct's default has to be: the schema's, or else what stands for "not there"."""
    type_, _ = unwrapped(field.type)
    if "default" in schema:
        python_type = type_.cls if isinstance(type_, struct_types.StructType) else type(actual)
        return msgspec.convert(schema["default"], python_type)
    return None if actual is None else type(actual)()


def _scalar(
    schema: Mapping[str, Any],
    type_: struct_types.Type,
    told: Mapping[str, Any],
    path: str,
) -> Iterator[str]:
    names = {
        struct_types.StrType: "string",
        struct_types.EnumType: "string",
        struct_types.IntType: "integer",
        struct_types.BoolType: "boolean",
    }
    yield from _type_name(schema, names.get(type(type_), repr(type_)), path)
    ours = dict(told)
    if isinstance(type_, struct_types.EnumType):
        ours["enum"] = [member.value for member in type_.cls]
    for keyword in KEYWORDS:
        theirs = schema.get(keyword)
        if keyword == "pattern" and theirs is not None:
            theirs = for_python(theirs)
        if theirs != ours.get(keyword):
            yield f"{path}: {keyword} {theirs} in the schema, {ours.get(keyword)} in the struct"


def all_schemas(
    schema: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema of the tree that describes a field, with the field's path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from all_schemas(child, f"{path}.{name}")
    if "items" in schema:
        yield from all_schemas(schema["items"], f"{path}[]")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.struct.__name__)
def test_struct_equals_schema(kind: Kind) -> None:
    """The struct has exactly the fields, defaults and restrictions of its CRD, and no others."""
    assert [] == list(differences(schema_of(kind), struct_types.type_info(kind.struct)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.struct.__name__)
def test_every_field_is_described(kind: Kind) -> None:
    """`kubectl explain` has a sentence about every field, metadata apart (the server's own)."""
    bare = [
        path
        for path, schema in all_schemas(schema_of(kind))
        if path != ".metadata" and not schema.get("description", "").endswith(".")
    ]
    assert [] == bare


def _at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    for step in path.split("."):
        schema = schema["items"] if step == "[]" else schema["properties"][step]
    return schema


CHANGES: tuple[tuple[str, str, Any, str], ...] = (
    ("spec.maxNodes", "default", 999, ".spec.maxNodes: default 999"),
    ("spec.maxNodes", "maximum", 3000, ".spec.maxNodes: maximum 3000"),
    ("spec.maxNodes", "minimum", None, ".spec.maxNodes: minimum None"),
    ("spec.maxNodes", "type", "number", ".spec.maxNodes: type number"),
    ("spec.type", "pattern", "kamaji", ".spec.type: pattern kamaji"),
    ("spec", "required", ["type", "version"], ".spec.version: required in the schema only"),
    ("spec", "required", [], ".spec.type: required in the struct only"),
    ("status", "default", {"phase": "Ready"}, ".status: default"),
    ("status.phase", "enum", ["Pending"], ".status.phase: enum ['Pending']"),
    ("status.conditions.[].reason", "maxLength", 9, ".status.conditions[].reason: maxLength 9"),
    (
        "spec.clusterEndpoint.keepalived.nodeSelector",
        "additionalProperties",
        {"type": "integer"},
        ".spec.clusterEndpoint.keepalived.nodeSelector{}: type integer",
    ),
)


@pytest.mark.parametrize(("path", "keyword", "value", "expected"), CHANGES)
def test_a_changed_schema_is_reported(path: str, keyword: str, value: Any, expected: str) -> None:
    """One change of the schema gives one difference, which names the field and the change."""
    schema = copy.deepcopy(schema_of(KINDS[0]))
    node = _at(schema, path)
    if value is None:
        del node[keyword]
    else:
        node[keyword] = value
    (found,) = differences(schema, struct_types.type_info(KINDS[0].struct))
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p: p.pop("version"), [".spec.version: only in the struct"]),
        (lambda p: p.update(extra={"type": "string"}), [".spec.extra: only in the schema"]),
    ],
    ids=["removed", "added"],
)
def test_a_missing_or_added_field_is_reported(change: Any, expected: list[str]) -> None:
    """A field that only one side has is named, whichever side it is."""
    schema = copy.deepcopy(schema_of(KINDS[0]))
    change(schema["properties"]["spec"]["properties"])
    assert expected == list(differences(schema, struct_types.type_info(KINDS[0].struct)))
