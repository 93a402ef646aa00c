"""Fetching from a server that misbehaves: what is in the cache is right; every error says what to do."""

import json
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from misbehaving import (
    CONTENT,
    SIZE,
    WRONG,
    Server,
    claims_less,
    claims_more,
    cut,
    ignores_range,
    lies_about_range,
    slow,
    stalls,
    status,
    too_long,
    whole,
    wrong_byte,
)

from tf_gan_zoo import cli, fetch, published
from tf_gan_zoo.fetch import FetchError, WeightsError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def server():
    with Server() as running:
        yield running
        running.released.set()
        running.shutdown()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    for name in ("ZOO_OFFLINE", "ZOO_WEIGHTS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(fetch, "BACKOFF", 0.01)
    monkeypatch.setattr(fetch, "READ_TIMEOUT", 0.3)


@pytest.fixture
def content_sha256(tmp_path):
    (tmp_path / "content").write_bytes(CONTENT)
    return fetch.digest(tmp_path / "content")


@pytest.fixture
def get(tmp_path, content_sha256):
    """Fetches CONTENT; returns the target, which holds the right bytes or does not exist."""
    target = tmp_path / "cache" / "slot" / "toy.npz"

    def call(*addresses, **changes):
        checks = {"sha256": content_sha256, "size": SIZE, **changes}
        try:
            return fetch.fetch(target, addresses, **checks)
        finally:
            assert not target.exists() or target.read_bytes() == CONTENT

    call.target, call.part = target, target.with_name("toy.npz.part")
    return call


# ---------------------------------------------------------------- one mirror


@pytest.mark.parametrize("tricks, requests", [
    ([whole], 1),
    ([status(500), status(503), whole], 3),
    ([cut, whole], 2),
    ([stalls, whole], 2),
    ([claims_more], 1),
    ([claims_less, whole], 2),
    ([cut, ignores_range], 2),
    ([cut, status(416), whole], 3),
    ([cut, lies_about_range, whole], 3),
    ([cut, status(500), whole], 3),
])  # fmt: skip
def test_the_file_arrives_in_spite_of(server, get, tricks, requests):
    assert get(server.address("toy.npz", *tricks)).read_bytes() == CONTENT
    assert len(server.requests) == requests
    assert not get.part.exists()


def test_a_resume_continues_where_it_stopped(server, get):
    with pytest.raises(FetchError, match=r"continued"):
        get(server.address("toy.npz", cut, status(404)))
    kept = get.part.stat().st_size
    assert 130_000 < kept <= 200_000
    assert get(server.address("toy.npz")).exists()
    assert server.ranges()[-1] == f"bytes={kept}-"


def test_a_server_that_always_cuts_is_still_read_to_the_end(server, get):
    def short(handler):
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        span = f"bytes {start}-{SIZE - 1}/{SIZE}"
        body = CONTENT[start : start + 70_000]
        handler.answer(body, 206 if start else 200, length=SIZE - start, Content_Range=span)

    get(server.address("toy.npz", short))
    assert len(server.requests) > fetch.ATTEMPTS  # attempts that bring something are not counted


def test_a_server_that_starts_over_and_cuts_for_ever_is_given_up(server, get):
    with pytest.raises(FetchError, match="toy.npz"):
        get(server.address("toy.npz", cut))
    assert len(server.requests) == fetch.ATTEMPTS


@pytest.mark.parametrize("trick, requests, reason", [
    (status(404), 1, "HTTP 404"),
    (status(500), 4, "HTTP 500"),
    (wrong_byte, 1, "wrong content: expected SHA-256"),
    (too_long, 1, "more than the expected 300,000 bytes"),
    (claims_less, 4, "ended after 140,000 of 300,000 bytes"),
    (stalls, 4, "silent for 0.3 seconds"),
    (lies_about_range, 1, "Content-Range 'bytes 10-299999/300000'"),
    (lambda h: h.answer(CONTENT[5:], 206, Content_Range="nonsense"), 1, "Content-Range 'nonsense'"),
])  # fmt: skip
def test_what_cannot_be_had_is_an_error_that_says_what_to_do(server, get, trick, requests, reason):
    address = server.address("toy.npz", trick)
    with pytest.raises(FetchError) as error:
        get(address)
    message = str(error.value)
    for words in (address, reason, "try again", "ZOO_WEIGHTS_URL", str(get.target)):
        assert words in message
    assert "\n" not in message
    assert len(server.requests) == requests
    assert not get.target.exists()


def test_a_cut_and_then_a_wrong_rest_leave_nothing(server, get):
    with pytest.raises(FetchError, match="wrong content"):
        get(server.address("toy.npz", lambda h: h.answer(WRONG[:200_000], length=SIZE), wrong_byte))
    assert not get.part.exists()
    assert not get.target.exists()


def test_other_sizes_are_seen_before_the_rest_is_read(server, get):
    longer = CONTENT + b"more"
    with pytest.raises(FetchError, match="has 300,004 bytes, expected 300,000"):
        get(server.address("toy.npz", cut, lambda handler: whole(handler, longer)))


# ---------------------------------------------------------------- several mirrors


def test_the_second_mirror_is_used_and_continues_what_the_first_began(server, get):
    get(server.address("a", cut, status(404)), server.address("b", whole))
    paths, ranges = zip(*server.requests)
    assert paths == ("/a", "/a", "/b")
    assert ranges[2] == ranges[1] != "bytes=0-"


@pytest.mark.parametrize("first", [status(404), wrong_byte, too_long, claims_less, stalls])
def test_each_failure_leads_to_the_second_mirror(server, get, first):
    assert get(server.address("a", first), server.address("b")).is_file()


def test_a_mirror_is_not_blamed_for_the_wrong_bytes_of_another(server, get):
    begins_wrong = [lambda h: h.answer(WRONG[:200_000], length=SIZE), status(404)]
    get(server.address("a", *begins_wrong), server.address("b"))
    assert server.ranges()[-1] is None  # after the digest of the mixed part was wrong, all of it from b


def test_every_mirror_is_listed_with_its_reason(server, get):
    nobody = "http://127.0.0.1:1/toy.npz"
    with pytest.raises(FetchError, match=f"(?s){nobody}.*refused.*/b: HTTP 404.*ftp://.*https, file"):
        get(nobody, server.address("b", status(404)), "ftp://host/toy.npz")


# ---------------------------------------------------------------- parts, processes, disk


def test_a_part_of_other_content_is_never_trusted(server, get):
    get.part.parent.mkdir(parents=True)
    for left in (b"x" * 1000, WRONG, b"x" * (SIZE + 1), CONTENT):
        get.part.write_bytes(left)
        get.target.unlink(missing_ok=True)
        get(server.address("toy.npz"))
    assert server.ranges() == ["bytes=1000-", None, None, None]  # the last part was whole: nothing to ask


def run_fetch(get, address, digest):
    code = (
        "import sys, pathlib; from tf_gan_zoo import fetch\n"
        f"fetch.fetch(pathlib.Path({str(get.target)!r}), [{address!r}], sha256={digest!r}, size={SIZE})\n"
        "print('tensorflow' in sys.modules)"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_processes_download_once_and_without_tensorflow(server, get, content_sha256):
    address = server.address("toy.npz", slow)
    processes = [run_fetch(get, address, content_sha256) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["False", "False"]
    assert len(server.requests) == 1
    assert get.target.read_bytes() == CONTENT


def test_after_a_kill_nothing_is_trusted_and_the_next_fetch_completes(server, get, content_sha256):
    process = run_fetch(get, server.address("toy.npz", stalls), content_sha256)
    deadline = time.time() + 60
    while not (get.part.is_file() and get.part.stat().st_size > 100_000):
        assert time.time() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.released.set()
    assert not get.target.exists()
    kept = get.part.stat().st_size
    get(server.address("toy.npz"))
    assert server.ranges()[-1] == f"bytes={kept}-"


def test_a_disk_that_refuses_is_named(server, get, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(FetchError, match="cannot write .*ZOO_CACHE"):
        get(server.address("toy.npz"))
    assert not server.requests


def test_without_a_digest_only_the_same_version_is_continued(server, get):
    def begin(handler):
        handler.answer(WRONG[:200_000], length=SIZE, ETag='"old"')

    def versioned(handler):
        """Serves the rest of the new version only to those who have its beginning."""
        if handler.headers.get("If-Range", '"new"') != '"new"':
            return handler.answer(CONTENT, ETag='"new"')
        return whole(handler)

    get(server.address("changed", begin, versioned), sha256=None)
    assert server.ranges()[-1] is not None  # asked for, and rightly refused
    get(server.address("same", lambda h: h.answer(CONTENT[:200_000], length=SIZE, ETag='"new"'), versioned),
        sha256=None)  # fmt: skip
    assert server.ranges()[-1] is not None
    get(server.address("untagged", cut, whole), sha256=None)
    assert server.ranges()[-1] is None


def test_an_endless_file_is_left_at_its_size(server, get):
    sent = []

    def endless(handler):
        handler.answer(b"", length=1 << 40)
        while len(sent) < 500:
            handler.wfile.write(bytes(100_000))
            sent.append(1)

    with pytest.raises(FetchError, match="more than the expected 300,000 bytes"):
        get(server.address("toy.npz", endless))
    assert len(sent) < 200


# ---------------------------------------------------------------- other addresses


def test_file_addresses(get, tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "toy.npz").write_bytes(CONTENT)
    get((folder / "toy.npz").as_uri())
    get.target.unlink()
    with pytest.raises(FetchError, match="FileNotFoundError"):
        get((folder / "nothing.npz").as_uri())
    (folder / "toy.npz").write_bytes(WRONG)
    with pytest.raises(FetchError, match="wrong content"):
        get((folder / "toy.npz").as_uri())


def test_gs_addresses_go_through_gfile(get, monkeypatch, tmp_path):
    import tensorflow as tf

    def open_bucket(address, mode):
        assert (address, mode) == ("gs://bucket/toy.npz", "rb")
        return open(tmp_path / "content", "rb")

    monkeypatch.setattr(tf.io.gfile, "GFile", open_bucket)
    get("gs://bucket/toy.npz")
    get.target.unlink()
    error = tf.errors.PermissionDeniedError(None, None, "no access to the bucket")
    monkeypatch.setattr(tf.io.gfile, "GFile", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(FetchError, match="PermissionDeniedError: no access"):
        get("gs://bucket/toy.npz")


@pytest.mark.parametrize("address, expected", [
    ("hf://owner/repo/toy.npz", ("owner/repo", "toy.npz", None)),
    ("hf://owner/repo/sub/toy.npz@v2", ("owner/repo", "sub/toy.npz", "v2")),
    ("hf://owner/repo@v2/toy.npz", ("owner/repo", "toy.npz", "v2")),
])  # fmt: skip
def test_hf_addresses_go_through_huggingface_hub(get, monkeypatch, tmp_path, address, expected):
    def download(repo_id, filename, revision):
        assert (repo_id, filename, revision) == expected
        return str(tmp_path / "content")

    hub = types.SimpleNamespace(hf_hub_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    get(address)


def test_hf_without_its_package_names_the_extra(get, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FetchError, match=r"pip install 'tf_gan_zoo\[hf\]'"):
        get("hf://owner/repo/toy.npz")
    with pytest.raises(FetchError, match="expected hf://owner/repo/file"):
        get("hf://owner/toy.npz")


# ---------------------------------------------------------------- package, cache, mirrors


@pytest.fixture
def package(monkeypatch, tmp_path, content_sha256):
    """A package whose manifest names toy.letters; call it with the entry's mirrors."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(published, "PRETRAINED_DIR", folder)
    entry = {"file": "toy.npz", "size": SIZE, "sha256": content_sha256, "licence": "MIT"}

    def write(mirrors=(), **changes):
        entries = {"toy.letters": {**entry, "mirrors": list(mirrors), **changes}}
        (folder / "manifest.json").write_text(json.dumps(entries))
        return folder / "toy.npz"

    write.entry = entry
    return write


def program(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_package_then_cache_then_mirrors(server, package, capsys):
    packaged = package([server.address("toy.npz")])
    packaged.write_bytes(CONTENT)
    assert published.pretrained("toy.letters").path == packaged
    packaged.unlink()
    assert not server.requests
    found = published.pretrained("toy.letters")
    assert (found.source, found.path.read_bytes()) == ("mirror", CONTENT)
    assert found.path.parent.parent == published.cache_dir()
    assert program(capsys, "fetch", "toy.letters")[:2] == (0, f"{found.path}\n")
    assert published.pretrained("toy.letters").source == "cache"
    assert len(server.requests) == 1
    found.path.write_bytes(CONTENT[:-1])  # truncated: noticed on use
    assert published.pretrained("toy.letters").path.read_bytes() == CONTENT
    packaged.write_bytes(WRONG)
    with pytest.warns(UserWarning, match="toy.npz is damaged: reinstall"):
        assert published.pretrained("toy.letters").path == found.path


def test_a_damaged_package_without_mirrors_says_what_to_do(package, content_sha256):
    package().write_bytes(WRONG)
    with pytest.warns(UserWarning, match="damaged: reinstall"):
        with pytest.raises(WeightsError, match=f"reinstall.*ZOO_WEIGHTS_URL.*{content_sha256}"):
            published.pretrained("toy.letters")


def test_own_mirrors_come_first(server, package, monkeypatch):
    package([server.address("far/toy.npz")])
    first, second = server.address("a/toy.npz", status(404)), server.address("b/toy.npz")
    monkeypatch.setenv("ZOO_WEIGHTS_URL", f"{first.removesuffix('toy.npz')} , {second}")
    published.pretrained("toy.letters")
    assert [path for path, _ in server.requests] == ["/a/toy.npz", "/b/toy.npz"]


def test_offline_touches_no_network_and_says_what_is_missing(server, package, monkeypatch, content_sha256):
    address = server.address("toy.npz")
    package([address])
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(FetchError) as error:
        published.pretrained("toy.letters")
    place = published.cached_path(content_sha256, "toy.npz")
    for words in ("ZOO_OFFLINE", content_sha256, str(place), address, "tf-gan-zoo fetch toy.letters"):
        assert words in str(error.value)
    assert not server.requests
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)  # as the error said
    assert published.pretrained("toy.letters").path == place
    with pytest.raises(FetchError, match="ZOO_OFFLINE"):
        published.locate("toy.letters", server.address("other.npz"))


def test_offline_may_use_file_mirrors(package, monkeypatch, tmp_path):
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "toy.npz").write_bytes(CONTENT)
    package([(tmp_path / "shelf").as_uri()])
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert published.pretrained("toy.letters").source == "mirror"


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert published.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert published.cache_dir() == tmp_path / "xdg" / "tf_gan_zoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert published.cache_dir() == Path.home() / ".cache" / "tf_gan_zoo"


def serve_manifest(server, folder, entries):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    address = server.address(f"{folder}/manifest.json", lambda handler: whole(handler, text))
    server.address(f"{folder}/toy.npz")
    return address.removesuffix("/manifest.json")


def test_recipes_of_an_own_release_folder(server, package, monkeypatch, capsys):
    package()
    own = serve_manifest(server, "mine", {"mine.letters": {**package.entry, "mirrors": []}})
    monkeypatch.setenv("ZOO_WEIGHTS_URL", own)
    assert published.names() == ["mine.letters", "toy.letters"]
    found = published.pretrained("mine.letters")
    with pytest.raises(WeightsError, match="Did you mean 'mine.letters'"):
        published.pretrained("mine.leters")
    monkeypatch.setenv("ZOO_OFFLINE", "1")  # the last manifest is kept, too
    assert published.pretrained("mine.letters").path == found.path
    assert program(capsys, "prune")[1].startswith("Freed 0 bytes")
    assert found.path.exists()


def test_packaged_digests_cannot_be_changed_by_a_mirror(server, package, monkeypatch):
    package()
    other = {**package.entry, "sha256": "0" * 64}
    monkeypatch.setenv("ZOO_WEIGHTS_URL", serve_manifest(server, "mine", {"toy.letters": other}))
    assert published.pretrained("toy.letters").sha256 == package.entry["sha256"]


@pytest.mark.parametrize("change", [
    {"file": "../../evil.npz"}, {"file": "/etc/evil.npz"}, {"file": "evil.keras"}, {"sha256": "abc"},
    {"sha256": "../" * 21 + "a"}, {"size": -1}, {"size": "1"}, {"mirrors": "http://x"}, {"mirrors": [1]},
])  # fmt: skip
def test_entries_of_strangers_are_checked(server, package, monkeypatch, change):
    package()
    own = serve_manifest(server, "mine", {"mine.letters": {**package.entry, **change}})
    monkeypatch.setenv("ZOO_WEIGHTS_URL", own)
    with pytest.raises(WeightsError, match="has a bad entry for 'mine.letters'"):
        published.pretrained("mine.letters")


@pytest.mark.parametrize("text, words", [
    (b"<html>", "is not a manifest"), (b"[1]", "expected an object"), (b"[" * 100_000, "is not a manifest"),
    (b" " * (1 << 20) + b"{}", "sends more than"),
])  # fmt: skip
def test_manifests_of_strangers_are_checked(server, package, monkeypatch, text, words):
    package()
    monkeypatch.setenv("ZOO_WEIGHTS_URL", serve_manifest(server, "mine", text))
    with pytest.raises(WeightsError, match=f"no pretrained weights for 'mine.letters'.*{words}"):
        published.pretrained("mine.letters")


def test_addresses_with_and_without_a_digest(server, package, content_sha256):
    package()
    address = server.address("toy.npz")
    for _ in range(2):  # kept after the first time
        found = published.locate("toy.letters", f"{address}#sha256={content_sha256}")
        assert (found.path.read_bytes(), found.sha256) == (CONTENT, content_sha256)
    assert len(server.requests) == 1
    with pytest.warns(UserWarning, match=f"without a digest.*#sha256={content_sha256}"):
        assert published.locate("toy.letters", address).sha256 == content_sha256
    with pytest.raises(FetchError, match="wrong content"):
        published.locate("toy.letters", f"{address}#sha256={'0' * 64}")
    with pytest.raises(WeightsError, match="64 hexadecimal digits"):
        published.locate("toy.letters", f"{address}#md5=0")
    with pytest.raises(WeightsError, match="expected an address with one of http"):
        published.locate("toy.letters", "ftp://host/toy.npz")
    with pytest.raises(WeightsError, match="only .npz files"):
        published.locate("toy.letters", server.address("toy.keras"))


def test_release_folders_as_address_and_path(server, package, tmp_path):
    package()
    entries = {"mine.letters": package.entry}
    address = serve_manifest(server, "mine", entries)
    for source in (address, f"{address}/", f"{address}/manifest.json"):
        assert published.locate("mine.letters", source).path.read_bytes() == CONTENT
    with pytest.raises(WeightsError, match="names no 'mine.leters'. Did you mean 'mine.letters'"):
        published.locate("mine.leters", address)
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "manifest.json").write_text(json.dumps(entries))
    (tmp_path / "release" / "toy.npz").write_bytes(CONTENT)
    assert published.locate("mine.letters", tmp_path / "release").path.read_bytes() == CONTENT


def test_verify_names_what_is_bad(server, package, capsys):
    packaged = package([server.address("toy.npz")])
    cached = published.pretrained("toy.letters").path
    status_code, printed, _ = program(capsys, "verify")
    assert (status_code, printed) == (0, f"{cached}: intact\n")
    cached.write_bytes(WRONG)
    packaged.write_bytes(WRONG)
    status_code, printed, _ = program(capsys, "verify")
    assert status_code == 1
    assert re.search(f"{packaged}: damaged .*: reinstall", printed)
    assert re.search(f"{cached}: damaged .*: delete it", printed)
    package().unlink()
    assert "missing: reinstall" in program(capsys, "verify")[1]


def test_prune_removes_only_what_nobody_needs(server, package, capsys, tmp_path):
    package([server.address("toy.npz")])
    named = published.pretrained("toy.letters").path
    part, busy = named.with_name("toy.npz.part"), published.cached_path("1" * 64, "b.npz.part")
    old, foreign = published.cached_path("0" * 64, "old.npz"), published.cache_dir() / "mine" / "a.npz"
    for path in (part, busy, old, foreign):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 1500)
    with fetch.lock(busy.parent):
        listed = program(capsys, "prune", "--dry-run")[1]
        assert all(path.exists() for path in (part, busy, old, foreign))
        assert "Would free 3,000 bytes" in listed
        assert {str(part), str(old)} == {line.split(": ")[0] for line in listed.splitlines()[:-1]}
        assert "Freed 3,000 bytes" in program(capsys, "prune")[1]
    assert [path.exists() for path in (named, busy, foreign, part, old)] == [True, True, True, False, False]
