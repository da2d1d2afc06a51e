"""Objects that are handed to other nodes."""

import itertools
import time
import weakref

import typhon

_there = weakref.WeakSet()


class Counted:
    def __init__(self, text="counted"):
        self.text = text
        self.left = []
        _there.add(self)

    def twin(self):
        return Counted(self.text)

    def apply(self, function, *args):
        return function(*args)

    def give(self, function):
        return {"function": function}

    def first(self, numbers, count):
        return list(itertools.islice(numbers, count))

    def say(self, text):
        print(text)

    def tell(self, text):
        typhon.send(typhon.caller(), text)

    def mapped(self, function, last):
        for number in range(last):
            yield function(number)

    def sleep(self, path):
        with open(path, "w"):
            pass
        time.sleep(600)

    def twins(self, count):
        for _ in range(count):
            yield Counted(self.text)

    def count(self, last):
        try:
            for number in range(last):
                yield number
        finally:
            self.left.append("count")

    def __enter__(self):
        self.left.append("in")
        return self

    def __exit__(self, kind, value, traceback):
        self.left.append("out" if kind is None else kind.__name__)
        return False


def there():
    return len(_there)
