"""A slice of each scene of the soak: what operators do, under the random workload, killed on its way now and then."""
import pytest

from harness.cycles import SCENES, run_scene
from harness.scenes import SEED


@pytest.mark.parametrize("name", SCENES)
def test_scene(make_pair, name):
    act = SCENES[name]
    run_scene(make_pair(act.flavour, act.configuration()), act, 2, SEED)
