"""Which provider an order goes to."""

import pytest

from engines.controlplane.providers import Clouds
from engines.controlplane.providers.base import Refused

NONE = Clouds(local_folder=None, local_command=[], local_image="", shadeform_key="", shadeform_url="")


@pytest.fixture
def both(tmp_path):
    return Clouds(tmp_path / "cloud", ["engine"], "", "shade-key", "https://api.shadeform.ai/v1")


@pytest.mark.parametrize(
    ("cloud", "provider"), [("local", "local"), ("hyperstack", "shadeform"), ("lambdalabs", "shadeform")]
)
def test_the_cloud_decides(both, cloud, provider):
    assert both.provider(cloud).name == provider


@pytest.mark.parametrize(("cloud", "setting"), [("local", "LOCAL_CLOUD_DIR"), ("hyperstack", "SHADEFORM_API_KEY")])
def test_what_is_not_configured_is_refused_with_the_settings_name(cloud, setting):
    with pytest.raises(Refused, match=f"is not configured: set {setting}"):
        NONE.provider(cloud)


def test_only_what_is_configured_is_asked_for_types(both, tmp_path):
    assert [provider.name for provider in both.all()] == ["local", "shadeform"]
    assert [provider.name for provider in Clouds(tmp_path / "cloud", [], "", "", "").all()] == ["local"]
    assert NONE.all() == []


def test_the_key_does_not_print(both):
    assert "shade-key" not in repr((both, both.all()))
