"""Who waits for what: requests sleep here until a commit wakes their topic."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from time import monotonic

from colony import errors

Topic = Hashable  # such as ("inbox", 7) or ("channel", 3)


class Seats:
    """How many requests of each user wait, or go on: each holds a thread, of which there are only so many."""

    def __init__(self, of_each: int, too_many: str = "requests of yours wait already, as many as may; ask again without `wait`") -> None:
        self._of_each, self._too_many = of_each, too_many
        self._mutex = threading.Lock()
        self._taken: Counter[int] = Counter()

    @contextmanager
    def taken(self, user_id: int) -> Iterator[None]:
        """Raises `LimitReached` for one too many."""
        with self._mutex:
            if self._taken[user_id] >= self._of_each:
                raise errors.LimitReached(f"{self._of_each} {self._too_many}")
            self._taken[user_id] += 1
        try:
            yield
        finally:
            with self._mutex:
                self._taken[user_id] -= 1
                if not self._taken[user_id]:
                    del self._taken[user_id]


class OneByOne:
    """Requests of each user, of which one is worked on at a time: many at once would take the interpreter from everybody else."""

    def __init__(self) -> None:
        self._locks: dict[int, threading.Lock] = {}

    def of(self, user_id: int) -> threading.Lock:
        """To be held as long as the user's request is worked on."""
        return self._locks.get(user_id) or self._locks.setdefault(user_id, threading.Lock())


class Waiters:
    """Wakes by topic. A caller notes the `moment`, looks at the database, and then waits for anything after that moment:
    a wake between the look and the wait is not lost.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._moment = 0
        self._woken_at: dict[Topic, int] = {}
        self._all_woken_at = 0
        self._asleep: dict[Topic, list[threading.Lock]] = defaultdict(list)
        self._closed = False

    @property
    def moment(self) -> int:
        return self._moment

    @property
    def asleep(self) -> int:
        """How many requests wait right now."""
        with self._mutex:
            return sum(map(len, self._asleep.values()))

    def wake(self, *topics: Topic) -> None:
        """Wake everyone who waits for one of the topics; to be called after the commit."""
        with self._mutex:
            self._moment += 1
            bells = [bell for topic in topics for bell in self._asleep.pop(topic, ())]
            self._woken_at.update(dict.fromkeys(topics, self._moment))
        for bell in bells:
            bell.release()

    def wake_all(self) -> None:
        """Wake everyone: nobody knows what has happened."""
        with self._mutex:
            self._moment += 1
            bells = [bell for bells in self._asleep.values() for bell in bells]
            self._asleep.clear()
            self._all_woken_at = self._moment
        for bell in bells:
            bell.release()

    def wait(self, topic: Topic, since: int, deadline: float) -> bool:
        """Sleep until the topic is woken after the moment `since`; False once `time.monotonic()` passes the deadline."""
        bell = threading.Lock()
        bell.acquire()
        with self._mutex:
            if max(self._woken_at.get(topic, 0), self._all_woken_at) > since:
                return True
            if self._closed:
                return False
            self._asleep[topic].append(bell)
        if bell.acquire(timeout=max(0.0, deadline - monotonic())):
            return not self._closed
        with self._mutex:
            bells = self._asleep.get(topic, [])
            if bell not in bells:  # woken at the last moment
                return not self._closed
            bells.remove(bell)
            if not bells:
                del self._asleep[topic]
        return False

    def close(self) -> None:
        """Send everyone home: the server stops."""
        self._closed = True  # before the mutex: a signal that comes meanwhile finds the work done
        self.wake_all()

    @property
    def is_closed(self) -> bool:
        return self._closed
