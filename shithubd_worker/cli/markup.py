"""Text of people in a chat or in Markdown. It makes no link, no mention, no table and no line of its own.

Such text comes from anybody who may enqueue a job or type a command: reasons, kinds, names of people and hosts.
"""

from __future__ import annotations

import re

from shithubd_worker.plain import on_one_line

LONGEST = 300  # characters of one text

# Where a chat may see a mention: before a word; or anywhere, if the word means everybody.
_MENTION = re.compile(r"(?<!\w)@(?=\w)|@(?=(?:everyone|here|channel|all)\b)", re.IGNORECASE)
_WIDE_AT = "\uff20"
# A code span can't hold the first; a chat's own markup begins and ends with the others.
_INSTEAD = str.maketrans("`<>", "'\u2039\u203a")


def harmless(text: str, longest: int = LONGEST) -> str:
    """The text on one line, cut, and without mentions: their @ becomes a wide one."""
    plain = on_one_line(text)
    return _MENTION.sub(_WIDE_AT, plain if len(plain) <= longest else plain[: longest - 3] + "...")


def code(text: str, longest: int = LONGEST) -> str:
    """The text as a code span of Markdown. No chat and no page makes anything of what stands there.

    >>> print(code("a `b` <!channel> @here https://x.example"))
    `a 'b' \u2039!channel\u203a \uff20here https://x.example`
    """
    return f"`{harmless(text, longest).translate(_INSTEAD).strip() or ' '}`"


def slack(text: str, longest: int = LONGEST) -> str:
    """The text for the `text` of Slack's JSON.

    >>> print(slack("a & <!channel> @here"))
    a &amp; &lt;!channel&gt; \uff20here
    """
    unlinked = harmless(text, longest).replace("](", "] (")  # some receivers of Slack's JSON read Markdown
    return unlinked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
