"""Assets: everything that can happen between an index and the cache, with packages made here.

pip itself runs, against a folder of tiny packages or a slow server on this machine.
"""

import errno
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import venv
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import __main__ as cli
from helpers import assets
from helpers.assets import fetching, store
from helpers.series import runner

SAFE = settings(  # these fixtures are as good for many examples as for one
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None
)
REPOSITORY = Path(__file__).resolve().parents[1]
MEMBERS = {"toy/data/one.txt": b"first\n" * 200_000, "toy/data/sub/two.txt": b"second\n"}


def make_wheel(folder, files=MEMBERS, tags="py3-none-any", python=">=3"):
    """A wheel of the package `toy` 1.0 that holds `files`."""
    file = folder / f"toy-1.0-{tags}.whl"
    metadata = f"Metadata-Version: 2.1\nName: toy\nVersion: 1.0\nRequires-Python: {python}\n"
    with zipfile.ZipFile(file, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr("toy-1.0.dist-info/METADATA", metadata)
        wheel.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr("toy-1.0.dist-info/RECORD", "")
    return file


def make_tar(file, files):
    with tarfile.open(file, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file


def write_sources(file, package, **other):
    """A sources file that pins `package` under the name toy."""
    row = {
        "kind": "data", "package": "toy", "version": "1.0", "file": package.name,
        "sha256": hashlib.sha256(package.read_bytes()).hexdigest(),
        "size": package.stat().st_size, "root": "toy/data", "members": ["one.txt", "sub/*.txt"],
        "provides": ["toy_reviews"], "language": "en", "licence": "CC0-1.0", "citation": "none",
        "description": "a toy",
    }  # fmt: skip
    rows = (f"{key} = {json.dumps(value)}\n" for key, value in (row | other).items())
    file.write_text("[toy]\n" + "".join(rows))


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder of packages that pip searches instead of any index, and an empty cache."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("NLP_TRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NLP_TRANSFER_SOURCES", str(tmp_path / "sources.toml"))
    return folder


@pytest.fixture
def toy(shop):
    """The shop with one wheel, pinned."""
    write_sources(shop.parent / "sources.toml", make_wheel(shop))
    return shop


@pytest.fixture
def cached(toy):
    """The folder of the toy, already in the cache."""
    asset = assets.catalogue()["toy"]
    fetching._unpack(asset, next(toy.iterdir()), asset.folder)
    store.seal(asset.folder)
    return asset.folder


@pytest.fixture
def slow_index(toy, monkeypatch):
    """An index that sends the wheel in two halves, the second when `go` is set."""
    wheel, state = next(toy.iterdir()), {"downloads": 0, "go": threading.Event()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page = self.path.endswith("/")
            content = f'<a href="/{wheel.name}">{wheel.name}</a>'.encode()
            content = content if page else wheel.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if page else "application/zip")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            half = len(content) // 2
            self.wfile.write(content[:half])
            if not page:
                state["downloads"] += 1
                state["go"].wait(60)
            self.wfile.write(content[half:])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    yield state
    state["go"].set()
    server.shutdown()
    server.server_close()


def start(code):
    """A process of its own that runs `code` after `from helpers import assets`."""
    command = [sys.executable, "-c", f"from helpers import assets\n{code}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, start_new_session=True, cwd=REPOSITORY, **pipes)


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def group_lives(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def leftovers():
    return list(assets.cache_folder().glob(".*part*"))


def assert_whole(folder):
    for name, content in MEMBERS.items():
        assert (folder / name.removeprefix("toy/data/")).read_bytes() == content
    assert not leftovers()


def assert_one_sentence(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    for part in parts:
        assert part in message


def no_pip(*_, **__):
    raise AssertionError("pip was called")


# What comes out


def test_wheel_gives_exactly_the_named_members(toy):
    assert not assets.is_cached("toy")
    folder = assets.path("toy")
    assert_whole(folder)
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {"one.txt", "sub/two.txt", store.MANIFEST}
    kept = {file.name for file in assets.cache_folder().iterdir() if not file.name.startswith(".")}
    assert kept == {folder.name}  # the package itself is gone


def test_cached_works_without_pip(cached, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", no_pip)
    assert assets.is_cached("toy")
    assert assets.is_cached("toy_reviews")
    assert assets.path("toy") == assets.path("toy_reviews") == cached
    assert assets.resolve("toy") == str(cached)
    assets.fetch()
    assets.fetch(["toy"])


def test_resolve_passes_other_names_through(toy, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", no_pip)
    assert assets.resolve("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"
    assert assets.resolve("./my model") == "./my model"


def test_sdist_with_an_archive_inside_and_its_code_unrun(shop, tmp_path):
    ran = tmp_path / "setup.py ran"
    inner = make_tar(tmp_path / "inner.tar.gz", {"in/one.txt": b"1", "in/sub/two.txt": b"2"})
    files = {
        "toy-1.0/PKG-INFO": b"Metadata-Version: 1.0\nName: toy\nVersion: 1.0\n",
        "toy-1.0/setup.py": f"open({str(ran)!r}, 'w'); raise SystemExit('no')".encode(),
        "toy-1.0/more/inner.tar.gz": inner.read_bytes(),
    }
    sdist = make_tar(shop / "toy-1.0.tar.gz", files)
    make_wheel(shop)  # not the pinned file: pip must not prefer it
    place = {"archive": "toy-1.0/more/inner.tar.gz", "root": "in"}
    write_sources(tmp_path / "sources.toml", sdist, **place)
    folder = assets.path("toy")
    assert (folder / "one.txt").read_bytes() == b"1"
    assert (folder / "sub" / "two.txt").read_bytes() == b"2"
    assert not ran.exists()


BACKEND = """
from pathlib import Path
Path({ran!r}).touch()
def get_requires_for_build_wheel(config_settings=None): return ["toy==1.0"]
def get_requires_for_build_sdist(config_settings=None): return []
def prepare_metadata_for_build_wheel(folder, config_settings=None): raise SystemExit("no")
build_wheel = build_sdist = prepare_metadata_for_build_wheel
"""
SYSTEM = '[build-system]\nrequires = []\nbuild-backend = "inside"\nbackend-path = ["."]\n'


def make_sdist(shop, tmp_path, **files):
    """An sdist of toy 1.0 whose in-tree build backend and setup.py leave the file `ran`."""
    ran = str(tmp_path / "ran")
    contents = {f"toy-1.0/{name[4:]}": content for name, content in MEMBERS.items()}
    contents |= {
        "toy-1.0/PKG-INFO": b"Metadata-Version: 1.0\nName: toy\nVersion: 1.0\n",
        "toy-1.0/pyproject.toml": SYSTEM.encode(),
        "toy-1.0/inside.py": BACKEND.format(ran=ran).encode(),
        "toy-1.0/setup.py": f"open({ran!r}, 'w')".encode(),
    }
    sdist = make_tar(shop / "toy-1.0.tar.gz", contents)
    write_sources(tmp_path / "sources.toml", sdist, root="toy-1.0/data")
    return tmp_path / "ran"


def test_sdist_with_a_build_backend_of_its_own_is_not_built(shop, tmp_path):
    ran = make_sdist(shop, tmp_path)
    assert_whole(assets.path("toy"))
    assert not ran.exists()


def test_pip_that_builds_all_the_same_is_stopped(shop, tmp_path, monkeypatch):
    ran = make_sdist(shop, tmp_path)
    step = "SourceDistribution.prepare_distribution_metadata"
    assert step in fetching.WITHOUT_BUILDING
    other = fetching.WITHOUT_BUILDING.replace(step, "SourceDistribution.renamed")
    monkeypatch.setattr(fetching, "WITHOUT_BUILDING", other)
    with pytest.raises(assets.AssetError) as error:
        assets.path("toy")
    assert_one_sentence(error, "own code", "use another pip", "helpers fetch toy")
    assert not ran.exists()
    assert not leftovers()


def test_pip_without_the_step_that_would_build(shop, tmp_path, monkeypatch):
    ran = make_sdist(shop, tmp_path)
    other = fetching.WITHOUT_BUILDING.replace("distributions.sdist", "distributions.elsewhere")
    monkeypatch.setattr(fetching, "WITHOUT_BUILDING", other)
    with pytest.raises(assets.AssetError) as error:
        assets.path("toy")
    assert_one_sentence(error, "elsewhere", "use another pip")
    assert not ran.exists()


@pytest.mark.parametrize("tags", ["cp39-cp39-win_amd64", "py3-none-macosx_11_0_arm64.win_arm64"])
def test_wheel_for_another_machine_and_python(shop, tmp_path, tags):
    wheel = make_wheel(shop, tags=tags, python=">=4")
    make_wheel(shop, {"toy/other": b""})  # one that fits this machine, but is not pinned
    (shop / "toy-1.0-py3-none-any.whl").rename(shop / "toy-1.1-py3-none-any.whl")
    write_sources(tmp_path / "sources.toml", wheel)
    assert_whole(assets.path("toy"))


def test_settings_of_the_user_do_not_disturb(toy, monkeypatch, tmp_path):
    (tmp_path / "constraints.txt").write_text("toy==2.0\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    assert_whole(assets.path("toy"))


def test_another_pin_is_another_folder(toy, cached, tmp_path):
    write_sources(tmp_path / "sources.toml", next(toy.iterdir()), members=["one.txt"])
    assert assets.path("toy") != cached
    assert_whole(cached)


# What can go wrong in the cache


def flip(file):
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


def flip_and_hide(file):
    before = file.stat()
    flip(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES = {
    "cut": lambda folder: os.truncate(folder / "one.txt", 10),
    "same size": lambda folder: flip(folder / "one.txt"),
    "same size and time": lambda folder: flip_and_hide(folder / "one.txt"),
    "deleted": lambda folder: (folder / "sub" / "two.txt").unlink(),
    "folder for file": lambda folder: ((folder / "one.txt").unlink(), (folder / "one.txt").mkdir()),
    "manifest empty": lambda folder: (folder / store.MANIFEST).write_text("{}"),
    "manifest odd": lambda folder: (folder / store.MANIFEST).write_text('["one.txt"]'),
    "manifest gone": lambda folder: (folder / store.MANIFEST).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(cached, damage):
    assert assets.is_cached("toy")
    DAMAGES[damage](cached)
    assert not assets.is_cached("toy")


@pytest.mark.parametrize("damage", ["same size and time", "folder for file", "manifest gone"])
def test_damage_is_mended(cached, damage):
    DAMAGES[damage](cached)
    assert_whole(assets.path("toy"))
    assert assets.is_cached("toy")


def test_fetch_reads_every_byte(cached, monkeypatch):
    honest = store._stamp(cached / "one.txt")
    flip(cached / "one.txt")
    real = store._stamp  # a disk that went wrong: new content, old size and times
    monkeypatch.setattr(store, "_stamp", lambda f: honest if f.name == "one.txt" else real(f))
    assert assets.is_cached("toy")
    monkeypatch.setattr(subprocess, "Popen", no_pip)
    with pytest.raises(AssertionError, match="pip was called"):
        assets.fetch(["toy"])


def test_copied_cache_is_taken_over(cached, monkeypatch, tmp_path):
    shutil.copytree(tmp_path / "cache", tmp_path / "copy", copy_function=shutil.copyfile)
    monkeypatch.setenv("NLP_TRANSFER_CACHE", str(tmp_path / "copy"))
    monkeypatch.setattr(subprocess, "Popen", no_pip)
    assert_whole(assets.path("toy"))
    monkeypatch.setattr(store, "_sha256", no_pip)  # hashed once, stamped, not hashed again
    assert assets.is_cached("toy")


@SAFE
@given(cut=st.integers(0, 300), tail=st.binary(max_size=3))
def test_broken_manifest_never_passes_nor_raises(cached, cut, tail):
    manifest = cached / store.MANIFEST
    whole = manifest.read_bytes()
    broken = whole[:cut] + tail
    manifest.write_bytes(broken)
    try:
        assert assets.is_cached("toy") == (broken.strip(b" \t\r\n") == whole)
    finally:
        manifest.write_bytes(whole)


# What can go wrong on the way


def test_kill_during_download(slow_index):
    child = start("assets.path('toy')")
    wait_for(lambda: any(f.stat().st_size for d in leftovers() for f in d.rglob("toy*.whl")))
    child.kill()
    child.communicate()
    assert leftovers()
    assert not assets.is_cached("toy")
    slow_index["go"].set()
    wait_for(lambda: not group_lives(child.pid))  # its pip was not killed, and still writes
    assert_whole(assets.path("toy"))
    assert slow_index["downloads"] == 2


def test_kill_during_unpacking(toy):
    code = """
import os, signal, shutil
def half(source, target, *_):
    target.write(source.read()[:3])
    target.flush()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.copyfileobj = half
assets.path('toy')"""
    child = start(code)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert any(file.name == "one.txt" for d in leftovers() for file in d.rglob("*.txt"))
    assert not assets.is_cached("toy")
    assert_whole(assets.path("toy"))


def test_interrupt_stops_pip(slow_index):
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    child = start(f"{heard}; assets.path('toy')")  # a shell's background job is deaf to it
    wait_for(lambda: slow_index["downloads"])
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=20)
    assert "KeyboardInterrupt" in said
    assert not leftovers()
    assert not group_lives(child.pid)  # nothing of it lives on


def test_two_processes_make_one_download(slow_index):
    children = [start("print(assets.path('toy'))") for _ in range(2)]
    wait_for(lambda: slow_index["downloads"])
    time.sleep(4)  # the other one has noticed by now
    slow_index["go"].set()
    told = [child.communicate(timeout=30) for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert {out.strip() for out, _ in told} == {str(assets.path("toy"))}
    assert sum("waiting" in said for _, said in told) == 1
    assert slow_index["downloads"] == 1
    assert_whole(assets.path("toy"))


def test_full_disk_while_unpacking(toy, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(assets.AssetError) as error:
            assets.path("toy")
    where = str(assets.cache_folder())
    assert_one_sentence(error, "No space left", "free ", where, "NLP_TRANSFER_CACHE")
    assert not leftovers()
    assert_whole(assets.path("toy"))


def test_full_disk_while_pip_downloads(toy, monkeypatch, tmp_path):
    words = "ERROR: Could not install packages: [Errno 28] No space left on device"
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(f"raise SystemExit({words!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(assets.AssetError) as error:
        assets.path("toy")
    assert_one_sentence(error, "No space left", "free ", "NLP_TRANSFER_CACHE")


def test_cache_that_cannot_be_written(toy, monkeypatch, tmp_path):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("NLP_TRANSFER_CACHE", str(tmp_path / "a file" / "cache"))
    with pytest.raises(assets.AssetError) as error:
        assets.path("toy")
    assert_one_sentence(error, "Cannot write toy", "a file", "NLP_TRANSFER_CACHE")


def test_index_without_the_package(toy):
    next(toy.iterdir()).unlink()
    with pytest.raises(assets.AssetError) as error:
        assets.path("toy")
    said = "(No matching distribution found for toy==1.0"
    assert_one_sentence(error, said, "network", "proxy", "python -m helpers fetch toy")
    assert not leftovers()


def test_index_that_nobody_answers_for(toy, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(assets.AssetError) as error:
        assets.path("toy")
    assert_one_sentence(error, "cannot download toy", "index does not answer", "pip config list")


def test_python_without_pip(toy, monkeypatch, tmp_path):
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(tmp_path / "bare")
    python = next((tmp_path / "bare").glob("[bS]*/python*"))  # bin or Scripts
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(assets.AssetError) as error:
        assets.path("toy")
    assert_one_sentence(error, "not installed", "python -m ensurepip")


def test_file_with_another_hash(toy):
    make_wheel(toy, MEMBERS | {"toy/data/one.txt": b"changed on the way"})
    with pytest.raises(assets.AssetError) as error:
        assets.path("toy")
    assert_one_sentence(error, "DO NOT MATCH THE HASHES")
    assert not assets.is_cached("toy")


def test_member_that_is_not_there(toy, tmp_path):
    write_sources(tmp_path / "sources.toml", next(toy.iterdir()), members=["one.txt", "gone.*"])
    with pytest.raises(assets.AssetError) as error:
        assets.path("toy")
    assert_one_sentence(error, "gone.*", "sources.toml")
    assert not leftovers()


NAMES = st.text(st.sampled_from("ab./\\:"), min_size=1, max_size=8)


@SAFE
@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), tar=st.booleans())
def test_nothing_is_written_outside(shop, tmp_path, names, tar):
    files = {f"toy/data/{name}": b"x" for name in names}
    package = tmp_path / ("hostile.tar.gz" if tar else "hostile.whl")
    if tar:
        make_tar(package, files)
    else:
        with zipfile.ZipFile(package, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    write_sources(tmp_path / "sources.toml", package, members=["*", "*/*", "*/*/*", "*/*/*/*"])
    before = {file for file in tmp_path.rglob("*") if file != package}
    target = tmp_path / "deep" / "er" / "target"
    with suppress(assets.AssetError, OSError):  # OSError: "a" and "a/b" cannot both be files
        fetching._unpack(assets.catalogue()["toy"], package, target)
    written = {file for file in tmp_path.rglob("*") if target not in (file, *file.parents)}
    shutil.rmtree(tmp_path / "deep", ignore_errors=True)
    assert written - before <= {package, target.parent, target.parent.parent}


def test_link_in_an_archive_is_not_a_member(shop, tmp_path):
    package = shop / "toy-1.0.tar.gz"
    with tarfile.open(package, "w:gz") as archive:
        link = tarfile.TarInfo("toy/data/one.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    write_sources(tmp_path / "sources.toml", package)
    with pytest.raises(assets.AssetError, match=re.escape("holds no one.txt")):
        fetching._unpack(assets.catalogue()["toy"], package, tmp_path / "target")


# Derived files


def make(folder):
    (folder / "sub").mkdir()
    for name, content in MEMBERS.items():
        (folder / name.removeprefix("toy/data/")).write_bytes(content)


def no_make(_):
    raise AssertionError("made again")


@pytest.fixture
def made(shop):
    return assets.derived("toy", "recipe 1", make)


def test_derived_files_are_made_once_for_a_recipe(made):
    assert_whole(made)
    assert assets.derived("toy", "recipe 1", no_make) == made
    assert assets.derived("toy", "recipe 2", make) != made
    assert_whole(made)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_derived_files_are_made_again(made, damage):
    DAMAGES[damage](made)
    assert assets.derived("toy", "recipe 1", make) == made
    assert_whole(made)
    assert assets.derived("toy", "recipe 1", no_make) == made


def test_derived_files_in_a_cache_that_cannot_be_written(made, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(store, "FileLock", denied)
    monkeypatch.setattr(Path, "write_text", denied)
    os.utime(made / "one.txt")  # a copy: its times differ, and the new ones cannot be noted
    assert assets.derived("toy", "recipe 1", no_make) == made
    with pytest.raises(assets.AssetError) as error:
        assets.derived("toy", "recipe 2", make)
    assert_one_sentence(error, "Cannot write toy", "Permission denied", "NLP_TRANSFER_CACHE")


def test_derived_files_that_cannot_be_made_leave_nothing(shop):
    def full(folder):
        make(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def wrong(folder):
        make(folder)
        raise ZeroDivisionError

    with pytest.raises(assets.AssetError) as error:
        assets.derived("toy", "recipe 1", full)
    assert_one_sentence(error, "No space left", "free some room", "NLP_TRANSFER_CACHE")
    with pytest.raises(ZeroDivisionError):
        assets.derived("toy", "recipe 1", wrong)
    assert not leftovers()
    assert_whole(assets.derived("toy", "recipe 1", make))


def test_kill_while_derived_files_are_made(shop):
    half = "(f / 'half').write_bytes(b'x'), os.kill(os.getpid(), 9)"
    child = start(f"import os; assets.derived('toy', 'recipe 1', lambda f: ({half}))")
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert leftovers()
    assert_whole(assets.derived("toy", "recipe 1", make))


# What the user sees


def test_unknown_name_gets_the_nearest(toy):
    with pytest.raises(assets.AssetError) as error:
        assets.path("toy_review")
    assert_one_sentence(error, "'toy_review'", "did you mean 'toy_reviews'")
    with pytest.raises(assets.AssetError) as error:
        assets.fetch(["toy", "zzz"])
    assert_one_sentence(error, "'zzz'", "there are toy, toy_reviews")
    assert not assets.is_cached("toy")  # found out before any download


def test_a_download_is_told_in_one_line_and_not_at_all_when_silenced(toy, capfd, monkeypatch):
    assets.fetch(["toy"])
    said = capfd.readouterr()
    assert said.err.splitlines() == ["toy: 1 MB, a toy"]
    assert said.out == ""
    shutil.rmtree(assets.cache_folder())
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assets.fetch(["toy"])
    assert capfd.readouterr() == ("", "")


def test_command_line(toy, capsys):
    assert cli.main(["assets"]) == 0
    assert re.search(r"^toy +data +1 +CC0-1.0 +no +toy_reviews$", capsys.readouterr().out, re.M)
    assert cli.main(["fetch", "toy_reviews"]) == 0
    capsys.readouterr()
    assert cli.main(["assets"]) == 0
    listing = capsys.readouterr().out
    assert re.search(r"^toy +data +1 +CC0-1.0 +yes +toy_reviews$", listing, re.M)
    assert str(assets.cache_folder()) in listing
    assert cli.main(["fetch", "--all"]) == 0
    assert cli.main(["fetch", "toi"]) == 1
    assert "did you mean 'toy'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["fetch"])


def test_command_line_hands_run_to_the_runner(monkeypatch):
    monkeypatch.setattr(runner, "main", lambda args: args.jobs)
    assert cli.main(["run", "--jobs", "3"]) == 3


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("NLP_TRANSFER_CACHE", "~/here")
    assert assets.cache_folder() == Path.home() / "here"
    monkeypatch.delenv("NLP_TRANSFER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert assets.cache_folder() == tmp_path / "nlp-transfer-notebooks"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert assets.cache_folder() == Path.home() / ".cache" / "nlp-transfer-notebooks"


# The real catalogue


def test_catalogue_is_complete_and_told_to_people():
    catalogue = assets.catalogue()
    people = (REPOSITORY / "data" / "README.md").read_text(encoding="utf-8")
    table, citations = people.split("## Please cite")
    names = [name for asset in catalogue.values() for name in (asset.name, *asset.provides)]
    assert len(names) == len(set(names))
    for asset in catalogue.values():
        assert re.fullmatch("[0-9a-f]{64}", asset.sha256), asset.name
        assert asset.kind in ("data", "corpus", "vectors", "model"), asset.name
        stem = asset.file.split("-")[0].replace("_", "-").lower()
        assert stem == asset.package.lower(), asset.name
        assert asset.version == asset.file.removesuffix(".tar.gz").split("-")[1], asset.name
        assert asset.members, asset.name
        assert asset.citation, asset.name
        row = re.search(rf"^\| `{asset.name}` .*$", table, re.M).group()
        facts = (f"{asset.package} {asset.version}", asset.language, asset.licence, *asset.provides)
        for fact in (*facts, f"| {asset.size / 1e6:.0f} |"):
            assert fact in row, (asset.name, fact)
        assert f"- `{asset.name}`: {asset.citation.split(' (')[0]} (" in citations, asset.name


def test_a_real_one():
    folder = assets.path("movie_reviews")
    lines = (folder / "movieReviewSnippets_GroundTruth.txt").read_text("latin-1").splitlines()
    assert len(lines) == 10_605
    assert len(list(folder.glob("*_GroundTruth.txt"))) == 4
