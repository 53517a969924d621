"""Files of the operator's folder: which are served, and that no other is."""

import os
from pathlib import Path
from typing import Any

import pytest

from penstock.config import Settings
from penstock.posthog import static_files
from penstock.posthog.paths import SdkAnswers
from penstock.posthog.static_files import StaticFiles


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "static"
    (folder / "1.449.2").mkdir(parents=True)
    (folder / "array.js").write_bytes(b"array()")
    (folder / "1.449.2" / "lazy-recorder.js").write_bytes(b"record()")
    (folder / ".hidden").write_bytes(b"hidden")
    (tmp_path / "secret.js").write_bytes(b"secret")
    return folder


def read(files, path):
    """Read a whole file as the front does; None: it is not served."""
    file = files.open(path)
    if file is None:
        return None
    content = file.read(0, file.size)
    file.close()
    return content


def test_files_are_found_by_name_and_by_version(folder):
    files = StaticFiles(folder)
    assert read(files, b"array.js") == b"array()"
    assert read(files, b"1.449.2/lazy-recorder.js") == b"record()"


@pytest.mark.parametrize("place", ["", "dist", "package/dist", "node_modules/posthog-js/dist"])
def test_the_package_is_found_where_npm_unpacks_it(tmp_path, place):
    (tmp_path / "static" / place).mkdir(parents=True)
    (tmp_path / "static" / place / "array.js").write_bytes(b"array()")
    assert read(StaticFiles(tmp_path / "static"), b"array.js") == b"array()"


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b".",
        b"..",
        b"../secret.js",
        b"1.449.2/../../secret.js",
        b"1.449.2/../array.js",
        b"%2e%2e/secret.js",
        b"..%2fsecret.js",
        b"..\\secret.js",
        b"/etc/passwd",
        b"//etc/passwd",
        b".hidden",
        b"1.449.2",
        b"1.449.2/",
        b"array.js/",
        b"array.js\0",
        b"array.js\0.html",
        b"missing.js",
        b"\xff.js",
        b"a" * 513,
        b"a/" * 20 + b"a",
        b"a" * 300,
    ],
)
def test_no_other_path_leads_to_a_file(folder, path):
    files = StaticFiles(folder)
    assert files.open(path) is None
    assert not files.opened


def test_a_link_out_of_the_folder_is_not_followed_and_one_inside_is(folder, tmp_path):
    (folder / "out.js").symlink_to(tmp_path / "secret.js")
    (folder / "up").symlink_to(tmp_path)
    (folder / "latest").symlink_to(folder / "1.449.2")
    files = StaticFiles(folder)
    assert read(files, b"out.js") is None
    assert read(files, b"up/secret.js") is None
    assert read(files, b"latest/lazy-recorder.js") == b"record()"


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "current").symlink_to(folder)
    assert read(StaticFiles(tmp_path / "current"), b"array.js") == b"array()"


def test_a_pipe_is_no_file_and_holds_nobody_up(folder):
    os.mkfifo(folder / "pipe.js")
    assert StaticFiles(folder).open(b"pipe.js") is None


def find(folder: Path, path: bytes) -> Any:
    return SdkAnswers(Settings(static_dir=folder), lambda *_: "phc_1").find(path, b"")


def answer(folder: Path, path: bytes) -> Any:
    call = find(folder, path)
    assert call.by_head(b"GET") is None
    return call.answer(b"", 0)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.js", b"text/javascript; charset=utf-8"),
        ("a.js.map", b"application/json"),
        ("a.css", b"text/css; charset=utf-8"),
        ("a.unknown", b"application/octet-stream"),
        ("LICENSE", b"application/octet-stream"),
    ],
)
def test_content_types_follow_the_name(folder, name, content_type):
    (folder / name).write_bytes(b"x")
    served = answer(folder, f"/static/{name}".encode())
    served.file.close()
    assert (served.status, served.content_type) == (200, content_type)


def test_the_tag_is_of_what_is_in_the_file(folder):
    def tag(path):
        served = answer(folder, path)
        served.file.close()
        return served.etag

    before = tag(b"/static/array.js")
    assert tag(b"/static/array.js") == before
    (folder / "array.js").write_bytes(b"array2()")
    assert tag(b"/static/array.js") != before


def test_array_js_of_a_token_begins_with_its_config(folder):
    served = answer(folder, b"/array/phc_1/array.js")
    assert b'c["phc_1"]=' in served.body
    assert served.file.read(0, served.file.size) == b"array()"
    served.file.close()
    other = answer(folder, b"/array/phc_2/array.js")
    other.file.close()
    assert other.etag != served.etag


def test_a_missing_file_is_404(folder):
    assert answer(folder, b"/static/surveys.js").status == 404


def test_past_the_most_open_files_the_answer_is_to_come_back(folder, monkeypatch):
    monkeypatch.setattr(static_files, "MAX_OPEN_FILES", 1)
    call = find(folder, b"/static/array.js")
    first, second = call.answer(b"", 0), call.answer(b"", 0)
    assert (first.status, second.status, second.retry_after_seconds) == (200, 503, 1)
    first.file.close()
    third = call.answer(b"", 0)
    third.file.close()
    assert third.status == 200
