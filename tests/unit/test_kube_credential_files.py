"""Credentials that are replaced on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpucluster import errors
from dpucluster.kube import connection, credential_files
from tests.support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source(tmp_path: Path, clock: FakeClock) -> credential_files.CredentialFiles:
    (tmp_path / "token").write_text("one\n")
    return credential_files.CredentialFiles(token=tmp_path / "token", monotonic=clock.monotonic)


async def test_reread_after_a_minute(
    tmp_path: Path, clock: FakeClock, source: credential_files.CredentialFiles
) -> None:
    """The file is read once a minute."""
    assert "one" == (await source.credentials()).token
    (tmp_path / "token").write_text("two")
    await clock.advance(59)
    assert "one" == (await source.credentials()).token
    await clock.advance(1)
    assert "two" == (await source.credentials()).token


async def test_reread_when_rejected(
    tmp_path: Path, source: credential_files.CredentialFiles
) -> None:
    """A 401 reads it at once, unless somebody else just did."""
    first = await source.credentials()
    (tmp_path / "token").write_text("two")
    assert "two" == (await source.credentials(rejected=first)).token
    (tmp_path / "token").write_text("three")
    assert "two" == (await source.credentials(rejected=first)).token


async def test_file_missing_for_a_moment(
    tmp_path: Path, clock: FakeClock, source: credential_files.CredentialFiles
) -> None:
    """While the file is being replaced the old token is used; after a 401 that is an error."""
    first = await source.credentials()
    (tmp_path / "token").unlink()
    await clock.advance(60)
    assert first == await source.credentials()
    with pytest.raises(errors.ConfigError, match="No such file"):
        await source.credentials(rejected=first)


@pytest.mark.parametrize("text", ["", "\n", "a\nb", "\u00e9", "a\x00"])
async def test_no_token(
    tmp_path: Path, source: credential_files.CredentialFiles, text: str
) -> None:
    """What could not stand in a header is not sent."""
    (tmp_path / "token").write_text(text)
    with pytest.raises(errors.ConfigError, match="holds no token"):
        await source.credentials()


async def test_files_beat_what_is_given(tmp_path: Path) -> None:
    """Each part comes from its file where there is one."""
    (tmp_path / "key").write_bytes(b"new key")
    given = connection.Credentials("token", b"cert", b"key")
    source = credential_files.CredentialFiles(given, client_key=tmp_path / "key")
    assert connection.Credentials("token", b"cert", b"new key") == await source.credentials()
