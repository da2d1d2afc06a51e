"""Objects of its own, and what becomes of structs of Elixir's."""

import typhon


class User:
    def __init__(self, id, name):
        self.id = id
        self.name = name


class Money:
    def __init__(self, amount):
        self.amount = amount


@typhon.decoder("Elixir.Typhon.EncoderTest.Named")
def user(fields):
    return User(**fields)


@typhon.encoder(User)
def from_user(user):
    return {"user": user.id, "name": user.name}


@typhon.encoder(Money)
def money(value):
    if value.amount < 0:
        raise ValueError("a debt")
    # The encoder asks the BEAM while a reply is being written.
    return ("money", typhon.call("erlang", "abs", [value.amount]))


def describe(thing):
    return f"{type(thing).__name__} {getattr(thing, 'id', None)}"


def echo(thing):
    return thing


def pay(*amounts):
    return [Money(amount) for amount in amounts]


def bulk(count):
    return [["x" * 5000, Money(i)] for i in range(count)]
