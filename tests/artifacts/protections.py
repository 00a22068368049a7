"""Each protection of the download is needed: without it, the tests that name it fail.

    python -m tests.artifacts.protections             the whole table
    python -m tests.artifacts.protections checksum    the rows whose names hold a word

For each row pytest runs the tests with the protections taken away (removals.py), and one fetch in which nothing goes
wrong, which has to succeed all the same: so a test fails for want of the protection. Ends with 1 where it does not.
Where two protections cover the same fault, a row takes both away.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.artifacts import removals

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
#: Rows at a time: they wait more than they work.
_SIDE_BY_SIDE = 6
#: Seconds that a row takes at most.
_LONGEST = 150
#: A fetch in which nothing goes wrong.
_FAIR = "test_faults.py::test_each_byte_is_fetched_once[whole]"


@dataclass(frozen=True, slots=True)
class Row:
    """What is taken away together.

    Attributes:
        removed: names of `removals.REMOVALS`.
        tests: beginnings of the names of tests, each of which has to fail.
    """

    removed: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return " + ".join(self.removed)


def _row(removed: str | tuple[str, ...], *tests: str) -> Row:
    return Row((removed,) if isinstance(removed, str) else removed, tests)


_F, _E = "test_faults.py::test_", "test_faults_engine.py::test_"
_T, _X, _B = "test_transfers.py::test_", "test_fetch.py::test_", "test_bucket.py::test_"
_EARLY = f"{_F}small_bodies_that_end_too_early"
_BIG_EARLY = f"{_F}a_big_body_that_ends_too_early_is_continued"
_DAMAGED = (
    f"{_F}bytes_that_are_always_damaged",
    f"{_F}bytes_that_are_damaged_once",
    f"{_E}damage_in_what_continues_an_object_is_found",
    f"{_E}bytes_that_are_damaged_once_are_fetched_again",
    f"{_E}bytes_that_are_always_damaged_are_not_fetched_for_ever",
    f"{_F}a_very_bad_day",
)
_BIG, _ONE = "models/big/1/model.onnx", "models/small-3/1/model.onnx"
_ASKED, _ANSWERED = "the generation is asked for", "the generation of an answer"

TABLE = (
    _row(
        "another read after 408, 429, 5xx",
        f"{_F}an_error_that_passes",
        f"{_E}the_wait_that_a_429_asks_for_is_kept",
        f"{_F}a_bad_day",
    ),
    _row("another listing after 408, 429, 5xx", f"{_F}an_error_that_passes"),
    _row(
        "another read after a lost connection",
        *(f"{_BIG_EARLY}[{kind}" for kind in ("Reset", "Close")),
        *(f"{_EARLY}[{kind}" for kind in ("Reset", "Close")),
        f"{_E}a_connection_that_is_lost_several_times_in_a_row",
        f"{_F}a_bad_day",
    ),
    _row("another listing after a lost connection", f"{_F}a_listing_that_ends_too_early"),
    _row("waits that grow", f"{_F}what_stays_unavailable_for_a_short_patience[False]"),
    _row("Retry-After is heard", f"{_E}the_wait_that_a_429_asks_for_is_kept"),
    _row("Retry-After has a bound", f"{_E}a_wait_of_an_hour_is_not_kept"),
    _row(
        "patience of reads ends",
        f"{_F}bodies_that_are_always_too_short[{_ONE}",
        f"{_F}what_stays_unavailable_for_a_short_patience[False]",
    ),
    _row("patience of listings ends", f"{_F}what_stays_unavailable_for_a_short_patience[True]"),
    _row("patience begins anew with progress", f"{_E}a_connection_that_is_lost_several_times_in_a_row"),
    _row(
        "silence has a limit",
        f"{_F}a_connection_that_dies_without_a_word_for_a_short_patience",
        f"{_E}a_connection_that_dies_without_a_word_is_replaced_sooner",
    ),
    _row("silence may last", f"{_F}answers_that_come_late"),
    _row("401 and 403 are no reason for another read", f"{_F}no_permission_to_read_one_object"),
    _row("401 and 403 are no reason for another listing", f"{_F}no_permission_to_list"),
    _row("a sentence for 401 and 403", f"{_F}no_permission_to_list", f"{_F}no_permission_to_read_one_object"),
    _row("403 of a listing is told apart", f"{_F}no_permission_to_list[403]"),
    _row("no such bucket is told apart", f"{_F}no_such_bucket"),
    _row("404 of a read means another state", f"{_F}a_bucket_that_goes_while_it_is_read"),
    _row("other statuses are no reason for another read", f"{_F}a_status_that_nobody_expects"),
    _row("pages are followed", f"{_F}a_listing_of_several_pages"),
    _row("a listing is whole JSON", f"{_F}half_a_listing_never_becomes_half_a_repository"),
    _row("the length of an answer", f"{_F}bodies_that_are_always_too_short"),
    _row("what came is counted", f"{_BIG_EARLY}[Close"),
    # the checksum finds what the count does not, and costs a small object one more transfer
    _row(("what came is counted", "the checksum"), f"{_EARLY}[Close", f"{_BIG_EARLY}[Close"),
    _row(
        ("the length of an answer", "what came is counted", "the checksum"),
        *(f"{early}[{kind}" for early in (_EARLY, _BIG_EARLY) for kind in ("Short", "Close")),
        f"{_E}bodies_that_are_too_short_several_times_in_a_row",
    ),
    _row("the checksum", *_DAMAGED),
    _row(
        "another transfer of what is damaged",
        f"{_E}bytes_that_are_damaged_once_are_fetched_again",
        f"{_X}what_goes_wrong_twice_is_mended[damaged]",
    ),
    _row("at most three transfers of what is damaged", f"{_E}bytes_that_are_always_damaged_are_not_fetched_for_ever"),
    _row(_ASKED, f"{_F}each_read_asks_for_the_generation_that_was_listed"),
    _row("the generation is asked for in spans", f"{_F}each_read_asks_for_the_generation_that_was_listed"),
    _row(_ANSWERED, f"{_T}another_generation_in_the_answer_is_not_taken"),
    # either of them finds a replaced object; so does its length, if it has another one
    _row(
        (_ASKED, _ANSWERED),
        *(f"{_F}an_object_is_replaced_between_listing_and_reading[{name}-0" for name in (_BIG, _ONE)),
        f"{_F}an_object_is_replaced_while_it_is_read",
    ),
    _row(
        (_ASKED, _ANSWERED, "the length of an answer", "what came is counted"),
        f"{_F}an_object_is_replaced_between_listing_and_reading",
    ),
    # and the checksum, after which an object is read anew as a whole
    _row(
        ("the generation is asked for in spans", _ANSWERED, "the checksum"),
        *(f"{_F}an_object_is_replaced_while_it_is_read[{kind}" for kind in ("Reset", "Close")),
    ),
    _row(
        "another listing after a replacement",
        f"{_F}an_object_is_replaced_between_listing_and_reading",
        f"{_F}an_object_is_replaced_while_it_is_read",
        f"{_X}a_new_version_in_between_is_fetched_as_a_whole",
        f"{_X}what_goes_wrong_twice_is_mended[replaced]",
    ),
    _row("at most three listings", f"{_F}a_bucket_that_goes_while_it_is_read"),
    _row("parts leave nothing out", f"{_F}each_byte_is_fetched_once[parts]", f"{_T}a_large_object_comes_in_parts"),
    _row("parts do not overlap", f"{_F}each_byte_is_fetched_once[parts]", f"{_T}a_large_object_comes_in_parts"),
    _row(
        "the journal",
        f"{_E}what_a_killed_process_has_fetched_is_not_fetched_again",
        f"{_T}what_is_whole_is_not_fetched_again",
    ),
    _row(
        "what is there is taken over",
        f"{_E}what_a_killed_process_has_fetched_is_not_fetched_again",
        f"{_T}what_is_whole_is_not_fetched_again",
    ),
    _row("what is there is verified", f"{_T}what_is_whole_is_not_fetched_again_and_what_is_wrong_is"),
    _row("sums of the journal's lines", f"{_T}a_journal_that_ends_in_half_a_line_or_lies"),
    _row(
        "a name for what is whole alone",
        f"{_E}what_a_killed_process_has_fetched_is_not_fetched_again",
        f"{_E}killed_at_any_moment",
        f"{_T}twenty_deaths_at_random_moments",
        f"{_F}bytes_that_are_always_damaged",
        f"{_F}no_permission_to_read_one_object",
    ),
    _row("the lock", f"{_E}two_processes_fetch_a_place_once", f"{_X}several_that_start_at_once_fetch_it_once"),
    _row("room on the disk", f"{_X}what_does_not_fit_is_not_even_begun"),
    _row(
        "paths stay inside",
        f"{_B}a_name_that_cannot_be_a_files",
        f"{_B}a_placeholder_cannot_lead_out_either",
        f"{_B}whatever_is_listed_becomes_files_inside_or_a_sentence",
        f"{_X}what_is_refused_is_not_even_fetched[an odd name]",
    ),
    _row("no file is a folder as well", f"{_B}a_file_that_would_have_to_be_a_folder_as_well"),
    _row(
        "names that differ in case",
        f"{_B}names_that_are_one_where_case_does_not_count",
        f"{_X}names_that_differ_in_case_where_that_does_not_count",
    ),
    _row("links are not followed", f"{_T}a_link_in_the_place_of_a_file_is_not_followed"),
)


def collected(*files: str) -> list[str]:
    """The names of all tests in files of this folder, as FILE::TEST[PARAMETERS], the long ones too."""
    paths = [str(_HERE / file) for file in files]
    done = _pytest({}, "--collect-only", "-q", *paths)
    prefix = f"{_HERE.relative_to(_ROOT)}/"
    return [line.removeprefix(prefix) for line in done.stdout.splitlines() if line.startswith(prefix)]


def files() -> list[str]:
    """The files in which the table's tests are."""
    return sorted({test.partition("::")[0] for row in TABLE for test in row.tests})


