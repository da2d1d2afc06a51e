"""What goes wrong with atoms in the place of strings."""


def deep_key(table):
    return [name_of(user) for users in table[0].values() for (user,) in users]


def name_of(user):
    return user["name"]


async def async_key(user):
    return user["name"]


def wrapped_key(user):
    try:
        return user["name"]
    except KeyError as error:
        raise ValueError("no user") from error


def upper(word):
    return word.upper()


def keywords(options):
    return dict(**options)
