"""The floor of many coroutines: so many sleeps of so many seconds in plain asyncio. Prints nanoseconds."""

import asyncio
import sys
import time


async def main(count: int, seconds: float) -> None:
    begun = time.perf_counter_ns()
    await asyncio.gather(*(asyncio.sleep(seconds) for _ in range(count)))
    print(time.perf_counter_ns() - begun)


asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
