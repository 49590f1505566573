"""The site's half: a ClientApp that hands the task's bytes to the site's handler and sends its bytes back.

Rules: a node learns which site it is from its own configuration (partition-id), never from the hub; an
exception of the handler leaves the site as its type's name only, because its text may hold values of data.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedloom.engine.flower.records import answer_record, index_record, read_task
from fedloom.engine.port import SiteHandler

HELLO = "query.hello"
WORK = "train.work"
HANDLER_RAISED = 4000
"""Error code of a reply whose reason was written here and holds no values; flwr's own codes are below 100."""


def site_app(handler: SiteHandler, sites: Sequence[str]) -> ClientApp:
    """Build the app every node runs; it is pickled to the worker processes together with `handler`."""
    app = ClientApp()

    @app.query(_action(HELLO))
    def hello(message: Message, context: Context) -> Message:
        return Message(index_record(_index(context)), reply_to=message)

    @app.train(_action(WORK))
    def work(message: Message, context: Context) -> Message:
        return Message(_answer(handler, sites[_index(context)], message.content), reply_to=message)

    return app


def _answer(handler: SiteHandler, site: str, content: RecordDict) -> RecordDict | Error:
    started = monotonic()
    try:
        answer = handler.handle(site, read_task(content))
    except Exception as error:  # noqa: BLE001  whatever the handler raises, this site alone has failed
        return Error(HANDLER_RAISED, f"the site's handler raised {type(error).__name__}")
    return answer_record(answer, monotonic() - started)


def _index(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _action(message_type: str) -> str:
    return message_type.partition(".")[2]
