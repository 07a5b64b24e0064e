"""A class below an abstract one is a member, wherever it stands, unless it is abstract itself."""

from abc import ABC, abstractmethod

from augnet.family import members


class Shape(ABC):
    @abstractmethod
    def area(self): ...


class Round(Shape): ...


class Circle(Round):
    def area(self):
        return 3


class Square(Shape):
    def area(self):
        return 1


class Tile(Square): ...


def test_members_are_concrete_and_found_at_every_depth():
    assert members(Shape) == [Circle, Square, Tile]
    assert members(Square) == [Square, Tile]
