"""The command line of a server, as records keep it: what is masked, what stays, what cannot be read."""

from __future__ import annotations

import shlex

import pytest

from pytest_boobench.servers.command_line import LONGEST_COMMAND, find_port, write_command
from pytest_boobench.untrusted import learn_secret


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("llama-server -m a.gguf -c 4096", "llama-server -m a.gguf -c 4096"),
        ("llama-server \\\n  -m a.gguf \\\n  -ngl 99\n", "llama-server -m a.gguf -ngl 99"),
        ("llama-server\n# the old one: --port 1\n  -m 'a b.gguf'", "llama-server -m 'a b.gguf'"),
        ("llama-server --chat-template ''", "llama-server --chat-template ''"),
        (r"C:\llama\llama-server.exe -m 'D:\a b.gguf'", r"'C:\llama\llama-server.exe' -m 'D:\a b.gguf'"),
        ("a\x1b[31mb\tc", "ab c"),
        # ports
        ("s --port 5801", "s --port {port}"),
        ("s --port=5801 -c 5801", "s --port={port} -c 5801"),
        ("PORT=80 s --http-port 81", "PORT={port} s --http-port {port}"),
        ("s --port {port}", "s --port {port}"),
        # after a flag
        ("s --api-key abc -c 1", "s --api-key *** -c 1"),
        ("s --api-key -abc -c 1", "s --api-key *** -c 1"),
        ("s --api-key --port 1", "s --api-key *** {port}".replace("{port}", "1")),
        ("s --api-key=abc", "s --api-key=***"),
        ("s -hft hf_abc", "s -hft ***"),
        ("s --hf-token x --hf_token y", "s --hf-token *** --hf_token ***"),
        ("s --ssl-keyfile-password x --ssl-key-file k.pem", "s --ssl-keyfile-password *** --ssl-key-file k.pem"),
        ("s --api-key-file keys.txt --auth u:p", "s --api-key-file keys.txt --auth ***"),
        ("s --no-auth --mlock", "s --no-auth --mlock"),
        ("s --max-tokens 5 --tokenizer t --spec-token-map m --keep 3", None),
        ("s --override-kv tokenizer.ggml.add_bos_token=bool:false", None),
        ("s --cache-type-k q8_0 -ctv q8_0 --n-predict -1", None),
        # variables
        ("HF_TOKEN=abc GGML_X=1 s", "HF_TOKEN=*** GGML_X=1 s"),
        ("KEY=abc TOKEN_OF_HF=abc s", "KEY=*** TOKEN_OF_HF=*** s"),
        ("docker run -e OPENAI_API_KEY=abc -e HF_TOKEN i", "docker run -e OPENAI_API_KEY=*** -e HF_TOKEN i"),
        ("AWS_SECRET_ACCESS_KEY=a/b+c= AWS_ACCESS_KEY_ID=d s", "AWS_SECRET_ACCESS_KEY=*** AWS_ACCESS_KEY_ID=*** s"),
        ("docker run --env=HF_TOKEN=abc -eHF_TOKEN=abc i", "docker run --env=HF_TOKEN=*** -eHF_TOKEN=*** i"),
        ("s --set auth.token=abc", "s --set auth.token=***"),
        ("env KEY_FILE=/k s", "env KEY_FILE=/k s"),
        # within a word
        ("s --proxy http://me:pa55@host:80/x", "s --proxy http://***@host:80/x"),
        ("s --proxy http://tok3n@host/", "s --proxy http://***@host/"),
        ("s --store postgresql://u:a/b#c@db/x", "s --store postgresql://***@db/x"),
        ("s -m http://h/a.gguf?token=abc&x=1", "s -m 'http://h/a.gguf?token=***&x=1'"),
        ("s -m http://h/a.gguf?X-Signature=abc", "s -m 'http://h/a.gguf?X-Signature=***'"),
        ("s -H 'Authorization: Bearer abc.def'", "s -H 'Authorization: ***'"),
        ("s -H 'authorization: Token abc'", "s -H 'authorization: ***'"),
        ("s -H 'Cookie: a=b; c=d'", "s -H 'Cookie: ***'"),
        ("s --header=Bearer\\ abc", "s '--header=Bearer ***'"),
        ("s -H 'X-Api-Key: abc'", "s -H 'X-Api-Key: ***'"),
        ("""s --extra '{"api_key": "abc", "n": 1}'""", """s --extra '{"api_key": "***", "n": 1}'"""),
        ("bash -c 'exec s --api-key def --port 3'", "bash -c 'exec s --api-key *** --port {port}'"),
        ("""bash -c 's --api-key "d e f" --hf-token="g h" -c 1'""", "bash -c 's --api-key *** --hf-token=*** -c 1'"),
        ("bash -c 'HF_TOKEN=abc s -c 1'", "bash -c HF_TOKEN=***"),
        ("PASSWORD='of three words' s", "PASSWORD=*** s"),
        ("serve hf_abcdefghijkl sk-proj-abcdefgh", "serve hf_*** sk-***"),
    ],
)  # fmt: skip
def test_what_is_kept(command: str, written: str | None) -> None:
    """None: as it was. What is kept is kept as it is when it is read again."""
    expected = command if written is None else written
    assert write_command(command) == write_command(expected) == expected


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("python srv.py a.gguf 18421", "python srv.py a.gguf {port}"),
        ("docker run -p 18421:8080 i --listen 0.0.0.0:18421", "docker run -p {port}:8080 i --listen 0.0.0.0:{port}"),
        ("s --url http://127.0.0.1:18421/ -c 118421", "s --url http://127.0.0.1:{port}/ -c 118421"),
    ],
)
def test_the_known_port_wherever_it_stands(command: str, written: str) -> None:
    assert write_command(command, 18421) == written


def test_words_stay_words() -> None:
    words = ["/opt/a b/llama-server", "--port", "5801", "--api-key", "abc def", "-p", "it's"]
    written = write_command(words)
    assert written is not None
    assert shlex.split(written) == ["/opt/a b/llama-server", "--port", "{port}", "--api-key", "***", "-p", "it's"]


def test_a_key_of_ours_is_hidden_wherever_it_stands() -> None:
    learn_secret("swordfish-1")
    assert write_command("s --name swordfish-1") == "s --name [secret]"


@pytest.mark.parametrize("part", ["a-", "://", ".-a", "a.", "-a=", "key:", "?a", "' ", "--port "])
@pytest.mark.parametrize("head", ["", "a b "])
def test_a_word_of_a_server_that_means_harm_is_read_all_the_same(head: str, part: str) -> None:
    """It would take minutes if each part were followed to the end."""
    written = write_command([head + part * (7_900 // len(part)), "--api-key", "abc", "x" * 9_000, "y"])
    assert written is not None
    assert written.endswith(" --api-key ***")


def test_a_long_command_is_cut() -> None:
    written = write_command("s " + "--flag value " * 100_000)
    assert written is not None
    assert len(written) == LONGEST_COMMAND
    assert written.endswith("…")


@pytest.mark.parametrize("command", ["", "  \n", "# only a remark", "s --api-key 'no end", []])
def test_what_cannot_be_read(command: str | list[str]) -> None:
    assert write_command(command) is None


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://127.0.0.1:18421", 18421), ("http://h", None), ("http://h:99999", None), (3, None), ("http://[", None)],
)
def test_the_port_of_a_url(url: object, port: int | None) -> None:
    assert find_port(url) == port
