"""A model that sees and speaks, as two servers: one looks at scans, one answers, after InternVL 3.5's deployment.

The way of a request, one file each:

    chat.py             a request of the OpenAI form, checked; what cannot be used is refused in one sentence
    npy.py              points that came over the wire as npy: the header is checked before anything is read
    wire.py             features between the servers: bytes with shape, dtype, hash of the model, checksum
    halves.py           the two halves of a saved model: eyes that look at points, a voice that answers
    scenes.py           scans of a prepared log by their token, also as what a page draws
    link.py             the language server's way to the perception server
    perception.py       the perception server: points -> features
    language.py         the language server: a chat with scans -> an answer, whole or as it is written
    page.html           what the language server shows in a browser
    web.py              what both servers share: key, hosts, limits, errors, figures
    gate.py             how many requests are taken at once; trace.py: when each stage of a request ran
    refusal.py          an error for the client: status of HTTP, and one sentence
    visitor.py        a client that tells how each of its requests ended
    load.py             both servers under load, and killed: what came of each request
    flips.py            what one process answers, and what bfloat16 changes of it
    run.py              a server in this process; keeper.py: both as processes that are started anew when they end

It needs the extra `agents`. ``superflow serve`` starts both.
"""

from ...errors import require

require("fastapi", "agents")
