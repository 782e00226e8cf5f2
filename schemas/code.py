"""A coded concept, and the coding scheme of the project. The vocabulary is built from it (schemas/codes.py)."""

from dataclasses import dataclass

#: Coding scheme of the project for what no standard scheme names (PS3.3 section 8.2: private schemes start with 99).
PRIVATE_SCHEME = "99CHEXNODE"
PRIVATE_SCHEME_NAME = "CheXNode concepts"


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3 section 8.8): value, coding scheme designator, meaning (at most 64 characters)."""

    value: str
    scheme: str
    meaning: str


def private(value: str, meaning: str) -> Code:
    """A concept of the project's own. `value` has at most 16 characters.

    Longer ones go into Long Code Value, which many readers do not look at (PS3.3 section 8.1).
    """
    return Code(value, PRIVATE_SCHEME, meaning)
