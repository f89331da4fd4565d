"""Chat templates of the three families, and their rendering: messages to one prompt.

A message is `{"role": "user", "content": [...]}`; its parts are `{"type": "text", "text": ...}`, and
`{"type": "image"}` or `{"type": "video"}` with `path`, `url`, `base64` or the thing itself under its type. A content
that is a string is text.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

Messages = Sequence[Mapping[str, Any]]

_SOURCES = ("url", "path", "base64")  # where a part may name its medium, beside its own type

_MACROS = """\
{%- macro words(content) -%}
{%- if content is string -%}{{ content | trim }}{%- else -%}
{%- for part in content if part.type == 'text' -%}{{ '' if loop.first else ' ' }}{{ part.text | trim }}{%- endfor -%}
{%- endif -%}{%- endmacro -%}
{%- macro markers(content, after) -%}{%- if content is not string -%}
{%- for part in content if part.type in ['image', 'video'] -%}
{{ (image_token if part.type == 'image' else video_token) + after }}{%- endfor -%}
{%- endif -%}{%- endmacro -%}
"""
_CHECK = "{%- if message.role not in ['system', 'user', 'assistant'] -%}\
{{ raise_exception('role is ' ~ message.role ~ '; it may be system, user or assistant') }}{%- endif -%}"

# Video-LLaVA as the documents write it: media first, which is how it was trained, turns parted by a blank.
VICUNA = f"""{_MACROS}{{%- for message in messages -%}}{_CHECK}\
{{{{ '' if loop.first else ' ' }}}}\
{{%- if message.role == 'user' -%}}USER: {{{{ markers(message.content, '\\n') }}}}\
{{%- elif message.role == 'assistant' -%}}ASSISTANT: {{%- endif -%}}\
{{{{ ' ' if message.role == 'assistant' else '' }}}}{{{{ words(message.content) }}}}\
{{%- endfor -%}}{{{{ ' ASSISTANT:' if add_generation_prompt else '' }}}}"""

# The original Video-LLaVA: a sentence in front, an end token after every answer, one line break after all markers.
_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
VICUNA_PAPER = f"""{_MACROS}{{%- set ends = '</s>' -%}}\
{{%- if not messages or messages[0].role != 'system' -%}}{_SYSTEM} {{{{ '' }}}}{{%- endif -%}}\
{{%- for message in messages -%}}{_CHECK}\
{{%- if message.role == 'system' -%}}{{{{ words(message.content) + ' ' }}}}\
{{%- elif message.role == 'user' -%}}{{%- set seen = markers(message.content, '') -%}}\
{{{{ 'USER: ' + seen + ('\\n' if seen else '') + words(message.content) + ' ' }}}}\
{{%- else -%}}{{{{ 'ASSISTANT: ' + words(message.content) + ends }}}}{{%- endif -%}}\
{{%- endfor -%}}{{{{ 'ASSISTANT:' if add_generation_prompt else '' }}}}"""

# BLIP-2: questions and answers in turn; the processor writes the placeholders of the picture itself.
BLIP2 = f"""{_MACROS}{{%- for message in messages -%}}{_CHECK}\
{{{{ '' if loop.first else ' ' }}}}\
{{%- if message.role == 'user' -%}}{{{{ 'Question: ' + words(message.content) }}}}\
{{%- elif message.role == 'assistant' -%}}{{{{ 'Answer: ' + words(message.content).rstrip('.') + '.' }}}}\
{{%- else -%}}{{{{ words(message.content) }}}}{{%- endif -%}}\
{{%- endfor -%}}{{{{ ' Answer:' if add_generation_prompt else '' }}}}"""

# InstructBLIP follows bare instructions: the texts alone, as they were said.
PLAIN = f"""{_MACROS}{{%- for message in messages -%}}{_CHECK}\
{{{{ '' if loop.first else ' ' }}}}{{{{ words(message.content) }}}}{{%- endfor -%}}"""


def render(
    template: str,
    messages: Messages,
    *,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    **variables: Any,
) -> str:
    """Write one conversation as the prompt that a template makes of it.

    Args:
        template: Jinja; it is run in a sandbox.
        add_generation_prompt: end with what an answer begins with.
        continue_final_message: end inside the last message, so that the model goes on with it.
        variables: what the template may use beside `messages`.

    Raises:
        ValueError: both ways of ending at once, or messages that the template refuses or cannot read.
    """
    import jinja2

    if add_generation_prompt and continue_final_message:
        raise ValueError("give add_generation_prompt for a new answer or continue_final_message to go on, not both")
    try:
        text = _compiled(template).render(messages=messages, add_generation_prompt=add_generation_prompt, **variables)
    except (jinja2.TemplateError, TypeError) as error:
        raise ValueError(f"the chat template cannot write these messages: {error}") from error
    if not continue_final_message:
        return text
    last = _last_text(messages)
    if not last or last not in text:
        raise ValueError("continue_final_message needs a last message with text, which the template writes as it is")
    return text[: text.rindex(last) + len(last)]


def is_one_conversation(conversation: Any) -> bool:
    """Whether it is one list of messages; False for a list of conversations.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(conversation, (list, tuple)) and conversation:
        if all(isinstance(item, Mapping) for item in conversation):
            _check(conversation)
            return True
        if all(isinstance(item, (list, tuple)) and item for item in conversation):
            for one in conversation:
                if not all(isinstance(item, Mapping) for item in one):
                    break
                _check(one)
            else:
                return False
    raise ValueError(
        'messages are wanted: a list such as [{"role": "user", "content": [{"type": "text", "text": "..."}]}], or a '
        f"list of such lists, not {type(conversation).__name__}"
    )


