from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from edgelathe.bench import records
from edgelathe.bench.budgets import parse_budgets
from edgelathe.bench.gate import judge
from edgelathe.bench.records import Candidate, Record, Report
from edgelathe.bench.render import render_html, render_markdown
from edgelathe.bench.report import read_report, to_json, verify_file, write_report
from edgelathe.errors import EdgeLatheError
from edgelathe.files import sha256_bytes
from pydantic import ValidationError

Edit = Callable[..., Report]
ROOT = Path(__file__).parents[2]
EVIL = '<script>alert(1)</script><img src=x onerror="x"> & $x_1$ | `a`\n# head'


@pytest.fixture(scope="module")
def judged(report: Report) -> Report:
    budgets = parse_budgets({"size": "<= 300 kB", "latency": "<= 0.30 x", "accuracy": ">= -1 pt"})
    return report.model_copy(update={"gate": judge(report, budgets)})


@pytest.fixture(scope="module")
def written(judged: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_report(judged, folder)
    return folder


class Page(html.parser.HTMLParser):
    """Collects what a browser would: checks that tags nest, gathers ids, addresses and text."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr", "path", "use", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def text(written: Path) -> str:
    return (written / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


class TestJson:
    def test_reads_back_equal(self, judged: Report, written: Path) -> None:
        assert read_report(written / "report.json") == judged
        assert read_report(written) == judged

    def test_same_report_same_bytes(self, judged: Report, written: Path, tmp_path: Path) -> None:
        for path in write_report(judged, tmp_path):
            assert path.read_bytes() == (written / path.name).read_bytes(), path.name

    def test_nothing_but_the_report_is_left(self, written: Path) -> None:
        assert sorted(path.name for path in written.iterdir()) == ["report.html", "report.json", "report.md"]

    def test_a_place_that_cannot_be_written(self, bare_report: Report, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(EdgeLatheError, match="Cannot write the report"):
            write_report(bare_report, tmp_path / "file" / "folder")


class TestBadReports:
    def refused(self, tmp_path: Path, content: str | bytes) -> str:
        path = tmp_path / "report.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(EdgeLatheError) as caught:
            read_report(path)
        message = str(caught.value)
        assert "\n" not in message and str(path) in message
        return message.replace(str(path), "R")

    def edited(self, report: Report, edit: Callable[[dict[str, object]], object]) -> str:
        document = json.loads(to_json(report))
        edit(document)
        return json.dumps(document)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(EdgeLatheError, match="there is no such file"):
            read_report(tmp_path / "none" / "report.json")

    def test_no_report_in_the_folder(self, tmp_path: Path) -> None:
        with pytest.raises(EdgeLatheError, match=r"report\.json: there is no such file"):
            read_report(tmp_path)

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("", "it is not valid JSON"),
            ('{"schema_version": 2', "it is not valid JSON"),
            ("[" * 100_000, "it is not valid JSON"),
            ('{"schema_version": 2, "name": NaN}', "NaN is not a number"),
            (b"\xff\xfe\x00", "it is not a text file"),
            ("[]", "it has no schema_version"),
            ("{}", "it has no schema_version"),
        ],
    )
    def test_not_a_report(self, tmp_path: Path, content: str | bytes, why: str) -> None:
        assert why in self.refused(tmp_path, content)

    @pytest.mark.parametrize(("version", "age"), [(3, "a newer"), (0, "another"), ("1", "another")])
    def test_other_schema(self, tmp_path: Path, report: Report, version: object, age: str) -> None:
        message = self.refused(tmp_path, self.edited(report, lambda d: d.update(schema_version=version)))
        assert message == (
            f"Cannot read the report R: it has schema version {version!r} of {age} EdgeLathe and this one reads "
            "versions 1 and 2; read it with the version that wrote it, or run again."
        )

    def test_the_version_before_is_read_and_becomes_this_one(self, tmp_path: Path, report: Report) -> None:
        document = json.loads(to_json(report)) | {"schema_version": 1}
        for candidate in document["candidates"]:
            del candidate["classes"]
        for stage in document["stages"]:
            for epoch in stage["epochs"]:
                del epoch["lr"], epoch["logged"]
        (tmp_path / "report.json").write_text(json.dumps(document))
        old = read_report(tmp_path)
        assert old.schema_version == records.SCHEMA_VERSION == 2
        assert [candidate.classes for candidate in old.candidates] == [(), (), ()]
        assert (old.stages[2].epochs[0].lr, old.stages[2].epochs[0].logged) == (None, {})
        assert [candidate.accuracy for candidate in old.candidates] == [c.accuracy for c in report.candidates]
        assert 'id="classes"' not in render_html(old)

    def test_unknown_field(self, tmp_path: Path, report: Report) -> None:
        text = self.edited(report, lambda d: d["candidates"][0].update(speed=3))  # type: ignore[index]
        assert self.refused(tmp_path, text) == (
            "Cannot read the report R: candidates.0.speed: this field is unknown; write it again with `edgelathe run`."
        )

    def test_wrong_type_is_not_coerced(self, tmp_path: Path, report: Report) -> None:
        def edit(document: dict[str, object]) -> None:
            document["candidates"][0]["facts"]["macs"] = "12"  # type: ignore[index]

        assert "candidates.0.facts.macs: input should be a valid integer" in self.refused(
            tmp_path, self.edited(report, edit)
        )

    def test_missing_field_counts_the_others(self, tmp_path: Path, report: Report) -> None:
        def edit(document: dict[str, object]) -> None:
            del document["name"], document["created"]

        assert "name: field required (and 1 more)" in self.refused(tmp_path, self.edited(report, edit))

    @pytest.mark.parametrize(
        ("edit", "why"),
        [
            (lambda d: d.update(reference="x"), 'the reference "x" is not among the candidates'),
            (lambda d: d["candidates"].append(d["candidates"][0]), "two candidates have the same name"),
            (
                lambda d: d["candidates"][2].update(disagreement_gained=9, classes=[]),
                '"int8-pruned" gained 9 and lost 5 images against the reference, but classifies 352 right where '
                "the reference does 354",
            ),
            (
                lambda d: d["candidates"][2].update(disagreement_gained=9),
                'the classes of "int8-pruned" do not add up to the images it gained and lost',
            ),
            (
                lambda d: d["candidates"][0]["classes"].pop(),
                'the classes of "float-dense" do not add up to its accuracy',
            ),
            (
                lambda d: d["candidates"][0]["classes"][0].update(correct=35),
                'of the 36 images of "0", 35 are right and 0 taken for others',
            ),
            (
                lambda d: d["candidates"][0]["classes"][0].update(correct=35, taken_for={"0": 1}),
                'of the 36 images of "0", 35 are right and 1 taken for others',
            ),
            (
                lambda d: d["candidates"][2]["classes"][0].update(lost=1),
                '"0" gained or lost more images than it has right or wrong',
            ),
            (lambda d: d["candidates"][0]["classes"][1].update(name="0"), '"float-dense" lists a class twice'),
            (
                lambda d: d["candidates"][2]["classes"][0].update(name="zero"),
                'the classes of "int8-pruned" are not those of "float-dense"',
            ),
            (
                lambda d: d["candidates"][0]["classes"][1]["taken_for"].update({"8": 0}),
                "candidates.0.classes.1.taken_for.8: input should be greater than 0",
            ),
        ],
    )
    def test_fields_at_odds(
        self, tmp_path: Path, report: Report, edit: Callable[[dict[str, object]], object], why: str
    ) -> None:
        assert why in self.refused(tmp_path, self.edited(report, edit))

    def test_zero_images_and_negative_ratios_are_no_measurements(self, report: Report) -> None:
        with pytest.raises(ValidationError):
            records.Accuracy(correct=0, total=0, top1=0, low=0, high=1)
        record = report.candidates[2].latency[0]
        with pytest.raises(ValidationError):
            records.Latency.model_validate(record.model_dump() | {"ratio_low": 0.0})


class TestHtml:
    def test_is_well_formed_and_stands_alone(self, text: str, page: Page) -> None:
        assert page.open == []
        ids = [value for name, value in page.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
        assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)|javascript:", text)
        addresses = [value for name, value in page.attributes if name in ("href", "src", "action")]
        assert addresses and all(value and value.startswith("#") for value in addresses)

    def test_no_machine_path_and_no_date_of_drawing(self, text: str, page: Page) -> None:
        assert str(ROOT) not in text and "/tmp" not in text
        assert set(re.findall(r"20\d\d-\d\d-\d\dT[\d:]+", text)) == {"2026-11-22T04:30:00"}

    def test_light_and_dark(self, text: str, page: Page) -> None:
        assert "prefers-color-scheme: dark" in text
        used = set(re.findall(r"var\((--[\w-]+)\)", text))
        light, dark = text.split("prefers-color-scheme: dark")
        for variable in used:
            assert f"{variable}:" in light and f"{variable}:" in dark.split("</style>")[0], variable

    def test_says_what_matters(self, text: str, page: Page) -> None:
        said = " ".join(" ".join(page.texts).split())
        for words in (
            "int8-pruned is 5.2 times smaller than float-dense",
            "Gate failed",
            "the whole interval is over the budget",
            "its output is added to a shortcut that pads by position",
            "no int8 kernel reads this operator's output in this runtime",
            "int8: 47 of 52 operators",
            "Removed 51 % of the MACs",
            "int8-pruned most often takes 8 for 1: 3 of 36 images, float-dense 2.",
            "The teacher's share in the loss",
            "weighting = confidence. Line: mean over images",
            "Toy CPU 3000",
            "avx2, avx512_vnni",
            "2" * 64,
            'source = "cifar_resnet8"',
            "ab" * 32,
        ):
            assert words in said, words
        assert text.count('class="plot"') == 7
        assert text.count("<li title=") == 32 + 47 and text.count('<li class="float"') == 5

    def test_figures_are_typeset(self, text: str, page: Page) -> None:
        assert "\N{MINUS SIGN}0.6\N{NO-BREAK SPACE}pt" in text
        assert "0.38\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}" in text

    def test_every_text_is_escaped(self, judged: Report) -> None:
        document = json.loads(to_json(judged).replace("float-dense", "NAME").replace("digits-toy", "NAME"))
        document = json.loads(json.dumps(document).replace("NAME", json.dumps(EVIL)[1:-1]))
        document["stages"][1]["widths"][0].update(layer=EVIL, reason=EVIL)
        document["stages"][0].update(do=EVIL, summary=EVIL, settings={EVIL: EVIL}, folder=EVIL)
        document["candidates"][2]["nodes"][5].update(name=EVIL, op=EVIL, outcome="float", reason=EVIL)
        document["candidates"][2]["latency"][0]["unstable"] = [EVIL]
        document["candidates"][2].update(file=EVIL)
        document["gate"]["checks"][0].update(measured=EVIL, reason=EVIL)
        for candidate in document["candidates"]:
            candidate["classes"][8].update(name=EVIL, taken_for={EVIL + "2": 36 - candidate["classes"][8]["correct"]})
        document["stages"][2]["settings"]["weighting"] = EVIL
        document["environment"].update(cpu=EVIL, isa=[EVIL], versions={EVIL: EVIL})
        document["data"] = {"name": EVIL, EVIL: [EVIL]}
        document["recipe"] = {EVIL: EVIL}
        page = Page(render_html(Report.model_validate_json(json.dumps(document))))
        assert page.open == []
        assert not {"script", "img"} & set(page.tags)
        assert "onerror" not in {name for name, _ in page.attributes}

    def test_a_bare_report_has_no_empty_sections(self, bare_report: Report) -> None:
        text = render_html(bare_report)
        assert Page(text).open == []
        sections = re.findall(r'<section id="(\w+)"', text)
        assert sections == ["candidates", "provenance"]

    def test_early_exits_are_listed_with_the_networks_own_answer(self, report: Report, edited: Edit) -> None:
        accuracy = report.candidates[0].accuracy
        assert accuracy is not None
        worse = accuracy.model_copy(update={"correct": 90, "top1": 0.25, "low": 0.208, "high": 0.297})
        shown = edited("float-dense", exits={"exit_layer1": worse})
        page = render_html(shown)
        assert Page(page).open == []
        assert re.findall(r'<section id="exits"', page)
        lines = render_markdown(shown).splitlines()
        table = [line for line in lines[lines.index("## Early exits") :] if line.startswith("| float-dense ")][:2]
        assert table[0] == "| float-dense | exit\\_layer1 | 25.0 % | 20.8\N{EN DASH}29.7 |"
        assert table[1].startswith("| float-dense | logits | ")
        assert "Early exits" not in render_markdown(report)

    def test_a_float_operator_without_a_reason(self, bare_report: Report) -> None:
        nodes = (records.NodeOutcome(name="n", op="", outcome="float", reason=""),)
        candidate = bare_report.candidates[0].model_copy(update={"nodes": nodes})
        text = render_html(bare_report.model_copy(update={"candidates": (candidate,)}))
        assert "no reason was recorded" in text


class TestMarkdown:
    def test_tables_are_tables(self, judged: Report) -> None:
        text = render_markdown(judged)
        lines = text.splitlines()
        rows = [line for line in lines if line.startswith(("| float-", "| int8-"))]
        assert len(rows) == 3
        assert all(row.count(" | ") == 10 for row in rows)
        assert "0.38 x (0.37\N{EN DASH}0.39)" in rows[2]
        assert "**Gate failed**: int8-pruned breaks 1 of 3 budgets (latency)." in lines
        assert "- 16 left alone because " in text and "15 of 32 layers were narrowed." in text
        assert "\n\n\n" not in text

    def test_classes_are_a_table_worst_first(self, judged: Report) -> None:
        lines = render_markdown(judged).splitlines()
        first = lines.index("## Class by class")
        table = [line for line in lines[first:] if line.startswith("| ")][:11]
        assert table[0] == "| class | images | recall of int8-pruned | of float-dense | change | most often taken for |"
        assert table[1] == (
            "| 8 | 36 | 88.9 % (74.7\N{EN DASH}95.6) | 91.7 % (78.2\N{EN DASH}97.1) | -2.8 pt (-17.6 to +11.6) "
            "| 1 (3, reference 2) |"
        )
        assert [line.split(" | ")[0] for line in table[1:]] == [f"| {digit}" for digit in "8913024567"]
        assert all(line.count(" | ") == 5 for line in table)

    def test_many_classes_are_folded(self, report: Report) -> None:
        entry = report.candidates[0].classes[0]
        classes = tuple(entry.model_copy(update={"name": f"class {number}"}) for number in range(25))
        accuracy = report.candidates[0].accuracy
        assert accuracy is not None
        every = accuracy.model_copy(update={"correct": 900, "total": 900})
        alone = report.candidates[0].model_copy(update={"classes": classes, "accuracy": every})
        lone = report.model_copy(update={"candidates": (alone,)})
        text = render_markdown(lone)
        assert "| class | images | recall of float-dense | most often taken for |" in text
        assert "| class 19 | 36 | 100.0 % (90.4\N{EN DASH}100.0) | - |" in text and "class 20" not in text
        assert "the other 5 classes are in report.html" in text
        page = render_html(lone)
        assert "The other 5 classes" in page and page.count('<td class="name">class ') == 25

    def test_names_cannot_break_out_of_a_cell(self, judged: Report) -> None:
        candidate = judged.candidates[1].model_copy(update={"name": "a|b\n# c <i> [x](y) `z`"})
        candidates = (judged.candidates[0], candidate, judged.candidates[2])
        odd = judged.model_copy(update={"candidates": candidates})
        text = render_markdown(odd)
        assert "| a\\|b \\# c \\<i\\> \\[x\\](y) \\`z\\` |" in text


class TestFiles:
    def with_file(self, report: Report, folder: Path, file: str, content: bytes) -> Report:
        (folder / "export").mkdir(parents=True, exist_ok=True)
        (folder / "export" / "m.onnx").write_bytes(content)
        facts = report.candidates[0].facts.model_copy(update={"sha256": sha256_bytes(b"model")})
        candidate = report.candidates[0].model_copy(update={"file": file, "facts": facts})
        return report.model_copy(update={"candidates": (candidate,)})

    def test_untouched(self, bare_report: Report, tmp_path: Path) -> None:
        verify_file(self.with_file(bare_report, tmp_path, "export/m.onnx", b"model"), tmp_path)

    @pytest.mark.parametrize(
        ("file", "content", "why"),
        [
            ("export/m.onnx", b"other", "has changed since it was measured"),
            ("export/none.onnx", b"model", "is missing"),
            ("../m.onnx", b"model", "is outside the run's folder"),
            ("/etc/passwd", b"model", "is outside the run's folder"),
        ],
    )
    def test_refused(self, bare_report: Report, tmp_path: Path, file: str, content: bytes, why: str) -> None:
        run = tmp_path / "run"
        with pytest.raises(EdgeLatheError, match=f'Cannot trust the report on "float-dense": .*{why}'):
            verify_file(self.with_file(bare_report, run, file, content), run)


def documented() -> dict[str, list[str]]:
    """Record name -> fields, as docs/report.md lists them."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in (ROOT / "docs" / "report.md").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"### (\w+)", line):
            name = heading[1]
            found[name] = []
        elif name and (row := re.match(r"\| `(\w+)` \|", line)):
            found[name].append(row[1])
    return found


def test_the_schema_is_documented_field_by_field() -> None:
    kinds = {kind.__name__: kind for kind in Record.__subclasses__() if kind.__module__ == records.__name__}
    assert documented() == {name: list(kind.model_fields) for name, kind in kinds.items()}


def test_candidates_know_their_own_file(report: Report) -> None:
    assert isinstance(report.candidates[0], Candidate)
    assert not Path(report.candidates[0].file).is_absolute()
