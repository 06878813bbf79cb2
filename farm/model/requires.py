"""What a matrix requires of the hosts that its cells run on: tmt's words for hardware, as far as a host can tell.

https://tmt.readthedocs.io/en/stable/spec/hardware.html has the words. A condition is a text that begins with an
operator; without one, it means `=`. Conditions stay texts, which `farm.requirements` weighs.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from farm.model.base import Model, parse_size

_NUMBER = r"^\s*(=|!=|>=|<=|>|<)?\s*\d{1,9}\s*$"
_SIZE = r"^\s*(=|!=|>=|<=|>|<)?\s*\d{1,9}\s*([MmGgTt]([Ii]?[Bb])?)?\s*$"
_TEXT = r"^\s*(=|!=|~|!~)?\s*\S(.*\S)?\s*$"
_FLAG = r"^\s*(=|!=|contains\s|not contains\s)?\s*[a-z0-9_.]+\s*$"
_LABEL = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"

_OPERATOR = re.compile(r"\s*(>=|<=|!=|!~|not contains(?=\s)|contains(?=\s)|=|>|<|~)?\s*(.*?)\s*", re.DOTALL)
_SPELLINGS = {"": "=", "contains": "=", "not contains": "!="}


def parted(condition: str) -> tuple[str, str]:
    """The operator of a condition (`=`, `!=`, `>`, `>=`, `<`, `<=`, `~`, `!~`), and what it compares with."""
    match = _OPERATOR.fullmatch(condition)
    operator, value = match.groups(default="") if match else ("", condition)
    return _SPELLINGS.get(operator, operator), value


def _condition(pattern: str, what: str, check: Any = None) -> BeforeValidator:
    def checked(value: object) -> object:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or not re.fullmatch(pattern, text):
            raise PydanticCustomError("expected", "expected {what}", {"what": what})
        if check:
            check(*parted(text))
        return text

    schema = Annotated[str, Field(pattern=pattern)]
    return BeforeValidator(checked, json_schema_input_type=Annotated[int, Field(ge=0)] | schema)


def _check_size(_operator: str, value: str) -> None:
    parse_size(value)


def _check_expression(operator: str, value: str) -> None:
    if operator in ("~", "!~"):
        try:
            re.compile(value)
        except re.error as error:
            raise PydanticCustomError("value_error", "{error}", {"error": f"no regular expression: {error}"}) from error


NumberCondition = Annotated[str, _condition(_NUMBER, "a number, perhaps with an operator: 4, '>= 4'")]
SizeCondition = Annotated[str, _condition(_SIZE, "a size, perhaps with an operator: 8G, '>= 8 GB'", _check_size)]
TextCondition = Annotated[
    str, _condition(_TEXT, "a text, perhaps with an operator: kvm, '!= qemu', '~ .*Xeon.*'", _check_expression)
]
FlagCondition = Annotated[str, _condition(_FLAG, "a flag of a CPU, perhaps with an operator: avx2, '!= avx2'")]


class _Part(Model):
    model_config = ConfigDict(use_attribute_docstrings=True)


class CpuRequires(_Part):
    """Of the host's CPUs, as its kernel lists them."""

    processors: NumberCondition | None = None
    """How many there are, threads included."""
    cores: NumberCondition | None = None
    """How many cores, all sockets together."""
    family: NumberCondition | None = None
    """A number: `6`."""
    model: NumberCondition | None = None
    """A number: `85`."""
    stepping: NumberCondition | None = None
    """A number."""
    model_name: TextCondition | None = Field(None, alias="model-name")
    """`~ .*Xeon.*`"""
    vendor_name: TextCondition | None = Field(None, alias="vendor-name")
    """`GenuineIntel`, `AuthenticAMD`."""
    flag: tuple[FlagCondition, ...] = ()
    """`[avx2, "!= avx512f"]`: what it has, and has not."""


class VirtualizationRequires(_Part):
    """How the host runs guests."""

    hypervisor: TextCondition | None = None
    """`kvm`, `!= qemu`, `~ xen-.*`."""
    is_supported: Annotated[bool, Field(strict=True)] | None = Field(None, alias="is-supported")
    """Its hardware virtualises: it has a hypervisor that does not emulate."""
    is_virtualized: Annotated[bool, Field(strict=True)] | None = Field(None, alias="is-virtualized")
    """It is itself a guest of another."""


class Requires(_Part):
    """What a host has to be, for a cell to run there; it has to meet all of it."""

    hostname: TextCondition | None = None
    """What it is called."""
    host: dict[Annotated[str, Field(pattern=_LABEL)], TextCondition] = Field(default_factory=dict)
    """Labels that its owner has given it: `{rack: b2}`."""
    memory: SizeCondition | None = None
    """What its guests may take together: `>= 8 GB`."""
    cpu: CpuRequires = CpuRequires()
    """Of its CPUs."""
    virtualization: VirtualizationRequires = VirtualizationRequires()
    """How it runs guests."""
