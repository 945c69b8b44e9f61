"""What all subjects on a GPU share: requests on a stream, timed by the device's own events.

The seconds of a run are those between two events around the execution alone. The copies, the whole request as the
host's clock sees it, and a request among many in a row are its parts.
"""

from __future__ import annotations

import math
import statistics
import time
from abc import abstractmethod

from lat_export.bench.subjects.contract import (
    BACK_TO_BACK,
    DEVICE_TO_HOST,
    HOST_TO_DEVICE,
    WHOLE_REQUEST,
    Arrays,
    Opened,
    Timed,
)
from lat_export.native.cuda_driver import CudaDriver

# A round repeats the request: a GPU that was idle between two rounds is slow at first, and one request is over before
# its clocks have risen. The median of a round counts.
ROUND_S, FEWEST, MOST = 0.1, 3, 200


class OpenedOnStream(Opened):
    """
    Attributes:
        driver: of the GPU whose events time it.
        stream: on which the subclass puts its work.
    """

    driver: CudaDriver
    stream: int
    _events: tuple[int, ...] = ()
    _requests: int | None = None

    @abstractmethod
    def copy_in(self) -> None:
        """Put the copy of the inputs to the device on the stream."""

    @abstractmethod
    def execute(self) -> None:
        """Put the model's work on the stream."""

    @abstractmethod
    def copy_out(self) -> None:
        """Put the copy of the outputs to the host on the stream."""

    @abstractmethod
    def outputs(self) -> Arrays:
        """What `copy_out` brought, once the stream was synchronised."""

    def run(self) -> Arrays:
        self.copy_in()
        self.execute()
        self.copy_out()
        self.driver.synchronise(self.stream)
        return self.outputs()

    def timed(self) -> Timed:
        self._events = self._events or tuple(self.driver.event() for _ in range(4))
        requests = self._requests or self._usual_requests()
        single = [self._request() for _ in range(requests)]
        parts = {name: statistics.median(one.parts[name] for one in single) for name in single[0].parts}
        parts[BACK_TO_BACK] = self._back_to_back(requests)
        return Timed(statistics.median(one.seconds for one in single), parts)

    def _usual_requests(self) -> int:
        """How many fill `ROUND_S`; settled by the first round, so that every round is of as many."""
        whole_s = self._request().parts[WHOLE_REQUEST]
        self._requests = max(FEWEST, min(MOST, math.ceil(ROUND_S / max(whole_s, 1e-6))))
        return self._requests

    def _request(self) -> Timed:
        """One on an idle stream."""
        begun, copied, executed, done = self._events
        started = time.perf_counter()
        self.driver.record(begun, self.stream)
        self.copy_in()
        self.driver.record(copied, self.stream)
        self.execute()
        self.driver.record(executed, self.stream)
        self.copy_out()
        self.driver.record(done, self.stream)
        self.driver.synchronise(self.stream)
        whole_s = time.perf_counter() - started
        parts = {
            HOST_TO_DEVICE: self.driver.elapsed_s(begun, copied),
            DEVICE_TO_HOST: self.driver.elapsed_s(executed, done),
            WHOLE_REQUEST: whole_s,
        }
        return Timed(self.driver.elapsed_s(copied, executed), parts)

    def _back_to_back(self, requests: int) -> float:
        """Seconds of a request where the next one is on the stream before it is over: what bounds the throughput."""
        begun, _, _, done = self._events
        self.driver.record(begun, self.stream)
        for _ in range(requests):
            self.copy_in()
            self.execute()
            self.copy_out()
        self.driver.record(done, self.stream)
        self.driver.synchronise(self.stream)
        return self.driver.elapsed_s(begun, done) / requests
