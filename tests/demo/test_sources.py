"""The files that are ingested, their order and their ids."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from stagecast.demo.sources import SAMPLES, find_sources
from tests.cli.command import command, finished
from tests.faults import obeying_modes


def test_files_of_a_directory_are_sorted_and_include_subdirectories(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.MD", "a/y.md", "c.pdf", "d.txt/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    actual = find_sources([tmp_path])
    assert [source.document_id for source in actual] == [
        str(tmp_path / name) for name in ("a/y.md", "a/z.MD", "b.txt", "d.txt/e.txt")
    ]
    assert [source.display_name for source in actual] == ["y.md", "z.MD", "b.txt", "e.txt"]


def test_other_files_in_a_directory_cost_little_memory(tmp_path: Path) -> None:
    """A directory may have many more files than texts."""
    (tmp_path / "text.txt").touch()
    for number in range(2_000):
        (tmp_path / f"{number}.dat").touch()
    find_sources([tmp_path])  # what the first call imports does not count
    tracemalloc.start()
    try:
        assert len(find_sources([tmp_path])) == 1
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 * 2_000


def test_named_file_with_any_suffix_is_returned_once(tmp_path: Path) -> None:
    text = tmp_path / "letter"
    text.write_text("text")
    missing = tmp_path / "missing.txt"
    actual = find_sources([text, missing, text])
    assert [source.path for source in actual] == [text, missing]


def test_a_directory_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \*\.txt or \*\.md files"):
        find_sources([tmp_path])


def test_names_that_cannot_be_ids_are_escaped_and_shortened(tmp_path: Path) -> None:
    strange = [tmp_path / "a\nb\udcff.txt", tmp_path / ("x" * 250), tmp_path / ("y" * 250)]
    deep = [path.parent / ("d" * 200) / path.name for path in strange]
    ids = [source.document_id for source in find_sources([*strange, *deep])]
    assert all(name.isprintable() and 0 < len(name) <= 256 for name in ids)
    assert len(set(ids)) == len(ids)


def test_names_differ_wherever_paths_do(tmp_path: Path) -> None:
    names = ["a\nb.txt", r"a\nb.txt", r"a\\nb.txt", "a\x85b", "a\udc85b", r"a\x85b", r"a\u0085b"]
    paths = [*map(tmp_path.joinpath, names), *(tmp_path / ("x" * 250 + name) for name in names)]
    actual = find_sources(paths)
    assert len({source.document_id for source in actual}) == len(paths)
    assert len({source.display_name for source in actual}) == len(paths)


def test_only_characters_invalid_in_ids_are_escaped(tmp_path: Path) -> None:
    for name, shown in [
        ("報告\u3000書.txt", "報告\u3000書.txt"),
        ("café\n.txt", r"café\n.txt"),
        (r"new\n.txt", r"new\\n.txt"),
        ("caf\udce9.txt", r"caf\xe9.txt"),
    ]:
        [source] = find_sources([tmp_path / name])
        assert source.display_name == shown
        assert source.document_id == f"{tmp_path}/{shown}"


def test_unreadable_files_of_a_directory_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.md", "below/b.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "below" / "up").symlink_to(tmp_path)
    (tmp_path / "broken.md").symlink_to("nowhere")
    (tmp_path / "loop.md").symlink_to("loop.md")
    os.mkfifo(tmp_path / "pipe.md")
    actual = find_sources([tmp_path])
    assert [source.display_name for source in actual] == ["a.md", "b.md"]
    assert caplog.messages == [
        f"skipped {tmp_path / 'broken.md'}: No such file or directory",
        f"skipped {tmp_path / 'loop.md'}: Too many levels of symbolic links",
        f"left out of {tmp_path} (not regular files): pipe.md",
        f"left out of {tmp_path} (links to directories): below/up",
    ]


def test_what_is_left_out_of_a_directory_is_said_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("a.md", "b.pdf", "c\n.png", "d.jpg", "e", "f", ".g.md", ".git/h.md", "i/.venv/j.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    [source] = find_sources([tmp_path])
    assert source.path == tmp_path / "a.md"
    assert caplog.messages == [
        f"left out of {tmp_path} (hidden): .git, .g.md, i/.venv",
        f"left out of {tmp_path} (not *.txt or *.md): b.pdf, c\\n.png, d.jpg and 2 more",
    ]


def test_named_hidden_files_and_directories_are_ingested(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".a.md", ".b/c.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sources = find_sources([tmp_path / ".a.md", tmp_path / ".b"])
    assert [source.display_name for source in sources] == [".a.md", "c.md"]
    assert not caplog.messages


@pytest.mark.slow
async def test_demo_skips_directories_without_permission(tmp_path: Path) -> None:
    for name in ("a.md", "closed/b.md", "listed/c.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Some words to index.")
    (tmp_path / "closed").chmod(0)
    (tmp_path / "listed").chmod(0o444)
    try:
        ended = await finished(obeying_modes(command("demo", tmp_path)))
    finally:
        for name in ("closed", "listed"):
            (tmp_path / name).chmod(0o755)
    assert ended.code == 0, ended.err
    assert ended.err.splitlines() == [
        f"skipped {tmp_path / 'closed'}: Permission denied",
        f"skipped {tmp_path / 'listed' / 'c.md'}: Permission denied",
    ]


def test_samples_come_with_the_package() -> None:
    actual = find_sources([])
    assert len(actual) == 6
    assert all(source.path.parent == SAMPLES for source in actual)
    assert all(source.document_id.startswith("samples/") for source in actual)
