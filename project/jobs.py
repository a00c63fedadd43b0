"""The handlers of this project."""

from shithubd_worker import Job, Permanent, Registry

registry = Registry()


@registry.handler("hello", lease_timeout=60, max_attempts=5)
def hello(job: Job, name: str, times: int = 1) -> None:
    """Greet somebody in the worker's log. The members of the payload are the arguments."""
    if not name:
        raise Permanent("there is nobody to greet")  # fails at once; any other exception leads to a retry
    for _ in range(times):
        job.log.info("hello, %s", name)