def named(row: Row, names: Sequence[str]) -> list[str]:
    """The tests of a row; raises LookupError where a beginning is that of none."""
    found = [name for name in names if name.startswith(row.tests)]
    for test in row.tests:
        if not any(name.startswith(test) for name in found):
            raise LookupError(f"{row.name}: there is no test {test}")
    return found


def outcomes(row: Row, names: Sequence[str]) -> dict[str, bool]:
    """Whether each test passes without the row's protections; raises RuntimeError where one cannot be run."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        paths = [f"{_HERE}/{name}" for name in names]  # a Path would take a name's ./ away
        environment = {
            removals.VARIABLE: removals.BETWEEN.join(row.removed),
            "HYPOTHESIS_STORAGE_DIRECTORY": folder,  # what it finds here is nothing to begin with the next time
        }
        plugin = ("-p", removals.__name__, "-p", "no:threadexception")  # where a test's thread fails, so does the test
        done = _pytest(environment, *plugin, "-q", f"--junit-xml={report}", *paths)
        cases = list(xml.etree.ElementTree.parse(report).iter("testcase")) if report.exists() else []
    found = {f"{case.get('classname', '').rpartition('.')[2]}.py::{case.get('name')}": case for case in cases}
    if set(found) != set(names) or any(case.find("error") is not None for case in found.values()):
        raise RuntimeError(f"not each test has run: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return {name: case.find("failure") is None for name, case in found.items()}


def _pytest(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest, with no other plugins than it needs: half of its start is their import."""
    plugins = ("-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", "-p", "pytest_timeout")
    argv = [sys.executable, "-m", "pytest", *plugins, *arguments]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
    try:
        return subprocess.run(argv, cwd=_ROOT, env=env, capture_output=True, text=True, timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no end after {_LONGEST} s") from None


def judged(row: Row, names: Sequence[str]) -> tuple[bool, str]:
    """Whether the row is as it has to be, and lines that say what was found."""
    begin = time.monotonic()
    try:
        passes = outcomes(row, [*named(row, names), _FAIR])
    except (LookupError, RuntimeError) as error:
        return False, f"removed {row.name}: {error}"
    fair, idle = passes.pop(_FAIR), [name for name, is_passed in passes.items() if is_passed]
    lines = [f"removed {row.name}: {len(passes) - len(idle)} of {len(passes)} tests fail"]
    lines[0] += f" ({time.monotonic() - begin:.0f} s)"
    lines += [f"    passes without it: {name}" for name in idle]
    lines += [] if fair else ["    nothing can be fetched at all then, so this shows nothing"]
    return fair and not idle, "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """The command. Returns its exit status."""
    rows = [row for row in TABLE if not words or any(word in row.name for word in words)]
    names, is_right = collected(*files()), True
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        for right, lines in pool.map(lambda row: judged(row, names), rows):
            print(lines, flush=True)
            is_right = is_right and right
    return 0 if is_right and rows else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
