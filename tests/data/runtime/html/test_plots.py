from xml.etree import ElementTree

from data.runtime.html.plots import SERIES, legend, new_plot, svg

TEXT = "{http://www.w3.org/2000/svg}text"


def drawing(name: str) -> str:
    figure, axes = new_plot(3, 2)
    axes.plot([0, 1], [1, 0], color=SERIES[0], label="착용 <b>")
    axes.fill_between([0, 1], [0, 0], [1, 0], color=SERIES[1], alpha=0.3)
    axes.set_xlabel("years")
    legend(axes)
    return svg(figure, name, 'says "a" & b')


def test_a_plot_is_a_drawing_with_its_alternative_text() -> None:
    root = ElementTree.fromstring(drawing("one"))
    assert (root.get("role"), root.get("aria-label")) == ("img", 'says "a" & b')
    assert {"years", "착용 <b>"} <= {each.text for each in root.iter(TEXT)}


def test_colours_are_the_pages_own() -> None:
    text = drawing("one")
    assert "currentColor" in text
    assert "var(--series-1)" in text
    assert "var(--series-2)" in text
    assert "#000000" not in text
    assert not any(colour in text for colour in SERIES)


def test_two_plots_share_no_id_and_the_same_plot_is_the_same_text() -> None:
    ids = [each.get("id") for n in ("one", "two") for each in ElementTree.fromstring(drawing(n)).iter()]
    known = [each for each in ids if each]
    assert len(known) == len(set(known)) > 0
    assert drawing("one") == drawing("one")
