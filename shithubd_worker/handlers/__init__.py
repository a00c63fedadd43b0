from shithubd_worker.registry import Registry

registry = Registry()
