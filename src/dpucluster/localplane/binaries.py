"""etcd, kube-apiserver, kube-controller-manager and kubectl: found, or got.

With Kamaji, too: kube-scheduler, Kamaji itself, and what its tenants run, of another version of
Kubernetes (``kamaji/kube-apiserver`` …). Each is looked for by itself, in this order:

1. the directory ``KUBEBUILDER_ASSETS`` (envtest's set has no kube-controller-manager: what it
   lacks comes from the next places; nothing of Kamaji's is looked for there);
2. the cache, ``$XDG_CACHE_HOME/dpucluster/binaries/<version>-<os>-<arch>``;
3. official archives with their published checksums (``DPUCLUSTER_DOWNLOAD_URL_KUBERNETES`` and
   ``DPUCLUSTER_DOWNLOAD_URL_ETCD`` name mirrors, or ``off``);
4. ``go build`` from the pinned modules, minutes once.

Everything here blocks, for minutes when a build is needed: call it before the event loop starts.

Guarantees: a name in the cache is a finished binary, whatever was killed when; several processes
that ask at once do the work once. Errors: ``BinaryError``, whose message says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dpucluster import errors
from dpucluster.localplane import build, cache, download, lock, release
from dpucluster.localplane import progress as progress_

ALL = release.ALL
WITH_KAMAJI = (*release.ALL, *release.WITH_KAMAJI)
"""All that a control plane with Kamaji needs."""
KNOWN = (*WITH_KAMAJI, *release.NODE)
"""Everything that can be asked for."""
ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"


def kubernetes_version() -> str:
    """The Kubernetes version of the local control plane, ``v1.34.4``."""
    return release.pins().kubernetes


def ensure(
    names: Sequence[str] = ALL,
    *,
    progress: progress_.Progress,
    env: Mapping[str, str] = os.environ,
    builder: build.Builder = build.go_build,
) -> dict[str, Path]:
    """The path of each of ``names``; what is missing is fetched or built.

    Raises:
        BinaryError: one of them could not be had, or a download's checksum is wrong.
    """
    found = locate(names, env)
    _tell_of_assets(env, names, progress)
    missing = [name for name in names if name not in found]
    for pinned in dict.fromkeys(release.pins_of(name) for name in missing):
        store = cache.of(pinned, env)
        with cache.explained(store):
            wanted = [name for name in missing if release.pins_of(name) == pinned]
            _get(wanted, store, progress, env, builder)
    if missing:
        found = locate(names, env)
    return {name: found[name] for name in names}


def directory(
    *,
    progress: progress_.Progress,
    env: Mapping[str, str] = os.environ,
    builder: build.Builder = build.go_build,
) -> Path:
    """A directory that holds all binaries, to be used as ``KUBEBUILDER_ASSETS``."""
    paths = ensure(ALL, progress=progress, env=env, builder=builder)
    folders = {path.parent for path in paths.values()}
    if len(folders) == 1:
        return folders.pop()
    store = cache.of(release.pins(), env)
    with cache.explained(store):
        return cache.link_together(paths, store)


def locate(names: Sequence[str], env: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Those of ``names`` that are there already, as absolute paths. Changes nothing."""
    if unknown := sorted(set(names) - set(KNOWN)):
        raise errors.BinaryError(f"no such binary: {', '.join(unknown)}; there are {KNOWN}")
    found: dict[str, Path] = {}
    for name in names:
        pinned = release.pins_of(name)
        folders = [cache.of(pinned, env).folder]
        if not pinned.module and (assets := env.get(ASSETS_VARIABLE)):
            folders.insert(0, Path(assets).absolute())
        candidates = (folder / release.file_of(name) for folder in folders)
        path = next((p for p in candidates if _is_program(p)), None)
        if path is not None:
            found[name] = path
    return found


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _tell_of_assets(
    env: Mapping[str, str], names: Sequence[str], progress: progress_.Progress
) -> None:
    if assets := env.get(ASSETS_VARIABLE):
        own = [name for name in names if not release.pins_of(name).module]
        lacking = [name for name in own if not _is_program(Path(assets) / name)]
        if lacking:
            progress.note(
                f"{ASSETS_VARIABLE}={assets} has no {', '.join(lacking)}; the cache is used instead"
            )


def _get(
    names: Sequence[str],
    store: cache.Cache,
    progress: progress_.Progress,
    env: Mapping[str, str],
    builder: build.Builder,
) -> None:
    """Fill the cache with ``names``, or wait for the process that is doing it."""

    def is_done() -> bool:
        return not missing()

    def missing() -> list[str]:
        return [n for n in names if not _is_program(store.folder / release.file_of(n))]

    store.folder.parent.mkdir(parents=True, exist_ok=True)
    purpose = f"which gets the control-plane binaries {store.folder.name}"
    with lock.hold(store.lock, purpose=purpose, progress=progress, unless=is_done) as held:
        if not held or is_done():
            return
        with cache.workplace(store) as scratch:
            run = _Run(scratch, progress, env, builder)
            wanted = missing()
            for number, name in enumerate(wanted, 1):
                made = run.make(name, f"{number} of {len(wanted)}")
                cache.install(made, store)


class _Run:
    """One filling of the cache."""

    def __init__(
        self,
        scratch: Path,
        progress: progress_.Progress,
        env: Mapping[str, str],
        builder: build.Builder,
    ) -> None:
        self._scratch = scratch
        self._progress = progress
        self._env = env
        self._builder = builder
        self._downloads = download.Downloader(progress)

    def make(self, name: str, which: str) -> Path:
        """Download the binary, else build it; where it was made."""
        target = self._scratch / release.file_of(name)
        label = f"{name} {release.version_of(name, release.pins_of(name))} ({which})"
        if (why_not := self._download(name, label, target)) is not None:
            self._build(name, label, target, why_not)
        return target

    def _download(self, name: str, label: str, target: Path) -> str | None:
        """Why it could not be downloaded; ``None`` when it was."""
        archive = release.archive(name, release.pins_of(name), self._env)
        if archive is None:
            return "there is none" if name == release.KAMAJI else "switched off"
        told = self._downloads.is_down(archive)
        if not told:
            self._progress.start(f"{label}: downloading from {archive.host}")
        missed = self._downloads.fetch(archive, target)
        if missed is None:
            self._progress.finish("done, checksum is right")
            return None
        if not told:
            self._progress.finish(f"not to be had: {missed.reason}")
        return missed.reason

    def _build(self, name: str, label: str, target: Path, why_not: str) -> None:
        self._progress.start(f"{label}: building with go (minutes the first time)")
        try:
            self._builder(
                name, target, scratch=self._scratch, progress=self._progress, env=self._env
            )
        except errors.BinaryError as exc:
            told = f"no {name}. Download: {why_not}. Build: {exc}"
            if not release.pins_of(name).module:
                told += f"\nOr set {ASSETS_VARIABLE} to a directory that holds {', '.join(ALL)}."
            raise errors.BinaryError(told) from exc
        self._progress.finish("built")
