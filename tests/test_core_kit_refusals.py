"""The contract kit must say no: every check is shown a part that it has to refuse, and the same part made right."""

from typing import Any

import pytest
import wrong_augmentations
import wrong_functions
import wrong_gradients
import wrong_hooks
import wrong_images
import wrong_networks
import wrong_scans
import wrong_scores
from refusal_kit import Check, Refused, everything, lacking, name_of, refuse

from dmf.testing import CHECKS

REFUSED: dict[str, Refused] = {
    **wrong_augmentations.REFUSED,
    **wrong_functions.REFUSED,
    **wrong_hooks.REFUSED,
    **wrong_images.REFUSED,
    **wrong_scores.REFUSED,
    "backbone": [*wrong_networks.BACKBONES, *wrong_gradients.BACKBONES],
    **wrong_scans.REFUSED,
}
RIGHT: list[tuple[str, Any]] = [
    *wrong_augmentations.RIGHT,
    *wrong_functions.RIGHT,
    *wrong_hooks.RIGHT,
    *wrong_images.RIGHT,
    *wrong_scores.RIGHT,
    *wrong_networks.RIGHT,
    *wrong_scans.RIGHT,
]


@pytest.mark.parametrize(("part", "check", "sentence"), everything(REFUSED), ids=name_of)
def test_wrong_parts_are_refused(part: Any, check: Check, sentence: str) -> None:
    refuse(part, check, sentence)


@pytest.mark.parametrize(("kind", "part"), RIGHT, ids=name_of)
def test_right_parts_pass(kind: str, part: Any) -> None:
    """Those that were broken for the test above, as they were before."""
    for check in CHECKS[kind]:
        check(part)


@pytest.mark.parametrize("kind", REFUSED)
def test_every_check_has_something_that_it_refuses(kind: str) -> None:
    assert lacking(REFUSED, kind) == set()
