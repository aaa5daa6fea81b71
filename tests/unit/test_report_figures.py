"""Figures: the same bytes for the same numbers, the numbers themselves in them, and a picture that fits into a page."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from shutil import which

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.text import Text
from PIL import Image
from scipy.stats import permutation_test
from sklearn.metrics import confusion_matrix, recall_score

from tests.helpers.results import (
    ABLATIONS,
    ATFNN,
    HOSTILE,
    TFT,
    configuration,
    example,
    histories,
    paper_rows,
    searched,
    sweep,
)
from tfser.attention import figure as attention_figure
from tfser.evaluation.scores import scores
from tfser.execution.results import Results
from tfser.record import Curves
from tfser.report import published, write
from tfser.report.figures import (
    confusion,
    contests,
    curves,
    differences,
    drawing,
    every,
    fold_recalls,
    pairwise,
    search,
)
from tfser.report.figures.drawing import Picture
from tfser.report.summary import summarise
from tfser.report.tables.paired import Rows
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
        for word in (b"CreationDate", b"ModDate", b"matplotlib", b"Producer"):
            assert word not in picture.pdf
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
        assert width == pytest.approx(88 / 25.4 * 72, abs=0.01)
        assert 100 < height < 190 / 25.4 * 72


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


@contextmanager
def axes_of(module):
    """Give the axes of every figure that a module draws meanwhile, in order."""
    captured = []

    def watch(*given, **named):
        name, kind, heading, description, size, draw = given

        def and_keep(figure):
            draw(figure)
            captured.append(list(figure.axes))

        return drawing.picture(name, kind, heading, description, size, and_keep, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "picture", watch)
        yield captured


def lines_of(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_the_recalls_figure_places_its_marks_at_the_recalls_of_scikit_learn_each_on_its_folds_line(pictures):
    _, results = pictures
    (summary,) = summarise(results)
    with axes_of(fold_recalls) as drawn:
        fold_recalls.to_picture(summary, "x", "y")
    captured = lines_of(drawn[0][0])
    c = summary.configuration
    frames = predictions(results, c)
    for index, emotion in enumerate(c.emotions):
        wanted = []
        for row, fold in enumerate(c.folds):
            each = [recalls_of(frames[fold, seed], c.emotions)[index] for seed in c.seeds if fold in summary.done]
            if each and not np.isnan(each).any():
                wanted.append((100 * np.mean(each), row))
        x, y = captured[emotion]
        assert x == pytest.approx([recall for recall, _ in wanted])
        assert [round(place) for place in y] == [row for _, row in wanted]
        assert max(abs(place - round(place)) for place in y) <= 0.4
    assert summary.absent == {"08": ("sad",)}
    assert len(captured["sad"][0]) == len(captured["mad"][0]) - 1
    assert captured["UAR"][0] == pytest.approx(
        [100 * float(np.nanmean(summary.recalls(fold))) for fold in summary.done]
    )
    assert captured["mean of folds"][0][0] == pytest.approx(100 * summary.figures.uar_mean)


def predictions(results, c) -> dict[tuple[str, int], pd.DataFrame]:
    """Truth and argmax of each final trial, read from the scores alone."""
    return {
        (fold, seed): pd.DataFrame(
            [(u.truth, c.emotions[int(np.argmax(u.p))]) for u in entry.scores.utterances], columns=["truth", "said"]
        )
        for (row, fold, seed), entry in results.entries.items()
        if row == c and hasattr(entry, "scores")
    }


def recalls_of(frame: pd.DataFrame, emotions) -> np.ndarray:
    found = recall_score(frame.truth, frame.said, labels=list(emotions), average=None, zero_division=np.nan)
    return np.asarray(found, dtype=float)


@given(st.lists(st.sampled_from([0.0, 20.0, 33.3, 34.0, 50.0, 100.0]), max_size=12))
def test_marks_at_one_place_are_spread_without_leaving_their_line(values):
    offsets = drawing.spread(values, near=2.0, step=0.2, most=0.4)
    assert offsets == drawing.spread(values, near=2.0, step=0.2, most=0.4)
    places = list(zip(values, offsets, strict=True))
    assert all(abs(offset) <= 0.4 + 1e-12 for offset in offsets)
    for i, (one, up) in enumerate(places):
        if not any(abs(one - other) < 2.0 for j, (other, _) in enumerate(places) if j != i):
            assert up == 0.0
        for other, down in places[i + 1 :]:
            assert abs(one - other) >= 2.0 or abs(up - down) >= 0.4 / 6 - 1e-12


def test_recalls_that_coincide_are_all_to_be_seen():
    row = configuration(emotions=("a", "b", "c", "d", "e"), folds=("1", "2"))
    results = sweep(row)
    for (_, fold, seed), entry in list(results.entries.items()):  # all right
        right = tuple(
            replace(u, p=tuple(np.eye(5)[row.emotions.index(u.truth)].tolist())) for u in entry.scores.utterances
        )
        made = scores(row.emotions, right, np.eye(5, dtype=np.int64))
        results.entries[row, fold, seed] = replace(entry, scores=made)
    with axes_of(fold_recalls) as drawn:
        fold_recalls.to_picture(summarise(results)[0], "x", "y")
    captured = lines_of(drawn[0][0])
    marks = [place for emotion in row.emotions for place in zip(*captured[emotion], strict=True)]
    assert {x for x, _ in marks} == {100.0}
    assert len({round(y, 6) for _, y in marks}) == len(marks) == 10


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
    assert sum(name.startswith("recalls_") for name in written) == 2, "PNG and PDF"


def test_many_folds_and_long_names_still_make_a_figure_of_bounded_size(tmp_path):
    folds = tuple(f"a speaker with a long name {i:02d}" for i in range(40))
    (summary,) = summarise(sweep(configuration(folds=folds), size=6))
    shown = fold_recalls.to_picture(summary, "x", "heading " * 30)
    picture = Image.open(io.BytesIO(shown.png))
    assert picture.width == pytest.approx(88 / 25.4 * 300, abs=1)
    assert picture.height <= 190 / 25.4 * 300


def test_hostile_names_are_drawn_as_they_are(tmp_path):
    written = write.write(sweep(HOSTILE, without=(("[2]", 0),)), tmp_path)
    for ending in (".png", ".pdf"):
        assert len([path for path in written if path.suffix == ending]) == 2
    (summary,) = summarise(sweep(HOSTILE))
    for shown in (confusion.to_picture(summary, "x", "$a_b^{c}$"), fold_recalls.to_picture(summary, "y", "<b>")):
        printed = texts(shown)
        assert {"a&b_%", "$x^2$ #~", "愤怒"} <= set(printed)


# --- for a paper ------------------------------------------------------------------------------------------------------


def fields_of(results: Results):
    summaries = summarise(results)
    figures = published.load().of_rows(s.configuration for s in summaries)
    rows = Rows(summaries, figures)
    return summaries, figures, rows, contests.fields(summaries, figures, rows)


def media_box(pdf: bytes) -> list[float]:
    found = re.search(rb"/MediaBox \[([0-9. ]+)\]", pdf)
    assert found
    return [float(number) / 72 * 25.4 for number in found[1].split()]


@pytest.fixture(scope="module")
def compared():
    """Four methods on one database, ten folds and two seeds, and the figures over them."""
    folds = tuple(f"{i:02d}" for i in range(3, 13))
    methods = ((TFT, "T+F+TF"), (ATFNN, "ATFNN"), ("own", "whole"), ("other", "whole"))
    results = sweep(*(configuration(model=m, ablation=a, folds=folds, seeds=(0, 1)) for m, a in methods))
    summaries, figures, rows, fields = fields_of(results)
    with axes_of(differences) as dots, axes_of(pairwise) as cells:
        made = every.over_rows(summaries, figures, fields, rows)
    return results, fields, made, dots, cells


def test_every_picture_is_as_wide_as_a_column_or_a_page_in_png_and_pdf_and_holds_no_title(pictures, compared):
    for picture in [*pictures[0], *compared[2]]:
        _, _, width, height = media_box(picture.pdf)
        assert min(abs(width - 88), abs(width - 122)) < 0.01, picture.name
        with Image.open(io.BytesIO(picture.png)) as image:
            dpi = image.info["dpi"][0]
            assert dpi == pytest.approx(300, abs=0.1)
            assert (image.width / dpi * 25.4, image.height / dpi * 25.4) == pytest.approx((width, height), abs=0.1)
        assert not [text for text in texts(picture) if "heading" in text or "leave-one-speaker-out" in text]


def test_a_pdf_holds_its_letters_as_embedded_truetype(pictures, compared):
    for picture in [*pictures[0], *compared[2]]:
        assert b"/Type3" not in picture.pdf
        assert b"/FontFile2" in picture.pdf


@pytest.mark.skipif(which("pdffonts") is None, reason="needs poppler-utils")
@pytest.mark.full
def test_poppler_reads_the_pdf_and_finds_every_font_embedded(compared, tmp_path):
    for picture in compared[2]:
        (tmp_path / "x.pdf").write_bytes(picture.pdf)
        out = subprocess.run(["pdffonts", tmp_path / "x.pdf"], capture_output=True, text=True, check=True).stdout
        fonts_of = [line for line in out.splitlines()[2:] if line]
        assert fonts_of
        assert all(re.search(r"TrueType +\S+ +yes yes", line) for line in fonts_of), out


def test_text_in_every_picture_has_at_least_four_and_a_half_points_and_axes_have_eight(compared):
    for several in [*compared[3], *compared[4]]:
        for axes in several:
            assert axes.get_title() == ""
            # They were drawn for the page last.
            assert axes.xaxis.label.get_fontsize() == pytest.approx(8.0 * drawing.AS_WIDE)
            sizes = [text.get_fontsize() for text in axes.findobj(Text) if text.get_text()]
            assert min(sizes) >= 4.5 * drawing.AS_WIDE


def test_the_matrices_of_one_method_on_all_databases_stand_side_by_side_in_percent():
    results = sweep(*paper_rows("iemocap", "abc", "casia"))
    summaries, figures, rows, fields = fields_of(results)
    with axes_of(confusion) as drawn:
        made = every.over_rows(summaries, figures, fields, rows)
    names = [p.name for p in made if p.name.startswith("confusions_")]
    assert names == [
        "confusions_speaker_atfnn_atfnn_nested",
        "confusions_speaker_time_frequency_transformer_t+f+tf_nested",
    ]
    assert media_box(made[0].pdf)[2] == pytest.approx(122, abs=0.01)
    for model, panels in zip((ATFNN, TFT), drawn, strict=True):
        assert [axes.get_xlabel() for axes in panels] == [
            f"recognised\n({letter}) {name}" for letter, name in zip("abc", ("IEMOCAP", "CASIA", "ABC"), strict=True)
        ]
        for axes, database in zip(panels, ("iemocap", "casia", "abc"), strict=True):
            c = next(
                s.configuration
                for s in summaries
                if (s.configuration.model, s.configuration.database) == (model, database)
            )
            every_fold = pd.concat(predictions(results, c).values())
            wanted = 100 * confusion_matrix(every_fold.truth, every_fold.said, labels=c.emotions, normalize="true")
            (mesh,) = axes.collections
            np.testing.assert_allclose(mesh.get_array(), wanted)
            printed = [text.get_text() for text in axes.texts]
            assert printed == [f"{value:.1f}" for value in wanted.ravel()]
            assert [label.get_text() for label in axes.get_yticklabels()] == list(c.emotions)
            assert axes.yaxis_inverted(), "rows are the truth, the first on top"


def test_side_by_side_cells_are_percent_alone_and_an_emotion_without_utterances_has_a_dash():
    (summary,) = summarise(sweep(configuration(), lacks=("sad",)))
    with axes_of(confusion) as drawn:
        confusion.side_by_side([summary, summary], ["EmoDB", "another"], "x", "y")
    for axes in drawn[0]:
        printed = [text.get_text() for text in axes.texts]
        assert printed[6:] == ["–"] * 3
        assert printed[:6] == [percent(share) for share in confusion.shares(summary.confusion)[:2].ravel()]


def test_a_hundred_speakers_keep_a_line_each_on_one_page():
    rows = [configuration(ablation=a, folds=tuple(f"{i:04d}" for i in range(91))) for a in ABLATIONS[TFT]]
    *_, (field,) = fields_of(sweep(*rows, size=3))
    with axes_of(differences) as drawn:
        made = differences.to_picture(field, "x", "y")
    assert media_box(made.pdf)[3] <= 190.01
    panels = [axes for axes in drawn[0] if axes.get_visible()]
    assert len(panels) == 3, "the pairs of three methods, in one line"
    assert all(text.get_fontsize() >= 4.5 for axes in panels for text in axes.get_yticklabels())


def test_one_database_has_no_figure_side_by_side_and_one_row_none_against_others(compared):
    assert sorted(p.name for p in compared[2]) == ["differences_emodb_speaker", "pairwise_emodb_speaker"]
    summaries, figures, rows, fields = fields_of(sweep(configuration()))
    assert fields == []
    assert every.over_rows(summaries, figures, fields, rows) == []


def uar_by_fold(results, c) -> pd.Series:
    """Mean over seeds of each fold's UAR, from the scores by scikit-learn."""
    found = {
        key: recall_score(f.truth, f.said, labels=sorted(f.truth.unique()), average="macro")
        for key, f in predictions(results, c).items()
    }
    return pd.Series(found).groupby(level=0).mean()


