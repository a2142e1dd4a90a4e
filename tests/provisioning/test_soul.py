"""Souls: what their files may say, and what is refused in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from colony import errors
from provisioning import soul
from provisioning.soul import Limits, Soul, load, parse_bytes, parse_room, parse_runner, worded_bytes

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "souls").glob("*.md"))
BODY = "# Scout\n\nYou are scout.\n"
WHOLE = """\
name: scout
watch: [general, ops]
runner: claude
sandbox: podman
model: claude-sonnet-5
limits:
  budget_usd_per_day: 2.5
  turns_per_hour: 30
  posts_per_turn: 0
  memory_max: 4G
  home_max: 20G
  turn_timeout_seconds: 600
pulse_minutes: 0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "scout.md"


def written(file: Path, front_matter: str) -> Path:
    file.write_bytes(f"---\n{front_matter}\n---\n{BODY}".encode("utf-8", "surrogatepass"))
    return file


def refusal(file: Path) -> str:
    """What is said about a file that is no soul: one line, which names it."""
    with pytest.raises(errors.Invalid) as refused:
        load(file)
    said = refused.value.detail
    assert said.startswith(f"{file}: ")
    assert said.isprintable()
    return said.removeprefix(f"{file}: ")


def test_markdown_alone_is_a_soul(file: Path) -> None:
    file.write_text(BODY)
    assert load(file) == Soul(BODY)


def test_front_matter_says_how_it_lives_and_is_no_part_of_the_text(file: Path) -> None:
    limits = Limits(
        budget_usd_per_day=2.5, turns_per_hour=30, posts_per_turn=0, memory_max=2**32, home_max=20 * 2**30, turn_timeout_seconds=600
    )
    whole = Soul(BODY, "scout", ("general", "ops"), "claude", (), "claude-sonnet-5", limits, 0, sandbox="podman")
    assert load(written(file, WHOLE)) == whole


def test_the_test_above_says_every_key() -> None:
    keys = {"name", "watch", "runner", "sandbox", "model", "limits", "pulse_minutes"}
    assert set(Limits.model_fields) | keys == set(re.findall(r"(\w+):", WHOLE))