def media_of(messages: Messages) -> tuple[list[Any], list[Any]]:
    """The pictures and the videos that the messages name, in order, as they are named.

    Raises:
        ValueError: a part that says that there is one, and not where; or base64 that is none.
    """
    found: dict[str, list[Any]] = {"image": [], "video": []}
    for message in messages:
        for part in () if isinstance(message["content"], str) else message["content"]:
            kind = part["type"]
            if kind not in found:
                continue
            name = next((name for name in (kind, *_SOURCES) if part.get(name) is not None), None)
            if name is None:
                raise ValueError(f'a message has {{"type": "{kind}"}} without {kind}, {", ".join(_SOURCES)}')
            found[kind].append(_decoded(part[name]) if name == "base64" else part[name])
    return found["image"], found["video"]


def choose_template(templates: str | Mapping[str, str] | None, asked: str | None, default: Any) -> str:
    """The template meant: one given or named in the call, else that of the folder, else the family's own.

    Args:
        templates: one, or several by name, of the processor or its tokenizer.
        asked: a name among `templates` or among the family's, or a template.
        default: the family's: one, or several by name.

    Raises:
        ValueError: several, none of them named "default", and none asked for.
    """
    own = default if isinstance(default, Mapping) else {"default": default}
    given = templates if isinstance(templates, Mapping) else {"default": templates} if templates else {}
    if asked is not None:
        return {**own, **given}.get(asked, asked)
    if not given:
        given = own
    if "default" not in given:
        raise ValueError(f"there are the chat templates {', '.join(given)}; give one of the names as chat_template")
    return given["default"]


def _check(messages: Messages) -> None:
    for number, message in enumerate(messages):
        content = message.get("content")
        if "role" not in message or not isinstance(content, (str, list, tuple)):
            raise ValueError(
                f"message {number} has {', '.join(map(str, message)) or 'nothing'}; wanted role, and content as a "
                "string or a list of parts"
            )
        for part in () if isinstance(content, str) else content:
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            if kind not in ("text", "image", "video") or (kind == "text" and not isinstance(part.get("text"), str)):
                raise ValueError(
                    f'message {number} has a part of type {kind!r}; parts are {{"type": "text", "text": ...}}, '
                    '{"type": "image", ...} and {"type": "video", ...}'
                )


def _decoded(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except binascii.Error as error:
        raise ValueError(f"a message names a medium in base64 that is none: {error}") from error


def _last_text(messages: Messages) -> str:
    content = messages[-1]["content"]
    texts = [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]
    return texts[-1].strip() if texts else ""


@lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks answers for training in other libraries; what is inside is written as it is."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            inside = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(inside).set_lineno(line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template)
