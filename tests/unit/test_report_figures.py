"""Figures: the same bytes for the same numbers, the numbers themselves in them, and a picture that fits into a page."""

from __future__ import annotations

import dataclasses
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.text import Text
from PIL import Image

from tests.helpers.results import HOSTILE, configuration, example, histories, searched, sweep
from tfser.attention import figure as attention_figure
from tfser.execution.results import Results
from tfser.record import Curves
from tfser.report import write
from tfser.report.figures import confusion, curves, drawing, fold_recalls, search
from tfser.report.figures.drawing import Picture
from tfser.report.summary import summarise
from tfser.report.tables.table import percent
from tfser.search import history as search_history
from tfser.search.history import History, with_told_importances
from tfser.text import fonts
from tfser.tracking import confusion_thumbnail


def pictures_of(results: Results) -> list[Picture]:
    (summary, *_) = summarise(results)
    chosen = {h.label: h.curve for h in histories(results)}
    return [
        confusion.to_picture(summary, "confusion_x", "heading"),
        fold_recalls.to_picture(summary, "recalls_x", "heading"),
        curves.to_picture(summary, chosen, "curves_x", "heading"),
        *search.pictures(histories(results)).values(),
    ]


@pytest.fixture(scope="module")
def pictures():
    results = example()
    records = {key: entry for key, entry in results.entries.items() if key[0].ablation == "T+F+TF"}
    whole = Results(sweep="x", configurations=results.configurations[:1], entries=records)
    return pictures_of(whole), whole


def texts(picture: Picture) -> list[str]:
    return [
        "".join(element.itertext()).strip()
        for element in ET.fromstring(picture.svg).iter()
        if element.tag.endswith("text")
    ]


def test_equal_numbers_give_equal_bytes_whatever_the_persons_settings(pictures):
    first, results = pictures
    with mpl.rc_context({"font.size": 20, "svg.fonttype": "path", "axes.facecolor": "red", "text.usetex": False}):
        again = pictures_of(results)
    for one, two in zip(first, again, strict=True):
        assert one == two
    assert len({picture.name for picture in first}) == len(first) == 4


def test_a_picture_holds_no_date_no_version_and_no_address(pictures):
    for picture in pictures[0]:
        for word in (b"tEXt", b"tIME", b"Software", b"matplotlib"):
            assert word not in picture.png
        assert "http" not in picture.svg
        assert not re.search(r"<(metadata|style|script|\?xml|!DOCTYPE)", picture.svg)
        assert "#000000" not in picture.svg


def test_an_svg_is_well_formed_and_keeps_its_ids_to_itself(pictures):
    seen: set[str] = set()
    for picture in pictures[0]:
        root = ET.fromstring(picture.svg)
        assert root.tag == "svg"
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        assert set(re.findall(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"", picture.svg)) <= {(i, "") for i in ids} | {
            ("", i) for i in ids
        }
        _, _, width, height = map(float, root.get("viewBox").split())
        assert 150 < width < 1000
        assert 100 < height < 1500


def test_the_confusion_figure_prints_each_cell(pictures):
    (shown, *_), results = pictures
    (summary,) = summarise(results)
    wanted = []
    for i in range(3):
        total = summary.confusion[i].sum()
        for count in summary.confusion[i]:
            wanted += [percent(count / total), f"({count})"]
    printed = texts(shown)
    assert [text for text in printed if re.fullmatch(r"\d+\.\d\d|\(\d+\)", text)] == wanted
    for emotion in ("mad", "glad", "sad"):
        assert printed.count(emotion) == 2
    assert f"mad recognised in {wanted[0]} %" in shown.description


def test_an_emotion_that_nobody_shows_is_said_to_be_absent():
    (summary,) = summarise(sweep(configuration(), lacks=("sad",)))
    shown = confusion.to_picture(summary, "x", "y")
    assert "sad never occurs" in shown.description
    assert texts(shown).count("–") == 3


