import pytest

from farm.config import load_settings
from farm.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "mib"), [("", 40 * 1024), ("20G", 20 * 1024), ("512M", 512), (" 1T ", 1024**2), ("0", 0)]
)
def test_the_limit_of_the_cache_is_a_size(text: str, mib: int) -> None:
    assert load_settings({"FARM_CACHE_LIMIT": text, "FARM_RUNTIME": "/tmp/r"}).cache_limit == mib


@pytest.mark.parametrize("text", ["much", "-1", "20 GiB or so", "1.5G"])
def test_a_limit_that_is_no_size_is_an_error_of_the_setting(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot use the setting FARM_CACHE_LIMIT"):
        load_settings({"FARM_CACHE_LIMIT": text, "FARM_RUNTIME": "/tmp/r"})


def test_a_runtime_folder_whose_sockets_would_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="longer than 30 characters"):
        load_settings({"FARM_RUNTIME": "/tmp/" + "r" * 26})
