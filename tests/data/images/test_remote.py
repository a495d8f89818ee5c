from pathlib import Path

import pytest

from data.images import remote as urls
from data.images.find import list_images
from data.runtime.errors import InputError


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_what_is_written_is_read(tmp_path: Path, scheme: str) -> None:
    place = urls.join(f"{scheme}{tmp_path}", "below", "a.bin")
    assert not urls.exists(place)
    urls.write_bytes(place, b"abc")
    assert urls.read_bytes(place) == b"abc"
    assert (tmp_path / "below" / "a.bin").read_bytes() == b"abc"
    assert urls.names_in(urls.join(f"{scheme}{tmp_path}", "below")) == {"a.bin"}


def test_a_file_s_state_changes_with_its_content(tmp_path: Path) -> None:
    place = str(tmp_path / "a")
    urls.write_bytes(place, b"abc")
    before = urls.state_of(place)
    assert urls.state_of(place) == before
    urls.write_bytes(place, b"abcd")
    assert urls.state_of(place) != before


def test_images_below_a_folder_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.png", "a/notes.txt", "a.jpeg"):
        urls.write_bytes(str(tmp_path / name), b"")
    assert list(urls.find_images_below(str(tmp_path))) == ["a.jpeg", "a/c.png", "b.JPG"]
    assert list(urls.find_images_below(f"file://{tmp_path}/")) == ["a.jpeg", "a/c.png", "b.JPG"]
    assert list(urls.find_images_below(str(tmp_path / "none"))) == []
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    assert list(urls.find_images_below(str(tmp_path))) == list_images(tmp_path)[0]
    assert "linked/c.png" in urls.find_images_below(str(tmp_path))


def test_a_folder_that_is_not_there_has_no_names(tmp_path: Path) -> None:
    assert urls.names_in(str(tmp_path / "none")) == set()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jpg: cannot be read .*, expected a file"):
        urls.read_bytes(str(tmp_path / "none.jpg"))


def test_an_unknown_kind_of_url_is_told() -> None:
    with pytest.raises(InputError, match="Protocol not known: nowhere"):
        urls.read_bytes("nowhere://a")