@pytest.mark.parametrize(
    "text", ["---\r\nname: scout\r\n---\r\n\r\nYou\r\n", "\ufeff---\nname: scout\n---  \nYou\n", "--- \nname: scout\n---\n\n\nYou"]
)
def test_line_ends_and_byte_order_marks_of_other_systems_are_understood(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    assert load(file) == Soul("You\n", "scout")


def test_an_empty_front_matter_says_nothing(file: Path) -> None:
    file.write_text(f"---\n---\n{BODY}")
    assert load(file) == Soul(BODY)


def test_a_rule_further_down_is_only_a_rule(file: Path) -> None:
    file.write_text(f"{BODY}\n---\nname: x\n---\n")
    assert load(file).text.endswith("---\nname: x\n---\n")


def test_one_channel_needs_no_list(file: Path) -> None:
    assert load(written(file, "watch: general")).watch == ("general",)


def test_a_whole_number_is_a_budget_and_a_number_of_bytes_a_size(file: Path) -> None:
    limits = load(written(file, "limits: {budget_usd_per_day: 3, memory_max: 1073741824}")).limits
    assert (limits.budget_usd_per_day, limits.memory_max) == (3.0, 2**30)


@pytest.mark.parametrize(
    ("front_matter", "said"),
    [
        ("nmae: scout", "unknown key nmae; known are name, watch, egress, runner, sandbox, model, limits, pulse_minutes"),
        ("limits: {turns: 3}", "unknown key limits.turns; known are " + ", ".join(Limits.model_fields)),
        ("name: 5", "name: must be text"),
        ("name: yes", "name: must be text"),
        ("name: 2001-01-01", "name: must be text"),
        ("name: Scout", "name: 'Scout' must match"),
        ("name: scout_1", "must match"),
        ("name: scout-", "must match"),
        (f"name: {'x' * 32}", "must match"),
        ("name:", "name has no value"),
        ("watch: #general", "watch has no value; where it begins with #, put it in quotes"),
        ("watch: '#general'", "watch.0: '#general' must match"),
        ("watch: [a, b, a]", "watch: names one twice"),
        ("watch: [[a]]", "watch.0: must be text"),
        ("watch: {a: b}", "watch: must be a name or a list of names"),
        ("watch: 3", "watch: must be a name or a list of names"),
        ("watch: [" + ",".join(f"c{number}" for number in range(101)) + "]", "at most 100 items"),
        ("model: 4", "model: must be text"),
        ("model: --help", "model: '--help' must match"),
        ("pulse_minutes: -1", "pulse_minutes: must be greater than or equal to 0"),
        ("pulse_minutes: 10081", "pulse_minutes: must be less than or equal to 10080"),
        ("pulse_minutes: 1.5", "pulse_minutes: must be a whole number"),
        ("pulse_minutes: true", "pulse_minutes: must be a whole number"),
        ("limits: 3", "limits: must hold keys with values"),
        ("limits: [1]", "limits: must hold keys with values"),
        ("limits: {turns_per_hour: ~}", "limits.turns_per_hour has no value"),
        ("limits: {turns_per_hour: '3'}", "limits.turns_per_hour: must be a whole number"),
        ("limits: {turns_per_hour: 1000001}", "limits.turns_per_hour: must be less"),
        ("limits: {posts_per_turn: 1001}", "limits.posts_per_turn: must be less"),
        ("limits: {budget_usd_per_day: -0.1}", "limits.budget_usd_per_day: must be greater"),
        ("limits: {budget_usd_per_day: .nan}", "limits.budget_usd_per_day: must be a finite number"),
        ("limits: {budget_usd_per_day: true}", "limits.budget_usd_per_day: must be a number"),
        ("limits: {turn_timeout_seconds: 0}", "limits.turn_timeout_seconds: must be greater"),
        ("limits: {turn_timeout_seconds: 86401}", "limits.turn_timeout_seconds: must be less"),
        ("limits: {memory_max: 4X}", "limits.memory_max: '4X' is no size"),
        ("limits: {memory_max: 4}", "limits.memory_max: must be greater"),
        ("limits: {memory_max: 63M}", "limits.memory_max: no agent can live with 63M"),
        ("limits: {home_max: 17T}", "limits.home_max: no agent can live with 17T"),
        ("runner: gpt", "'gpt' is no runner; give claude or command:PROGRAM ARGUMENTS"),
        ("runner: command", "'command' is no runner"),
        ("runner: [claude]", "runner: must be text"),
        ("runner: 'command: '", "names no program"),
        ("runner: command:./none.py", "none.py is no file that can be run"),
        ("runner: command:./", "is no file that can be run"),
        ("runner: command:/etc/passwd", "/etc/passwd is no file that can be run"),
        ("runner: command:grep 'x", "can't be split into words: no closing quotation"),
        ('runner: "command:sh \\0"', "control characters"),
        ('runner: "command:sh \\ud800"', "control characters"),
        ("sandbox: none", "'none' is no sandbox; give bwrap, podman or podman:FOLDER"),
        ("sandbox: podman:python", "'python' is no image; give the absolute path of a folder"),
        ("sandbox: podman:/usr:/x", "'/usr:/x' is no image"),
        ("sandbox: podman:/", "'/' is no image"),
        ("sandbox: podman:/..", "/.. holds no root file system"),
        ("sandbox: podman:/etc", "/etc holds no root file system; podman export fills a folder with one"),
        ("runner: command:sh\nmodel: claude-sonnet-5", "model is for the runner claude"),
        ("limits: {turns_per_hour: -1, posts_per_turn: -1}", "limits.turns_per_hour: must be greater than or equal to 0; limits.posts"),
    ],
)
def test_a_key_that_is_wrong_is_named_with_what_is_wrong(file: Path, front_matter: str, said: str) -> None:
    assert said in refusal(written(file, front_matter))


@pytest.mark.parametrize(
    ("front_matter", "said"),
    [
        ("name: a\nname: b", "line 3: name is said twice"),
        ("limits:\n  turns_per_hour: 1\n  turns_per_hour: 1", "line 4: turns_per_hour is said twice"),
        ("name: &a scout\nmodel: *a", "line 3: aliases are not allowed"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "aliases are not allowed"),
        ("name: a: b", "line 2: mapping values are not allowed here"),
        ("\tname: x", "line 2: found character"),
        ("name: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("name: !!binary x", "failed to decode base64"),
        ("name: 2001-99-99", "a day that no calendar has"),
        (f"pulse_minutes: {'9' * 5000}", "a number that is too long"),
        (f"pulse_minutes: 0x{'f' * 60000}", "pulse_minutes: must be less"),
        (f"pulse_minutes: 1{':59' * 20000}", "pulse_minutes: must be less"),
        (f"limits: {{budget_usd_per_day: {'1:' * 20000}1.5}}", "a number that is too long"),
        (f"watch: {'[' * 30000}", "nested too deeply"),
        (f"watch: {'[' * 10000}{']' * 10000}", "nested too deeply"),
        ("- name", "must hold keys with values"),
        ("hello", "must hold keys with values"),
        ("5: name", "a key that is no text"),
        ("? [a]\n: b", "unhashable key"),
        ("name: x\n...\n%TAG", "is no sound YAML"),
        ("name: \a", "special characters are not allowed"),
        ('"\\e[31mred": 1', "unknown key \\x1b[31mred"),
        ('name: "\\ud800"', "name: must be text"),
        ("".join(f"key{number}: 1\n" for number in range(5000)), "unknown key key2"),
    ],
)
def test_hostile_or_broken_yaml_is_one_line(file: Path, front_matter: str, said: str) -> None:
    line = refusal(written(file, front_matter))
    assert said in line
    assert len(line) < 500


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has no text that says who the agent is"),
        (b" \n\n", "it has no text"),
        (b"---\nname: x\n---\n \n", "it has no text that says who the agent is below its front matter"),
        (b"---\nname: x\n", "its front matter has no end"),
        (b"---", "its front matter has no end"),
        (b"---\nname: x\n----\nYou\n", "its front matter has no end"),
        (b"You are \xff\n", "it is not UTF-8, from byte 8 on"),
        (b"You are\0\n", "it holds NUL characters"),
        (b"x" * (soul.MAX_BYTES + 1), "it is larger than 64 KiB"),
    ],
)
def test_a_file_that_is_no_soul_says_why(file: Path, content: bytes, said: str) -> None:
    file.write_bytes(content)
    assert refusal(file).startswith(said)


