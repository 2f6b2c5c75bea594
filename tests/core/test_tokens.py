"""Counting tokens: equal to tiktoken's for text, and by the published rules for the rest."""

from __future__ import annotations

import base64
import random
import struct
import subprocess
import sys
import warnings
import zlib
from typing import Any

import pytest
import tiktoken

from memexllm.core import vocabularies
from memexllm.core.images import image_size
from memexllm.core.tokens import TokenCounter, UnknownModelWarning, encoding_name

HAND_MADE = [
    "",
    " ",
    "hello world",
    "<|endoftext|> and <|fim_prefix|> are text here <|endofprompt|>",
    "def f(x):\n    return {'a': [x ** 2 for _ in range(3)]}\n",
    "我们明天去北京好吗",
    "こんにちは世界、トークンを数えます。",
    "안녕하세요, 반갑습니다",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "👩‍👩‍👧‍👦 family 🇩🇪🇫🇷 flags 👍🏽",
    "e\u0301 combined and é composed",
    "\x00\x01\x02 control \x7f",
    "a" * 5000,
    " " * 3000,
    "\n\r\n\t mixed \u00a0\u2003 spaces",
    "https://example.com/a?b=c&d=%20#e",
    "1234567890 3.14159 1,000,000",
]
ALPHABETS = [
    "abcdefghij ",
    "äöüßéèñ ",
    "你好世界测试 ",
    "🙂🎉👨‍👩‍👧 ",
    "{}[]()<>;:=+-*/\\\"'\n\t ",
    "0123456789.,",
    "<|endoftext|> ",
]


def samples() -> list[str]:
    rng = random.Random(7)
    made = ["".join(rng.choice(rng.choice(ALPHABETS)) for _ in range(rng.randint(1, 400))) for _ in range(482)]
    return [*HAND_MADE, *made]


def reference(name: str) -> tiktoken.Encoding:
    """tiktoken's own object, made of the same ranks: what its constructor gives when it may download."""
    return vocabularies.encoding(name)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
def test_text_counts_are_those_of_the_encoder(model: str) -> None:
    counter = TokenCounter(model)
    encoder = reference(counter.encoding)
    texts = samples()
    assert len(texts) == 500
    assert [counter.count_text(text) for text in texts] == [
        len(encoder.encode(text, disallowed_special=())) for text in texts
    ]


# Ids published with the vocabularies; they differ between the two, and decode to the text.
@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("cl100k_base", "hello world", [15339, 1917]),
        ("o200k_base", "hello world", [24912, 2375]),
        ("cl100k_base", "tiktoken is great!", [83, 1609, 5963, 374, 2294, 0]),
    ],
)
def test_the_packed_vocabulary_is_the_published_one(name: str, text: str, ids: list[int]) -> None:
    encoding = vocabularies.encoding(name)
    assert encoding.encode_ordinary(text) == ids
    assert encoding.decode(ids) == text
    assert encoding.n_vocab == {"cl100k_base": 100277, "o200k_base": 200019}[name]


def test_counting_asks_no_network() -> None:
    code = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from memexllm.core.tokens import TokenCounter\n"
        "print(TokenCounter('gpt-4o').count_text('hello world'), TokenCounter('gpt-4').count_text('hello world'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "2"]


# https://github.com/openai/openai-cookbook, "How to count tokens with tiktoken": 129 is what the API reported.
COOKBOOK = [
    (
        "system",
        None,
        "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
    ),
    ("system", "example_user", "New synergies will help drive top-line growth."),
    ("system", "example_assistant", "Things working well together will increase revenue."),
    (
        "system",
        "example_user",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    ),
    ("system", "example_assistant", "Let's talk later when we're less busy about how to do better."),
    ("user", None, "This late pivot means we don't have time to boil the ocean for the client deliverable."),
]


@pytest.mark.parametrize(("model", "tokens"), [("gpt-4", 129), ("gpt-3.5-turbo", 129), ("gpt-4o", 124)])
def test_messages_cost_what_the_cookbook_says(model: str, tokens: int) -> None:
    messages = [{"role": role, "content": text} | ({"name": name} if name else {}) for role, name, text in COOKBOOK]
    assert TokenCounter(model).count_messages(messages) == tokens


def test_tools_cost_what_the_cookbook_says() -> None:
    tools = [
        {
            "type": "function",
            "function": {
                "name": "get_current_weather",
                "description": "Get the current weather in a given location",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "location": {
                            "type": "string",
                            "description": "The city and state, e.g. San Francisco, CA",
                        },
                        "unit": {
                            "type": "string",
                            "description": "The unit of temperature to return",
                            "enum": ["celsius", "fahrenheit"],
                        },
                    },
                    "required": ["location"],
                },
            },
        }
    ]
    messages = [
        {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
        {"role": "user", "content": "What's the weather like in San Francisco?"},
    ]
    for model, tokens in (("gpt-4", 105), ("gpt-4o", 101)):
        counter = TokenCounter(model)
        assert counter.count_request(messages, tools) == tokens


def png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))


def jpeg(width: int, height: int) -> bytes:
    app0 = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    return b"\xff\xd8" + app0 + b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(20)


def webp(width: int, height: int) -> bytes:
    extended = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + bytes(4) + b"WEBP" + b"VP8X" + bytes(8) + extended


def data_url(raw: bytes) -> str:
    return "data:image/x;base64," + base64.b64encode(raw).decode()


@pytest.mark.parametrize("kind", [png, jpeg, gif, webp])
def test_the_pixel_size_is_read_from_the_header(kind: Any) -> None:
    assert image_size(data_url(kind(640, 480))) == (640, 480)


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "data:image/png;base64,????", "data:,x", "", data_url(b"no image")]
)
def test_what_has_no_header_has_no_size(url: str) -> None:
    assert image_size(url) is None


# The examples of https://platform.openai.com/docs/guides/images-vision#calculating-costs
@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        ("gpt-4o", (1024, 1024), "high", 765),
        ("gpt-4o", (2048, 4096), "high", 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4.1-mini", (1024, 1024), "high", 1659),
    ],
)
def test_images_cost_what_the_guide_says(model: str, size: tuple[int, int], detail: str, tokens: int) -> None:
    image = {"url": data_url(png(*size)), "detail": detail}
    assert TokenCounter(model).count_image(image) == tokens


def test_the_bytes_of_an_image_are_never_counted_as_text() -> None:
    large = data_url(png(512, 512) + bytes(100_000))
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": large}}]}
    assert TokenCounter("gpt-4o").count_message(message) < 300


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-5.5", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo-0125", "cl100k_base"),
        ("ft:gpt-4o:acme", "o200k_base"),
        ("ft:gpt-3.5-turbo:acme", "cl100k_base"),
        (None, "o200k_base"),
    ],
)
def test_a_model_has_its_vocabulary(model: str | None, encoding: str) -> None:
    assert encoding_name(model) == encoding


def test_an_unknown_model_is_said_once() -> None:
    with pytest.warns(UnknownModelWarning, match="llama-9-said-once"):
        assert encoding_name("llama-9-said-once") == "o200k_base"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoding_name("llama-9-said-once") == "o200k_base"


def test_a_counter_of_the_users_own_is_used() -> None:
    counter = TokenCounter("llama", text_counter=len)
    assert counter.count_text("12345") == 5
    assert counter.count_message({"role": "user", "content": "abc"}) == 3 + 4 + 3
