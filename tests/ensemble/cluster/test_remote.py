"""Files by path and by URL."""

from pathlib import Path

import pytest

from data.images.find import list_images
from data.runtime.errors import InputError
from ensemble.cluster import remote


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_written_file_is_read_and_its_state_changes_with_it(tmp_path: Path, scheme: str) -> None:
    folder = remote.join(f"{scheme}{tmp_path}", "below")
    place = remote.join(folder, "a.bin")
    assert not remote.exists(place)
    assert remote.names_in(folder) == set()
    remote.write_bytes(place, b"abc")
    assert remote.read_bytes(place) == (tmp_path / "below" / "a.bin").read_bytes() == b"abc"
    assert remote.names_in(folder) == {"a.bin"}
    state = remote.state_of(place)
    assert remote.state_of(place) == state
    remote.write_bytes(place, b"abcd")
    assert remote.state_of(place) != state


def test_images_below_a_folder_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.png", "a/notes.txt", "a.jpeg"):
        remote.write_bytes(str(tmp_path / name), b"")
    for place in (str(tmp_path), f"file://{tmp_path}/"):
        assert list(remote.find_images_below(place)) == ["a.jpeg", "a/c.png", "b.JPG"]
    assert list(remote.find_images_below(str(tmp_path / "none"))) == []
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    assert list(remote.find_images_below(str(tmp_path))) == list_images(tmp_path)[0]


@pytest.mark.parametrize(
    ("place", "message"),
    [("/none.jpg", r"/none\.jpg: cannot be read .*, expected a file"), ("nowhere://a", "Protocol not known: nowhere")],
)
def test_places_that_cannot_be_read_are_refused(place: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        remote.read_bytes(place)
