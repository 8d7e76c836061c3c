"""Fields of config dataclasses: their types and limits are checked when one is built."""

import dataclasses
from typing import Any, Literal

import pytest

from glr_jax.errors import FieldError
from glr_jax.fields import check_fields, from_dict, option, section, to_dict


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = option(0.5, 'a rate', minimum=0, below=1)
    sizes: tuple[int, ...] = option((1, 2), 'sizes', minimum=1, maximum=9)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Outer:
    kind: Literal['a', 'b'] = option('a', 'a kind')
    on: bool = option(False, 'a switch')
    name: str = option('', 'a name')
    scale: float = option(1.0, 'a scale', above=0)
    inner: Inner = section(Inner)

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'kind': 'c'}, '--kind=c is not one of a, b'),
        ({'on': 1}, '--on=1 must be of type bool'),
        ({'name': None}, '--name=None must be of type str'),
        ({'scale': 0}, '--scale=0 must be greater than 0'),
        ({'scale': '1'}, '--scale=1 must be of type float'),
        ({'scale': True}, '--scale=True must be of type float'),
        ({'scale': float('nan')}, '--scale=nan must be a finite number'),
        ({'scale': 10**400}, f'--scale=1{"0" * 198}… must be a finite number'),
        ({'scale': 1e999}, '--scale=inf must be a finite number'),
        ({'name': 'a\0b'}, '--name=a\0b must have no NUL character'),
        ({'inner': {'rate': 1}}, '--inner.rate=1 must be at least 0 and less than 1'),
        ({'inner': {'sizes': [3, 10]}}, '--inner.sizes=3,10 must be at least 1 and at most 9'),
        ({'inner': {'sizes': [3, 0.5]}}, '--inner.sizes=3,0.5 must be of type int'),
        ({'inner': {'sizes': []}}, '--inner.sizes= needs at least one value'),
    ],
)
def test_a_value_that_does_not_fit_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError) as error:
        from_dict(Outer, values)
    assert str(error.value) == message


@pytest.mark.parametrize('values', [None, [], 'x', {'inner': 3}])
def test_values_that_are_no_object_are_refused(values: Any) -> None:
    with pytest.raises(TypeError, match='expected an object'):
        from_dict(Outer, values)


def test_a_round_trip_keeps_every_value() -> None:
    made = Outer(kind='b', scale=2, inner=Inner(rate=0, sizes=(9,)))
    assert from_dict(Outer, to_dict(made)) == made
    assert from_dict(Outer, {'unknown': 1}) == Outer()


def test_a_field_that_is_missing_gets_the_value_from_before_it_existed() -> None:
    @dataclasses.dataclass(frozen=True)
    class Grown:
        old: int = option(3, 'as ever')
        new: float = option(0.5, 'a new rate', before=0.0)
        added: int = option(7, 'its default is how it was')

    assert Grown().new == 0.5
    assert from_dict(Grown, {'old': 1}) == Grown(1, new=0.0, added=7)
    assert from_dict(Grown, {'old': 1, 'new': 0.2}).new == 0.2
