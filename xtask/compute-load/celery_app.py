"""The functions as Celery's tasks, with Celery's own settings but for where
Redis is."""

import os

import celery

import functions

REDIS = "redis://127.0.0.1:%s/0" % os.environ.get("COMPUTE_LOAD_REDIS", "6379")

app = celery.Celery("celery_app", broker=REDIS, backend=REDIS)
# Bytes as arguments: its default, JSON, would need them quoted.
app.conf.update(task_serializer="pickle", result_serializer="pickle", accept_content=["pickle"],
                broker_connection_retry_on_startup=True)

TASKS = {name: app.task(getattr(functions, name), name=name)
         for name in ("nothing", "wait", "length", "here", "uneven")}