def test_the_recalls_figure_places_its_marks_at_the_recalls(pictures):
    _, results = pictures
    (summary,) = summarise(results)
    captured = {}

    def watch(name, kind, heading, description, size, draw, **named):
        def drawing_of(figure):
            draw(figure)
            captured.update(
                {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines}
            )

        return drawing.picture(name, kind, heading, description, size, drawing_of, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_recalls, "picture", watch)
        fold_recalls.to_picture(summary, "x", "y")
    for index, emotion in enumerate(summary.configuration.emotions):
        wanted = [
            (100 * summary.recalls(fold)[index], row)
            for row, fold in enumerate(summary.configuration.folds)
            if fold in summary.done
        ]
        there = [(x, y) for x, y in wanted if not np.isnan(x)]
        assert list(zip(*captured[emotion], strict=True)) == there
    assert summary.absent == {"08": ("sad",)}
    assert len(captured["sad"][0]) == len(captured["mad"][0]) - 1
    assert captured["UAR"][0] == pytest.approx(
        [100 * float(np.nanmean(summary.recalls(fold))) for fold in summary.done]
    )
    assert captured["mean of folds"][0][0] == pytest.approx(100 * summary.figures.uar_mean)


def test_a_missing_fold_has_its_line_and_says_so():
    (summary,) = summarise(sweep(configuration(), without=(("08", 0),)))
    shown = fold_recalls.to_picture(summary, "x", "y")
    assert "missing" in texts(shown)
    assert "Missing: 08." in shown.description
    assert {"03", "08", "09"} <= set(texts(shown))


def test_learning_curves_are_thinned_to_what_can_be_seen_and_end_where_they_end():
    places, values = drawing.thin([float(i) for i in range(1000)])
    assert len(places) <= 201
    assert (places[0], places[-1]) == (1, 1000)
    assert values == [place - 1 for place in places]
    assert drawing.thin([]) == ([], [])
    assert drawing.thin([1.0]) == ([1], [1.0])


def test_a_record_without_curves_gives_no_curve_figure(tmp_path):
    written = {path.name for path in write.write(sweep(configuration()), tmp_path)}
    assert not any(name.startswith("curves_") for name in written)
    assert sum(name.startswith("recalls_") for name in written) == 1


def test_many_folds_and_long_names_still_make_a_figure_of_bounded_size(tmp_path):
    folds = tuple(f"a speaker with a long name {i:02d}" for i in range(40))
    (summary,) = summarise(sweep(configuration(folds=folds), size=6))
    shown = fold_recalls.to_picture(summary, "x", "heading " * 30)
    picture = Image.open(io.BytesIO(shown.png))
    assert picture.width < 1000
    assert picture.height < 2500


def test_hostile_names_are_drawn_as_they_are(tmp_path):
    written = write.write(sweep(HOSTILE, without=(("[2]", 0),)), tmp_path)
    svgs = [path for path in written if path.suffix == ".png"]
    assert len(svgs) == 2
    (summary,) = summarise(sweep(HOSTILE))
    for shown in (confusion.to_picture(summary, "x", "$a_b^{c}$"), fold_recalls.to_picture(summary, "y", "<b>")):
        printed = texts(shown)
        assert {"a&b_%", "$x^2$ #~", "愤怒"} <= set(printed)


# --- searches ---------------------------------------------------------------------------------------------------------


def test_histories_survive_a_trip_through_text(pictures):
    made = histories(pictures[1])
    again = search_history.from_json(search_history.to_json(made))
    assert again == sorted(made, key=lambda h: h.folds)
    assert search_history.to_json(again) == search_history.to_json(made[::-1])
    bare = [dataclasses.replace(h, curve=(), tried=()) for h in made]
    assert search_history.from_json(search_history.to_json(bare)) == bare
    with pytest.raises((ValueError, KeyError, TypeError)):
        search_history.from_json('[{"folds": []}]')


