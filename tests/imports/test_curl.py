"""What becomes of curl's options: keys of a job, comments, or a job that is a comment as a whole."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fetchd.fetch.placeholders import Known, escaped, fill
from fetchd.imports.curl_options import NAMES, SHORT, requests
from fetchd.secret import Secret
from tests.fetch.room import RUN
from tests.imports.lines import command, jobs_of, only

URL = "https://api.example.org/v1/rates"


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ("", {"redirects": 0, "interval": 300.0, "method": "GET", "retries": 2}),
        ("-L", {"redirects": 20}),
        ("-L --max-redirs 3", {"redirects": 3}),
        ("-m 10", {"deadline": 10.0, "timeout.read": 10.0, "timeout.connect": 10.0}),
        ("-m 10 --connect-timeout 2.5", {"deadline": 10.0, "timeout.connect": 2.5, "timeout.read": 10.0}),
        ("--connect-timeout 60", {"deadline": 60.0, "timeout.connect": 60.0}),
        ("-m 3600", {"deadline": 300.0, "timeout.read": 300.0}),
        ("--retry 5 --retry-delay 3", {"retries": 5, "retry.first": 3.0, "retry.longest": 3.0, "retry.unsafe": False}),
        ("--retry 2 -d x", {"retries": 2, "retry.unsafe": True}),
        ("--retry 0", {"retries": 0}),
        ("--max-filesize 1000", {"max_body": 1000}),
        ("-k", {"tls.verify": False}),
        ("-6", {"ip": "ipv6"}),
        ("-x proxy.test", {"proxy": Secret("http://proxy.test:1080")}),
        ("-x https://proxy.test:3128 -U a:b@", {"proxy": Secret("https://a:b%40@proxy.test:3128")}),
        ("-x p.test:1 --noproxy '*'", {"proxy": Secret("")}),
        ("-u a:b --digest", {"auth.kind": "digest"}),
        ("-X DELETE", {"method": "DELETE"}),
        ("-X GET -d x=y", {"method": "GET", "form": {"x": Secret("y")}}),
        ("-f --no-fail -sS --no-buffer -v --compressed --http1.1", {"redirects": 0}),
    ],
)
def test_options_that_are_keys(options: str, keys: dict[str, Any], tmp_path: Path) -> None:
    """What a job can say it says, and the daemon reads it without a finding."""
    job = only(command(f"curl {options} {URL}"), tmp_path)
    for key, expected in keys.items():
        value: Any = job
        for part in key.split("."):
            value = getattr(value, part)
        assert value == expected, key


@pytest.mark.parametrize(
    ("options", "comment"),
    [
        ("-w '%{http_code}'", "--write-out: status and times"),
        ("--http2", "--http2: fetchd speaks HTTP/1.1"),
        ("-c jar", "--cookie-jar: cookies are not kept"),
        ("-H Accept:", "the header Accept cannot be left out"),
        ("-A ''", "the header User-Agent cannot be left out"),
        ("-H 'X: a' -H 'x: b'", "the header x is sent once, with both values"),
        ("-H 'Connection: close'", "the header Connection is set by fetchd itself"),
        ("-H nonsense", "a header without a colon"),
        ("-z yesterday", "--time-cond: fetchd asks for what is new"),
        ("--pinnedpubkey sha256//abc", "the key is not pinned"),
        ("-k", "not checked; anybody on the way"),
        ("--limit-rate 10k", "the speed is not limited"),
        ("-o rates.json", "rates.json is in the folder out"),
        ("--retry 99", "--retry: 10 is the most here"),
        ("-m 3600", "the deadline would be 1h, but a run ends before the next"),
        ("-u me", "set API_EXAMPLE_V1_RATES_PASSWORD to it"),
        ("-H 'Expect: 100-continue' -d a", "the header Expect is not sent"),
        ("-H 'Host: a' -H 'Host: b'", "of several Host headers curl sends the first"),
    ],
)
def test_options_that_are_comments(options: str, comment: str) -> None:
    """What a job cannot say, and does without, is said beside it."""
    found = command(f"curl {options} {URL}")
    assert (found.jobs, found.left) == (1, 0)
    assert comment in found.text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"curl -F a=b {URL}", "--form has no counterpart"),
        (f"curl -T file {URL}", "--upload-file has no counterpart"),
        (f"curl -K rc {URL}", "--config has no counterpart"),
        (f"curl -n {URL}", "--netrc has no counterpart"),
        (f"curl --ntlm -u a:b {URL}", "--ntlm has no counterpart"),
        (f"curl --resolve a:1:b {URL}", "--resolve has no counterpart"),
        (f"curl -x socks5://p:1 {URL}", "a proxy of the kind socks5"),
        (f"curl -b cookies.txt {URL}", "the cookies of a file"),
        (f"curl -H @file {URL}", "the headers of a file"),
        (f"curl -d @nowhere {URL}", "the file nowhere, which is sent, cannot be read"),
        (f"curl -d @- {URL}", "comes from the standard input"),
        (f"curl --bogus {URL}", "--bogus is not an option"),
        ("curl -s", "there is no URL"),
        ("curl ftp://h/x", "ftp is not HTTP"),
        ("curl 'https://h/a b'", "holds no spaces"),
        ("curl https://h/[3-1]", "its range is empty"),
        ("curl https://h/{1..3}", "only a shell can tell what {1..3} is"),
        ("curl -d {a,b} https://h", "only a shell can tell what {a,b} is"),
        ("curl http://127.1/x", "an IPv4 address as four decimal numbers"),
        (f"pushd /srv; curl {URL}", "it ran only after: pushd /srv"),
        ("curl 'https://h/{a'", 'a "{" has no end'),
        ("curl https://h/[1-1000]", "has more than 100"),
        (f"curl -X PURGE {URL}", "method"),
        (f'curl -X "$METHOD" {URL}', "a variable stands where the method"),
        (f'curl {URL}?d="$(date +%F)"', "only a shell can tell what $(date +%F) is"),
        (f"curl -H 'X: ž' {URL}", "holds what a job's header cannot"),
        (f"curl -o '$HOME' -o \"$HOME/x\" {URL} {URL}", "a variable stands in the name of the file"),
        (f"curl -o ../x {URL}", "leaves the folder"),
        (f"curl {URL} && curl -X POST {URL}", "it ran only if the command before it succeeded"),
        (f"[ -f /tmp/x ] && curl -X DELETE {URL}", "it ran only after: [ -f /tmp/x ]"),
        (f"curl --anyauth -u a:b {URL}", "--anyauth"),
    ],
)
def test_jobs_that_are_comments(line: str, reason: str) -> None:
    """Where the request would be another one, none is sent; the job stands there to be completed."""
    found = command(line)
    assert found.left
    assert "# NOT USABLE AS IT IS" in found.text
    assert reason in found.text


@pytest.mark.parametrize(
    ("line", "sink"),
    [
        ("curl -o /srv/a.json URL", {"kind": "file", "path": "/srv/a.json"}),
        ("curl -O URL", {"kind": "file", "path": "rates"}),
        ("curl --output-dir d -O URL", {"kind": "file", "path": "d/rates"}),
        ("curl URL > /srv/a.json 2>/dev/null", {"kind": "file", "path": "/srv/a.json"}),
        ("cd /srv && curl URL > a.json", {"kind": "file", "path": "/srv/a.json"}),
        ("curl URL | jq .a | tee b", {"kind": "command", "argv": ("sh", "-c", "jq .a | tee b")}),
        ("curl URL >> '/var/log/a b'", {"kind": "command", "argv": ("sh", "-c", "cat >> '/var/log/a b'")}),
    ],
)
def test_where_results_go(line: str, sink: dict[str, Any], tmp_path: Path) -> None:
    """A file, a redirection and a pipe become sinks."""
    (found,) = only(command(line.replace("URL", URL)), tmp_path).sinks
    assert {key: getattr(found, key) for key in sink} == sink


def test_a_variable_may_hold_options() -> None:
    """What stands where a URL may stand is taken for one, and beside another one that is a guess."""
    assert "taken for a URL" not in command("curl $PLACE").text
    assert command(f"curl $OPTIONS {URL}").text.count("$OPTIONS is taken for a URL: if it holds options") == 2


@pytest.mark.parametrize(
    ("line", "comment"),
    [
        (f"curl -u $CREDENTIALS {URL}", "${CREDENTIALS} must not hold the password too: part them at the colon"),
        (f"curl {URL}?a=1&b=2", "the shell ends the command at &: b is no part of its URL without quotes"),
        (f"curl --cacert ca.pem {URL}", "the file ca.pem cannot be read"),
        (f"wget --user me --password x {URL}", "once the server asks for it, fetchd at once"),
    ],
)
def test_what_a_reader_would_not_expect(line: str, comment: str) -> None:
    """What is the shell's own, or not there, is said before somebody wonders."""
    assert comment in command(line).text


