from pathlib import Path
from collections.abc import Iterator
import pytest, time
import psutil
from tests.colony_agent.agents import *
@pytest.fixture(scope="module")
def house(sqlite_file: Path) -> Iterator[House]:
    with housed(sqlite_file) as house:
        yield house
def test_x(house, tmp_path):
    a = house.agent(tmp_path)
    with a.worker() as w:
        w.await_log("worker ready")
        time.sleep(1)
        print(Path(f"/proc/{w.pid}/smaps_rollup").read_text())
        t=time.time()
        a.ask()
        print(a.await_said(), time.time()-t)
        print(w.log())
        w.signal(15)
        t=time.time()
        print(w.wait(), time.time()-t)
    a.settle(url=house.server.http_url)
    with a.worker() as w:
        w.await_log("worker ready")
        time.sleep(1)
        print(Path(f"/proc/{w.pid}/smaps_rollup").read_text())