def test_a_soul_may_be_as_large_as_it_says(file: Path) -> None:
    file.write_bytes(b"x" * soul.MAX_BYTES)
    assert len(load(file).text) == soul.MAX_BYTES + 1


def test_a_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(errors.Invalid, match=rf"^no soul at {tmp_path}/sol.md; give the path of a Markdown file$"):
        load(tmp_path / "sol.md")


def test_a_folder_a_pipe_or_a_device_is_no_soul(tmp_path: Path) -> None:
    assert "it is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "it is no regular file"
    assert refusal(Path("/dev/zero")) == "it is no regular file"


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "\ud800"])
def test_a_name_that_no_file_has_is_one_line(name: str) -> None:
    with pytest.raises(errors.Invalid, match=r"be read|no soul at") as refused:
        load(Path(name))
    assert refused.value.detail.isprintable()


# Programs


def test_a_program_that_begins_with_a_dot_lies_beside_the_soul(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = file.with_name("think.py")
    program.touch(0o755)
    written(file, "runner: \"command:./think.py --slow 'two words' ./as-it-is\"")
    monkeypatch.chdir(file.parent)
    for path in (file, Path(file.name), Path(".") / file.name):
        assert load(path).command == (str(program), "--slow", "two words", "./as-it-is")


def test_a_program_that_nobody_may_run_is_refused(file: Path) -> None:
    file.with_name("think.py").touch(0o644)
    assert "make it executable" in refusal(written(file, "runner: command:./think.py"))


def test_other_programs_are_found_where_the_agent_lives(tmp_path: Path) -> None:
    assert parse_runner("command:grep -r x", tmp_path) == ("command", ("grep", "-r", "x"))
    assert parse_runner("command:repo/bin/think", tmp_path) == ("command", ("repo/bin/think",))
    assert parse_runner("claude", tmp_path) == ("claude", ())


# Sizes


@pytest.mark.parametrize(("said", "size"), [("0", 0), ("4096", 4096), ("1K", 1024), ("3M", 3 * 2**20), ("4G", 2**32), ("2T", 2**41)])
def test_sizes_are_what_systemd_takes_them_for(said: str, size: int) -> None:
    assert parse_bytes(said) == size
    assert parse_bytes(worded_bytes(size)) == size


@pytest.mark.parametrize("said", ["", "G", "4g", "4GB", "4 G", "-4G", "1.5G", "4G\n", "٤G", "infinity", "50%", "9" * 16])
def test_what_is_no_size_is_refused(said: str) -> None:
    with pytest.raises(errors.Invalid, match="is no size; give") as refused:
        parse_bytes(said)
    assert refused.value.detail.isprintable()


def test_a_size_is_said_as_short_as_it_can_be() -> None:
    assert [worded_bytes(size) for size in (1, 1500, 2**10, 3 * 2**19, 2**32, 2**41)] == ["1", "1500", "1K", "1536K", "4G", "2T"]


def test_the_room_of_an_agent_has_bounds() -> None:
    assert [parse_room(said) for said in ("64M", "16T")] == [2**26, 2**44]
    for said in ("0", "4", "65535K", "17T"):
        with pytest.raises(errors.Invalid, match="give from 64M to 16T"):
            parse_room(said)


# Those that come with the colony


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_soul_is_sound_and_bounded(path: Path) -> None:
    found = load(path)
    assert found.name == path.stem
    assert found.text.startswith("# ")
    assert found.limits.turns_per_hour
    assert found.limits.memory_max
    assert found.limits.turn_timeout_seconds
    assert found.runner == "command" or found.limits.budget_usd_per_day


def test_four_souls_come_with_the_colony() -> None:
    assert [path.stem for path in SHIPPED] == ["librarian", "researcher", "reviewer", "scout"]
    assert load(ROOT / "souls" / "librarian.md").command == (str(ROOT / "souls" / "librarian.py"),)