def test_variables_are_read_from_the_environment() -> None:
    """A token that the shell put in is never asked for, and never shown."""
    text = command('curl -H "Authorization: Bearer $TOKEN" -H "X-Key: a$API_KEY" "https://$HOST/x" -u "$U:$P"').text
    assert 'auth = { kind = "bearer", token = { env = "TOKEN" } }' in text
    assert 'to "a${API_KEY}"' in text
    assert 'to "https://${HOST}/x"' in text


SECRETS = (
    "curl -u me:pa55word -H 'X-Api-Key: k3y-text' -d 'token=f0rm-text&a=b' -x http://u:pr0xy-text@p:1 "
    "'https://h.test/x?api_key=qu3ry-text'; curl https://hooks.slack.com/services/T0/B0/h00k-text; "
    "curl -H 'Authorization: Bearer b3arer-text' https://h.test; curl https://u:us3r-text@h.test; "
    """curl --json '{"user":"me","password":"js0n-text"}' https://h.test; """
    """curl -d '<pass>xm1-text</pass>' -H 'Content-Type: text/xml' https://h.test; """
    """curl -d 'a=%7B%22token%22%3A%22n3sted-text%22%7D' https://h.test"""
)
TEXTS = ["pa55word", "k3y-text", "f0rm-text", "pr0xy-text", "qu3ry-text", "h00k-text", "b3arer-text", "us3r-text"]
TEXTS += ["js0n-text", "xm1-text", "n3sted-text"]


