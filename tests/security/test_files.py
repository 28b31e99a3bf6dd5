"""A container's user who owns a folder on the way to a file of the agent's: he reads and writes nothing as root."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.attach.attachments import Attachments
from agent.errors import Failed
from agent.system import resolv_conf
from support.folders import Untrusted, trusted_folder
from tests.agent.worlds import PLATFORM
from tests.mesh.mesh import Mesh
from tests.security.places import Members

NOBODY = 65534
TEXT = resolv_conf.render(PLATFORM)
SECRET = "root:$6$secret\n"

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="not root, who alone can give a folder to another user")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that only root may read or write."""
    path = tmp_path / "shadow"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of another user's."""
    path = tmp_path / "theirs"
    path.mkdir()
    os.chown(path, NOBODY, NOBODY)
    return path


def test_no_file_is_read_or_written_in_a_folder_of_another_user(theirs: Path, secret: Path) -> None:
    paths = [theirs / name for name in ("link", "hard link", "fifo", "file")]
    paths[0].symlink_to(secret)
    paths[1].hardlink_to(secret)
    os.mkfifo(paths[2])
    paths[3].write_text(TEXT)
    for path in paths:
        with pytest.raises(Failed, match="belongs to the user 65534"):
            resolv_conf.write(path, TEXT)
        assert not resolv_conf.is_written(path, TEXT)
        resolv_conf.restore(path, TEXT, "nameserver 192.0.2.66\n")  # what is theirs keeps no workload attached
    assert secret.read_text() == SECRET
    assert paths[3].read_text() == TEXT


def test_no_folder_is_made_or_used_below_one_of_another_user(theirs: Path, tmp_path: Path) -> None:
    (theirs / "inner").mkdir()  # root's own, but its owner can put another one in its place
    (theirs / "out").symlink_to(tmp_path)
    for path in (theirs / "inner/resolv.conf", theirs / "new/resolv.conf", theirs / "out/resolv.conf"):
        with pytest.raises(Failed, match="theirs belongs to the user 65534"):
            resolv_conf.write(path, TEXT)
    assert sorted(one.name for one in theirs.iterdir()) == ["inner", "out"]
    assert not (tmp_path / "resolv.conf").exists()


def test_no_link_is_followed_in_a_folder_of_roots(tmp_path: Path, secret: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.symlink_to(secret)
    with pytest.raises(Failed):
        resolv_conf.write(path, TEXT)
    resolv_conf_at_link = tmp_path / "linked" / "resolv.conf"
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(Failed, match="linked is a link: name the folder that it leads to"):
        resolv_conf.write(resolv_conf_at_link, TEXT)
    assert (secret.read_text(), list((tmp_path / "elsewhere").iterdir())) == (SECRET, [])


@pytest.mark.parametrize("mode", [0o757, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_not_written_to(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(Failed, match="can be written by other users"):
        resolv_conf.write(folder / "resolv.conf", TEXT)
    below = folder / "below"
    below.mkdir()
    if mode & 0o1000:  # as /tmp: nobody can put another folder in the place of this one
        resolv_conf.write(below / "resolv.conf", TEXT)
        assert resolv_conf.read(below / "resolv.conf") == TEXT
    else:
        with pytest.raises(Failed, match="can be written by other users"):
            resolv_conf.write(below / "resolv.conf", TEXT)


def test_a_file_without_an_end_or_of_no_text_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(b"x" * (1 << 17))
    with pytest.raises(Failed, match="too large"):
        resolv_conf.write(path, TEXT)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Failed, match="is no file"):
        resolv_conf.write(path, TEXT)


def test_a_folder_that_is_exchanged_for_a_link_all_the_time_leads_nowhere(tmp_path: Path, secret: Path) -> None:
    """Root's folder in a folder of another user, who exchanges it for a link as fast as he can."""
    theirs, inner, target = tmp_path / "theirs", tmp_path / "theirs" / "inner", tmp_path / "target"
    theirs.mkdir()
    target.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    is_over = threading.Event()

    def exchange() -> None:
        while not is_over.is_set():
            inner.mkdir()
            inner.rmdir()
            inner.symlink_to(target)
            inner.unlink()

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _ in range(2000):
            with pytest.raises(Untrusted), trusted_folder(inner, create=0o755):
                pass
    finally:
        is_over.set()
        thread.join()
    assert list(target.iterdir()) == []


def test_attachments_that_another_user_could_have_written_are_not_believed(theirs: Path) -> None:
    with pytest.raises(Failed, match="belongs to the user 65534"):
        Attachments(theirs).load()


@pytest.fixture
def container(mesh: Mesh) -> Iterator[Path]:
    """A folder that the user of a container owns, on the host h1."""
    path = Path("/run/container")
    h1 = mesh.nodes["h1"].host
    h1.run(
        ["sh", "-c", f"mkdir {path} && chown {NOBODY} {path} && echo '{SECRET}' >/run/shadow && chmod 600 /run/shadow"]
    )
    yield path
    h1.run(["rm", "-rf", str(path), "/run/shadow"])


def test_an_attach_by_such_a_path_fails_and_leaves_nothing(mesh: Mesh, red: Members, container: Path) -> None:
    h1 = mesh.nodes["h1"]
    h1.host.run(["ln", "-s", "/run/shadow", str(container / "resolv.conf")])
    workload = h1.workload()
    done = h1.interlock(
        "attach", "--environment", "red", "--service", "api", "--instance", "linked",
        "--netns", workload.path, "--resolv-conf", str(container / "resolv.conf"), check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "belongs to the user 65534" in done.stderr
    assert SECRET.strip() in h1.host.run(["cat", "/run/shadow"]).stdout
    assert h1.host.run(["ls", str(container)]).stdout.split() == ["resolv.conf"]
    assert "railnet0" not in workload.run(["ip", "-oneline", "link", "show"]).stdout
    workload.remove()