@pytest.mark.full
def test_a_report_with_a_search_has_its_csv_its_figure_and_both_in_the_page(tmp_path):
    results = searched(example())
    written = {path.name: path for path in write.write(results, tmp_path)}
    (name,) = [name for name in written if name.startswith("search_")]
    assert name == "search_emodb_speaker_time_frequency_transformer_t+f+tf_nested.png"
    page = written["report.html"].read_text(encoding="utf-8")
    assert name in page
    assert "3 studies tried 9 settings (6 finished, 3 pruned)" in page
    assert "Validation UAR of the chosen settings: at best 60.00 to 60.00 %" in page
    tried = pd.read_csv(written["search.csv"], dtype={"folds": str})
    assert tried.chosen.sum() == 3
    assert tried[tried.chosen].validation_uar.tolist() == [0.6] * 3
    separately = search.write(with_told_importances(histories(results)), tmp_path / "alone")
    assert {path.name: path.read_bytes() for path in separately} == {
        n: written[n].read_bytes() for n in ("search.csv", name)
    }


def test_too_few_settings_are_said_to_tell_no_importances(pictures):
    bare = [dataclasses.replace(h, importances={}) for h in histories(pictures[1])]
    (shown,) = search.pictures(bare).values()
    assert "Too few settings to tell importances." in shown.description
    nothing = [History(configuration=bare[0].configuration, folds=("03",), tried=(), importances={})]
    (shown,) = search.pictures(nothing).values()
    assert "1 study tried 0 settings" in shown.description


# ------------------------------------------------------------------ names in any script

CHINESE = ("生气", "高兴", "难过")
HINDI = ("गुस्सा", "खुश", "उदास")


@pytest.fixture
def only_these_fonts(tmp_path, monkeypatch):
    """Makes fonts whose letters are all one square, and has matplotlib's font and those be all that is installed."""

    def install(*texts):
        made = []
        for number, text in enumerate(texts):
            pen = TTGlyphPen(None)
            for place in ((100, 0), (100, 700), (900, 700), (900, 0)):
                (pen.lineTo if place != (100, 0) else pen.moveTo)(place)
            pen.closePath()
            letters = sorted({ord(letter) for letter in text})
            names = [".notdef", *(f"u{letter:04X}" for letter in letters)]
            builder = FontBuilder(1000, isTTF=True)
            builder.setupGlyphOrder(names)
            builder.setupCharacterMap(dict(zip(letters, names[1:], strict=True)))
            builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
            builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
            builder.setupHorizontalHeader(ascent=800, descent=-200)
            builder.setupNameTable({"familyName": f"Made Up {number} {tmp_path.name}", "styleName": "Regular"})
            builder.setupOS2(sTypoAscender=800, sTypoDescender=-200)
            builder.setupPost()
            made.append(str(tmp_path / f"{number}.ttf"))
            builder.save(made[-1])
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [*made, str(fonts.own())])
        for cached in (fonts._installed, fonts._font_of):
            cached.cache_clear()
        monkeypatch.setattr(fonts, "_said", set())

    yield install
    for cached in (fonts._installed, fonts._font_of):
        cached.cache_clear()


def every_figure(emotions, folds):
    """Each kind of figure with these names in it, and the thumbnail's and the attention figure's bytes."""
    (summary,) = summarise(sweep(configuration(emotions=emotions, folds=folds), size=12))
    summary.records[folds[0], 0] = replace(summary.records[folds[0], 0], curves=Curves(train_loss=(1.0, 0.5)))
    tried = (search_history.Tried(state="finished", validation_uar=0.5, epochs=2, hyperparameters={"channels": 4}),)
    history = search_history.History(
        configuration=summary.configuration, folds=folds[:1], tried=tried, importances={}, curve=()
    )
    return {
        "confusion": confusion.to_picture(summary, "c", f"heading {emotions[0]}"),
        "recalls": fold_recalls.to_picture(summary, "r", "heading"),
        "curves": curves.to_picture(summary, {}, "l", "heading"),
        "search": search.to_picture([history], "s", "heading"),
    }, confusion_thumbnail.confusion(emotions, np.eye(len(emotions), dtype=int).tolist(), [f"on {folds[0]}"])