def test_secrets_stay_where_they_are(tmp_path: Path) -> None:
    """By default nothing is lost: each stands in its job, with a word on where it belongs, and nowhere else."""
    found = command(SECRETS)
    assert len(jobs_of(found, tmp_path)) == 7
    for text in TEXTS:
        assert found.text.count(text) == 1, text
        assert not [line for line in found.text.splitlines() if line.startswith("#") and text in line]
    assert "X-Api-Key is a secret: better set H_X_API_KEY" in found.text
    assert "json holds a secret: better set H_4_BODY to all of it" in found.text


def test_secrets_are_not_printed_on_demand(tmp_path: Path) -> None:
    """With variables in their place, not one of them is in the output, and every variable is named."""
    found = command(SECRETS, secrets="env")
    assert not [text for text in TEXTS if text in found.text]
    names = set(re.findall(r'env = "(\w+)"', found.text))
    assert len(names) == len(TEXTS)
    assert all(f"# set {name} to " in found.text for name in names)
    stand_ins = {name: "http://in.test:1/" if name.endswith(("URL", "PROXY")) else "x" for name in names}
    assert len(jobs_of(found, tmp_path, {"HOME": "/", **stand_ins})) == 7


def test_what_is_assigned_to_a_secret_is_not_printed_on_demand(tmp_path: Path) -> None:
    """By a command before, before a pipe, or with the rest of a body; what has another name is no secret."""
    line = (
        """TOKEN=t0ken-text; TEAM=blue; PGPASSWORD=pg-text curl -H "X-Own: $TOKEN" "https://h.test/?t=$TEAM" | psql; """
        """curl -d "{\\"password\\":\\"b0dy-text\\",\\"team\\":\\"$TEAM$TOKEN\\"}" """
        """"https://h.test/?sig=qu3ry-text&t=$TOKEN" """
    )
    found = command(line, secrets="env")
    assert not [text for text in ("t0ken", "pg-text", "b0dy", "qu3ry") if text in found.text]
    assert 'X-Own = { env = "TOKEN" }' in found.text
    assert "https://h.test/?t=blue" in found.text
    assert "t0ken-text" in command(line).text


def test_a_monitor_that_is_told_afterwards(tmp_path: Path) -> None:
    """`&& curl https://hc-ping.com/…` is what ping is for."""
    job = only(command(f"curl -fsS {URL} >/dev/null && curl -m 10 https://hc-ping.com/some-uuid"), tmp_path)
    assert job.ping == Secret("https://hc-ping.com/some-uuid")


def test_a_monitor_is_not_told_of_what_does_not_run() -> None:
    """Told each day that a backup was made, it would never say that there is none."""
    ping = "curl https://hc-ping.com/some-uuid"
    assert command(ping).jobs == 1
    found = command(f"{ping}/start; /srv/backup.sh; {ping}")
    assert (found.jobs, found.left) == (0, 3)
    assert found.text.count("NOT USABLE AS IT IS: it tells a monitor") == 2


def test_names_hold_no_secrets(tmp_path: Path) -> None:
    """Names are shown everywhere, so what looks like a token is not among their words."""
    line = "curl https://www.example.co.uk/v1/users/4f9c8a7b6d5e4f3a/Orders https://[::1]:8/x http://h.test https://h.test/"
    names = [job.name for job in jobs_of(command(line), tmp_path)]
    assert names == ["example-co-v1-users", "1", "h", "h-2"]
    assert only(command(f"curl {URL}", name="mine"), tmp_path).name == "mine"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs the Debian package curl")
def test_every_option_of_the_real_curl_is_known() -> None:
    """An option whose value were taken for a URL would be asked for."""
    text = subprocess.run(["curl", "--help", "all"], capture_output=True, check=True, text=True, timeout=10).stdout
    for line in text.splitlines():
        match = re.match(r" *(?:-(.), )?--([a-z0-9.-]+)( [<\[])?", line)
        if match is None:
            continue
        short, name, takes = match.groups()
        if name in NAMES or not short:
            (said,) = requests([f"--{name}", "value"])
            assert said.unknown or name in {"help", "url"} or (said.last("url") is None) == bool(takes), line
        was = {"show-headers": "include"}.get(name, name)  # since 8.10; both are understood
        assert not short or SHORT[short] == was, line


@pytest.mark.parametrize("text", ["{now}", "{{now}}", "{{{slot+1h:%Y}}}", "{cursor}{", "a{b}{{last_success:iso}}", "{"])
def test_braces_come_through(text: str) -> None:
    """What a command holds in braces is no placeholder of ours."""
    assert fill(escaped(text), Known(RUN.slot, RUN.slot)) == text
