"""Requests to a Prefect server whose database is busy, which it says with status 503."""

from __future__ import annotations

import http.server
import threading
import urllib.error
from collections.abc import Iterator

import pytest

from pipeline.servers import crash_automation


@pytest.fixture
def answers() -> list[int]:
    """The status of each answer to come; the last one stays."""
    return [503, 503, 200]


@pytest.fixture
def url(answers: list[int]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_automation, "PAUSE_S", 0.01)
    monkeypatch.setattr(crash_automation, "TIMEOUT_S", 0.2)


def test_a_busy_server_is_asked_again(url: str, answers: list[int]) -> None:
    assert crash_automation.ask(url, "GET") == {}
    assert answers == [200]


@pytest.mark.parametrize("code", [503, 500])
def test_one_that_stays_busy_or_fails_is_an_error(url: str, answers: list[int], code: int) -> None:
    answers[:] = [code]
    with pytest.raises(urllib.error.HTTPError, match=str(code)):
        crash_automation.ask(url, "GET")