@pytest.mark.parametrize("names", [CHINESE, pytest.param(HINDI, marks=pytest.mark.full)], ids=["Chinese", "Hindi"])
def test_names_in_any_script_are_drawn_with_an_installed_font_that_has_them(only_these_fonts, capsys, names):
    """A letter without a glyph is a warning of matplotlib's, which is an error here."""
    only_these_fonts("".join(names))
    drawn, small = every_figure(names, names)
    assert capsys.readouterr().err == ""
    for name in names:
        assert name in texts(drawn["confusion"])
        assert name in texts(drawn["recalls"])
    only_these_fonts()
    numbered, other = every_figure(names, names)
    assert small != other
    assert all(drawn[kind].png != numbered[kind].png for kind in drawn)


@pytest.mark.parametrize("names", [CHINESE, pytest.param(HINDI, marks=pytest.mark.full)], ids=["Chinese", "Hindi"])
def test_names_that_no_font_has_are_numbered_in_a_png_and_said_once(only_these_fonts, capsys, monkeypatch, names):
    only_these_fonts()
    written = []
    monkeypatch.setattr("matplotlib.text.Text.set_text", recording(Text.set_text, written))
    drawn, small = every_figure(names, names)
    said = capsys.readouterr().err
    assert {f"emotion {i}" for i in (1, 2, 3)} | {f"speaker {i}" for i in (1, 2, 3)} <= set(written)
    assert not [text for text in written if set(text) & set("".join(names))]
    for name in names:
        assert said.count(f"{name}") == 1
        assert name in texts(drawn["recalls"]), "a page is read with the reader's fonts"
    assert "apt-get install fonts-noto-core fonts-noto-cjk" in said
    latin, _ = every_figure(("emotion 1", "emotion 2", "emotion 3"), ("speaker 1", "speaker 2", "speaker 3"))
    assert drawn["search"].png == latin["search"].png
    assert small == confusion_thumbnail.confusion(
        ["emotion 1", "emotion 2", "emotion 3"], np.eye(3, dtype=int).tolist(), [fonts.drawable(f"on {names[0]}")]
    )


def recording(set_text, written):
    def recorded(self, text):
        written.append(str(text))
        set_text(self, text)

    return recorded


def test_a_name_of_two_scripts_is_drawn_with_the_fonts_of_both(only_these_fonts):
    only_these_fonts("生气", "गुस्सा")
    assert [part for _, part in fonts.runs("on 生气 गुस्सा ok")] == ["on ", "生气 ", "गुस्सा ", "ok"]
    assert fonts.Labels(["生气 गुस्सा", "难"], "emotion").shown == ["生气 गुस्सा", "emotion 2"]
    assert fonts.drawable("on 难 ok") == "on U+96BE ok"


def test_an_attention_figure_names_an_utterance_in_any_script(only_these_fonts):
    def drawn(heading):
        made = attention_figure.Attention(
            features=np.zeros((4, 8)), time_s=np.arange(8) / 100, frequency_hz=np.array([100.0, 300.0, 700.0, 1500.0]),
            hop_s=0.01, maps=(), weights={}, taken=np.zeros((1, 8), dtype=np.int64), line_hz=None, heading=heading,
            name="x", features_name="log-mel", column="log_mel", unit="dB",
        )  # fmt: skip
        return attention_figure.to_png(made)

    only_these_fonts("生气")
    with_font = drawn("生气")
    only_these_fonts()
    assert drawn("生气") == drawn("U+751F U+6C14")
    assert with_font != drawn("生气")
