"""Signs and checks JSON Web Tokens with PyJWT. Nothing here knows of Elixir."""

import datetime

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_key = None


def use_key(pem):
    """The RSA key to sign with. Its public half is what tokens are checked with."""
    global _key
    _key = load_pem_private_key(pem.encode(), password=None)


def sign(user, *, audience, seconds):
    """A token that says who this is, to whom, and for how long."""
    until = datetime.datetime.now(tz=datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return jwt.encode({"sub": user, "aud": audience, "exp": until}, _key, algorithm="RS256")


def verify(token, *, audience):
    """What the token says. Raises one of jwt's exceptions, when it is not to be trusted."""
    # The algorithm is ours to say, not the token's.
    return jwt.decode(
        token, _key.public_key(), algorithms=["RS256"], audience=audience, options={"require": ["sub", "aud", "exp"]}
    )
