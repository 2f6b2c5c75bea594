"""What the smaller kits share: declared deviations, and proof that nothing of a kit was silenced."""

from __future__ import annotations

from typing import ClassVar

import pytest


class Kit:
    """Direct subclasses are kits; what inherits them is somebody's test class.

    `deviations` names tests that are known not to pass, with the reason; they are reported as skipped. No test can be
    left out in another way: overriding one is a failure.
    """

    deviations: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def declared_deviation(self, request: pytest.FixtureRequest) -> None:
        name = request.function.__name__
        if name in self.deviations and name in kit_tests(kit_of(type(self))):
            pytest.skip(f"declared deviation from {name}: {self.deviations[name]}")

    def test_kit_is_whole(self) -> None:
        """Deviations are declared, with a reason; nothing of the kit is overridden."""
        cls, kit = type(self), kit_of(type(self))
        overridden = [name for name in kit_tests(kit) if getattr(cls, name, None) is not getattr(kit, name)]
        assert not overridden, f"{cls.__name__} overrides tests of the kit; declare them in `deviations`: {overridden}"
        unknown = sorted(set(cls.deviations) - set(kit_tests(kit)))
        assert not unknown, f"{cls.__name__}.deviations names no test of the kit: {unknown}"
        unexplained = [name for name, reason in cls.deviations.items() if not reason.strip()]
        assert not unexplained, f"{cls.__name__}.deviations gives no reason for {unexplained}"


def kit_of(cls: type) -> type:
    return next(base for base in cls.__mro__ if Kit in base.__bases__)


def kit_tests(kit: type) -> list[str]:
    """The names of the kit's tests; `test_kit_is_whole` itself cannot be deviated from."""
    return [name for name in dir(kit) if name.startswith("test_") and name != "test_kit_is_whole"]
