"""The flags of ``dpucluster run`` that say how Kamaji control planes are made."""

from __future__ import annotations

import dataclasses
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dpucluster.cli import kamaji_flags
from dpucluster.managers.kamaji.options import KamajiOptions


def parse(*args: str) -> KamajiOptions:
    """The options that ``args`` stand for."""
    found: list[KamajiOptions] = []

    @click.command()
    @kamaji_flags.kamaji_flags
    def command(**flags: Any) -> None:
        found.append(KamajiOptions(**kamaji_flags.take(flags)))
        assert {} == flags

    done = CliRunner().invoke(command, args)
    if done.exit_code:
        raise ValueError(done.output)
    return found[0]


def test_no_flags_are_the_defaults() -> None:
    """What is written in two places says the same."""
    assert KamajiOptions() == parse()


def test_every_option_has_a_flag() -> None:
    """K24: Nothing is fixed that an installation may have to change."""
    fields = {f.name for f in dataclasses.fields(KamajiOptions)}
    assert fields == {*kamaji_flags.KEYS.values(), "requests"}


def test_values() -> None:
    """K27: DataStore, replicas, networks, requests and image are what the flags say."""
    found = parse(
        "--kamaji-datastore=mine",
        "--kamaji-replicas=2",
        "--kamaji-placement=any",
        "--kamaji-service-cidr=fd00:1::/112",
        "--kamaji-addons=",
        "--kamaji-admission-controllers=NodeRestriction, LimitRanger",
        "--kamaji-apiserver-requests=cpu=1,memory=2Gi",
        "--keepalived-image=registry.example.com/k@sha256:00",
        "--keepalived-pull-secret=a",
        "--keepalived-pull-secret=b",
        "--keepalived-unicast",
    )
    assert ("mine", 2, "any") == (found.datastore, found.replicas, found.placement)
    assert "fd00:1::/112" == found.service_cidr
    assert () == found.addons
    assert ("NodeRestriction", "LimitRanger") == found.admission_controllers
    assert {"cpu": "1", "memory": "2Gi"} == found.requests["apiServer"]
    assert {"cpu": "125m", "memory": "256Mi"} == found.requests["scheduler"]
    assert "registry.example.com/k@sha256:00" == found.keepalived_image
    assert ("a", "b") == found.keepalived_pull_secrets
    assert found.keepalived_unicast


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--kamaji-service-cidr=10.96.0.1/16", "write a network such as 10.96.0.0/16"),
        ("--kamaji-service-cidr=10.96.0.0/30", "has no tenth address for the DNS of the tenants"),
        ("--kamaji-pod-cidr=x", "write a network such as 10.96.0.0/16"),
        ("--kamaji-replicas=-1", "not in the range"),
        ("--kamaji-placement=moon", "is not one of"),
        ("--kamaji-apiserver-requests=cpu", "write cpu=250m,memory=512Mi"),
        ("--kamaji-apiserver-requests=gpu=1", "write cpu=250m,memory=512Mi"),
        ("--kamaji-apiserver-requests=cpu=1m;x", "write cpu=250m,memory=512Mi"),
        ("--kamaji-apiserver-requests=cpu=\u0661", "write cpu=250m,memory=512Mi"),
    ],
)
def test_mistakes(flag: str, text: str) -> None:
    """A value that cannot work is refused at the start, with what would be taken."""
    with pytest.raises(ValueError, match=text):
        parse(flag)
