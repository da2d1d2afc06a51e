"""What test/typhon/eval_test.exs runs as a program."""

import pickle
import sys


class Thing:
    pass


def main():
    print("arguments:", sys.argv[1:])
    if sys.argv[1:] == ["raise"]:
        raise ValueError("from the script")
    if sys.argv[1:] == ["words"]:
        sys.exit("in words")
    if sys.argv[1:] == ["state"]:
        # What is __main__'s can be pickled, and __main__ is this file.
        assert type(pickle.loads(pickle.dumps(Thing()))) is Thing
        assert sys.modules["__main__"].__dict__ is globals()
        sys.exit(0 if sys.argv[0].endswith("script.py") and sys.path[0] and __file__ == sys.argv[0] else 9)
    sys.exit(given if "given" in globals() else len(sys.argv) - 1)


if __name__ == "__main__":
    main()
