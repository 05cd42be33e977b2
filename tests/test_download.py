"""Fetching one file: from a host that is well, that refuses in the ways that hosts do, that is slow; killed midway."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from host_kit import NO_VIRUS_SCAN, TOO_MANY, Host
from host_kit import host_fixture as host_fixture

from dmf.files import download
from dmf.files.download import Checksum, FetchError, alone, fetch, looks_like_a_page, words_of

CONTENT = bytes(range(256)) * 400
MD5 = Checksum("md5", hashlib.md5(CONTENT).hexdigest())
FETCH = """
import pathlib, sys
from dmf.files.download import Checksum, fetch
fetch([sys.argv[1]], pathlib.Path(sys.argv[2]), Checksum("md5", sys.argv[3]))
"""


def refusal(file: Path, *addresses: str, checksum: Checksum = MD5) -> str:
    with pytest.raises(FetchError) as error:
        fetch(addresses, file, checksum)
    assert not file.exists() and list(file.parent.iterdir()) == []
    return str(error.value)


def test_it_comes_whole_into_a_folder_that_is_made(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "new/folder/a.bin"
    fetch([host.give("/a.bin", CONTENT)], file, MD5)
    assert file.read_bytes() == CONTENT and [one.name for one in file.parent.iterdir()] == ["a.bin"]


def test_the_second_address_is_tried_when_the_first_refuses(host: Host, tmp_path: Path) -> None:
    fetch([f"{host.address}/none", host.give("/a.bin", CONTENT)], tmp_path / "a.bin", MD5)
    assert host.asked == ["/none", "/a.bin"] and (tmp_path / "a.bin").read_bytes() == CONTENT


def test_each_refusal_is_told(host: Host, tmp_path: Path) -> None:
    wrong = host.give("/wrong", b"0123456789")
    text = refusal(tmp_path / "a.bin", f"{host.address}/none", wrong)
    assert text.startswith("a.bin did not come\n")
    assert f"{host.address}/none: HTTPError: HTTP Error 404: Not Found" in text
    assert f"{wrong}: what came, 10 bytes, has md5 {hashlib.md5(b'0123456789').hexdigest()}, not {MD5.digits}" in text


@pytest.mark.parametrize("digits", [64, 8])
def test_sha256_and_the_first_digits_of_it(host: Host, tmp_path: Path, digits: int) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    fetch([host.give("/a.bin", CONTENT)], tmp_path / "a.bin", Checksum("sha256", sha256[:digits]))
    assert Checksum("sha256", "").of(tmp_path / "a.bin") == sha256
    wrong = sha256[: digits - 1] + ("0" if sha256[digits - 1] != "0" else "1")  # in the last digit alone
    text = refusal(tmp_path / "new/a.bin", host.give("/a.bin", CONTENT), checksum=Checksum("sha256", wrong))
    assert f"has sha256 {sha256}, not {wrong}" in text


def test_one_process_at_a_time_fetches_into_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inside = threading.Event()
    order: list[str] = []

    def second() -> None:
        inside.wait()
        with alone(tmp_path / "new"):
            order.append("second")

    thread = threading.Thread(target=second)
    with caplog.at_level("INFO", logger="dmf"):
        thread.start()
        with alone(tmp_path / "new"):
            inside.set()
            while "waiting for it" not in caplog.text:
                time.sleep(0.01)
            order.append("first")
        thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("status", [200, 403, 429])
def test_a_host_with_too_many_users(host: Host, tmp_path: Path, status: int) -> None:
    text = refusal(tmp_path / "a.zip", host.give("/uc?id=1", TOO_MANY, status=status))
    assert "Google Drive - Quota exceeded Sorry, you can't view or download this file at this time." in text
    assert "Too many users have viewed" in text and "<" not in text and "color" not in text
    assert ("a web page came in its place" in text) == (status == 200)
    assert (f"HTTP Error {status}" in text) == (status != 200)


def test_a_file_too_large_to_be_searched_for_viruses_is_fetched_all_the_same(host: Host, tmp_path: Path) -> None:
    host.give("/confirmed?id=x1&confirm=t", CONTENT)
    fetch([host.give("/uc?id=x1", NO_VIRUS_SCAN.format(id="x1"))], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert host.asked == ["/uc?id=x1", "/confirmed?id=x1&confirm=t"]


def test_a_question_that_is_asked_again_and_again_ends(host: Host, tmp_path: Path) -> None:
    host.give("/confirmed?id=x1&confirm=t", NO_VIRUS_SCAN.format(id="x1"))
    text = refusal(tmp_path / "a.zip", host.give("/uc?id=x1", NO_VIRUS_SCAN.format(id="x1")))
    assert "Virus scan warning" in text and len(host.asked) == 2


def test_a_line_that_goes_dead(host: Host, tmp_path: Path) -> None:
    text = refusal(tmp_path / "a.bin", host.give("/a.bin", CONTENT, stops_after=5000))
    assert f"the transfer broke off after 5000 of {len(CONTENT)} bytes" in text


def test_a_host_that_falls_silent_is_not_waited_for(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    began = time.monotonic()
    text = refusal(tmp_path / "a.bin", host.give("/a.bin", CONTENT[:2000], pause_s=3))
    assert "timed out" in text and time.monotonic() - began < 2.5


def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
    assert "Connection refused" in refusal(tmp_path / "a.bin", address)


def test_a_folder_that_cannot_be_made(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        fetch([host.give("/a.bin", CONTENT)], tmp_path / "file/a.bin", MD5)


def test_what_was_there_stays_until_the_whole_file_has_come(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")
    with pytest.raises(FetchError):
        fetch([host.give("/a.bin", CONTENT, stops_after=10)], file, MD5)
    assert file.read_bytes() == b"old"


def test_killed_midway_it_leaves_nothing_of_its_name(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    content = CONTENT * 20
    address, md5 = host.give("/a.bin", content, pause_s=0.005), hashlib.md5(content).hexdigest()
    child = subprocess.Popen([sys.executable, "-c", FETCH, address, str(file), md5])
    aside = tmp_path / ".a.bin.part"
    for _ in range(600):
        if aside.exists():
            break
        time.sleep(0.05)
    assert child.poll() is None and aside.exists()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not file.exists()
    fetch([host.give("/a.bin", content)], file, Checksum("md5", md5))
    assert file.read_bytes() == content and not aside.exists()


def test_progress_is_told_in_bytes(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmf.files.progress.PLAIN_LINE_EVERY_S", 0.0)
    with caplog.at_level("INFO", logger="dmf"):
        fetch([host.give("/a.bin", CONTENT)], tmp_path / "a.bin", MD5)
    assert caplog.messages[-1] == "fetch a.bin 102kB/102kB"


@pytest.mark.parametrize("start", [b"<!DOCTYPE html>", b"\n  <html lang=en>", b"<HEAD>"])
def test_pages_are_known(start: bytes) -> None:
    assert looks_like_a_page(start)


@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"\x1f\x8b", b"202599\n5_o_Clock", b"a<html>"])
def test_files_are_no_pages(start: bytes) -> None:
    assert not looks_like_a_page(start)


def test_the_words_of_a_page() -> None:
    page = "<html><head><title>No</title><script>if (a < b) {}</script></head><body><p>not &amp;\n today</body>"
    assert words_of(page) == "No not & today" and len(words_of("<p>" + "long " * 500)) == 300
