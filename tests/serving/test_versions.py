"""Version directories: hidden until whole, numbered once, cleaned up after death."""

import os
import threading

import pytest

from tfp_flows.serving.versions import (
    check_version,
    existing_versions,
    publish,
    staging_directory,
)


def _publish(base, version=None, text="weights"):
    with staging_directory(base) as staging:
        (staging / "variables").mkdir()
        (staging / "variables" / "data").write_text(text)

        def label(number):
            (staging / "number").write_text(str(number))

        return publish(staging, base, version, label)


def test_is_hidden_under_no_integer_name_until_published(tmp_path):
    with staging_directory(tmp_path) as staging:
        assert staging.parent == tmp_path
        assert existing_versions(tmp_path) == []
        assert staging.name.startswith(".")
        publish(staging, tmp_path, None, lambda number: None)
        assert existing_versions(tmp_path) == [1]
    assert existing_versions(tmp_path) == [1]


def test_counts_on_from_the_largest_and_ignores_other_names(tmp_path):
    for name in ("3", "12", "notes", ".hidden", "4a"):
        (tmp_path / name).mkdir()
    assert existing_versions(tmp_path) == [3, 12]
    path = _publish(tmp_path)
    assert path.name == "13"
    assert (path / "number").read_text() == "13"


def test_is_readable_by_a_server_that_runs_as_another_user(tmp_path):
    assert _publish(tmp_path).stat().st_mode & 0o055 == 0o055


def test_an_exception_leaves_nothing(tmp_path):
    def stop_half_way():
        with staging_directory(tmp_path) as staging:
            (staging / "half").write_text("x")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop_half_way()
    assert list(tmp_path.iterdir()) == []


def test_removes_what_a_dead_process_left_and_spares_the_living(tmp_path):
    (tmp_path / ".staging-dead").mkdir()
    with staging_directory(tmp_path) as alive:
        _publish(tmp_path)
        assert alive.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_threads_that_publish_at_once_get_numbers_of_their_own(tmp_path):
    threads = [
        threading.Thread(target=_publish, args=(tmp_path, None, str(index)))
        for index in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert existing_versions(tmp_path) == list(range(1, 9))
    texts = {
        (tmp_path / str(number) / "variables" / "data").read_text()
        for number in range(1, 9)
    }
    assert texts == {str(index) for index in range(8)}
    for number in range(1, 9):
        assert (tmp_path / str(number) / "number").read_text() == str(number)


def test_a_version_taken_in_the_meantime_is_refused(tmp_path):
    with staging_directory(tmp_path) as staging:
        (tmp_path / "5").mkdir()
        with pytest.raises(ValueError, match=r"must not exist yet.*version=5"):
            publish(staging, tmp_path, 5, lambda number: None)
    assert [path.name for path in tmp_path.iterdir()] == ["5"]


def test_a_base_that_cannot_be_written_is_an_error(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError):
        _publish(tmp_path / "flow")


@pytest.mark.parametrize("version", [0, -1, 2**63])
def test_versions_out_of_range_are_refused(tmp_path, version):
    with pytest.raises(ValueError, match="`version` must be .*integer"):
        check_version(tmp_path, version)
