"""Downloads against servers, manifests and folders that mean harm: nothing hangs, nothing leaves its place.

A server may redirect to nonsense or to plain http, drip bytes, change the file in the middle, and put
control characters into what it says. A folder may hold links, pipes and folders where files should be.
"""

import hashlib
import json
import os
import stat
import time

import pytest
from misbehaving import CONTENT, SIZE, WRONG, Server, whole

from tf_gan_zoo import fetch, published
from tf_gan_zoo.config import ConfigError, check_recipe_name
from tf_gan_zoo.fetch import FetchError, WeightsError

DIGEST = hashlib.sha256(CONTENT).hexdigest()
posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and modes of POSIX")


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in ("ZOO_OFFLINE", "ZOO_WEIGHTS_URL", "ZOO_ALLOW_HTTP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    limits = {"BACKOFF": 0.01, "CONNECT_TIMEOUT": 1.0, "READ_TIMEOUT": 0.5, "SLOW_SECONDS": 0.4}
    for name, value in limits.items():
        monkeypatch.setattr(fetch, name, value)
    with Server() as running:
        yield running
        running.released.set()
        running.shutdown()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "slot" / "toy.npz"


def redirect(location):
    return lambda handler: handler.answer(b"", 302, Location=location)


@pytest.mark.parametrize("first", [
    "http://[::1/toy.npz", "https://[bad/toy.npz", "http://127.0.0.1:99999999/toy.npz", "http://\u2024\u2024/x",
    "https://", "http://127.0.0.1:port/x", "file://[::1/x", "hf://x", "nonsense", "",
])  # fmt: skip
def test_an_address_that_makes_no_sense_leads_to_the_next_mirror(server, target, first):
    fetch.fetch(target, [first, server.address("toy.npz")], sha256=DIGEST, size=SIZE)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("location", [
    "http://[::1", "http://127.0.0.1:99999999/", "//[", "gopher://x/", "file:///etc/hostname", "https://\x00/",
    "http://[fe80::1%25", "http://example.invalid/plain",
])  # fmt: skip
def test_a_redirect_that_makes_no_sense_leads_to_the_next_mirror(server, target, location):
    bad = server.address("bad", redirect(location))
    fetch.fetch(target, [bad, server.address("toy.npz")], sha256=DIGEST, size=SIZE)
    assert target.read_bytes() == CONTENT


def test_endless_redirects_lead_to_the_next_mirror(server, target):
    bad = server.address("circle", redirect("/circle"))
    fetch.fetch(target, [bad, server.address("toy.npz")], sha256=DIGEST, size=SIZE)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("address, came_from, refused", [
    ("https://host/x", "", None),
    ("http://127.0.0.1/x", "", None),
    ("http://127.8.8.8:80/x", "", None),
    ("http://localhost:8000/x", "", None),
    ("http://[::1]/x", "", None),
    ("http://host/x", "", "plain http is refused"),
    ("http://127.0.0.1.host/x", "", "plain http is refused"),
    ("http://10.0.0.1/x", "http://localhost/", "plain http is refused"),
    ("http://localhost/x", "https://host/", "from https to http://localhost/x"),
    ("https://other/x", "https://host/", None),
    ("ftp://host/x", "http://localhost/", "redirects to ftp"),
])  # fmt: skip
def test_only_https_or_http_with_this_machine(monkeypatch, address, came_from, refused):
    monkeypatch.delenv("ZOO_ALLOW_HTTP", raising=False)
    if refused is None:
        return fetch._require_secure(address, came_from)
    with pytest.raises(Exception, match=refused):
        fetch._require_secure(address, came_from)
    monkeypatch.setenv("ZOO_ALLOW_HTTP", "1")
    if "plain http" in refused:
        return fetch._require_secure(address, came_from)
    with pytest.raises(Exception, match=refused):  # no setting allows these
        fetch._require_secure(address, came_from)
    return None


def test_plain_http_with_another_machine_is_not_even_tried(server, target):
    with pytest.raises(FetchError, match=r"plain http is refused: use https, or set ZOO_ALLOW_HTTP=1"):
        fetch.fetch(target, ["http://198.51.100.1/toy.npz"], sha256=DIGEST, size=SIZE)


def drips(handler):
    """Sends a byte now and then, so that no read times out."""
    handler.answer(b"", length=SIZE)
    for byte in CONTENT[:40]:
        if handler.server.released.wait(0.1):
            return
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()


def drips_headers(handler):
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
    for _ in range(60):
        if handler.server.released.wait(0.1):
            return
        handler.wfile.write(b"x")
        handler.wfile.flush()


@pytest.mark.parametrize("trick, reason", [(drips, "too slow"), (drips_headers, "did not begin in time")])
def test_a_server_that_drips_is_left_for_the_next_mirror(server, target, trick, reason):
    begun = time.monotonic()
    with pytest.raises(FetchError, match=reason):
        fetch.fetch(target, [server.address("slow", trick)], sha256=DIGEST, size=SIZE)
    fetch.fetch(target, [server.address("slow", trick), server.address("toy")], sha256=DIGEST, size=SIZE)
    assert target.read_bytes() == CONTENT
    assert time.monotonic() - begun < 8


def test_without_a_digest_another_version_is_never_appended(server, target):
    def begin(handler):
        handler.answer(WRONG[:200_000], length=SIZE, ETag='"old"')

    def lies(handler):
        """Ignores If-Range: continues with the new version."""
        span = f"bytes {handler.headers['Range'][6:-1]}-{SIZE - 1}/{SIZE}"
        start = int(handler.headers["Range"][6:-1])
        handler.answer(CONTENT[start:], 206, Content_Range=span, ETag='"new"')

    fetch.fetch(target, [server.address("toy", begin, lies, whole)], size=SIZE)
    assert target.read_bytes() == CONTENT


@posix
@pytest.mark.parametrize("place", ["target", "part"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_stands_in_the_way_is_named_at_once(server, target, place, make):
    target.parent.mkdir(parents=True)
    path = target if place == "target" else target.with_name("toy.npz.part")
    make(path)
    with pytest.raises(FetchError, match="is in the way"):
        fetch.fetch(target, [server.address("toy")], sha256=DIGEST, size=SIZE)
    assert not server.requests


@posix
def test_a_link_in_the_place_of_the_part_is_not_written_through(server, target, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    target.parent.mkdir(parents=True)
    target.with_name("toy.npz.part").symlink_to(precious)
    fetch.fetch(target, [server.address("toy")], sha256=DIGEST, size=SIZE)
    assert precious.read_text() == "mine"
    assert target.read_bytes() == CONTENT
    assert not target.is_symlink()


@posix
def test_a_pipe_as_mirror_is_not_waited_for(server, target, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FetchError, match="pipe or device, not a file"):
        fetch.fetch(target, [(tmp_path / "pipe").as_uri()], sha256=DIGEST, size=SIZE)


@posix
def test_fetched_files_are_neither_executable_nor_writable_by_others(server, target):
    before = os.umask(0)
    try:
        target.parent.mkdir(parents=True, mode=0o755)
        part = target.with_name("toy.npz.part")
        part.write_bytes(CONTENT[:1000])
        part.chmod(0o777)
        fetch.fetch(target, [server.address("toy")], sha256=DIGEST, size=SIZE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@posix
def test_prune_does_not_follow_links(server, tmp_path):
    precious = tmp_path / "precious"
    (precious / "inner").mkdir(parents=True)
    (precious / "file.part").write_text("mine")
    cache = published.cache_dir()
    cache.mkdir()
    (cache / ("0" * 64)).symlink_to(precious)
    slot = cache / ("1" * 64)
    slot.mkdir()
    (slot / "linked.npz").symlink_to(precious / "file.part")
    (slot / "folder").symlink_to(precious / "inner")
    assert [path.name for path, _ in published.prune()] == ["folder", "linked.npz"]
    assert (precious / "file.part").read_text() == "mine"
    assert (precious / "inner").is_dir()
    assert not slot.exists()


def test_control_characters_never_reach_the_terminal(server, target):
    def rude(handler):
        handler.wfile.write(b"HTTP/1.0 404 \x1b[2J\x1b]0;owned\x07\r\n\r\n")

    with pytest.raises(FetchError) as error:
        fetch.fetch(target, [server.address("rude", rude)], sha256=DIGEST, size=SIZE)
    assert "HTTP 404" in str(error.value)
    assert str(error.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("name, entry", [
    ("dcgan.x\x1b[2J", {}),
    ("../../etc/cron", {}),
    ("dcgan..x", {}),
    ("a" * 200, {}),
    ("dcgan.x", {"licence": "free\x1b[2J"}),
    ("dcgan.x", {"mirrors": ["https://host/\x07"]}),
    ("dcgan.x", {"more": {"deep": ["\x9b31m"]}}),
])  # fmt: skip
def test_manifests_with_hostile_words_are_refused(server, monkeypatch, name, entry):
    good = {"file": "x.npz", "size": 3, "sha256": "0" * 64, "licence": "MIT", "mirrors": []}
    text = json.dumps({name: {**good, **entry}}).encode()
    folder = server.address("folder/manifest.json", lambda handler: handler.answer(text))
    monkeypatch.setenv("ZOO_WEIGHTS_URL", folder.removesuffix("/manifest.json"))
    with pytest.raises(WeightsError, match="bad entry") as error:
        published.names()
    assert str(error.value).isprintable()
    good_text = json.dumps({"dcgan.x": good}).encode()
    folder = server.address("good/manifest.json", lambda handler: handler.answer(good_text))
    monkeypatch.setenv("ZOO_WEIGHTS_URL", folder.removesuffix("/manifest.json"))
    assert "dcgan.x" in published.names()


@pytest.mark.parametrize(
    "name", ["..", "a/b", "a\\b", "", ".x", "x.", "a..b", "a b", "\u00e4", "x\n", 3, None, "a" * 101]
)
def test_names_of_recipes_stay_in_their_folder(name):
    with pytest.raises(ConfigError, match="is not a name for a recipe"):
        check_recipe_name(name)
