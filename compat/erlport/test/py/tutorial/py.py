from erlport.erlterms import Atom
from erlport.erlang import set_message_handler, cast
def add(a, b): return a + b
def register(pid):
    def handler(message): cast(pid, message)
    set_message_handler(handler)
    return Atom(b'kablam')