def test_contests_are_those_that_pandas_scikit_learn_and_scipy_recompute(compared):
    results, (field,), *_ = compared
    uars = {s.configuration.key: uar_by_fold(results, s.configuration) for s in field.members}
    means = [uars[s.configuration.key].mean() for s in field.members]
    assert means == sorted(means, reverse=True)
    ps = {}
    for i, j in combinations(range(4), 2):
        found = field.between(i, j)
        wanted = uars[field.members[i].configuration.key] - uars[field.members[j].configuration.key]
        pd.testing.assert_series_equal(pd.Series(found.differences), wanted, check_names=False, rtol=0, atol=1e-12)
        assert found.score == ((wanted > 1e-12).sum(), (wanted < -1e-12).sum(), (wanted.abs() <= 1e-12).sum())
        assert found.difference == pytest.approx(wanted.mean())
        # Rounded, because SciPy counts sums as unequal that differ by rounding alone.
        test = permutation_test((wanted.round(12),), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert found.p == pytest.approx(test.pvalue)
        ps[i, j] = found.p
        turned = field.between(j, i)
        assert turned.score == (found.score[1], found.score[0], found.score[2])
        assert (turned.difference, turned.p_holm) == pytest.approx((-found.difference, found.p_holm))
        assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
        assert found.low <= found.difference <= found.high
    ordered = sorted(ps, key=ps.get)
    adjusted = np.minimum(np.maximum.accumulate([ps[pair] * (6 - rank) for rank, pair in enumerate(ordered)]), 1.0)
    assert [field.between(*pair).p_holm for pair in ordered] == pytest.approx(adjusted.tolist())


def test_the_differences_figure_has_a_dot_per_speaker_on_the_winners_side(compared):
    results, (field,), made, (panels,), _ = compared
    assert media_box(made[0].pdf)[2] == pytest.approx(122, abs=0.01)
    folds = list(field.members[0].configuration.folds)
    assert len(panels) == 6
    assert [label.get_text() for label in panels[0].get_yticklabels()] == [*folds, "mean"]
    for axes, (i, j) in zip(panels, combinations(range(4), 2), strict=True):
        first, second = (uar_by_fold(results, field.members[k].configuration) for k in (i, j))
        wanted = 100 * (first - second)
        drawn = lines_of(axes)
        dots = {
            folds[round(y)]: x
            for side in ("first", "second", "tie")
            for x, y in zip(*drawn.get(side, ((), ())), strict=True)
        }
        assert dots == pytest.approx(wanted.to_dict())
        assert all(x > 0 for x in drawn["first"][0])
        assert all(x < 0 for x in drawn["second"][0])
        assert drawn["mean"][0] == pytest.approx([wanted.mean()])
        won, lost = (wanted > 0).sum(), (wanted < 0).sum()
        assert [text.get_text() for text in axes.texts] == [f"second better: {lost}", f"first better: {won}"]
        assert " ".join(axes.get_xlabel().split()) == f"{field.brief[i]} minus {field.brief[j]} (points)"


def test_the_pairwise_matrix_prints_wins_corrected_p_differences_and_uar(compared):
    results, (field,), made, _, ((axes,),) = compared
    uars = [uar_by_fold(results, s.configuration) for s in field.members]
    printed = np.array([text.get_text() for text in axes.texts]).reshape(4, 4)
    values = axes.collections[0].get_array()
    for i, j in combinations(range(4), 2):
        difference = uars[i] - uars[j]
        p = f"{field.between(i, j).p_holm:.2f}"
        p = {"0.00": "<.01", "1.00": "1"}.get(p, p[1:])
        assert printed[i, j] == f"{(difference > 0).sum()}–{(difference < 0).sum()}\n{p}"
        assert float(printed[j, i].replace("−", "-")) == pytest.approx(-100 * difference.mean(), abs=0.0501)
        assert values[i, j] == pytest.approx(100 * difference.mean())
        assert values[j, i] == pytest.approx(-100 * difference.mean())
    assert [float(text) for text in np.diag(printed)] == pytest.approx([100 * u.mean() for u in uars], abs=0.0501)
    assert "of 6 corrected p" in made[1].description


def test_no_claim_is_made_where_so_few_speakers_cannot_carry_one():
    rows = [configuration(ablation=a, folds=("1", "2", "3", "4")) for a in ABLATIONS[TFT]]
    *_, (field,) = fields_of(sweep(*rows))
    assert "0 of 6 corrected p are at most 0.05. No significance over 4 folds is claimable" in pairwise.describe(field)
    assert sorted(field.brief) == sorted(ABLATIONS[TFT]), "the ablations of one model need no model's name"


def test_the_wins_and_corrected_p_of_every_pair_are_in_pairwise_csv(compared, tmp_path):
    results, (field,), *_ = compared
    written = {path.name: path for path in write.write(results, tmp_path, pictures=False)}
    table = pd.read_csv(written["pairwise.csv"])
    assert len(table) == 6
    assert (table.wins + table.losses + table.ties == table.folds).all()
    names = [s.configuration.model for s in field.members]
    for row in table.itertuples():
        found = field.between(names.index(row.model), names.index(row.other_model))
        assert (row.wins, row.losses, row.ties) == found.score
        assert (row.difference, row.p_holm, row.comparisons) == pytest.approx((found.difference, found.p_holm, 6))


@pytest.mark.full
def test_many_methods_with_long_names_stay_inside_the_page_and_are_told_apart():
    rows = [configuration(model=f"a method with quite a long name, number {i:02d}", ablation="x") for i in range(22)]
    *_, (field,) = fields_of(sweep(*rows, size=6))
    with axes_of(pairwise) as drawn:
        made = pairwise.to_picture(field, "x", "y")
    ((axes,),) = drawn
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == len({label.rsplit("  ", 1)[0] for label in labels}) == 20
    _, _, width, height = media_box(made.pdf)
    assert width == pytest.approx(122, abs=0.01)
    assert height <= 190.01
    assert "The 20 best of 22 methods are drawn" in made.description
    for label in axes.get_yticklabels():
        assert label.get_window_extent().x0 >= 0, "no label is cut off"


def test_a_report_writes_pdf_beside_png_and_a_caption_for_each(tmp_path):
    results = sweep(*(configuration(ablation=a) for a in ABLATIONS[TFT][:3]))
    written = {path.name: path for path in write.write(results, tmp_path)}
    pngs = {name[:-4] for name in written if name.endswith(".png")}
    assert pngs == {name[:-4] for name in written if name.endswith(".pdf")}
    assert {"differences_emodb_speaker", "pairwise_emodb_speaker"} < pngs
    captions = written["figures.md"].read_text(encoding="utf-8")
    assert all(f"`{name}.pdf`, `{name}.png`: " in captions for name in pngs)
    assert captions.count("emodb, leave-one-speaker-out") == len(pngs)


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
    (name,) = [name for name in written if name.startswith("search_") and name.endswith(".png")]
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
        n: written[n].read_bytes() for n in ("search.csv", name, name.replace(".png", ".pdf"))
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
        "side by side": confusion.side_by_side([summary, summary], ["one", emotions[0]], "b", "heading"),
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
