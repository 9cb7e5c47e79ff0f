"""The reference pages name every field of the schemas."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {
    "provisioning.dpu.nvidia.com_dpuclusters.yaml": "dpucluster.md",
    "operator.dpu.nvidia.com_dpfoperatorconfigs.yaml": "dpfoperatorconfig.md",
}
SHARED_BLOCK = {"disable", "image", "helmChart"}
"""A component's block is one row of the table, which names these in the second column."""


def fields(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """The paths of all fields below, as the pages write them."""
    for name, child in schema.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        yield where
        yield from fields(child, where)
        yield from fields(child.get("items", {}), f"{where}[]")


def _is_told(path: str, page: str) -> bool:
    block, _, name = path.rpartition(".")
    if f"`{path}`" in page:
        return True
    row = re.search(rf"^\| `{re.escape(block)}` \|.*`{name}`", page, re.MULTILINE)
    return name in SHARED_BLOCK and row is not None


@pytest.mark.parametrize("file", PAGES)
def test_every_field_is_in_the_reference(file: str) -> None:
    """A field of spec or status that the page does not name is a hole in the documentation."""
    crd = yaml.safe_load((ROOT / "deploy" / "crds" / file).read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    page = (ROOT / "docs" / "reference" / PAGES[file]).read_text()
    shared = "status.conditions[]." if "as in [DPUCluster]" in page else "-"
    names = [
        path
        for top in ("spec", "status")
        for path in fields(schema[top], top)
        if not path.startswith(shared)
    ]
    assert [] == [path for path in names if not _is_told(path, page)]
