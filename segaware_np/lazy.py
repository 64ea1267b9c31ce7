"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class lazy(Generic[Value]):  # noqa: N801 (a decorator)
    """`functools.cached_property` without its lock.

    Before Python 3.12 that lock is one for all objects of a class: a child that is forked while
    another thread computes the attribute of any of them would wait for it for ever. Here two
    threads may compute the same value, and either is kept.

    Parameters
    ----------
    function : callable
        Of the object, without side effects.

    Examples
    --------
    >>> class Square:
    ...     side = 3
    ...
    ...     @lazy
    ...     def area(self):
    ...         print("multiplied")
    ...         return self.side**2
    >>> square = Square()
    >>> square.area, square.area
    multiplied
    (9, 9)
    """

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self._function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[Value]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> lazy[Value] | Value:
        if instance is None:
            return self
        value = self._function(instance)
        instance.__dict__[self._name] = value  # which is found before this descriptor from now on
        return value
